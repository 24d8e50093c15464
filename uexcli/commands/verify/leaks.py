"""Finding released images that are clean copies of a source."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from uexcli import plugin
from uexcli.commands.verify.pair import Checked, Finding
from uexcli.core.quality import leak_limit, usual_rms
from uexcli.core.stripes import changed_by
from uexcli.errors import UexError
from uexcli.io import samples
from uexcli.io.images import photo_files
from uexcli.io.pool import parallel
from uexcli.messages import Listener

THUMBNAIL = 16


def find(
    root: Path,
    found: samples.Labelled,
    pictures: Sequence[str],
    pairs: Mapping[str, str],
    checked: Sequence[Checked],
    stated: float,
    jobs: int,
    listener: Listener,
) -> Iterator[Finding]:
    """Find released images that are (nearly) clean: paired ones by their own source, odd ones by every source.

    Nearly is `leak_limit`, where the usual change is the measured one, or the release's `stated` one if that is more.
    `jobs` images are looked at at a time.
    """
    usual = max(float(stated), usual_rms([item.rms for item in checked if item.rms is not None]))
    limit = leak_limit(usual)
    for item in checked:
        if item.rms is not None and item.rms <= limit and not item.visible:
            yield Finding(
                "leak",
                item.name,
                f"a change of about {usual:.2f} levels",
                f"RMS {item.rms:.2f}: its source is clean here",
            )
    odd = [item.name for item in checked if item.suspicious] + sorted(set(pictures) - set(pairs.values()))
    if not odd:
        return
    thumbs, known = _thumbnails(found.samples, jobs, listener)
    for name in odd:
        try:
            photo = photo_files.open_photo(plugin.Sample(name, None, path=root / name))
        except UexError as error:
            yield Finding("unreadable", name, "an image", error.message)
            continue
        distance = (thumbs - torch.from_numpy(_thumbnail(photo))).abs().mean((1, 2))
        for index in distance.argsort()[:5].tolist():
            source = photo_files.open_photo(known[index])
            rms = _distance(source, photo)
            if rms is not None and rms <= limit:
                yield Finding(
                    "leak", name, "protected images only", f"a clean copy of {known[index].key} (RMS {rms:.2f})"
                )
                break


def _thumbnails(members: Sequence[plugin.Sample], jobs: int, listener: Listener) -> tuple[Tensor, list[plugin.Sample]]:
    bank = []
    known = []
    for done, (sample, thumb) in enumerate(zip(members, parallel(_try_thumbnail, members, jobs), strict=True), 1):
        listener.step(plugin.Progress(done, len(members), stage="compare with every source"))
        if thumb is not None:  # what cannot be decoded cannot leak
            bank.append(torch.from_numpy(thumb))
            known.append(sample)
    return torch.stack(bank) if bank else torch.empty(0, THUMBNAIL, THUMBNAIL), known


def _try_thumbnail(sample: plugin.Sample) -> np.ndarray | None:
    try:
        return _thumbnail(photo_files.open_photo(sample))
    except UexError:
        return None


def _thumbnail(photo: photo_files.Photo) -> np.ndarray:
    small: np.ndarray = photo_files.squash(photo, THUMBNAIL, 1)[0].astype(np.float32)
    return small


def _distance(source: photo_files.Photo, other: photo_files.Photo) -> float | None:
    """The RMS difference in levels, where the two can be compared pixel by pixel."""
    if source.pixels.shape != other.pixels.shape:
        return None
    return changed_by(source.pixels, other.pixels)[0]

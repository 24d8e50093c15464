"""Finding released images that are clean copies of a source."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor

from uexcli import api
from uexcli.commands.listener import Listener
from uexcli.commands.verify_pair import Checked, Finding
from uexcli.errors import UexError
from uexcli.io import images, samples

LEAK_SHARE = 0.25  # of the usual change: closer to a source than this is no protected image
LEAK_RMS = 0.806  # levels, PSNR 50 dB
THUMBNAIL = 16


def usual_rms(checked: Sequence[Checked], facts: Mapping[str, Any]) -> float:
    """How much an image of this release usually changes, in levels."""
    stated = facts.get("rms_levels")
    if isinstance(stated, (int, float)) and stated > 0:
        return float(stated)
    changes = [item.rms for item in checked if item.rms]
    return median(changes) if changes else 0.0


def find(
    root: Path,
    found: samples.Labelled,
    pictures: Sequence[str],
    pairs: Mapping[str, str],
    checked: Sequence[Checked],
    usual: float,
    listener: Listener,
) -> Iterator[Finding]:
    """Find released images that are (nearly) clean: paired ones by their own source, odd ones by every source.

    Nearly means: changed by less than a quarter of what is usual here, or by less than a PSNR of 50 dB, where the
    release's own noise is clearly stronger than that.
    """
    limit = max(LEAK_SHARE * usual, min(LEAK_RMS, usual / 2))
    for item in checked:
        if item.rms is not None and item.rms <= limit:
            yield Finding(
                "leak",
                item.name,
                f"a change of about {usual:.2f} levels",
                f"RMS {item.rms:.2f}: its source is clean here",
            )
    odd = [item.name for item in checked if item.suspicious] + sorted(set(pictures) - set(pairs.values()))
    if not odd:
        return
    thumbs, known = _thumbnails(found.samples, listener)
    for name in odd:
        try:
            photo = images.open_photo(api.Sample(name, None, path=root / name))
        except UexError as error:
            yield Finding("unreadable", name, "an image", error.message)
            continue
        distance = (thumbs - torch.from_numpy(_thumbnail(photo))).abs().mean((1, 2))
        for index in distance.argsort()[:5].tolist():
            source = images.open_photo(known[index])
            rms = _distance(source, photo)
            if rms is not None and rms <= limit:
                yield Finding(
                    "leak", name, "protected images only", f"a clean copy of {known[index].key} (RMS {rms:.2f})"
                )
                break


def _thumbnails(members: Sequence[api.Sample], listener: Listener) -> tuple[Tensor, list[api.Sample]]:
    bank = []
    for done, thumb in enumerate(samples.parallel(lambda sample: _thumbnail(images.open_photo(sample)), members), 1):
        bank.append(torch.from_numpy(thumb))
        listener.step(api.Progress(done, len(members), stage="compare with every source"))
    return torch.stack(bank), list(members)


def _thumbnail(photo: images.Photo) -> np.ndarray:
    small: np.ndarray = images.squash(photo, THUMBNAIL, 1)[0].astype(np.float32)
    return small


def _distance(source: images.Photo, other: images.Photo) -> float | None:
    """The RMS difference in levels, where the two can be compared pixel by pixel."""
    if source.pixels.shape != other.pixels.shape:
        return None
    return float(np.sqrt(np.mean((source.pixels.astype(np.float32) - other.pixels.astype(np.float32)) ** 2)))

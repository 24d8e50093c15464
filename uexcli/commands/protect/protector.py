"""Protecting one photo: its row, stretched to its size, added on its grid, encoded, decoded again, measured."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from uexcli import plugin
from uexcli.commands.protect import source as noise_source
from uexcli.commands.protect.features import PIXELS, Encoding
from uexcli.core import limits, stripes
from uexcli.core.pixels import SLACK, match_channels
from uexcli.core.quality import evident
from uexcli.errors import UexError
from uexcli.io import atomic
from uexcli.io.images import photo_files
from uexcli.io.images.header import Shape
from uexcli.io.noise import noise_file
from uexcli.io.onnx import photo_graph
from uexcli.io.release import layout
from uexcli.registry import Registry, load

# Bytes a value that `Protector.write` takes at the most, measured: by the file's format; of 16 bits a value; under
# norms that are summed over a whole image, or look at it.
WRITE_BYTES = {".png": 7, ".tiff": 8, ".webp": 12, ".jxl": 40, ".jpg": 7}
DEEP_BYTES, SUM_BYTES, WHOLE_BYTES = 12, 45, 150


def parts(registry: Registry, noise: noise_file.Noise) -> tuple[plugin.Norm, plugin.Granularity]:
    """Make the norm and the granularity a noise file was fitted with."""
    made = [noise_source.part(registry, noise, kind) for kind in ("norm", "granularity")]
    return cast(plugin.Norm, made[0]), cast(plugin.Granularity, made[1])


@dataclass(frozen=True, slots=True)
class Written:
    """One protected image."""

    key: str
    name: str
    source: str  # SHA-256 of the source's bytes
    protected: str  # SHA-256 of the released file
    size: float
    allowed: float
    rms: float  # of the change, in 8-bit levels
    changes: tuple[str, ...] = ()
    kept: bool = False
    visible: bool = False  # by a norm that judges, whatever its RMS
    place: Place | None = None  # of an image that was not fitted

    @staticmethod
    def of(fields: Mapping[str, Any]) -> Written:
        """Take one up that was noted as a dictionary, which is of the kind `documents.WRITTEN`.

        Raises:
            TypeError: it has fields of another version.
        """
        place = fields.get("place")
        return Written(**{**fields, "changes": tuple(fields["changes"]), "place": Place(**place) if place else None})


@dataclass(frozen=True, slots=True)
class Place:
    """Which noise an image that was not fitted was given, and how far it lies from the images that were fitted with it.

    `near` is a share of how far the farthest of those lies: above 1 the image is unlike all of them; None: not known.
    """

    row: int
    near: float | None


@dataclass
class Protector:
    """Protects one image at a time; safe to use from several threads."""

    noise: noise_file.Noise
    norm: plugin.Norm
    granularity: plugin.Granularity
    source: noise_source.Source
    suffix: str
    png_level: int
    lossy: bool
    weights: Path | None = None  # of the encoder, where they do not lie where they lay when the noise was fitted
    texts: bool = False  # keep those that tell what a photo shows and whose it is
    model: photo_graph.PhotoSession | None = None  # does it all in place of torch
    fitted: dict[str, int] = field(init=False)
    label_rows: dict[str, int] = field(init=False)

    def __post_init__(self) -> None:
        self.fitted = {key: position for position, key in enumerate(self.noise.keys)}
        self.label_rows = {name: row for row, name in enumerate(self.noise.classes)}
        self._lock = threading.Lock()

    @functools.cached_property
    def encoding(self) -> Encoding:
        """What tells which fitted images a new one is like; built when it is asked for."""
        return noise_source.encoding(load(), self.noise, self.weights)

    def check_new(self) -> None:
        """Get ready for images that were not fitted.

        Raises:
            UexError: what tells their noise is not here.
        """
        chooses = self.model is not None and self.model.chooses
        if not chooses and self.granularity.can_assign and self.granularity.encoder != PIXELS:
            with self._lock:
                _ = self.encoding

    def row(self, sample: plugin.Sample, photo: photo_files.Photo) -> tuple[int, Place | None]:
        """The row of the bank an image uses; and how near that is, for one that was not fitted.

        Raises:
            UexError: it was fitted with other bytes, or was not fitted and cannot be assigned.
        """
        position = self.fitted.get(sample.key)
        if position is not None:
            if self.noise.digests[position] != photo.digest:
                raise UexError(
                    f"{sample.key}: not the image of this name that the noise was fitted on.",
                    hint="Give the photos as they were, or fit again.",
                )
            return int(self.noise.rows[position]), None
        if not self.granularity.can_assign:
            raise UexError(
                f"{sample.key}: not among the {len(self.noise.keys):,} images "
                f"this {self.granularity.name} noise was fitted on.",
                hint="Fit these photos: uex fit PHOTOS",
            )
        labels = torch.zeros(1, dtype=torch.int64)
        if self.granularity.needs_labels:
            if sample.label is None or sample.label not in self.label_rows:
                known = ", ".join(sorted(self.label_rows)[:8])
                raise UexError(
                    f"{sample.key}: its class {sample.label or '(none)'} has no noise; there is one for: {known}.",
                    hint="Sort it into one of these, or fit again.",
                )
            labels[0] = self.label_rows[sample.label]

        return self.assigned(photo, labels, sample.key)

    def assigned(self, photo: photo_files.Photo, labels: Tensor, key: str) -> tuple[int, Place]:
        """The row of an image that was not fitted, and how near that is."""

        @functools.cache
        def features() -> Tensor:
            with self._lock:  # one at a time, whatever net it is
                return self.encoding.of_photo(stripes.planes(photo.pixels), self.noise.size, self.noise.channels)

        memory = self.noise.memory
        try:
            rows = self.granularity.assign(labels, features, memory, keys=[key])
            near = self.granularity.near(rows, features, memory)
        except (KeyError, IndexError, RuntimeError, TypeError, ValueError) as error:  # of any tensors a file holds
            raise UexError(
                f"the noise file lacks what '{self.granularity.name}' needs for new images ({error})."
            ) from None
        row = int(rows[0])
        if not 0 <= row < self.noise.num_rows:
            raise UexError(f"granularity '{self.granularity.name}' gave row {row}, outside the bank.")
        return row, Place(row, None if near is None else float(near[0]))

    def protect(self, photo: photo_files.Photo, key: str, row: int) -> np.ndarray:
        """Add its noise to a photo on its own grid: uint8 or uint16 (H, W, C).

        On a photo smaller than the fit's size the noise is averaged over pixels, and on a grey one over channels, so
        it is brought up to the bound again.
        """
        channels = 1 if photo.grey else photo.values.shape[2]
        noise = match_channels(self.source(photo, key, row), channels)
        weaker = min(photo.size) < self.noise.size or channels < self.noise.channels
        return stripes.protect(photo.values, noise, self.norm, self.allowed(photo), fill=weaker)

    def _wanted(self, sample: plugin.Sample, photo: photo_files.Photo) -> tuple[np.ndarray, Place | None]:
        """What is to be written, (H, W, C); by the model, where there is one for 8 bits."""
        model = self.model
        if model is not None and model.chooses and sample.key not in self.fitted:
            made, row, near = model(photo.pixels, -1)
            place: Place | None = Place(row, near)
        else:
            made = None
            row, place = self.row(sample, photo)
        if model is None or photo.deep is not None or photo.grey:
            return self.protect(photo, sample.key, row), place
        return model(photo.pixels, row)[0] if made is None else made, place

    def allowed(self, photo: photo_files.Photo) -> float:
        """The bound at the photo's own size."""
        return self.norm.rescale(self.noise.eps, (self.noise.size, self.noise.size), photo.size)

    def refusal(self, key: str, shape: Shape) -> UexError | None:
        """Say why no file of the wanted format can hold an image of this shape; None: one can."""
        deep = shape.deep and self.suffix in photo_files.DEEP
        why = limits.too_long(shape.height, shape.width, self.suffix, deep=deep)
        if why is None:
            return None
        others = "`format=tiff`" if self.suffix == ".png" else "`format=png`, tiff or jxl"
        return UexError(f"{key}: {why}.", hint=f"Write it with {others}.")

    def memory(self, shape: Shape, *, whole: bool = False) -> float:
        """Give the bytes that `write` takes at the most for an image of this shape; `whole`: by an ONNX model."""
        deep = shape.deep and self.suffix in photo_files.DEEP
        each = DEEP_BYTES if deep else WRITE_BYTES[self.suffix]
        if self.norm.needs_images or whole:
            each += WHOLE_BYTES
        elif not self.norm.local:
            each = max(each, SUM_BYTES + (2 if deep else 0))
        return each * shape.within(self.suffix).values + shape.stored

    def write(self, sample: plugin.Sample, root: Path, name: str, before: Written | None = None) -> Written:
        """Protect one image; decode what is to be written, measure it, and write it if it keeps the bound.

        `before` is what an interrupted run noted of it: it stands, if source and file are what they were.
        """
        target = root / name
        if before is not None and before.name == name and _stands(before, sample, target):
            return dataclasses.replace(before, kept=True)
        photo = photo_files.open_photo(sample, whole=self.suffix in photo_files.DEEP, texts=self.texts)
        try:
            photo = photo_files.fitting(photo, self.suffix)
        except UexError as error:
            raise UexError(f"{sample.key}: {error.message}") from None
        wanted, place = self._wanted(sample, photo)
        try:
            data = photo_files.encode(photo, wanted, self.suffix, png_level=self.png_level)
        except (ValueError, OSError) as error:
            raise UexError(f"{sample.key}: a {self.suffix} file cannot hold it ({error}).") from None
        is_wanted = stripes.memory_of(wanted)
        del wanted
        decoded = photo_files.decode(data, whole=photo.deep is not None)
        if not self.lossy and not (is_wanted(decoded.values) and same_alpha(photo, decoded)):
            raise UexError(f"{sample.key}: decodes to other pixels than were written.", hint="Please report this.")
        size, allowed = float(stripes.size_of(photo.values, decoded.values, self.norm)[0]), self.allowed(photo)
        if not self.lossy and size > allowed * (1 + SLACK):
            raise UexError(
                f"{sample.key}: the written file exceeds the bound ({size:.4g} > {allowed:.4g}).",
                hint="Please report this.",
            )
        with atomic.told(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            part = target.with_name(f".{_short(name)}-{os.getpid()}.tmp")
            part.write_bytes(data)
            part.replace(target)
        rms, levels = stripes.changed_by(photo.values, decoded.values)
        changes = photo.changes
        if photo.alpha is not None and decoded.alpha is None:
            changes = (*changes, photo_files.FLATTENED)
        visible = evident(self.norm, size, allowed, levels)
        return Written(
            sample.key, name, photo.digest, decoded.digest, size, allowed, rms, changes, False, visible, place
        )


def _stands(before: Written, sample: plugin.Sample, target: Path) -> bool:
    try:
        return layout.digest_file(target) == before.protected and photo_files.digest_of(sample) == before.source
    except UexError:  # it is not there, or the source is gone: that is told where it is written anew
        return False


def _short(name: str) -> str:
    return hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()[:24]


def same_alpha(first: photo_files.Photo, second: photo_files.Photo) -> bool:
    """Whether the second photo has the alpha of the first to the bit, or leaves out one that is all opaque."""
    one, other = first.own_alpha, second.own_alpha
    if one is None or other is not None:
        return one is other if one is None or other is None else np.array_equal(one, other)
    return bool((one == np.iinfo(one.dtype).max).all())


def protector_of(registry: Registry, noise: noise_file.Noise, weights: Path | None) -> Protector:
    """Make the protector for photos that are looked at, not written."""
    norm, granularity = parts(registry, noise)
    network = noise_source.network(registry, noise) if noise.network else None
    source = noise_source.make(noise, norm, network)
    return Protector(noise, norm, granularity, source, ".png", 1, lossy=False, weights=weights)

"""Noise in a program: what was fitted, and adding it to images in memory."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from uexcli.commands.protect.protector import Protector, protector_of
from uexcli.errors import UexError, UsageError
from uexcli.io.images import photo_files
from uexcli.io.noise import noise_file
from uexcli.io.sources import Source
from uexcli.plugin import Sample
from uexcli.python.images import name_of, pixels_of, source_of_images
from uexcli.registry import load
from uexcli.runtime import process


class Noise:
    """Fitted noise. As secret as a noise file: with it the protection can be undone."""

    def __init__(self, held: noise_file.Noise, measured: Mapping[str, Any] | None = None) -> None:
        self._held = held
        self.path: Path | None = None  # of its file, where it has one
        self.measured = dict(measured or held.header.get("measured", {}))

    @property
    def delta(self) -> np.ndarray | None:
        """The rows of noise: float32 `(R, C, S, S)` in units of the [0, 1] range; None where a network makes them."""
        return None if self._held.delta is None else self._held.bank().numpy()

    @property
    def rows(self) -> np.ndarray:
        """The row of each image that was fitted: int64 `(N,)`."""
        return self._held.rows.numpy()

    @property
    def keys(self) -> tuple[str, ...]:
        """The names of these images, `(N,)`."""
        return self._held.keys

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of their classes; empty where there were none."""
        return self._held.classes

    @property
    def recipe(self) -> dict[str, Any]:
        """Which method, norm, granularity and surrogate made it, with which options."""
        return self._held.recipe

    @property
    def eps(self) -> float:
        """The bound, in the norm's units at the fitted size."""
        return self._held.eps

    def __repr__(self) -> str:
        recipe = self.recipe
        made = f"{recipe['method']['name']}, {recipe['granularity']['name']}"
        return f"<Noise {made}, {recipe['norm']['name']} <= {self.eps:.4g}, {len(self.keys):,} images>"

    def save(self, path: str | Path) -> Path:
        """Write the noise file, which `uex apply` and `load_noise` take."""
        path, held = Path(path), self._held
        if held.delta is not None:
            held = dataclasses.replace(held, delta=held.bank())  # of a file that was read, it is in levels
        with process.kept():
            noise_file.write(path, held)
        self.path = path
        return path

    def apply(
        self, images: Any, labels: Sequence[Any] | None = None, *, keys: Sequence[str] | None = None
    ) -> list[np.ndarray]:
        """Add the noise to images in memory: uint8 as they came, `(H, W, 3)` or `(H, W)` each.

        As many images as were fitted are taken for those, in their order, and must be them to the bit. Others need
        noise that new images can be given (class-wise with `labels`, cluster-wise, universal) and `keys` of their own.

        Raises:
            UexError: an image was not fitted, and cannot be given noise.
            UsageError: these are no images.
        """
        if isinstance(images, (str, Path)):
            raise UsageError("these are files.", hint="Use uexcli.apply for files.")
        if keys is None and hasattr(images, "__len__") and len(images) == len(self.keys):
            keys = self.keys
        source = source_of_images(images, labels, keys or self._new_keys(images))
        if not isinstance(source, Source):
            raise UsageError("these are files.", hint="Use uexcli.apply for files.")
        with process.kept():
            return [self._protected(sample) for sample in source.read()]

    def __getstate__(self) -> dict[str, Any]:
        """All but what is made when it is needed, and cannot go to another process."""
        return {name: value for name, value in self.__dict__.items() if name != "_protector"}

    def _new_keys(self, images: Any) -> list[str] | None:
        """Names that no fitted image has."""
        if not hasattr(images, "__len__"):
            return None  # no set of images, as is said then
        known = set(self.keys)
        names = (f"new-{number:06d}.png" for number in range(len(images) + len(known)))
        free = [name for name in names if name not in known]
        return free[: len(images)]

    def _protected(self, sample: Sample) -> np.ndarray:
        photo = photo_files.open_photo(sample)
        row, _ = self._protector.row(sample, photo)
        made = self._protector.protect(photo, sample.key, row)
        assert sample.array is not None
        return made[:, :, 0] if sample.array.ndim == 2 else made

    @functools.cached_property
    def _protector(self) -> Protector:
        return protector_of(load(), self._held, None)


class Protected:
    """A map-style dataset whose images carry their noise: `dataset[i]` is `(image, label)` as before.

    The dataset gives Pillow images, or arrays, with no transform of its own: that goes here, after the noise.
    """

    def __init__(self, dataset: Any, noise: Noise, *, transform: Callable[[Any], Any] | None = None) -> None:
        if getattr(dataset, "transform", None) is not None:
            raise UsageError(
                "`dataset` transforms its images before the noise is added.",
                hint="Give its transform to Protected instead.",
            )
        if len(dataset) != len(noise.keys):
            raise UexError(f"the noise is of {len(noise.keys):,} images, and the dataset has {len(dataset):,}.")
        self.dataset, self.noise, self.transform = dataset, noise, transform

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, number: int) -> Any:
        """Give a protected image, Pillow's unless the transform makes another thing of it, and what came with it."""
        number = range(len(self.dataset))[number]
        image, *rest = self.dataset[number]
        label = [name_of(rest[0])] if rest else None
        (made,) = self.noise.apply([pixels_of(image)], label, keys=[self.noise.keys[number]])
        shown: Any = Image.fromarray(made)
        return (self.transform(shown) if self.transform else shown, *rest)

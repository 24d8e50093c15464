"""Datasets: where images come from, and the forms that releases can be written in."""

from __future__ import annotations

import os
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from uexcli.errors import UexError, UsageError
from uexcli.plugin.base import Plugin

if TYPE_CHECKING:
    import numpy as np

_JPEG = (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo")


_OTHER = (".avif", ".bmp", ".gif", ".heic", ".heif", ".jp2", ".jxl", ".png", ".tif", ".tiff", ".webp")


_NETPBM = (".pbm", ".pgm", ".pnm", ".ppm")


IMAGE_SUFFIXES = frozenset({*_JPEG, *_OTHER, *_NETPBM})  # what a file is called that is taken for an image


def is_safe(key: str) -> bool:
    """Whether a key is a relative path with forward slashes, written plainly, that stays in its folder."""
    parts = key.split("/")
    if os.name == "nt" and any(char in key for char in "\\:"):  # a drive, a stream, another slash
        return False
    return "\0" not in key and not any(part in {"", ".", ".."} for part in parts)


_SPLITS = {"train": "train", "test": "test", "eval": "test", "val": "validation", "dev": "validation"}


_SPLIT = re.compile(r"(?<![a-z])(train|test|eval|val|dev)(?:ing|uation|id|idation)?(?![a-z])")


def split_of(name: str) -> str:
    """Say which split a file is of by the words in its path: `train`, `test`, `validation`, or "" where none says.

    `data/train-00000-of-00002.parquet` is of `train`; where several words are, the last one decides.
    """
    words = _SPLIT.findall(name.lower())
    return _SPLITS[words[-1]] if words else ""


_SPLIT_FOLDER = re.compile(
    r"(?:images?|imgs?|data|set)?[ ._-]*(train|test|eval|val|dev)(?:ing|uation|id|idation)?"
    r"[ ._-]*(?:images?|imgs?|data|set|split|[0-9]+)?"
)


def split_folder(name: str) -> str:
    """Say which split a folder is that is called so and nothing else; "" where it may be a class.

    `train2017` and `test_images` are splits, `train_station` is none.
    """
    found = _SPLIT_FOLDER.fullmatch(name.lower())
    return _SPLITS[found[1]] if found else ""


NO_IMAGE, HIDDEN = "no image", "being hidden"


@dataclass(frozen=True)
class Unread:
    """Something that lies in a dataset and is not read: what it is called, and why: `NO_IMAGE`, `HIDDEN`, or in words.

    Words go on after "left out," as in "as it is of the split test".
    """

    path: str
    reason: str


@dataclass(frozen=True)
class Sample:
    """One image of a dataset: a file, an array held in memory, or what a function reads.

    `key` is a relative path with forward slashes, and the name the image has everywhere in uex. `data` reads the bytes
    of an encoded image, such as a member of an archive: it is called by several threads at once, and in forked
    processes, so it opens what it reads anew; it raises UexError or OSError where it cannot.
    """

    key: str
    label: str | None
    path: Path | None = None
    array: np.ndarray | None = None  # uint8 (H, W, 3) or (H, W)
    data: Callable[[], bytes] | None = None

    def encoded(self) -> bytes:
        """Give the bytes of its file as they are; an array as PNG.

        Raises:
            UexError: they cannot be read.
        """
        if self.array is not None:
            import io

            from PIL import Image

            buffer = io.BytesIO()
            Image.fromarray(self.array).save(buffer, "PNG")
            return buffer.getvalue()
        try:
            if self.data is not None:
                return self.data()
            if self.path is not None:
                return self.path.read_bytes()
        except UexError as error:
            raise UexError(f"{self.key}: {error.message}", hint=error.hint) from None
        except OSError as error:
            raise UexError(f"{self.key}: cannot be read ({error.strerror}).") from None
        raise UexError(f"{self.key}: its dataset says not where the image is.")


class Dataset(Plugin, ABC):
    """Where images come from."""

    can_write: ClassVar[bool] = False
    ordered: ClassVar[bool] = False  # the published order matters: --limit takes the first ones, not some of each class

    @abstractmethod
    def accepts(self, uri: str) -> bool:
        """Say whether `uri` names such a dataset."""

    @abstractmethod
    def read(self, uri: str, *, split: str = "train") -> list[Sample]:
        """List its samples without decoding them. `split` is `train` or `test`, where the dataset has both."""

    def unread(self, uri: str, *, split: str = "train") -> list[Unread]:
        """List what lies there and `read` leaves out, so that nothing is lost without a word."""
        return []

    def ignored(self, uri: str) -> int:
        """Count what lies there and is no image."""
        return sum(item.reason == NO_IMAGE for item in self.unread(uri))

    def write(self, uri: str, samples: Sequence[Sample]) -> None:
        """Write samples so that `read` gives the same keys, labels and pixels. Only called with `can_write`."""
        raise UsageError(f"dataset '{self.name}' cannot be written.", hint="Write a folder of images instead.")

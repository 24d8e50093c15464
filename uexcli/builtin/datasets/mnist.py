"""MNIST from its IDX files, plain or gzipped, whichever are there."""

from __future__ import annotations

import gzip
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from uexcli.plugin import Dataset, Sample, UexError, Unread, UsageError, hookimpl

if TYPE_CHECKING:
    import numpy as np

SCHEME = "mnist:"
PREFIXES = {"train": "train", "test": "t10k"}


@dataclass(frozen=True)
class Mnist(Dataset):
    """Grey digits of 28 px. Reads the split asked for; where only the test files are there, they serve as `train`."""

    name: ClassVar[str] = "mnist"
    summary: ClassVar[str] = "mnist:ROOT, where ROOT holds IDX files (also in MNIST/raw), plain or .gz"
    paper: ClassVar[str] = "LeCun et al., Gradient-based learning applied to document recognition, 1998"
    ordered: ClassVar[bool] = True

    def accepts(self, uri: str) -> bool:
        """Whether it starts with the scheme."""
        return uri.startswith(SCHEME)

    def read(self, uri: str, *, split: str = "train") -> list[Sample]:
        """List a split in its published order; keys are `7/00042.png`."""
        root = Path(uri.removeprefix(SCHEME))
        if not root.is_dir():
            raise UsageError(f"{root}: no such folder.", hint="Give the folder that holds MNIST's IDX files.")
        if split == "test" and _find(root, "train") is None:
            raise UexError(
                f"{root}: only the test digits are here, and they serve as the training split.",
                hint="Leave `test` out: some images are then held out.",
            )
        for prefix in (PREFIXES[split], "t10k"):
            found = _find(root, prefix)
            if found is not None:
                images, labels = _idx(found[0], 3), _idx(found[1], 1)
                if len(images) != len(labels):
                    raise UexError(
                        f"{root}: {len(images)} images but {len(labels)} labels.", hint="Download MNIST again."
                    )
                return [
                    Sample(f"{label}/{index:05d}.png", str(label), array=image)
                    for index, (image, label) in enumerate(zip(images, labels.tolist(), strict=True))
                ]
        raise UexError(
            f"{root}: no MNIST IDX files for '{split}' here.", hint="Wanted: t10k-images-idx3-ubyte[.gz] and so on."
        )

    def unread(self, uri: str, *, split: str = "train") -> list[Unread]:
        """The images of the other split, where both are there."""
        root = Path(uri.removeprefix(SCHEME))
        found = {name: _find(root, prefix) for name, prefix in PREFIXES.items()}
        other = "test" if split == "train" else "train"
        pair = found[other]
        return [] if pair is None or found[split] is None else [Unread(pair[0].name, f"as of the split {other}")]


def _find(root: Path, prefix: str) -> tuple[Path, Path] | None:
    """The image and label files of a split, or None."""
    for folder in (root, root / "MNIST" / "raw"):
        for suffix in ("", ".gz"):
            pair = (folder / f"{prefix}-images-idx3-ubyte{suffix}", folder / f"{prefix}-labels-idx1-ubyte{suffix}")
            if all(path.is_file() for path in pair):
                return pair
    return None


def _idx(path: Path, dimensions: int) -> np.ndarray:
    """Read an IDX file of unsigned bytes."""
    import numpy as np

    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise UexError(f"{path}: cannot be read ({error}).", hint="Download MNIST again.") from None
    header = np.frombuffer(data[: 4 + 4 * dimensions], dtype=">u4")
    shape = tuple(int(side) for side in header[1:])
    body = np.frombuffer(data, dtype=np.uint8, offset=4 + 4 * dimensions) if len(header) == dimensions + 1 else None
    if body is None or int(header[0]) != 0x800 + dimensions or body.size != int(np.prod(shape)):
        raise UexError(f"{path}: not an IDX file, or cut short.", hint="Download MNIST again.")
    return body.reshape(shape)


@hookimpl
def uex_datasets() -> list[type[Dataset]]:
    """Register."""
    return [Mnist]

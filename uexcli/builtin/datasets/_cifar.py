"""What CIFAR-10 and CIFAR-100 share: torchvision's reader, which checks each file's MD5 before unpickling it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from uexcli.plugin import Sample, UexError, Unread, UsageError


def read(reader: Any, root: str, split: str, folder: str) -> list[Sample]:
    """List a split in its published order; keys are `class/00042.png`."""
    if not Path(root).is_dir():
        raise UsageError(f"{root}: no such folder.", hint=f"Give the folder that holds {folder}/.")
    try:
        data = reader(root, train=split == "train", download=False)
    except (RuntimeError, FileNotFoundError):
        raise UexError(
            f"{root}: {folder} is not here or not intact.", hint="Download it from its home page and unpack it there."
        ) from None
    names = [name.replace("/", "_") for name in data.classes]
    return [
        Sample(f"{names[label]}/{index:05d}.png", names[label], array=image)
        for index, (image, label) in enumerate(zip(data.data, data.targets, strict=True))
    ]


def other(split: str) -> list[Unread]:
    """Name what `read` leaves out: torchvision wants both splits to be there."""
    left = "test" if split == "train" else "train"
    return [Unread(f"the {left} images", f"as of the split {left}")]

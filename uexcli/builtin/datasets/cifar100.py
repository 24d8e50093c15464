"""CIFAR-100 through torchvision's reader."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from uexcli.plugin import Dataset, Sample, Unread, hookimpl

SCHEME = "cifar100:"


@dataclass(frozen=True)
class Cifar100(Dataset):
    """50,000 training and 10,000 test images of 32 px in 100 classes."""

    name: ClassVar[str] = "cifar100"
    summary: ClassVar[str] = "cifar100:ROOT, where ROOT holds cifar-100-python/"
    paper: ClassVar[str] = "Krizhevsky, Learning multiple layers of features from tiny images, 2009"
    ordered: ClassVar[bool] = True

    def accepts(self, uri: str) -> bool:
        """Whether it starts with the scheme."""
        return uri.startswith(SCHEME)

    def read(self, uri: str, *, split: str = "train") -> list[Sample]:
        """List a split in its published order."""
        from torchvision.datasets import CIFAR100

        from uexcli.builtin.datasets._cifar import read

        return read(CIFAR100, uri.removeprefix(SCHEME), split, "cifar-100-python")

    def unread(self, uri: str, *, split: str = "train") -> list[Unread]:
        """The other split."""
        from uexcli.builtin.datasets._cifar import other

        return other(split)


@hookimpl
def uex_datasets() -> list[type[Dataset]]:
    """Register."""
    return [Cifar100]

"""Per-epoch test accuracy and the final metrics of a run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from uexcli import plugin
from uexcli.core import seeding

MOST_CLASSES = 200  # of a confusion matrix


@dataclass(frozen=True)
class Pairs:
    """Pairs of photos of faces, uint8 `(P, C, S, S)` each, and whether they show the same person, bool `(P,)`."""

    left: Tensor
    right: Tensor
    same: Tensor


@dataclass
class BookOf(plugin.Scores):
    """The book of one run; see `uexcli.plugin.Scores`."""

    trial: plugin.Trial
    parts: Tensor | None = None  # bool (N,): the training images that are protected
    pairs: Pairs | None = None
    _right: list[Tensor] = field(default_factory=list)
    _parts: list[dict[str, float]] = field(default_factory=list)

    def epoch(self, predict: Callable[[Tensor], Tensor]) -> float:
        """Show the clean test images, and where some training images are protected and some clean, these too."""
        right = (predict(self.trial.test_images) == self.trial.test_labels).cpu()
        self._right.append(right)
        if self.parts is not None:
            self._parts.append(self._by_part(self._own(predict)))
        return float(right.float().mean())

    def outcome(
        self,
        predict: Callable[[Tensor], Tensor],
        *,
        seconds: float,
        compile_seconds: float = 0.0,
        embed: Callable[[Tensor], Tensor] | None = None,
        gradient: float | None = None,
        frozen_auc: float | None = None,
    ) -> plugin.Outcome:
        """Close the book."""
        right = torch.stack(self._right)
        own = self._own(predict)
        return plugin.Outcome(
            curve=tuple(right.float().mean(1).tolist()),
            train_accuracy=float(own.float().mean()),
            seconds=seconds,
            compile_seconds=compile_seconds,
            early_stop=early_stop(right),
            right=tuple(self.trial.test_labels.cpu()[right[-1]].bincount(minlength=self.trial.num_classes).tolist()),
            confusion=self._confusion(predict),
            parts=self._by_part(own),
            part_curves={name: tuple(part[name] for part in self._parts) for name in self._by_part(own)},
            right_images=tuple(map(packed, right)),
            gradient=gradient,
            auc=None if embed is None else self.auc(embed),
            frozen_auc=frozen_auc,
        )

    def auc(self, embed: Callable[[Tensor], Tensor]) -> float | None:
        """Compare the pairs."""
        if self.pairs is None:
            return None
        left, right = (functional.normalize(embed(side).float(), dim=1) for side in (self.pairs.left, self.pairs.right))
        return area((left * right).sum(1).cpu(), self.pairs.same.cpu())

    def _confusion(self, predict: Callable[[Tensor], Tensor]) -> tuple[tuple[int, ...], ...]:
        count = self.trial.num_classes
        if count > MOST_CLASSES:
            return ()
        places = self.trial.test_labels * count + predict(self.trial.test_images)
        table: list[list[int]] = places.cpu().bincount(minlength=count * count).view(count, count).tolist()
        return tuple(tuple(row) for row in table)

    def _own(self, predict: Callable[[Tensor], Tensor]) -> Tensor:
        """Say which of the training images, un-augmented, are right: bool `(N,)`."""
        return (predict(self.trial.train_images) == self.trial.train_labels).cpu()

    def _by_part(self, own: Tensor) -> dict[str, float]:
        if self.parts is None:
            return {}
        masks = {"protected": self.parts.cpu(), "clean": ~self.parts.cpu()}
        return {name: float(own[mask].float().mean()) for name, mask in masks.items() if bool(mask.any())}


def packed(right: Tensor) -> str:
    """Write which images are right, bool `(N,)`, in hexadecimal, eight to a byte."""
    return np.packbits(right.numpy()).tobytes().hex()


def unpacked(text: str, count: int) -> np.ndarray:
    """Read what `packed` wrote of so many images: bool `(N,)`.

    Raises:
        ValueError: it is not of so many.
    """
    bits = np.unpackbits(np.frombuffer(bytes.fromhex(text), np.uint8))
    if not count <= len(bits) < count + 8:
        raise ValueError(f"the marks of {len(bits)} images, not {count}")
    return bits[:count].astype(bool)


def early_stop(right: Tensor) -> float | None:
    """Give the accuracy at the epoch that a clean validation set chooses; `right` is bool `(epochs, N)`.

    Each half of the test images is the validation set of the other, so that none chooses its own epoch and all count.
    None with fewer than two images.
    """
    count = right.shape[1]
    if count < 2:
        return None
    order = torch.randperm(count, generator=seeding.generator(0, "validation"))
    halves = (order[: count // 2], order[count // 2 :])
    kept = 0.0
    for chooses, counts in (halves, halves[::-1]):
        best = int(right[:, chooses].float().mean(1).argmax())
        kept += float(right[best, counts].float().sum())
    return kept / count


def area(scores: Tensor, same: Tensor) -> float:
    """Give the area under the ROC curve: how often a pair that is the same, bool `(P,)`, scores above one that is not.

    By ranks, ties count half; both kinds must be there.
    """
    ordered, places = scores.double().unique(return_inverse=True)
    counts = places.bincount(minlength=len(ordered)).double()
    ranks = counts.cumsum(0) - (counts - 1) / 2
    positive = int(same.sum())
    negative = len(same) - positive
    above = float(ranks[places[same]].sum()) - positive * (positive + 1) / 2
    return above / (positive * negative)

"""Granularities: which images share a noise."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

from uexcli.errors import UexError
from uexcli.plugin.base import Plugin

if TYPE_CHECKING:
    from torch import Tensor, nn


class Secret(ABC):
    """Random numbers keyed by every bit of a fit's seed: for noise, and for whatever decides it.

    Never draw these from torch's generators: of a seed they keep 32 bits, and with a release at hand all of those can
    be tried. Tensors are on the CPU.
    """

    @abstractmethod
    def uniform(self, *shape: int) -> Tensor:
        """Draw float32 in [-1, 1), of this shape."""

    @abstractmethod
    def normal(self, *shape: int) -> Tensor:
        """Draw standard normal float32, of this shape."""

    @abstractmethod
    def integers(self, high: int, *shape: int) -> Tensor:
        """Draw int64 from 0 to `high` - 1, of this shape."""

    @abstractmethod
    def permutation(self, count: int) -> Tensor:
        """Shuffle 0 to `count` - 1: int64 `(count,)`."""


class Granularity(Plugin, ABC):
    """Which images share a noise: the row of the bank that each one uses."""

    encoder: str = "pixels"  # what its features come from: `pixels`, a surrogate, or `auto`; see `uex_surrogates`
    per_sample: ClassVar[bool] = False  # every image has a row of its own
    can_assign: ClassVar[bool] = False  # images that were not fitted can be given a row
    needs_labels: ClassVar[bool] = False
    default_without_labels: ClassVar[bool] = False  # what `fit` takes for images without labels
    undone_by: ClassVar[tuple[str, ...]] = ()  # countermeasures that who knows which images share noise takes

    @abstractmethod
    def rows(self, labels: Tensor, features: Callable[[], Tensor], secret: Secret, *, keys: Sequence[str]) -> Tensor:
        """Give each image its row: int64 `(N,)`, dense from 0.

        `labels` are int64 `(N,)`, zeros where there are none and none are needed; `features()` computes float
        `(N, F)`, only when called; `secret` draws; `keys` are the names.

        Raises:
            UexError: these images cannot be given rows.
        """

    def memory(self, rows: Tensor, features: Callable[[], Tensor]) -> dict[str, Tensor]:
        """Give the tensors that `assign` will need later; they are kept in the noise file."""
        return {}

    def assign(
        self,
        labels: Tensor,
        features: Callable[[], Tensor],
        memory: Mapping[str, Tensor],
        *,
        keys: Sequence[str],
    ) -> Tensor:
        """Give images that were not fitted their rows: int64 `(N,)`. Only called with `can_assign`."""
        raise UexError(f"'{self.name}' noise belongs to the images it was fitted on.", hint="Fit these images too.")

    def near(self, rows: Tensor, features: Callable[[], Tensor], memory: Mapping[str, Tensor]) -> Tensor | None:
        """Say how far images with these rows lie from what was fitted, float `(N,)`; None: it does not know.

        1 is as far as the farthest image that was fitted with that row: beyond it, an image is unlike all of them.
        """
        return None

    def chooser(self, memory: Mapping[str, Tensor]) -> nn.Module | None:
        """Give what `assign` does without labels, for ONNX; None: it cannot be told from the features alone.

        A module from the features of one image, float `(1, F)`, to its row, int64 `(1,)`, and what `near` says of it,
        float `(1,)`, -1 where that is nothing.
        """
        return None

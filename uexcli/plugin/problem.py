"""The problem that a method is handed, and the tools it offers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from uexcli.plugin.base import State
from uexcli.plugin.granularity import Secret
from uexcli.plugin.norm import Norm

if TYPE_CHECKING:
    from torch import Generator, Tensor, device, dtype, nn


@dataclass(frozen=True)
class Verdict:
    """How a net does on images with their noise: the share it gets wrong, and the cross-entropy of each, `(N,)`."""

    error: float
    losses: Tensor


class Trainer(ABC):
    """A surrogate while it learns: SGD with momentum on protected images."""

    model: nn.Module
    lr: float  # may be changed between steps

    @abstractmethod
    def step(
        self, delta: Tensor | None, batch: Tensor, *, jitter: tuple[float, int, Generator] | None = None
    ) -> Tensor:
        """Train on the images with indices `batch` (int64), each with its noise where `delta` is given.

        With `jitter`, the gradient is the mean over so many copies of the net, each with Gaussian noise of that
        standard deviation, drawn from the generator, on its weights. Gives the mean cross-entropy of the batch before
        the step, a scalar on the device: reading it waits for it.
        """

    @abstractmethod
    def learn(self, inputs: Tensor, batch: Tensor) -> Tensor:
        """Train on ready-made views, float `(B, C, S, S)` in [0, 1], of the images `batch`; gives what `step` does."""

    @abstractmethod
    def state(self) -> State:
        """Give all that a trainer of the same net needs to go on: weights, momentum, random numbers."""

    @abstractmethod
    def load(self, state: State) -> None:
        """Go on from a state."""


class Frozen(ABC):
    """A fast copy of a net in eval mode whose weights have no gradient, but the images do."""

    @abstractmethod
    def __call__(self, images: Tensor) -> Tensor:
        """Give what the net makes of float images `(B, C, S, S)` in [0, 1]: float32."""

    @abstractmethod
    def refresh(self) -> None:
        """Take over the weights that the net has now."""


class Stream(ABC):
    """An endless stream of shuffled batches of image indices."""

    @abstractmethod
    def __next__(self) -> Tensor:
        """Give the next batch: int64 `(B,)`."""

    @abstractmethod
    def state(self) -> State:
        """Say where the stream is."""

    @abstractmethod
    def load(self, state: State) -> None:
        """Go to where a stream over the same images was."""


class Journal:
    """Keeps the state of a fit, so that an interrupted one can go on. This one keeps nothing."""

    def load(self) -> State | None:
        """Give the state to go on from, or None: start afresh."""
        return None

    def save(self, state: Callable[[], State], *, milestone: bool = False) -> None:
        """Tell of a moment at which the fit could stop and go on later; `state` is called where it is to be kept.

        It is kept at a `milestone` (the end of a round), every few minutes, and when the user stops the fit: then this
        does not return. Tensors are written or copied before this returns, so they may change afterwards.
        """


class Problem(ABC):
    """One fit, as a method sees it: the images, who shares which row, the bound, and the tools of the core."""

    journal: Journal  # keeps the state, so that an interrupted fit can go on

    @property
    @abstractmethod
    def images(self) -> Tensor:
        """The images, uint8 `(N, C, S, S)`, on `device`; in a file, as banks then are, where they do not fit."""

    @property
    @abstractmethod
    def labels(self) -> Tensor:
        """Their classes, int64 `(N,)`."""

    @property
    @abstractmethod
    def keys(self) -> Sequence[str]:
        """Their names, `(N,)`, stable across runs."""

    @property
    @abstractmethod
    def rows(self) -> Tensor:
        """The row of the bank that each image uses, int64 `(N,)`."""

    @property
    @abstractmethod
    def num_rows(self) -> int:
        """The number of rows of the bank."""

    @property
    @abstractmethod
    def num_classes(self) -> int:
        """The number of classes."""

    @property
    @abstractmethod
    def norm(self) -> Norm:
        """The norm that bounds the noise."""

    @property
    @abstractmethod
    def eps(self) -> float:
        """The bound, in units of the norm."""

    @property
    @abstractmethod
    def seed(self) -> int:
        """The seed of the fit: for `secret` and `generator`, which draw from it."""

    @property
    @abstractmethod
    def device(self) -> device:
        """Where nets run."""

    @property
    @abstractmethod
    def survival(self) -> Tensor | None:
        """Float `(S, S)`: noise n reaches a net as A n A^T once photos are resized; None: as it is."""

    @property
    @abstractmethod
    def autocast(self) -> dtype | None:
        """The lower precision nets run in, by torch.autocast; None: as they are."""

    @property
    @abstractmethod
    def shape(self) -> tuple[int, int, int, int]:
        """The shape of the bank: `(R, C, S, S)`, or with patches of P pixels `(R, C, P, P)`."""

    @abstractmethod
    def secret(self, purpose: str) -> Secret:
        """Make a stream of its own for `purpose`, keyed by the fit's seed: for noise and whatever decides it."""

    @abstractmethod
    def generator(self, purpose: str) -> Generator:
        """Make a CPU generator of its own for `purpose`, for what is no secret: orders, crops, first weights.

        It keeps 32 bits of the fit's seed: what noise can be told from is drawn from `secret`.
        """

    @property
    @abstractmethod
    def per_sample(self) -> bool:
        """Whether each row serves exactly one image."""

    @property
    @abstractmethod
    def chunk(self) -> int:
        """Give a number of images the device works well on at once."""

    @abstractmethod
    def bank(self) -> Tensor:
        """Make an empty float32 bank `(R, C, S, S)`: on the device, or in a file where it does not fit."""

    @abstractmethod
    def release(self) -> None:
        """Say that a part of a bank, read or written by index, is done with for now: it may go back to its file."""

    @abstractmethod
    def copy(self, delta: Tensor, into: Tensor | None = None) -> Tensor:
        """Copy a bank: to a new one, or into one that is there."""

    @abstractmethod
    def inputs(self, batch: Tensor) -> Tensor:
        """Give the images with indices `batch` as nets see them: float `(B, C, S, S)` in [0, 1], on the device."""

    @abstractmethod
    def published(self, delta: Tensor, batch: Tensor) -> Tensor:
        """Give the images `batch` with their noise, as nets will see them: float `(B, C, S, S)` in [0, 1]."""

    @abstractmethod
    def view(self, images: Tensor, generator: Generator) -> Tensor:
        """Crop and flip each of a batch of float images at random, differentiably: `(B, C, S, S)`."""

    @abstractmethod
    def start(self, *, random: bool, draw: int = 0) -> Tensor:
        """Make a float32 bank: zeros, or uniform in [-1, 1] keyed by (seed, row's key, draw), never by order."""

    @abstractmethod
    def build(self, *, draw: int = 0) -> nn.Module:
        """Build the surrogate, freshly initialised from the seed and the draw, on the device.

        A pretrained one has its weights, and a fresh last layer.
        """

    @abstractmethod
    def ensemble(self) -> list[nn.Module]:
        """Build the nets of the method's `ensemble`, with their weights, on the device; without the surrogate."""

    @abstractmethod
    def features(self) -> Tensor:
        """Give the features of all images as the surrogate sees them once built: float32 `(N, F)`, on the CPU."""

    @abstractmethod
    def trainer(
        self, model: nn.Module, *, lr: float, momentum: float, decay: float, clip: float, augment: bool
    ) -> Trainer:
        """Make an SGD trainer of `model`; `augment` crops and flips the batches."""

    @abstractmethod
    def batches(self, size: int, generator: Generator | None = None, only: Tensor | None = None) -> Iterator[Tensor]:
        """Go once over all images, or `only` some, in batches of int64 indices; shuffled where a generator is given."""

    @abstractmethod
    def stream(self, size: int, purpose: str) -> Stream:
        """Make an endless stream of shuffled batches of image indices."""

    @abstractmethod
    def move(
        self,
        model: nn.Module,
        delta: Tensor,
        batch: Tensor,
        *,
        step: float,
        steps: int = 1,
        ascend: bool = False,
        generator: Generator | None = None,
        labels: Tensor | None = None,
    ) -> None:
        """Take projected steps on the rows that the images `batch` use, in place.

        Each step adds up, per row, the gradient of the summed cross-entropy with respect to the published image,
        moves `step * norm.reach(eps)` along the norm's steepest direction (down, or up with `ascend`), projects, and
        keeps rows that serve one image inside that image's box. With a `generator`, the net sees the images through
        random crops and flips. `labels`, int64 `(N,)`, of all images, stand in for their own.
        """

    @abstractmethod
    def freeze(self, model: nn.Module, *, features: bool = False, branches: float = 1.0) -> Frozen:
        """Give a fast copy of a net for input gradients: to its logits, or to its features.

        Of the gradient the share `branches` passes what skip connections lead around, where the net can be traced.

        For methods whose loss `move` does not know, with `published` before and `apply_gradient` after it.
        """

    @abstractmethod
    def perturb_weights(self, model: nn.Module, std: float, generator: Generator) -> AbstractContextManager[None]:
        """Put Gaussian noise of a standard deviation on all weights of a net, for as long as the context lasts."""

    @abstractmethod
    def apply_gradient(self, delta: Tensor, batch: Tensor, grad: Tensor, *, step: float) -> None:
        """Take one projected step on the rows that the images `batch` use, in place, against a given gradient.

        `grad`, float `(B, C, S, S)`, is that of the summed loss with respect to the published images; the step is
        `move`'s, and climbs where `step` is negative.
        """

    @abstractmethod
    def judge(
        self, model: nn.Module, delta: Tensor, only: Tensor | None = None, labels: Tensor | None = None
    ) -> Verdict:
        """Show `model` all images, or `only` some, as they would be published (8 bit), against `labels` or their own.

        Raises:
            UexError: what it makes of them is not finite.
        """

    @abstractmethod
    def reduce(self, tensor: Tensor) -> Tensor:
        """Add up, over the machines that share a fit, what this one summed over the images of a batch.

        Whatever a method shares between images, a net's weights or a row of noise, it moves by sums that went through
        here. Alone, it is the tensor itself.
        """

    @abstractmethod
    def project(self, delta: Tensor) -> Tensor:
        """Bring a whole bank, in place, inside the norm's ball (and one-image rows inside the image's box)."""

    @abstractmethod
    def fill(self, delta: Tensor) -> Tensor:
        """Bring every row of a whole bank, in place, to the bound, whichever norm it is."""

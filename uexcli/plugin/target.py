"""Targets: what an evaluation trains."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from uexcli.plugin.base import OnStep, Plugin

if TYPE_CHECKING:
    from torch import Generator, Tensor, device, dtype, nn


@dataclass(frozen=True)
class Outcome:
    """What a target learnt: accuracies in [0, 1] on clean test images, after each epoch, and the end's.

    `Scores.outcome` makes it whole; a target that makes its own may leave out what has a default.
    """

    curve: tuple[float, ...]
    train_accuracy: float  # on the un-augmented training images
    seconds: float
    compile_seconds: float = 0.0  # spent before, on code that later runs use again
    early_stop: float | None = None  # at the epoch a clean validation set chooses; None: not known
    right: tuple[int, ...] = ()  # (K,): how many test images of each class are right in the end
    confusion: tuple[tuple[int, ...], ...] = ()  # (K, K): test images of a class, by what they were taken for
    parts: Mapping[str, float] = field(default_factory=dict)  # accuracy on parts of the training images, by name
    part_curves: Mapping[str, tuple[float, ...]] = field(default_factory=dict)  # the same after each epoch
    right_images: tuple[str, ...] = ()  # after each epoch: which test images are right, bits in hexadecimal
    gradient: float | None = None  # share of images that the loss has a gradient at
    auc: float | None = None  # of pairs of faces, by the cosine of their features
    frozen_auc: float | None = None  # the same before this training, where the net knew something then

    @property
    def last(self) -> float:
        """The accuracy after the last epoch."""
        return self.curve[-1]

    @property
    def peak(self) -> float:
        """The best accuracy after any epoch: what early stopping could have kept."""
        return max(self.curve)


class Scores(ABC):
    """The book of one training run: what the net makes of the test images after each epoch, and in the end.

    `predict` takes uint8 images `(N, C, S, S)` and gives the class of each, int64 `(N,)`.
    """

    @abstractmethod
    def epoch(self, predict: Callable[[Tensor], Tensor]) -> float:
        """Show the clean test images, write down what was right, and give the accuracy."""

    @abstractmethod
    def outcome(
        self,
        predict: Callable[[Tensor], Tensor],
        *,
        seconds: float,
        compile_seconds: float = 0.0,
        embed: Callable[[Tensor], Tensor] | None = None,
        gradient: float | None = None,
        frozen_auc: float | None = None,
    ) -> Outcome:
        """Close the book after at least one epoch; `embed` gives the features of uint8 images, float `(N, F)`."""

    @abstractmethod
    def auc(self, embed: Callable[[Tensor], Tensor]) -> float | None:
        """How well the cosine of features tells pairs of the same face from others; None: there are no pairs."""


class Trial(ABC):
    """One training run, as a target sees it."""

    train_images: Tensor  # uint8 (N, C, S, S); with --view their middles, and `supervised` draws crops of the photos
    train_labels: Tensor  # int64 (N,)
    test_images: Tensor
    test_labels: Tensor
    num_classes: int
    seed: int
    epochs: int | None  # what the user asked for; None: the target's own
    device: device
    autocast: dtype | None  # the lower precision nets run in, by torch.autocast; None: as they are
    on_step: OnStep

    @property
    def channels(self) -> int:
        """The number of colour channels."""
        return int(self.train_images.shape[1])

    @property
    def size(self) -> int:
        """The side of the square images."""
        return int(self.train_images.shape[2])

    @abstractmethod
    def supervised(
        self,
        build: Callable[[], nn.Module],
        *,
        epochs: int,
        batch: int,
        lr: float,
        decay: float,
        schedule: str = "one-cycle",
        clip: float | None = None,
        optimiser: str = "sgd",
        augment: bool = True,
        knows: bool = False,
    ) -> Outcome:
        """Train a net that `build` makes, on random crops and flips.

        `optimiser` is `sgd`, with Nesterov momentum .9, or `adamw`. `schedule` of the learning rate is `one-cycle`,
        `cosine`, or epochs such as `75,90,100` at which it falls to a tenth; `clip` limits the norm of the gradient.
        The net may have `features(x)`, the input of its last layer. `knows` says that the net was trained before on
        something else.
        """

    @abstractmethod
    def loss(
        self, net: nn.Module, images: Tensor, labels: Tensor, generator: Generator, *, smooth: float = 0
    ) -> Tensor:
        """Give the mean cross-entropy of a batch after what the countermeasure does to it: a scalar with gradient.

        Float images `(B, C, S, S)` in [0, 1], int64 labels `(B,)`. For targets with a training loop of their own.
        """

    @abstractmethod
    def scores(self) -> Scores:
        """Open the book of this run."""

    @abstractmethod
    def generator(self, purpose: str) -> Generator:
        """Make a CPU generator of its own for `purpose`, seeded by the run's seed."""

    @abstractmethod
    def seeded(self, purpose: str) -> AbstractContextManager[None]:
        """Seed torch's global random numbers for a while, for what draws from nothing else, such as a net's start."""

    @abstractmethod
    def surrogate(self, name: str, weights: str) -> nn.Module:
        """Build the surrogate of this name for the trial's images and classes, on the device.

        `weights` is `auto` or a file, as its option of that name; `auto` where it has no such option.

        Raises:
            UexError: there is no such surrogate, it is not pretrained, or its weights are not here.
        """

    @abstractmethod
    def encoder(self, name: str, weights: str) -> Callable[[Tensor], Tensor]:
        """Give what encodes images by that surrogate, frozen: uint8 `(N, C, S, S)` to float32 `(N, F)`, on the device.

        An evaluation encodes each image once and keeps its features, whichever of its runs shows it.

        Raises:
            UexError: as `surrogate` does.
        """


class Target(Plugin, ABC):
    """Who tries to learn from the images (the papers say victim)."""

    batches: ClassVar[bool] = True  # it trains on batches of images, through `supervised` or `Trial.loss`
    crops: ClassVar[bool] = True  # with --view it sees crops of the photos, as `supervised` does, not their middles
    test_options: ClassVar[Mapping[str, Any]] = {}  # options with which a run on a handful of images takes seconds

    @abstractmethod
    def evaluate(self, trial: Trial) -> Outcome:
        """Train on the trial's training images and score on its test images."""

    def work(self, trial: Trial) -> float:
        """Say how many training passes of one image a run takes (images times epochs), for the estimate."""
        return 0.0

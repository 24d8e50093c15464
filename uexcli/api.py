"""The base classes a plugin author subclasses; the only module of uexcli that a plugin needs.

A plugin class is a frozen dataclass. Class variables describe it, fields are its options (`-O key=value`, or
`jpeg:10` where a spec is written on the command line):

    @dataclass(frozen=True)
    class Half(Norm):
        name: ClassVar[str] = "half"
        summary: ClassVar[str] = "half as strict as linf"
        factor: float = option(2.0, "how much laxer")

Nothing here imports torch: keep heavy imports inside methods, so that `uex --help` stays fast.
Images are uint8 `(N, C, S, S)`; float images and noise are in units of the [0, 1] range, so 8/255 is 8 grey levels.
"""

from __future__ import annotations

import os
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import pluggy

from uexcli.errors import UexError, UsageError

if TYPE_CHECKING:
    import numpy as np
    from torch import Generator, Tensor, device, dtype, nn

__all__ = [
    "HIDDEN",
    "IMAGE_SUFFIXES",
    "NO_IMAGE",
    "Countermeasure",
    "Dataset",
    "Frozen",
    "Granularity",
    "Journal",
    "Method",
    "Norm",
    "OnStep",
    "Outcome",
    "Plugin",
    "Preset",
    "Problem",
    "Progress",
    "Sample",
    "Scores",
    "Secret",
    "State",
    "Stream",
    "Surrogate",
    "Target",
    "Trainer",
    "Trial",
    "UexError",
    "Unread",
    "UsageError",
    "Verdict",
    "Work",
    "hookimpl",
    "is_safe",
    "option",
    "split_folder",
    "split_of",
]

hookimpl = pluggy.HookimplMarker("uex")


def option(default: Any, summary: str) -> Any:
    """Make a plugin option: a dataclass field with its default and one line of help."""
    return field(default=default, metadata={"help": summary})


@dataclass(frozen=True)
class Progress:
    """One report of a long job: `done` of `total` units, and a few words on how it goes.

    A method's reports are of the whole fit, whatever its stages are called: their share never falls.
    """

    done: float
    total: float
    note: str = ""
    stage: str = ""


OnStep = Callable[[Progress], None]


class Plugin:
    """What every plugin class carries."""

    name: ClassVar[str] = ""
    summary: ClassVar[str] = ""
    paper: ClassVar[str] = ""
    aliases: ClassVar[tuple[str, ...]] = ()

    def lacks(self) -> UexError | None:
        """Say what this needs and does not find here, such as weights or a package, and the way out; None: nothing."""
        return None


# --------------------------------------------------------------------------------------------- norms


class Norm(Plugin, ABC):
    """What "small" means for a noise: a ball to stay in, and the steepest direction inside it.

    `delta` is float `(R, C, H, W)`. `images` are the float images in [0, 1] the rows are added to, row for row, or
    None where a row serves several images; a norm with `needs_images` is only ever used where they are at hand.
    """

    needs_images: ClassVar[bool] = False
    bounded: ClassVar[bool] = True  # False: it measures, and forbids nothing
    sparse: ClassVar[bool] = False  # few values change, and strongly: their mean square says little
    local: ClassVar[bool] = False  # `size` is the largest of its parts', so that a large photo can be judged in stripes

    def usual(self, channels: int, size: int) -> str:
        """Give the bound the field uses for images of `(channels, size, size)`, as one would type it."""
        return "8/255"

    @abstractmethod
    def project(self, delta: Tensor, eps: float, images: Tensor | None = None) -> Tensor:
        """Bring each row of `delta` that is larger than `eps` back to the ball; leave the others alone."""

    @abstractmethod
    def steepest(self, grad: Tensor) -> Tensor:
        """Give the direction of unit size along which a row's loss, with gradient `grad`, grows fastest."""

    @abstractmethod
    def size(self, delta: Tensor, images: Tensor | None = None) -> Tensor:
        """Measure each row: float `(R,)`, in the units of `eps`."""

    def reach(self, eps: float) -> float:
        """Say how far along `steepest` a step of one whole bound goes; a method's step is a share of this."""
        return eps

    def levels(self, eps: float, peak: int = 255) -> int | None:
        """Give the most levels any single value may change by, or None where the norm sets no such limit.

        `peak` is the highest level of the grid: 255, or 65,535 for 16-bit images.
        """
        return None

    def rescale(self, eps: float, fitted: tuple[int, int], actual: tuple[int, int]) -> float:
        """Translate a bound stated for an image of `fitted` (H, W) to one of `actual` (H, W)."""
        return eps

    def parse(self, text: str) -> float:
        """Read a bound such as `8/255` or `0.03`.

        Raises:
            UsageError: it is no number above 0.
        """
        plain = text.replace(" ", "")
        try:
            if not re.fullmatch(r"[+-]?[\d.]{1,20}(e[+-]?\d{1,3})?(/\d{1,9})?", plain):  # no 1e99999999
                raise ValueError
            share, slash, whole = plain.partition("/")
            value = float(Fraction(share) / (int(whole) if slash else 1))
        except (ValueError, ZeroDivisionError, OverflowError):
            raise UsageError(f"--eps {text}: not a number.", hint="Write it as 8/255 or 0.03.") from None
        if value <= 0:
            raise UsageError(f"--eps {text}: the bound must be above 0.", hint="Write it as 8/255 or 0.03.")
        if not SMALLEST_EPS <= value <= LARGEST_EPS:
            much = "little" if value < SMALLEST_EPS else "much"
            raise UsageError(f"--eps {text}: no image changes by so {much}.", hint="Write it as 8/255 or 0.03.")
        return value

    def fill(self, delta: Tensor, eps: float, images: Tensor | None = None) -> Tensor:
        """Scale each row up or down until its size is `eps`; rows of zeros stay zero."""
        shape = (-1, *([1] * (delta.dim() - 1)))
        high = delta.new_ones(len(delta))
        for _ in range(40):  # double until every row is outside, then bisect
            small = (self.size(delta * high.view(shape), images) < eps) & delta.flatten(1).any(1)
            if not bool(small.any()):
                break
            high = high.where(~small, high * 2)
        low = high * 0
        for _ in range(30):
            middle = (low + high) / 2
            inside = self.size(delta * middle.view(shape), images) <= eps
            low, high = low.where(~inside, middle), high.where(inside, middle)
        return delta * low.view(shape)


# ----------------------------------------------------------------------------------- random numbers


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


# ------------------------------------------------------------------------------------- granularities


class Granularity(Plugin, ABC):
    """Which images share a noise: the row of the bank that each one uses."""

    encoder: str = "pixels"  # what its features come from: `pixels`, a surrogate, or `auto`; see `uex_surrogates`
    own: ClassVar[bool] = False  # every image has a row of its own
    can_assign: ClassVar[bool] = False  # images that were not fitted can be given a row
    needs_labels: ClassVar[bool] = False
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


# ------------------------------------------------------------------------------------------- methods


@dataclass(frozen=True)
class Work:
    """What a fit will cost, in passes of one image forward and back through the surrogate."""

    expected: float
    most: float


@dataclass(frozen=True)
class Verdict:
    """How a net does on images with their noise: the share it gets wrong, and the cross-entropy of each, `(N,)`."""

    error: float
    losses: Tensor


State = Mapping[str, Any]  # tensors, and what JSON has, by name


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

    images: Tensor  # uint8 (N, C, S, S), on `device`; in a file, as banks then are, where they do not fit
    labels: Tensor  # int64 (N,)
    rows: Tensor  # int64 (N,)
    keys: Sequence[str]  # (N,) names, stable across runs
    num_rows: int
    num_classes: int
    norm: Norm
    eps: float
    seed: int
    device: device
    journal: Journal
    survival: Tensor | None  # float (S, S): noise n reaches a net as A n A^T once photos are resized; None: as it is
    autocast: dtype | None  # the lower precision nets run in, by torch.autocast; None: as they are

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
    def own(self) -> bool:
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

        For methods whose loss `move` does not know, with `published` before and `nudge` after it.
        """

    @abstractmethod
    def shaken(self, model: nn.Module, std: float, generator: Generator) -> AbstractContextManager[None]:
        """Put Gaussian noise of a standard deviation on all weights of a net, for as long as the context lasts."""

    @abstractmethod
    def nudge(self, delta: Tensor, batch: Tensor, grad: Tensor, *, step: float) -> None:
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
    def project(self, delta: Tensor) -> Tensor:
        """Bring a whole bank, in place, inside the norm's ball (and one-image rows inside the image's box)."""

    @abstractmethod
    def fill(self, delta: Tensor) -> Tensor:
        """Bring every row of a whole bank, in place, to the bound, whichever norm it is."""


@dataclass(frozen=True)
class Preset:
    """The constants of a paper's experiment, or a quick schedule: options of the method, and what else it fixes."""

    options: Mapping[str, Any]
    surrogate: str | None = None
    eps: str | None = None


class Method(Plugin, ABC):
    """How the noise is found."""

    presets: ClassVar[tuple[str, ...]] = ()  # names that `preset` knows
    needs_surrogate: ClassVar[bool] = True
    needs_pretrained: ClassVar[bool] = False  # the surrogate has to know something before it is trained
    default_norm: ClassVar[str] = "linf"
    default_eps: ClassVar[str | None] = None  # None: what is usual for the norm
    # Which photos it is for where no method is named, of: "photos", "small images" (32 to 96
    # px), "tiny images" (below), and each "without labels". The number says how well it holds there: of all that can
    # run, the highest is chosen. On a CPU it is for so many photos at most; 0: any number.
    usual_for: ClassVar[Mapping[str, int]] = {}
    usual_modes: ClassVar[tuple[str, ...]] = ()  # of the granularities, those in which it is; (): all it knows
    usual_most: ClassVar[int] = 0
    photo_side: ClassVar[int] = 0  # px; photos are fitted no smaller than this or they are, unless --size says so
    modes: ClassVar[tuple[str, ...]] = ()  # the only granularities it makes noise for, the default first; (): any
    norms: ClassVar[tuple[str, ...]] = ()  # the only norms it knows; (): any that is bounded
    gives_network: ClassVar[bool] = False  # `fit` gives a network instead of a bank
    takes_patches: ClassVar[bool] = True  # its bank may be smaller than the images
    seeded: ClassVar[bool] = True  # another seed gives other noise
    undone_by: ClassVar[tuple[str, ...]] = ()  # countermeasures that who knows the method takes, as `eval --against`
    least: ClassVar[Mapping[str, Any]] = {}  # options with which a fit of a handful of images takes a second

    @abstractmethod
    def fit(self, problem: Problem, on_step: OnStep) -> Tensor | nn.Module:
        """Give the bank, of `problem.shape`; what comes back is projected and measured again by the caller.

        With `gives_network`, give a network as `network` builds it: called with float images `(B, C, S, S)` in [0, 1]
        and their rows, int64 `(B,)`, it gives their noise, float `(B, C, S, S)`.
        """

    def usual_eps(self, channels: int, size: int) -> str | None:
        """Give the published bound under `default_norm` for images of `(channels, size, size)`; None: the norm's."""
        return self.default_eps

    def network(self, *, channels: int, size: int, num_rows: int) -> nn.Module:
        """Build the network whose weights a noise file holds, for images `(channels, size, size)`, on the CPU."""
        raise UexError(f"method '{self.name}' makes no network.")

    @classmethod
    def preset(cls, name: str, *, own: bool) -> Preset:
        """Give the constants behind one of `presets`; `own` says whether every image has a noise of its own."""
        raise UsageError(f"method '{cls.name}' has no preset '{name}'.")

    def largest_batch(self, images: int) -> int:
        """Say how many of so many images the surrogate learns from at once, for the estimate of memory."""
        return 256

    @property
    def ensemble(self) -> tuple[str, ...]:
        """Name pretrained surrogates beside that of `--surrogate`, NAME or NAME:FILE, for `Problem.ensemble`."""
        return ()

    @property
    def banks(self) -> int:
        """How many banks of noise it keeps at once, at most, for the estimate of memory."""
        return 2

    @property
    def spare_nets(self) -> int:
        """How many nets like the surrogate it keeps beside the one that learns, for the estimate of memory."""
        return 0

    def work(self, images: int, *, rows: int) -> Work:
        """Say how many image passes through the surrogate a fit takes, for the estimate.

        `rows` noises are found for so many images; as many as images where each has its own.
        """
        return Work(0, 0)

    def rehearse(self, problem: Problem) -> float | None:
        """Time a step or two on the problem, and give the seconds of a fit; None: those of `work`'s passes.

        For a method whose steps are not passes through the surrogate. What it changes is thrown away.
        """
        return None


# ---------------------------------------------------------------------------------------- surrogates


class Surrogate(Plugin, ABC):
    """The net the noise is fitted against, and whose features tell which images are alike.

    One that is `pretrained` can build on `uexcli.encoder`, imported inside `build`.
    """

    pretrained: ClassVar[bool] = False  # its features mean something before it is trained
    # False: it can group images, but noise cannot be fitted against it. Where ONNX Runtime runs it, the module has
    # `onnx_model`, the bytes of the model, and `shown(x)`, what of images that model takes.
    has_gradient: ClassVar[bool] = True
    native: ClassVar[int | None] = None  # side in px at which its weights were trained; `eval` shows it photos so
    least: ClassVar[Mapping[str, Any]] = {}  # options with which it is built without weights

    @abstractmethod
    def build(self, *, num_classes: int, channels: int, size: int) -> nn.Module:
        """Build the net: float images `(B, C, S, S)` in [0, 1] to logits `(B, K)`.

        The module also has `features(x)`, float `(B, F)`: the input of its last linear layer.
        """


# ------------------------------------------------------------------------------------------ datasets


_JPEG = (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo")
_OTHER = (".avif", ".bmp", ".gif", ".heic", ".heif", ".jp2", ".jxl", ".png", ".tif", ".tiff", ".webp")
_NETPBM = (".pbm", ".pgm", ".pnm", ".ppm")
SMALLEST_EPS, LARGEST_EPS = 1e-9, 3.0 * 8192**2  # the least that is a bound; white on black, by its L1 length
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


# ----------------------------------------------------------------------- countermeasures and targets


class Countermeasure(Plugin, ABC):
    """What an attacker does about the noise, before training or while it goes on: override what it takes.

    `strength` and `rivals` let `eval` doubt a result in which the weaker of two undoes more.
    """

    rivals: ClassVar[str] = ""  # a name that countermeasures share which differ in strength; "": its own

    @property
    def cost(self) -> float:
        """Say what a training under it costs, against a plain one, for the estimate."""
        return 1.0

    @property
    def strength(self) -> float | None:
        """Say how strong these options make it among its rivals; None: they do not compare."""
        return None

    def prepare(self, images: Tensor, labels: Tensor, generator: Generator) -> Tensor:
        """Change the training set, once: uint8 `(N, C, S, S)` to the same shape; `labels` are int64 `(N,)`.

        For what needs the labels; else override `apply`.
        """
        return self.apply(images, generator)

    def apply(self, images: Tensor, generator: Generator) -> Tensor:
        """Change each training image, once: uint8 `(N, C, S, S)` to the same shape."""
        return images

    @property
    def clean(self) -> tuple[str, int] | None:
        """Name clean images that it learns from, as PHOTOS is on the command line, and how many at most; None: none."""
        return None

    def purify(self, images: Tensor, clean: Tensor, generator: Generator) -> Tensor:
        """Do what `prepare` does, where `clean` names images; they are uint8 `(M, C, S, S)`, of the same C and S."""
        return images

    def batch(self, images: Tensor, labels: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        """Change a batch that training is about to see, after its crops and flips.

        Float images `(B, C, S, S)` in [0, 1], and the share of each class in each, float `(B, K)`; to the same.
        """
        return images, labels

    def attack(self, net: Callable[[Tensor], Tensor], images: Tensor, labels: Tensor, generator: Generator) -> Tensor:
        """Change a batch with a look at what the net, in eval mode, makes of it; shapes as in `batch`.

        `net` gives the logits, float `(B, K)`, with gradients.
        """
        return images


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
            UexError: there is no such surrogate, it knows nothing before it is trained, or its weights are not here.
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
    least: ClassVar[Mapping[str, Any]] = {}  # options with which a run on a handful of images takes seconds

    @abstractmethod
    def evaluate(self, trial: Trial) -> Outcome:
        """Train on the trial's training images and score on its test images."""

    def work(self, trial: Trial) -> float:
        """Say how many training passes of one image a run takes (images times epochs), for the estimate."""
        return 0.0

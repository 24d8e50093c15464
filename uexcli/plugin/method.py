"""Methods: how noise is found."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from uexcli.errors import UexError, UsageError
from uexcli.plugin.base import OnStep, Plugin
from uexcli.plugin.problem import Problem

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class Work:
    """What a fit will cost, in passes of one image forward and back through the surrogate."""

    expected: float
    most: float


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
    test_options: ClassVar[Mapping[str, Any]] = {}  # options with which a fit of a handful of images takes a second

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
    def preset(cls, name: str, *, per_sample: bool) -> Preset:
        """Give the constants behind one of `presets`; `per_sample` says whether every image has a noise of its own."""
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

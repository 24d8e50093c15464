"""EMAX: error-maximising noise, the min-max of the paper."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from uexcli.builtin.methods._passes import Crafting, Teaching
from uexcli.plugin import Method, OnStep, Preset, Problem, Progress, State, Work, hookimpl, option
from uexcli.plugin.resume import Run, take_up, under, within

if TYPE_CHECKING:
    from torch import Tensor

TEACHING = 0.5  # of the progress that is told


@dataclass(frozen=True)
class ErrorMaximising(Method):
    """Noise that a trained net gets wrong: adversarial examples used as training data.

    The surrogate learns the clean images; then the noise climbs its cross-entropy, until its error on what would be
    published is `stop` or more. Sample-wise it protects little, as the paper shows; it is there to compare with.
    """

    name: ClassVar[str] = "emax"
    summary: ClassVar[str] = "error-maximising noise: adversarial examples of a net trained on the clean images"
    paper: ClassVar[str] = "Huang et al., Unlearnable Examples: Making Personal Data Unexploitable, ICLR 2021"
    presets: ClassVar[tuple[str, ...]] = ("quick",)
    test_options: ClassVar[dict[str, object]] = {"epochs": 2, "steps": 2, "rounds": 2}

    epochs: int = option(60, "passes over the clean images to train the surrogate")
    rounds: int = option(10, "cap on the passes of the noise over the images")
    steps: int | None = option(None, "steps of the noise in a pass; auto: 20 sample-wise, 1 where images share a noise")
    step: float = option(0.1, "length of a noise step, as a share of eps")
    stop: float | None = option(None, "stop when the surrogate's error is at least this; auto: .9, or .8 shared")
    batch: int = option(128, "images in a batch")
    lr: float = option(0.1, "learning rate of the surrogate")

    def __post_init__(self) -> None:
        """Refuse what cannot run."""
        steps, stop = 1 if self.steps is None else self.steps, 1 if self.stop is None else self.stop
        if min(self.epochs, self.rounds, self.batch, steps) < 1:
            raise ValueError("epochs, rounds, steps and batch must be at least 1")
        if min(self.step, self.lr) <= 0 or not 0 < stop <= 1:
            raise ValueError("step and lr must be above 0, and stop in (0, 1]")

    @classmethod
    def preset(cls, name: str, *, per_sample: bool) -> Preset:
        """Train the surrogate for minutes only."""
        return Preset({"epochs": 12})

    def fit(self, problem: Problem, on_step: OnStep) -> Tensor:
        """Train, then climb."""
        run = _Run(self, problem, on_step)
        take_up(run, problem)
        return run.result()

    def largest_batch(self, images: int) -> int:
        """As the option says."""
        return self.batch

    def work(self, images: int, *, rows: int) -> Work:
        """A training pass costs one and a half, a test a third."""
        per_sample = rows == images
        teaching, each = 1.5 * images * self.epochs, images * (self._steps(per_sample=per_sample) + 0.4)
        return Work(teaching + min(self.rounds, 1 if per_sample else 10) * each, teaching + self.rounds * each)

    def _steps(self, *, per_sample: bool) -> int:
        return self.steps or (20 if per_sample else 1)


class _Run(Run):
    def __init__(self, method: ErrorMaximising, problem: Problem, on_step: OnStep) -> None:
        self._method, self._problem, self._on_step = method, problem, on_step
        self._teaching = Teaching(problem, epochs=method.epochs, batch=method.batch, lr=method.lr)
        steps = method._steps(per_sample=problem.per_sample)
        start = problem.start(random=False)
        self._crafting = Crafting(problem, start, steps=steps, step=method.step, batch=method.batch, ascend=True)
        self._error = 0.0

    def result(self) -> Tensor:
        """Go on to the end."""
        method, crafting = self._method, self._crafting
        stop = method.stop or (0.9 if self._problem.per_sample else 0.8)
        self._teaching.go_on(self._save, lambda share: self._tell(TEACHING * share, "training the surrogate"))
        while crafting.passed < method.rounds and self._error < stop:
            crafting.go_on(self._teaching.model, self._save, self._tell_climb)
            self._error = self._problem.judge(self._teaching.model, crafting.delta).error
            self._problem.journal.save(self.state, milestone=True)
        self._tell(1, f"{crafting.passed} rounds, surrogate error {self._error:.1%}")
        return crafting.delta

    def _save(self) -> None:
        self._problem.journal.save(self.state)

    def _tell_climb(self, share: float) -> None:
        done = (self._crafting.passed + share) / self._method.rounds
        self._tell(TEACHING + (1 - TEACHING) * done, f"surrogate error {self._error:.1%}")

    def _tell(self, share: float, note: str) -> None:
        self._on_step(Progress(min(share, 1), 1, note))

    def state(self) -> State:
        """Both phases."""
        inner = {**within("teaching.", self._teaching.state()), **within("crafting.", self._crafting.state())}
        return {"error": self._error, **inner}

    def load(self, state: State) -> None:
        """Go on from it."""
        self._error = state["error"]
        self._teaching.load(under("teaching.", state))
        self._crafting.load(under("crafting.", state))


@hookimpl
def uex_methods() -> list[type[Method]]:
    """Register."""
    return [ErrorMaximising]

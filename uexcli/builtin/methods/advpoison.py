"""AdvPoison, also called TAP: targeted adversarial examples of a trained net."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from uexcli.builtin.methods._passes import Crafting, Teaching
from uexcli.plugin import Method, OnStep, Preset, Problem, Progress, State, Work, hookimpl, option
from uexcli.plugin.resume import Run, take_up, under, within

if TYPE_CHECKING:
    from torch import Tensor

BLOCK = 25  # steps on a batch at once, where the others do not matter


@dataclass(frozen=True)
class AdvPoison(Method):
    """Noise that makes a net trained on clean images see the next class; the true label stays.

    With g(x) the gradient of CE(f(t(x + d)), y + shift), t a random crop and flip, d takes `steps` steps down from a
    random start. Of `restarts` such runs the whole one with the lowest mean loss is kept.
    """

    name: ClassVar[str] = "advpoison"
    summary: ClassVar[str] = "targeted adversarial examples: a net trained on clean images sees the next class"
    undone_by: ClassVar[tuple[str, ...]] = ("jpeg:10",)
    paper: ClassVar[str] = "Fowl et al., Adversarial Examples Make Strong Poisons, NeurIPS 2021, arXiv 2106.10807"
    aliases: ClassVar[tuple[str, ...]] = ("tap",)
    presets: ClassVar[tuple[str, ...]] = ("quick",)
    test_options: ClassVar[dict[str, object]] = {"epochs": 2, "steps": 26, "restarts": 2, "step": 0.2}

    epochs: int = option(40, "passes over the clean images to train the surrogate")
    steps: int = option(250, "steps of the noise")
    step: float = option(0.05, "length of a noise step, as a share of eps")
    restarts: int = option(8, "runs from other starts; the one with the lowest loss is kept")
    shift: int = option(1, "the class to be seen is this many after the true one")
    batch: int = option(128, "images in a batch of the surrogate's training, and of noise that images share")
    lr: float = option(0.1, "learning rate of the surrogate")

    def __post_init__(self) -> None:
        """Refuse what cannot run."""
        if min(self.epochs, self.steps, self.restarts, self.shift, self.batch) < 1 or min(self.step, self.lr) <= 0:
            raise ValueError("epochs, steps, restarts, shift and batch must be at least 1, step and lr above 0")

    @classmethod
    def preset(cls, name: str, *, per_sample: bool) -> Preset:
        """One run of fewer, longer steps: minutes on a CPU for some thousand images."""
        return Preset({"epochs": 12, "steps": 100, "step": 0.1, "restarts": 1})

    def fit(self, problem: Problem, on_step: OnStep) -> Tensor:
        """Train, then craft."""
        run = _Run(self, problem, on_step)
        take_up(run, problem)
        return run.result()

    def largest_batch(self, images: int) -> int:
        """As the option says."""
        return self.batch

    @property
    def banks(self) -> int:
        """The best run, the one that is over, and the start of the next."""
        return 2 if self.restarts == 1 else 3

    def work(self, images: int, *, rows: int) -> Work:
        """A training pass costs one and a half, a test a third."""
        every = images * (1.5 * self.epochs + self.restarts * (self.steps + 0.4))
        return Work(every, every)


class _Run(Run):
    def __init__(self, method: AdvPoison, problem: Problem, on_step: OnStep) -> None:
        self._method, self._problem, self._on_step = method, problem, on_step
        self._teaching = Teaching(problem, epochs=method.epochs, batch=method.batch, lr=method.lr)
        self._block = BLOCK if problem.per_sample else 1
        self._labels = (problem.labels + (method.shift % problem.num_classes or 1)) % problem.num_classes
        self._crafting = Crafting(
            problem,
            self._start(0),
            steps=self._block,
            step=method.step,
            batch=method.batch,
            labels=self._labels,
            view=problem.generator("view"),
        )
        self._restart = 0
        self._least = math.inf
        self._best: Tensor | None = None

    def _start(self, restart: int) -> Tensor:
        return self._problem.fill(self._problem.start(random=True, draw=restart))

    def result(self) -> Tensor:
        """Go on to the end."""
        method, problem, crafting = self._method, self._problem, self._crafting
        self._teaching.go_on(self._save, lambda share: self._tell(share / self._total(), "training the surrogate"))
        model = self._teaching.model
        while self._restart < method.restarts:
            while crafting.passed * self._block < method.steps:
                steps = min(self._block, method.steps - crafting.passed * self._block)
                crafting.go_on(model, self._save, self._tell_craft, steps)
            loss = float(problem.judge(model, crafting.delta, labels=self._labels).losses.mean())
            if loss < self._least:
                self._least = loss
                self._best = problem.copy(crafting.delta, into=self._best)
            self._restart += 1
            if self._restart < method.restarts:
                crafting.begin(self._start(self._restart))
            problem.journal.save(self.state, milestone=True)
        assert self._best is not None
        self._tell(1, f"loss towards the other class {self._least:.3f}")
        return self._best

    def _total(self) -> float:
        """All work, in units of the surrogate's training."""
        return 1 + self._method.restarts * self._method.steps / (1.5 * self._method.epochs)

    def _save(self) -> None:
        self._problem.journal.save(self.state)

    def _tell_craft(self, share: float) -> None:
        method = self._method
        done = self._restart + min(1, (self._crafting.passed + share) * self._block / method.steps)
        share = (1 + (self._total() - 1) * done / method.restarts) / self._total()
        self._tell(share, f"run {self._restart + 1} of {method.restarts}")

    def _tell(self, share: float, note: str) -> None:
        self._on_step(Progress(min(share, 1), 1, note))

    def state(self) -> State:
        """Both phases, and the best run so far."""
        return {
            "restart": self._restart,
            "least": self._least if self._least < math.inf else None,
            **({} if self._best is None else {"best": self._best}),
            **within("teaching.", self._teaching.state()),
            **within("crafting.", self._crafting.state()),
        }

    def load(self, state: State) -> None:
        """Go on from it."""
        self._restart = state["restart"]
        self._least = math.inf if state["least"] is None else state["least"]
        self._best = self._problem.copy(state["best"]) if "best" in state else None
        self._teaching.load(under("teaching.", state))
        self._crafting.load(under("crafting.", state))


@hookimpl
def uex_methods() -> list[type[Method]]:
    """Register."""
    return [AdvPoison]

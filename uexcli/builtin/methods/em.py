"""EM: error-minimising noise."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from uexcli.api import Method, OnStep, Problem, Progress, State, Work, hookimpl, option

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Schedule:
    """The lengths of a fit's rounds."""

    theta_steps: int
    steps: int
    step: float
    batch: int
    usual_rounds: int  # what fits of 1,000 to 10,000 images took: for the estimate, not a bound

    def passes(self, images: int) -> float:
        """Passes in a round: a training pass costs one and a half, as weights have gradients too; the test a third."""
        return images * (self.steps + 0.4) + 1.5 * self.theta_steps * self.batch


@dataclass(frozen=True)
class ErrorMinimising(Method):
    """Noise that leaves a net nothing to learn: min over theta of min over delta of the cross-entropy.

    Rounds of: a few SGD steps of the surrogate on the protected images; then sign-like steps of the noise, down the
    loss, over all images; then the error on what would be published. Stops when that is at most `stop`, or after
    `rounds`, and returns the best bank seen, for the surrogate's error is not monotone.
    """

    name: ClassVar[str] = "em"
    summary: ClassVar[str] = "error-minimising noise: surrogate and noise take turns to lower the loss"
    paper: ClassVar[str] = "Huang et al., Unlearnable Examples: Making Personal Data Unexploitable, ICLR 2021"
    aliases: ClassVar[tuple[str, ...]] = ("emin",)

    rounds: int = option(30, "cap on the rounds of surrogate and noise")
    stop: float = option(0.01, "stop when the surrogate's error on the protected images is at most this")
    theta_steps: int | None = option(None, "SGD steps of the surrogate in a round; auto: 30 sample-wise, else 10")
    steps: int | None = option(None, "steps of the noise in a round; auto: 5 sample-wise, 1 where images share a noise")
    step: float | None = option(None, "length of a noise step, as a share of eps; auto: 0.2 sample-wise, else 0.1")
    batch: int | None = option(None, "images in a batch; auto: a 16th of all, within 32 to 256")
    lr: float = option(0.1, "learning rate of the surrogate")
    augment: bool = option(False, "let surrogate and noise see random crops and flips")
    random_start: bool = option(False, "start from noise at the bound instead of from none")

    def __post_init__(self) -> None:
        """Refuse what cannot run."""
        counts = (self.rounds, self.theta_steps, self.steps, self.batch)
        if any(count is not None and count < 1 for count in counts):
            raise ValueError("rounds, theta_steps, steps and batch must be at least 1")
        if (self.step is not None and self.step <= 0) or self.lr <= 0 or not 0 <= self.stop < 1:
            raise ValueError("step and lr must be above 0, and stop in [0, 1)")

    def fit(self, problem: Problem, on_step: OnStep) -> Tensor:
        """Run the rounds: all of them, or those an interrupted fit has left."""
        run = Run(self, self._schedule(problem), problem, on_step)
        saved = problem.journal.load()
        if saved is not None:
            run.load(saved)
        while run.round < self.rounds and run.least > self.stop:
            run.learn()
            run.move()
            run.judge()
        return run.result()

    def work(self, problem: Problem) -> Work:
        """Passes of a round times rounds."""
        plan = self._schedule(problem)
        each = plan.passes(len(problem.images))
        return Work(min(self.rounds, plan.usual_rounds) * each, self.rounds * each)

    def _schedule(self, problem: Problem) -> Schedule:
        """Fill in what was left to `auto`; measured on 10,000 CIFAR-10 images and on digits."""
        own = problem.own
        return Schedule(
            theta_steps=self.theta_steps or (30 if own else 10),
            steps=self.steps or (5 if own else 1),
            step=self.step or (0.2 if own else 0.1),
            batch=self.batch or min(256, max(32, len(problem.images) // 16)),
            usual_rounds=6 if own else 10,
        )


class Run:
    """A fit under way: all that changes, so that it can be put down at any step and taken up again."""

    def __init__(self, method: ErrorMinimising, plan: Schedule, problem: Problem, on_step: OnStep) -> None:
        self.round = 0
        self.least = math.inf
        self._learnt = 0  # steps of theta in this round
        self._moved = 0  # images of this round whose noise has moved
        self._method = method
        self._plan = plan
        self._problem = problem
        self._on_step = on_step
        self._trainer = problem.trainer(
            problem.build(), lr=method.lr, momentum=0.9, decay=5e-4, clip=5, augment=method.augment
        )
        self._stream = problem.stream(plan.batch, "theta")
        self._view = problem.generator("view") if method.augment else None
        start = problem.start(random=method.random_start)
        self._delta = problem.fill(start) if method.random_start else start
        self._best = problem.copy(self._delta)
        self._best_is_now = True  # whether `delta` still is the best bank
        self._theta_share = 1 - len(problem.images) * plan.steps / plan.passes(len(problem.images))

    def learn(self) -> None:
        """The surrogate's steps."""
        while self._learnt < self._plan.theta_steps:
            self._trainer.step(self._delta, next(self._stream))
            self._learnt += 1
            self._problem.journal.save(self.state)
            self._tell(self._theta_share * self._learnt / self._plan.theta_steps)

    def move(self) -> None:
        """The noise's steps, once over all images; where each has a noise of its own, their order does not matter."""
        problem, plan, count = self._problem, self._plan, len(self._problem.images)
        if problem.own:
            batches = problem.batches(problem.chunk)
        else:
            batches = problem.batches(plan.batch, problem.generator(f"round {self.round}"))
        done = 0
        for batch in batches:
            done += len(batch)
            if done <= self._moved:
                continue
            model = self._trainer.model
            problem.move(model, self._delta, batch, step=plan.step, steps=plan.steps, generator=self._view)
            self._moved, self._best_is_now = done, False
            problem.journal.save(self.state)
            self._tell(self._theta_share + (1 - self._theta_share) * done / count)

    def judge(self) -> None:
        """The error on what would be published; the surrogate's is not monotone, so the best bank is kept."""
        error = self._problem.error(self._trainer.model, self._delta)
        if error < self.least:
            self._problem.copy(self._delta, into=self._best)
            self.least, self._best_is_now = error, True
        self.round, self._learnt, self._moved = self.round + 1, 0, 0
        self._problem.journal.save(self.state, milestone=True)

    def result(self) -> Tensor:
        """The best bank, and the last words."""
        stop = self._method.stop
        why = "" if self.least <= stop else f", above the {stop:.1%} to stop at: more rounds may protect better"
        self._on_step(Progress(1, 1, f"{self.round} rounds, surrogate error {self.least:.1%}{why}"))
        return self._best

    def state(self) -> State:
        """Everything that changes."""
        return {
            "round": self.round,
            "least": self.least if self.least < math.inf else None,
            "learnt": self._learnt,
            "moved": self._moved,
            "delta": self._delta,
            **({} if self._best_is_now else {"best": self._best}),
            **({} if self._view is None else {"view": self._view.get_state()}),
            **{f"trainer.{name}": value for name, value in self._trainer.state().items()},
            **{f"stream.{name}": value for name, value in self._stream.state().items()},
        }

    def load(self, state: State) -> None:
        """Go on from a state."""

        def under(prefix: str) -> State:
            return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}

        self.round, self._learnt, self._moved = state["round"], state["learnt"], state["moved"]
        self.least = math.inf if state["least"] is None else state["least"]
        self._problem.copy(state["delta"], into=self._delta)
        self._best_is_now = "best" not in state
        self._problem.copy(state.get("best", state["delta"]), into=self._best)
        self._trainer.load(under("trainer."))
        self._stream.load(under("stream."))
        if self._view is not None:
            self._view.set_state(state["view"])

    def _tell(self, share: float) -> None:
        likely = min(self._method.rounds, max(self._plan.usual_rounds, self.round + 1))
        note = f"round {self.round + 1}, least surrogate error {min(self.least, 1):.1%}"
        self._on_step(Progress(self.round + share, likely, note))


@hookimpl
def uex_methods() -> list[type[Method]]:
    """Register."""
    return [ErrorMinimising]

"""EM: error-minimising noise."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from uexcli.api import Method, OnStep, Problem, Progress, Work, hookimpl, option

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
        """Run the rounds."""
        plan = self._schedule(problem)
        model = problem.build()
        trainer = problem.trainer(model, lr=self.lr, momentum=0.9, decay=5e-4, clip=5, augment=self.augment)
        delta = problem.fill(problem.start(random=True)) if self.random_start else problem.start(random=False)
        view = problem.generator("view") if self.augment else None
        learning = self._forever(problem, plan.batch)
        theta_share = 1 - len(problem.images) * plan.steps / plan.passes(len(problem.images))
        best, least = delta.clone(), float("inf")
        for round_ in range(self.rounds):
            likely = min(self.rounds, max(plan.usual_rounds, round_ + 1))
            note = f"round {round_ + 1}, least surrogate error {min(least, 1):.1%}"
            for number in range(plan.theta_steps):
                trainer.step(delta, next(learning))
                on_step(Progress(round_ + theta_share * (number + 1) / plan.theta_steps, likely, note))
            done = 0
            for batch in problem.batches(plan.batch, problem.generator(f"round {round_}")):
                problem.move(model, delta, batch, step=plan.step, steps=plan.steps, generator=view)
                done += len(batch)
                share = theta_share + (1 - theta_share) * done / len(problem.images)
                on_step(Progress(round_ + share, likely, note))
            error = problem.error(model, delta)
            if error < least:
                best, least = delta.clone(), error
            if least <= self.stop:
                break
        why = "" if least <= self.stop else f", above the {self.stop:.1%} to stop at: more rounds may protect better"
        on_step(Progress(likely, likely, f"{round_ + 1} rounds, surrogate error {least:.1%}{why}"))
        return best

    def work(self, problem: Problem) -> Work:
        """Passes of a round times rounds."""
        plan = self._schedule(problem)
        each = plan.passes(len(problem.images))
        return Work(min(self.rounds, plan.usual_rounds) * each, self.rounds * each)

    def _schedule(self, problem: Problem) -> Schedule:
        """Fill in what was left to `auto`; measured on 10,000 CIFAR-10 images and on digits."""
        own = problem.num_rows == len(problem.images)
        return Schedule(
            theta_steps=self.theta_steps or (30 if own else 10),
            steps=self.steps or (5 if own else 1),
            step=self.step or (0.2 if own else 0.1),
            batch=self.batch or min(256, max(32, len(problem.images) // 16)),
            usual_rounds=6 if own else 10,
        )

    @staticmethod
    def _forever(problem: Problem, batch: int) -> Iterator[Tensor]:
        """One stream of shuffled batches that lives through all rounds."""
        generator = problem.generator("theta")
        while True:
            yield from problem.batches(batch, generator)


@hookimpl
def uex_methods() -> list[type[Method]]:
    """Register."""
    return [ErrorMinimising]

"""EM: error-minimising noise."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from uexcli.api import Method, OnStep, Problem, Progress, Work, hookimpl, option

if TYPE_CHECKING:
    from torch import Tensor

USUAL_ROUNDS = 6  # what fits of 1,000 to 10,000 images took: the estimate, not a bound


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
    theta_steps: int = option(30, "SGD steps of the surrogate in a round")
    steps: int | None = option(None, "steps of the noise in a round; auto: 5 sample-wise, 1 where images share a noise")
    step: float = option(0.2, "length of a noise step, as a share of eps")
    batch: int | None = option(None, "images in a batch; auto: a 16th of all, within 32 to 256")
    lr: float = option(0.1, "learning rate of the surrogate")
    augment: bool = option(False, "let surrogate and noise see random crops and flips")
    random_start: bool = option(False, "start from noise at the bound instead of from none")

    def __post_init__(self) -> None:
        """Refuse what cannot run."""
        counts = (self.rounds, self.theta_steps, self.steps, self.batch)
        if any(count is not None and count < 1 for count in counts):
            raise ValueError("rounds, theta_steps, steps and batch must be at least 1")
        if self.step <= 0 or self.lr <= 0 or not 0 <= self.stop < 1:
            raise ValueError("step and lr must be above 0, and stop in [0, 1)")

    def fit(self, problem: Problem, on_step: OnStep) -> Tensor:
        """Run the rounds."""
        model = problem.build()
        trainer = problem.trainer(model, lr=self.lr, momentum=0.9, decay=5e-4, clip=5, augment=self.augment)
        delta = problem.fill(problem.start(random=True)) if self.random_start else problem.start(random=False)
        view = problem.generator("view") if self.augment else None
        learning = self._forever(problem)
        theta_share = 1 - len(problem.images) * self._steps(problem) / self._round(problem)
        best, least = delta.clone(), float("inf")
        for round_ in range(self.rounds):
            likely = min(self.rounds, max(USUAL_ROUNDS, round_ + 1))
            note = f"round {round_ + 1}, least surrogate error {min(least, 1):.1%}"
            for number in range(self.theta_steps):
                trainer.step(delta, next(learning))
                on_step(Progress(round_ + theta_share * (number + 1) / self.theta_steps, likely, note))
            done = 0
            for batch in problem.batches(self._batch(problem), problem.generator(f"round {round_}")):
                problem.move(model, delta, batch, step=self.step, steps=self._steps(problem), generator=view)
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
        return Work(min(self.rounds, USUAL_ROUNDS) * self._round(problem), self.rounds * self._round(problem))

    def _round(self, problem: Problem) -> float:
        """Passes in a round: a training pass costs one and a half, as weights have gradients too; the test a third."""
        noise = len(problem.images) * (self._steps(problem) + 0.4)
        return noise + 1.5 * self.theta_steps * self._batch(problem)

    def _steps(self, problem: Problem) -> int:
        if self.steps is not None:
            return self.steps
        return 5 if problem.num_rows == len(problem.images) else 1

    def _batch(self, problem: Problem) -> int:
        return self.batch or min(256, max(32, len(problem.images) // 16))

    def _forever(self, problem: Problem) -> Iterator[Tensor]:
        """One stream of shuffled batches that lives through all rounds."""
        generator = problem.generator("theta")
        while True:
            yield from problem.batches(self._batch(problem), generator)


@hookimpl
def uex_methods() -> list[type[Method]]:
    """Register."""
    return [ErrorMinimising]

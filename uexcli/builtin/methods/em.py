"""EM: error-minimising noise."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from uexcli.builtin.methods._passes import order_of_pass
from uexcli.builtin.methods._weight_noise import levels, step_behind_noise
from uexcli.plugin import Method, OnStep, Preset, Problem, Progress, State, Work, hookimpl, option
from uexcli.plugin.resume import Run, take_up, under, within

if TYPE_CHECKING:
    from torch import Tensor

USUAL = 0.9  # of what progress shows, once as many rounds are over as it usually takes
EARLY = (2, 0.5)  # steps, and their length as a share of eps


@dataclass(frozen=True)
class Schedule:
    """The lengths of a fit's rounds."""

    theta_steps: int
    steps: int
    step: float
    batch: int
    early: bool  # few long steps while the surrogate knows little: where the loss leads then is not where it ends
    usual_rounds: int  # what fits of 1,000 to 10,000 images took: for the estimate, not a bound

    def passes(self, images: float) -> float:
        """Passes in a round: a training pass costs one and a half, as weights have gradients too; the test a third."""
        return images * (self.steps + 0.4) + 1.5 * self.theta_steps * self.batch


@dataclass(frozen=True)
class ErrorMinimising(Method):
    """Noise that leaves a net nothing to learn: min over theta of min over delta of the cross-entropy.

    Rounds of: a few SGD steps of the surrogate on the protected images; then sign-like steps of the noise, down the
    loss, over all images; then the error on what would be published: at once, as in the paper, or where `settled`, once
    the surrogate moved on. Stops when that is at most `stop`, or after `rounds`, and returns the best bank seen, for
    the surrogate's error is not monotone.
    """

    name: ClassVar[str] = "em"
    summary: ClassVar[str] = "error-minimising noise: surrogate and noise take turns to lower the loss"
    undone_by: ClassVar[tuple[str, ...]] = ("jpeg:10", "grayscale")
    paper: ClassVar[str] = "Huang et al., Unlearnable Examples: Making Personal Data Unexploitable, ICLR 2021"
    aliases: ClassVar[tuple[str, ...]] = ("emin",)
    presets: ClassVar[tuple[str, ...]] = ("huang2021", "huang2021-cifar100", "huang2021-imagenet")

    early: bool = option(True, "while most images are wrong, 2 long steps of the noise; auto steps, sample-wise only")
    rounds: int = option(30, "cap on the rounds of surrogate and noise")
    stop: float = option(0.01, "stop when the surrogate's error on the protected images is at most this")
    theta_steps: int | None = option(None, "SGD steps in a round; auto: over 3/4 of the images sample-wise, else 10")
    steps: int | None = option(None, "steps of the noise in a round; auto: 5 sample-wise, 1 where images share a noise")
    step: float | None = option(None, "length of a noise step, as a share of eps; auto: 0.2 sample-wise, else 0.1")
    batch: int | None = option(None, "images in a batch; auto: a 16th of all, within 32 to 256")
    subset: float = option(1.0, "share of the images of a shared noise that move it, and that the stop test sees")
    lr: float = option(0.1, "learning rate of the surrogate")
    augment: bool = option(False, "let surrogate and noise see random crops and flips")
    settled: bool = option(True, "stop once the error holds after the surrogate moved on; false: at once, as the paper")
    weight_noise: float = option(0.0, "PUE: once most images are right, 21 steps a batch, weights jittered up to this")
    copies: int = option(10, "jittered nets whose gradients are averaged, with weight_noise")
    random_start: bool = option(False, "start from noise at the bound instead of from none")

    def __post_init__(self) -> None:
        """Refuse what cannot run."""
        counts = (self.rounds, self.theta_steps, self.steps, self.batch, self.copies)
        if any(count is not None and count < 1 for count in counts):
            raise ValueError("rounds, theta_steps, steps, batch and copies must be at least 1")
        if self.weight_noise < 0:
            raise ValueError("weight_noise must not be below 0")
        if not 0 < self.subset <= 1:
            raise ValueError("subset must be above 0, and at most 1")
        if (self.step is not None and self.step <= 0) or self.lr <= 0 or not 0 <= self.stop < 1:
            raise ValueError("step and lr must be above 0, and stop in [0, 1)")

    @classmethod
    def preset(cls, name: str, *, per_sample: bool) -> Preset:
        """Give the paper's constants, as its scripts have them; without a bound to the rounds, hence a high one."""
        many = name == "huang2021-imagenet"
        theta = {"huang2021": 10, "huang2021-cifar100": 20 if per_sample else 10, "huang2021-imagenet": 100}[name]
        options = {
            "rounds": 100,
            "stop": 0.1 if many else 0.01,
            "theta_steps": theta,
            "steps": 20 if per_sample else 1,
            "step": 0.1,
            "batch": 32 if many else 512,
            "subset": 1.0 if per_sample else 0.2,
            "lr": 0.1,
            "augment": False,
            "settled": False,
            "early": False,
            "random_start": False,
        }
        return Preset(options, surrogate="resnet18", eps="16/255" if many else "8/255")

    def fit(self, problem: Problem, on_step: OnStep) -> Tensor:
        """Run the rounds: all of them, or those an interrupted fit has left."""
        run = EmRun(self, self._schedule(len(problem.images), per_sample=problem.per_sample), problem, on_step)
        take_up(run, problem)
        while not run.finished:
            run.go_on()
        return run.result()

    def largest_batch(self, images: int) -> int:
        """A 16th, so that a pass has some steps; and no more than a CPU has use for."""
        return self.batch or min(256, max(32, images // 16))

    def work(self, images: int, *, rows: int) -> Work:
        """Passes of a round times rounds."""
        per_sample = rows == images
        plan = self._schedule(images, per_sample=per_sample)
        each = plan.passes(images * (1 if per_sample else self.subset))
        if self.weight_noise:  # in the rounds after the first few
            each *= len(levels(self.weight_noise)) * self.copies
        return Work(min(self.rounds, plan.usual_rounds) * each, (self.rounds + 1) * each)

    def _schedule(self, count: int, *, per_sample: bool) -> Schedule:
        """Fill in what was left to `auto`; measured on 5,000 and 10,000 CIFAR-10 images and on digits."""
        batch = self.largest_batch(count)
        return Schedule(
            theta_steps=self.theta_steps or (max(8, round(0.75 * count / batch)) if per_sample else 10),
            steps=self.steps or (5 if per_sample else 1),
            step=self.step or (0.2 if per_sample else 0.1),
            batch=batch,
            early=self.early and per_sample and self.steps is None and self.step is None,
            usual_rounds=7 if per_sample else 10,
        )


class EmRun(Run):
    """A fit under way: all that changes, so that it can be paused at any step and resumed."""

    def __init__(self, method: ErrorMinimising, plan: Schedule, problem: Problem, on_step: OnStep) -> None:
        self.round = 0
        self.least = math.inf
        self._error = 1.0  # of the surrogate, when the noise was judged last
        self._learnt = 0  # steps of theta in this round
        self._judged = 0  # rounds after which the noise was judged
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
        self._shaking = problem.generator("weights") if method.weight_noise else None
        self._frozen = problem.freeze(self._trainer.model) if method.weight_noise else None
        self._only = None if problem.per_sample or method.subset == 1 else _stratified(problem, method.subset)
        start = problem.start(random=method.random_start)
        self._delta = problem.fill(start) if method.random_start else start
        self._best = problem.copy(self._delta)
        self._best_is_now = True  # whether `delta` still is the best bank
        count = len(problem.images if self._only is None else self._only)
        self._theta_share = 1 - count * plan.steps / plan.passes(count)

    @property
    def finished(self) -> bool:
        """Whether the error is low enough, or the rounds are over."""
        return self.least <= self._method.stop or (self.round == self._method.rounds and not self._owed)

    @property
    def _owed(self) -> bool:
        """Whether the noise moved, and was not judged since."""
        return self._method.settled and self.round > self._judged

    def go_on(self) -> None:
        """One round: the surrogate's steps, the noise's, and the error on what would be published.

        That is measured after the noise moved, as in the paper, or `settled`: once the surrogate moved on, too.
        """
        settled = self._method.settled
        self._learn()
        if settled and self._owed:
            self._judge()
        if not self.finished:
            self._move()
            self.round, self._learnt, self._moved = self.round + 1, 0, 0
            if not settled:
                self._judge()
            self._problem.journal.save(self.state, milestone=True)

    @property
    def _jittered(self) -> bool:
        """Whether weights are jittered: once the surrogate is right more often than not."""
        return self._shaking is not None and self._error < 0.5

    def _learn(self) -> None:
        method = self._method
        while self._learnt < self._plan.theta_steps:
            batch = next(self._stream)
            if self._jittered:
                assert self._shaking is not None
                for std in levels(method.weight_noise):
                    self._trainer.step(self._delta, batch, jitter=(std, method.copies, self._shaking))
            else:
                self._trainer.step(self._delta, batch)
            self._learnt += 1
            self._problem.journal.save(self.state)
            self._tell(self._theta_share * self._learnt / self._plan.theta_steps)

    def _move(self) -> None:
        """Move the noise once over all images; where each has a noise of its own, their order does not matter."""
        problem, plan = self._problem, self._plan
        steps, step = EARLY if plan.early and self._error > 0.5 else (plan.steps, plan.step)
        order = order_of_pass(problem, plan.batch, f"round {self.round}", self._only)
        for batch in problem.batches(problem.chunk if problem.per_sample else plan.batch, only=order[self._moved :]):
            model = self._trainer.model
            if self._jittered:
                assert self._shaking is not None and self._frozen is not None
                step_behind_noise(
                    problem,
                    self._frozen,
                    model,
                    self._delta,
                    batch,
                    step=plan.step,
                    most=self._method.weight_noise,
                    copies=self._method.copies,
                    generator=self._shaking,
                    view=self._view,
                )
            else:
                problem.move(model, self._delta, batch, step=step, steps=steps, generator=self._view)
            self._moved, self._best_is_now = self._moved + len(batch), False
            problem.journal.save(self.state)
            self._tell(self._theta_share + (1 - self._theta_share) * self._moved / len(order))

    def _judge(self) -> None:
        """Keep the best bank: the surrogate's error is not monotone."""
        error = self._problem.judge(self._trainer.model, self._delta, self._only).error
        self._judged, self._error = self.round, error
        if error < self.least:
            self._problem.copy(self._delta, into=self._best)
            self.least, self._best_is_now = error, True

    def result(self) -> Tensor:
        """The best bank, and the final status."""
        stop = self._method.stop
        why = "" if self.least <= stop else f", above the {stop:.1%} to stop at: more rounds may protect better"
        self._on_step(Progress(1, 1, f"{self.round} rounds, surrogate error {self.least:.1%}{why}"))
        return self._best

    def state(self) -> State:
        """Everything that changes."""
        return {
            "round": self.round,
            "judged": self._judged,
            "error": self._error,
            "least": self.least if self.least < math.inf else None,
            "learnt": self._learnt,
            "moved": self._moved,
            "delta": self._delta,
            **({} if self._best_is_now else {"best": self._best}),
            **({} if self._view is None else {"view": self._view.get_state()}),
            **({} if self._shaking is None else {"shaking": self._shaking.get_state()}),
            **within("trainer.", self._trainer.state()),
            **within("stream.", self._stream.state()),
        }

    def load(self, state: State) -> None:
        """Go on from a state."""
        self.round, self._judged, self._error = state["round"], state["judged"], state["error"]
        self._learnt, self._moved = state["learnt"], state["moved"]
        self.least = math.inf if state["least"] is None else state["least"]
        self._problem.copy(state["delta"], into=self._delta)
        self._best_is_now = "best" not in state
        self._problem.copy(state.get("best", state["delta"]), into=self._best)
        self._trainer.load(under("trainer.", state))
        self._stream.load(under("stream.", state))
        if self._shaking is not None:
            self._shaking.set_state(state["shaking"])
        if self._view is not None:
            self._view.set_state(state["view"])

    def _tell(self, share: float) -> None:
        note = f"round {self.round + 1}, least surrogate error {min(self.least, 1):.1%}"
        self._on_step(Progress(self._whole(self.round + share), 1, note))

    def _whole(self, rounds: float) -> float:
        """The share of a fit that so many rounds are: nobody knows how many it takes, so more than usual count less."""
        most, usual = self._method.rounds + self._method.settled, self._plan.usual_rounds
        if most <= usual:
            return min(1.0, rounds / most)
        if rounds <= usual:
            return USUAL * rounds / usual
        return min(1.0, USUAL + (1 - USUAL) * (rounds - usual) / (most - usual))


def _stratified(problem: Problem, share: float) -> Tensor:
    """Draw the same share of every row's images, at least one: sorted indices, int64."""
    import torch

    rows = problem.rows.cpu()
    order = torch.randperm(len(rows), generator=problem.generator("subset"))
    picked = []
    for row in range(problem.num_rows):
        mine = order[rows[order] == row]
        picked.append(mine[: max(1, round(share * len(mine)))])
    return torch.cat(picked).sort().values


@hookimpl
def uex_methods() -> list[type[Method]]:
    """Register."""
    return [ErrorMinimising]

"""Passes over all images: training a surrogate, and moving the noise."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from uexcli.plugin import Problem, State
from uexcli.plugin.resume import Run, under, within

if TYPE_CHECKING:
    from torch import Generator, Tensor, nn

Tell = Callable[[float], None]  # the share that is done


class Teaching(Run):
    """The surrogate learns the clean images: crops and flips, momentum .9, a rate that falls to 0 as a cosine."""

    def __init__(self, problem: Problem, *, epochs: int, batch: int, lr: float) -> None:
        self.trainer = problem.trainer(problem.build(), lr=lr, momentum=0.9, decay=5e-4, clip=5, augment=True)
        self.total = epochs * self.steps_per_epoch(len(problem.images), batch)
        self.done = 0
        self._stream = problem.stream(batch, "clean")
        self._lr = lr

    @staticmethod
    def steps_per_epoch(images: int, batch: int) -> int:
        """How many batches a pass over the images has."""
        return math.ceil(images / batch)

    @property
    def model(self) -> nn.Module:
        """The surrogate."""
        return self.trainer.model

    def go_on(self, save: Callable[[], None], tell: Tell, until: int | None = None) -> None:
        """Learn until the end, or until so many steps are done."""
        until = self.total if until is None else until
        while self.done < until:
            self.trainer.lr = self._lr * (1 + math.cos(math.pi * self.done / self.total)) / 2
            self.trainer.step(None, next(self._stream))
            self.done += 1
            save()
            tell(self.done / self.total)

    def state(self) -> State:
        """Position, net, momentum, order of the images."""
        inner = {**within("trainer.", self.trainer.state()), **within("stream.", self._stream.state())}
        return {"done": self.done, **inner}

    def load(self, state: State) -> None:
        """Go on from it."""
        self.done = state["done"]
        self.trainer.load(under("trainer.", state))
        self._stream.load(under("stream.", state))


class Crafting(Run):
    """The noise moves against a surrogate that stays as it is: passes over all images, some steps in each."""

    def __init__(
        self,
        problem: Problem,
        delta: Tensor,
        *,
        steps: int,
        step: float,
        batch: int,
        ascend: bool = False,
        labels: Tensor | None = None,
        view: Generator | None = None,
    ) -> None:
        self.delta = delta
        self.passed = 0
        self._moved = 0
        self._problem = problem
        self._steps = steps
        self._step = step
        self._batch = batch
        self._ascend = ascend
        self._labels = labels
        self._view = view

    def begin(self, delta: Tensor) -> None:
        """Begin anew, with another bank."""
        self.delta, self.passed, self._moved = delta, 0, 0

    def go_on(self, model: nn.Module, save: Callable[[], None], tell: Tell, steps: int | None = None) -> None:
        """Make one pass, or what is left of it; `tell` hears the share of the pass that is done."""
        problem = self._problem
        order = order_of_pass(problem, self._batch, f"pass {self.passed}")
        size = problem.chunk if problem.per_sample else self._batch
        for batch in problem.batches(size, only=order[self._moved :]):
            problem.move(
                model,
                self.delta,
                batch,
                step=self._step,
                steps=self._steps if steps is None else steps,
                ascend=self._ascend,
                labels=self._labels,
                generator=self._view,
            )
            self._moved += len(batch)
            save()
            tell(self._moved / len(order))
        self.passed, self._moved = self.passed + 1, 0

    def state(self) -> State:
        """Position, noise, and what the next view depends on."""
        view = {} if self._view is None else {"view": self._view.get_state()}
        return {"passed": self.passed, "moved": self._moved, "delta": self.delta, **view}

    def load(self, state: State) -> None:
        """Go on from it."""
        self.passed, self._moved = state["passed"], state["moved"]
        self._problem.copy(state["delta"], into=self.delta)
        if self._view is not None:
            self._view.set_state(state["view"])


def order_of_pass(problem: Problem, batch: int, purpose: str, only: Tensor | None = None) -> Tensor:
    """Give the order in which a pass visits the images, or `only` some: int64, shuffled where they share rows."""
    import torch

    if problem.per_sample:
        return torch.arange(len(problem.images))
    return torch.cat(list(problem.batches(batch, problem.generator(purpose), only)))


def majority(problem: Problem) -> Tensor:
    """Give the class that most images of each row have, int64 `(R,)`, on the CPU."""
    pairs, counts = (problem.rows * problem.num_classes + problem.labels).cpu().unique(return_counts=True)
    rows, classes = pairs // problem.num_classes, pairs % problem.num_classes
    most = counts.new_zeros(problem.num_rows).scatter_reduce_(0, rows, counts, "amax")
    first = counts == most[rows]  # the first class of those that as many images have
    found: Tensor = classes.new_full((problem.num_rows,), problem.num_classes)
    found.scatter_reduce_(0, rows[first], classes[first], "amin")
    return found

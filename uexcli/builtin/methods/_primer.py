"""What a generator of noise learns before its game begins: to tell the classes apart, and to mark them.

No part of the papers, whose games leave a generator to find both out, from gradients of gradients, in days. A fit of
minutes needs them: see `benchmarks/RESULTS.md`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from uexcli.builtin.methods._generator_stages import Player, primer_passes
from uexcli.builtin.methods._generator_training import Course, Stage, Studio, slopes
from uexcli.builtin.methods._unet import Generator
from uexcli.core.optim import Adam
from uexcli.core.seeding import global_seed
from uexcli.plugin import OnStep, Problem, State
from uexcli.plugin.resume import under, within

if TYPE_CHECKING:
    from collections.abc import Callable

CLASSES_LR = 2e-3  # falls to 0 over the second half of the stage
PLAIN = 0.75  # of the stage, after which images are seen as they are, which is how they will be protected
MARKS_LR, READER_LR = 4e-3, 5e-3
READER_PASSES = 2  # of the images, then another reader
GREY, FAINT, FADED_IN = 0.5, 0.05, 2 / 3  # contrast of other images at first; share of the stage that adds 1


def primed(
    problem: Problem,
    on_step: OnStep,
    *,
    classes: int,
    marks: int,
    play: Callable[[Generator], Player],
    passes: int,
    width: int,
    batch: int,
    batches: int,
    cost: float = 1.0,
) -> Course:
    """Give a course: so many passes over the images that teach the classes, and the marks, then those of the game.

    A pass goes over them as often as makes `batches` batches; one of the game costs as much as `cost` passes through a
    surrogate.
    """
    stages = [
        Stage("learn classes", classes, lambda made: Classes(problem, made), cost=primer_passes(width, 1, 0)),
        Stage("learn marks", marks, lambda made: Marks(problem, made), classes > 0, primer_passes(width, 0, 1)),
        Stage("play", passes, play, classes > 0, cost),
    ]
    return Course(problem, stages, width=width, batch=batch, batches=batches, on_step=on_step)


class Classes(Player):
    """The way down learns to tell the classes apart, by a last layer that is dropped.

    Through crops and flips, so that it knows new images too; at last from the images as they are, so that it knows each
    of those: noise that marks a third of the images as another class than their own protects far less.
    """

    hint: ClassVar[str] = "Try `options[classes]=0`."

    def __init__(self, problem: Problem, generator: Generator) -> None:
        self._problem = problem
        self._generator = generator
        self._studio = Studio(problem)
        with global_seed(problem.seed, "classes"):
            self._head = nn.Linear(generator.features, problem.num_classes).to(problem.device)
        self._learning: list[Tensor] = [*generator.down.parameters(), *self._head.parameters()]
        self._adam = Adam(self._learning, lr=CLASSES_LR)
        self._view = problem.generator("classes' view")

    def step(self, batch: Tensor, share: float) -> Tensor:
        """Learn from a batch: `(2,)`, its cross-entropy and the share that is told wrongly."""
        images, labels = self._studio.look(batch)
        if share < PLAIN:
            images = self._problem.view(images, self._view)
        with self._studio.lower():
            logits = self._head(self._generator.encode(images)[-1].mean((2, 3)))
        loss = functional.cross_entropy(logits.float(), labels)
        self._adam.lr = CLASSES_LR * min(1, 2 * (1 - share))
        self._adam.step(slopes(loss, self._learning, self._problem.reduce))
        return torch.stack((loss.detach(), (logits.argmax(1) != labels).float().mean()))

    def words(self, losses: list[float]) -> str:
        """The error."""
        return f"learning the classes, error {losses[1]:.1%}"

    def state(self) -> State:
        """The last layer, the moments of Adam, and what is seen next."""
        inner = {**within("head.", self._head.state_dict()), **within("adam.", self._adam.state())}
        return {"view": self._view.get_state(), **inner}

    def load(self, state: State) -> None:
        """Go on from a state."""
        self._view.set_state(state["view"])
        self._head.load_state_dict(under("head.", state))
        self._adam.load(under("adam.", state))


class Marks(Player):
    """The generator learns noise by which a net tells the class of its image, with another image under it.

    The net, the reader, learns at the same time, by crops and flips, and starts anew before long: marks that a net
    reads soon, whatever the picture, are what a net learns in place of the picture. The other images fade in from grey:
    where they are there from the start, generator and reader hardly ever find each other.
    """

    hint: ClassVar[str] = "Try `options[marks]=0`."

    def __init__(self, problem: Problem, generator: Generator) -> None:
        self._problem = problem
        self._generator = generator
        self._studio = Studio(problem)
        self._learning = generator.learning()
        self._adam = Adam(self._learning, lr=MARKS_LR)
        self._view = problem.generator("marks' view")
        self._start(0)

    def _start(self, number: int) -> None:
        """Take a reader that has learnt nothing, another each time."""
        self._reader, self._net, self._weights = self._studio.student(number)
        self._reading = Adam(list(self._weights.values()), lr=READER_LR)

    def begin(self, passed: int) -> None:
        """Take another reader, where it is time."""
        if passed and passed % READER_PASSES == 0:
            self._start(passed // READER_PASSES)

    def step(self, batch: Tensor, share: float) -> Tensor:
        """Learn from a batch: `(1,)`, the reader's cross-entropy."""
        images, labels = self._studio.look(batch)
        noise = self._studio.noise(self._generator, images, batch)
        others = images[torch.randperm(len(images), generator=self._view).to(images.device)]
        others = GREY + min(1, FAINT + share / FADED_IN) * (others - GREY)
        seen = self._problem.view((others + noise).clamp(0, 1), self._view)
        loss = functional.cross_entropy(self._net(self._weights, seen), labels)
        grads = slopes(loss, [*self._learning, *self._weights.values()], self._problem.reduce)
        self._adam.lr = MARKS_LR * (1 - share)
        self._adam.step(grads[: len(self._learning)])
        self._reading.step(grads[len(self._learning) :])
        return loss.detach().unsqueeze(0)

    def words(self, losses: list[float]) -> str:
        """The cross-entropy."""
        return f"marking the classes, cross-entropy {losses[0]:.2f} from noise over other images"

    def state(self) -> State:
        """The reader, the moments of both Adams, and what is seen next."""
        return {
            "view": self._view.get_state(),
            **within("reader.", self._reader.state_dict()),
            **within("adam.", self._adam.state()),
            **within("reading.", self._reading.state()),
        }

    def load(self, state: State) -> None:
        """Go on from a state."""
        self._view.set_state(state["view"])
        self._reader.load_state_dict(under("reader.", state))
        self._adam.load(under("adam.", state))
        self._reading.load(under("reading.", state))

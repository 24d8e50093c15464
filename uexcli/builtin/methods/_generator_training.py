"""Training a noise generator: its images, its stages, and its courses of steps."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from uexcli.builtin.methods._generator_stages import Player, times_over
from uexcli.builtin.methods._unet import Generator, Net, Weights
from uexcli.core.optim import Tensors
from uexcli.core.seeding import global_seed
from uexcli.plugin import OnStep, Problem, Progress, State, UexError
from uexcli.plugin.resume import Run, take_up, under, within


class Studio:
    """The images of a problem, and what a generator and a net make of them."""

    def __init__(self, problem: Problem) -> None:
        self._problem = problem

    def generator(self, width: int) -> Generator:
        """Make a fresh one on the device, from the seed."""
        problem = self._problem
        reach = problem.norm.reach(problem.eps)
        with global_seed(problem.seed, "generator"):
            made = Generator(channels=problem.images.shape[1], width=width, reach=reach)
        return made.to(problem.device, memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]

    def look(self, batch: Tensor) -> tuple[Tensor, Tensor]:
        """Give a batch's images, float `(B, C, S, S)` in [0, 1], and labels, int64 `(B,)`, on the device."""
        problem = self._problem
        images, labels = problem.inputs(batch), problem.labels[batch].to(problem.device)
        problem.release()
        return images, labels

    def protect(self, generator: nn.Module, images: Tensor, batch: Tensor) -> Tensor:
        """Add a generator's noise: float `(B, C, S, S)` in [0, 1], differentiable."""
        return (images + self.noise(generator, images, batch)).clamp(0, 1)

    def noise(self, generator: nn.Module, images: Tensor, batch: Tensor) -> Tensor:
        """Give a generator's noise, inside the bound and as resizing leaves it: `(B, C, S, S)`, differentiable."""
        problem = self._problem
        rows = problem.rows[batch].to(problem.device)
        with self.lower():
            noise = generator(images, rows).float()
        noise, survival = problem.norm.project(noise, problem.eps, images), problem.survival
        return noise if survival is None else survival @ noise @ survival.T

    def net(self, model: nn.Module) -> Net:
        """Give a net as a function of weights and images, to float32 logits; its batch statistics stay as they are."""

        def run(weights: Weights, images: Tensor) -> Tensor:
            buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
            with self.lower():
                logits: Tensor = torch.func.functional_call(model, {**buffers, **weights}, (images,))
            return logits.float()

        return run

    def student(self, draw: int) -> tuple[nn.Module, Net, Weights]:
        """Make a net that has learnt nothing, another for each draw: in train mode, as a function, its weights."""
        model = self._problem.build(draw=draw).train()
        return model, self.net(model), weights_of(model)

    def lower(self) -> torch.autocast:
        """Let nets run in the lower precision, where there is one."""
        dtype = self._problem.autocast
        return torch.autocast(self._problem.device.type, dtype=dtype, enabled=dtype is not None)


def weights_of(model: nn.Module) -> Weights:
    """Give the weights that a net lets learn, by name, ready for gradients; they share its memory."""
    return {name: weight.detach().requires_grad_() for name, weight in model.named_parameters() if weight.requires_grad}


def slopes(loss: Tensor, weights: Tensors, reduce: Callable[[Tensor], Tensor]) -> tuple[Tensor, ...]:
    """Give a loss's gradients, added up by `Problem.reduce`; 0 for weights that it does not depend on."""
    made = torch.autograd.grad(loss, weights, allow_unused=True, materialize_grads=True)
    return tuple(map(reduce, made))


@dataclass(frozen=True)
class Stage:
    """So many passes over the images, what progress calls them, and who makes them, made when the stage begins."""

    name: str
    passes: int
    player: Callable[[Generator], Player]
    settled: bool = False  # the generator's way down has learnt what it should
    cost: float = 1.0  # of a pass, beside those of the other stages


FEW = 32  # images of a rehearsal on a CPU, whose time grows with their number


SLOW = 5.0  # seconds


class Course(Run):
    """Stages of passes over the images in shuffled batches, each batch given to the stage's player.

    Raises:
        UexError: there is one image only.
    """

    def __init__(
        self, problem: Problem, stages: Sequence[Stage], *, width: int, batch: int, batches: int, on_step: OnStep
    ) -> None:
        if len(problem.images) < 2:  # batch norm wants more
            raise UexError("a generator cannot learn from one image.", hint="Give it more photos.")
        self._problem = problem
        self._generator = Studio(problem).generator(width)
        self._stages = [stage for stage in stages if stage.passes]
        self._total = sum(stage.passes for stage in self._stages)
        self._batch = batch
        once = math.ceil(len(problem.images) / batch)  # of one size: batch norm wants no batch of one image
        self._times = times_over(len(problem.images), batch=batch, batches=batches)
        self._once, self._parts = once, once * self._times
        self._on_step = on_step
        self._passed = 0
        self._done = 0  # batches of this pass
        self._sums: Tensor | None = None  # of the losses in this pass
        self._note = ""
        self._player: Player | None = None

    def run(self) -> Generator:
        """Make the passes: all of them, or those an interrupted fit has left; gives the generator in eval mode.

        Raises:
            UexError: a loss is not finite.
        """
        take_up(self, self._problem)
        while self._passed < self._total:
            self._pass()
        self._tell(self._stages[-1], self._stages[-1].passes)  # a fit stopped at its very end has told nothing yet
        # laid out as a fresh one is, so that one made from its weights computes the same bits
        made = self._generator.to(memory_format=torch.contiguous_format)
        return made.eval().requires_grad_(False)

    def rehearse(self) -> float:
        """Give the seconds of all passes, from a step or two of each stage; the course is of no use afterwards."""
        problem = self._problem
        images, few = len(problem.images), self._batch if problem.device.type == "cuda" else min(self._batch, FEW)
        some = torch.arange(min(few, images), device=problem.images.device)
        seconds, player = 0.0, None
        for stage in self._stages:
            player = None  # one at a time
            player = self._enter(stage)
            player.begin(0)
            for _ in range(2):  # the first one also gets things ready
                began = time.perf_counter()
                player.step(some, 0).tolist()
                spent = time.perf_counter() - began
                if spent > SLOW:
                    break
            seconds += stage.passes * self._times * spent * images / len(some)
        return seconds

    def _enter(self, stage: Stage) -> Player:
        if stage.settled:
            self._generator.settle()
        return stage.player(self._generator)

    def _here(self) -> tuple[Stage, int]:
        """Give the stage of the next pass, and how many passes it has made."""
        passed = self._passed
        for stage in self._stages:
            if passed < stage.passes:
                return stage, passed
            passed -= stage.passes
        raise AssertionError("all passes are made")

    def _pass(self) -> None:
        problem, (stage, passed) = self._problem, self._here()
        drawn = problem.generator(f"pass {self._passed}")
        orders = [torch.randperm(len(problem.images), generator=drawn) for _ in range(self._times)]
        parts = [part for order in orders for part in order.to(problem.images.device).tensor_split(self._once)]
        if self._player is None:
            self._player = self._enter(stage)
        if not self._done:
            self._player.begin(passed)
        for batch in parts[self._done :]:
            with global_seed(problem.seed, f"pass {self._passed}, batch {self._done}"):  # of surrogates with dropout
                losses = self._player.step(batch, (passed + self._done / self._parts) / stage.passes)
            self._sums = losses if self._sums is None else self._sums + losses
            self._done += 1
            if self._done < self._parts:
                problem.journal.save(self.state)
                self._tell(stage, passed + self._done / self._parts)
        assert self._sums is not None
        means = (self._sums / self._parts).tolist()
        if not all(math.isfinite(mean) for mean in means):
            raise UexError("the fit diverged: a loss is not finite.", hint=self._player.hint)
        self._passed, self._done, self._sums = self._passed + 1, 0, None
        self._note = f"pass {self._passed}, {self._player.words(means)}"
        if passed + 1 == stage.passes:
            self._player = None  # what it held is of no more use
        problem.journal.save(self.state, milestone=True)
        self._tell(stage, passed + 1)

    def _tell(self, stage: Stage, done: float) -> None:
        """Tell how far all stages are; a pass of one takes several times as long as another's."""
        before = sum(each.passes * each.cost for each in self._stages[: self._stages.index(stage)])
        whole = sum(each.passes * each.cost for each in self._stages)
        self._on_step(Progress((before + done * stage.cost) / whole, 1, self._note, stage.name))

    def state(self) -> State:
        """Position, the generator, and all of the player where a stage is on its way."""
        sums = {} if self._sums is None else {"sums": self._sums}
        inner = {} if self._player is None else within("player.", self._player.state())
        made = within("generator.", self._generator.state_dict())
        return {"passed": self._passed, "done": self._done, "note": self._note, **sums, **made, **inner}

    def load(self, state: State) -> None:
        """Go on from it."""
        self._passed, self._done, self._note = state["passed"], state["done"], state["note"]
        self._sums = state["sums"].to(self._problem.device, copy=True) if "sums" in state else None
        self._generator.load_state_dict(under("generator.", state))
        if inner := under("player.", state):
            self._player = self._enter(self._here()[0])
            self._player.load(inner)

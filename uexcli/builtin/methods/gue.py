"""GUE: a generator of noise, and a net that is right about protected images and wrong about clean ones."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from uexcli.builtin.methods._generator_stages import Player, generator_passes, primer_passes, times_over
from uexcli.plugin import Method, OnStep, Preset, Problem, State, Work, hookimpl, option
from uexcli.plugin.resume import under, within

if TYPE_CHECKING:
    from torch import Tensor, nn

    from uexcli.builtin.methods._generator_training import Course
    from uexcli.builtin.methods._unet import Generator

TINY = 1e-12  # of a squared gradient: none


@dataclass(frozen=True)
class GameUnlearnable(Method):
    """A generator G and a net f lead, nets that learn from G's images follow.

    The leaders want f to be wrong about clean images, where f is what a follower would learn from x + G(x). BOME makes
    that a descent: a copy of f takes a few steps on x + G(x), and q is what f's cross-entropy there lacks to the
    copy's. With F the loss of f on clean images, against their least likely wrong class, f descends F + lambda q and G
    descends lambda q, lambda such that q falls whatever F wants. The noise depends on the image alone: images that
    were not fitted can be protected, without labels.
    """

    name: ClassVar[str] = "gue"
    summary: ClassVar[str] = (
        "a network that makes the noise, from a game with nets that learn from it; protects new images"
    )
    undone_by: ClassVar[tuple[str, ...]] = ("grayscale", "jpeg:10")
    paper: ClassVar[str] = "Liu et al., Game-Theoretic Unlearnable Example Generator, AAAI 2024, arXiv 2401.17523"
    default_norm: ClassVar[str] = "linf"
    default_eps: ClassVar[str | None] = "8/255"
    modes: ClassVar[tuple[str, ...]] = ("universal",)
    presets: ClassVar[tuple[str, ...]] = ("quick",)
    gives_network: ClassVar[bool] = True
    takes_patches: ClassVar[bool] = False
    test_options: ClassVar[dict[str, Any]] = {
        "epochs": 2,
        "batch": 12,
        "steps": 2,
        "generator_width": 4,
        "restart": 1,
        "classes": 1,
        "marks": 1,
        "batches": 3,
    }

    epochs: int = option(50, "passes over the images")
    batch: int = option(256, "most images in a batch")
    batches: int = option(0, "fewest batches that make a pass: it goes over a small set several times; 0 in the paper")
    generator_width: int = option(64, "channels of the generator at full size; they double at each of three halvings")
    steps: int = option(10, "Adam steps of the copy of the net, on each batch")
    copy_lr: float = option(1e-4, "learning rate of these")
    eta: float = option(1.5, "how fast the gap to the copy must fall, in squared gradients")
    lr: float = option(0.01, "learning rate of the net, SGD")
    generator_lr: float = option(0.1, "learning rate of the generator, SGD, or Adam's")
    classes: int = option(0, "passes before, in which the generator learns to tell the classes apart; 0 in the paper")
    marks: int = option(0, "passes then, in which it learns to mark them; 0 in the paper")
    restart: int = option(0, "passes after which the net starts anew; 0: it does not, as in the paper")
    adam: bool = option(False, "train the generator by Adam, at a rate that falls to 0; the paper uses SGD")

    def __post_init__(self) -> None:
        """Refuse what cannot run."""
        if min(self.epochs, self.generator_width, self.steps) < 1 or self.batch < 3:
            raise ValueError("epochs, generator_width and steps must be at least 1, and batch 3")
        if min(self.restart, self.classes, self.marks, self.batches) < 0:
            raise ValueError("restart, classes, marks and batches must be at least 0")
        if min(self.copy_lr, self.eta, self.lr, self.generator_lr) <= 0:
            raise ValueError("copy_lr, eta, lr and generator_lr must be above 0")

    @classmethod
    def preset(cls, name: str, *, per_sample: bool) -> Preset:
        """Give a `quick` try: minutes on two CPU cores for 5,000 small images; the defaults are the paper's.

        The generator learns the classes and to mark them before the game, in which the net starts anew after every
        fourth pass: noise that one net reads after long training is lost on others. See benchmarks/RESULTS.md.
        """
        options = {
            "classes": 40,
            "marks": 8,
            "epochs": 8,
            "restart": 4,
            "batch": 64,
            "batches": 40,
            "generator_width": 16,
            "steps": 2,
            "copy_lr": 5e-3,
            "lr": 0.1,
            "generator_lr": 1e-3,
            "adam": True,
        }
        return Preset(options)

    def network(self, *, channels: int, size: int, num_rows: int) -> nn.Module:
        """Build the generator."""
        from uexcli.builtin.methods._unet import Generator

        return Generator(channels=channels, width=self.generator_width)

    def fit(self, problem: Problem, on_step: OnStep) -> nn.Module:
        """Play, or go on playing."""
        return self._course(problem, on_step).run()

    def _course(self, problem: Problem, on_step: OnStep) -> Course:
        from uexcli.builtin.methods._primer import primed

        play = functools.partial(Game, self, problem)
        return primed(
            problem,
            on_step,
            classes=self.classes,
            marks=self.marks,
            play=play,
            passes=self.epochs,
            cost=self._cost,
            width=self.generator_width,
            batch=self.batch,
            batches=self.batches,
        )

    @property
    def _cost(self) -> float:
        """Of a pass of the game."""
        return self.steps + 3 + generator_passes(self.generator_width)

    def largest_batch(self, images: int) -> int:
        """Every batch, but for rounding."""
        return min(self.batch, images)

    def work(self, images: int, *, rows: int) -> Work:
        """The copy's steps, the gap between the two nets, the clean images, and the generator."""
        game = self.epochs * self._cost
        seen = images * times_over(images, batch=self.batch, batches=self.batches)
        every = seen * (game + primer_passes(self.generator_width, self.classes, self.marks))
        return Work(every, every)

    def rehearse(self, problem: Problem) -> float:
        """A step or two of each stage."""
        return self._course(problem, lambda _: None).rehearse()


class Game(Player):
    """The leaders; the copy lives for a batch only."""

    def __init__(self, method: GameUnlearnable, problem: Problem, generator: Generator) -> None:
        from uexcli.builtin.methods._generator_training import Studio
        from uexcli.core.optim import Adam

        self._method = method
        self._problem = problem
        self._studio = Studio(problem)
        self._generator = generator
        self._learning = generator.learning()
        self._adam = Adam(self._learning, lr=method.generator_lr) if method.adam else None
        self._start(0)

    def _start(self, number: int) -> None:
        """Make a net that has learnt nothing, another each time."""
        self._model, self._net, self._weights = self._studio.student(number)

    def begin(self, passed: int) -> None:
        """Start with another net, where it is time."""
        every = self._method.restart
        if every and passed and passed % every == 0:
            self._start(passed // every)

    def step(self, batch: Tensor, share: float) -> Tensor:
        """Move both leaders once: `(2,)`, the cross-entropy of the net on protected images, and the loss on clean."""
        import torch
        from torch.nn.functional import cross_entropy

        from uexcli.builtin.methods._generator_training import slopes

        images, labels = self._studio.look(batch)
        protected = self._studio.protect(self._generator, images, batch)
        follower = self._follow(protected.detach(), labels)
        loss = cross_entropy(self._net(self._weights, protected), labels)
        gap = loss - cross_entropy(self._net(follower, protected), labels)
        weights, reduce = list(self._weights.values()), self._problem.reduce
        falls = slopes(gap, [*weights, *self._learning], reduce)
        clean = hardest(self._net(self._weights, images), labels)
        wants = slopes(clean, weights, reduce)
        strength = multiplier(wants, falls, eta=self._method.eta)
        pushes = tuple(torch._foreach_mul(falls, strength))
        self._move(wants, pushes, share)
        return torch.stack((loss.detach(), clean.detach()))

    def _follow(self, protected: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Let a copy of the net take its steps; its weights need no gradients afterwards."""
        from torch.nn.functional import cross_entropy

        from uexcli.builtin.methods._generator_training import slopes
        from uexcli.core.optim import Adam

        copied = {name: weight.detach().clone().requires_grad_() for name, weight in self._weights.items()}
        adam = Adam(list(copied.values()), lr=self._method.copy_lr)
        for _ in range(self._method.steps):
            loss = cross_entropy(self._net(copied, protected), labels)
            adam.step(slopes(loss, list(copied.values()), self._problem.reduce))
        return {name: weight.detach() for name, weight in copied.items()}

    def _move(self, wants: tuple[Tensor, ...], pushes: tuple[Tensor, ...], share: float) -> None:
        """Step down; `pushes` are the net's, then the generator's."""
        import torch

        method, count = self._method, len(wants)
        with torch.no_grad():
            weights = list(self._weights.values())
            torch._foreach_add_(weights, torch._foreach_add(wants, pushes[:count]), alpha=-method.lr)
            if self._adam is None:
                torch._foreach_add_(self._learning, pushes[count:], alpha=-method.generator_lr)
                return
        self._adam.lr = method.generator_lr * (1 - share)
        self._adam.step(pushes[count:])

    def words(self, losses: list[float]) -> str:
        """The two losses."""
        return f"cross-entropy {losses[0]:.2f} on protected images, loss {losses[1]:.2f} on clean ones"

    def state(self) -> State:
        """The net, and the moments of Adam."""
        return {
            **within("model.", self._model.state_dict()),
            **({} if self._adam is None else within("adam.", self._adam.state())),
        }

    def load(self, state: State) -> None:
        """Go on from a state."""
        self._model.load_state_dict(under("model.", state))
        if self._adam is not None:
            self._adam.load(under("adam.", state))


def hardest(logits: Tensor, labels: Tensor) -> Tensor:
    """Give the mean cross-entropy of logits `(B, K)` against each image's least likely wrong class, a scalar."""
    from torch.nn import functional

    each = -functional.log_softmax(logits, 1)
    return each.scatter(1, labels.unsqueeze(1), 0).amax(1).mean()  # a loss is above 0, so that 0 hides the true class


def multiplier(wants: Sequence[Tensor], falls: Sequence[Tensor], *, eta: float) -> Tensor:
    """Give BOME's lambda, a scalar: the least for which descending F + lambda q lowers q at a rate of eta |dq|^2.

    `wants` is the gradient of F with respect to the net; `falls` that of q, with respect to the net's weights in the
    same order and then to the generator's, which F does not depend on. For nets at rest, where dq is zero, it is 0.
    """
    import torch

    squared = torch.stack([fall.square().sum() for fall in falls]).sum()
    along = torch.stack([(want * fall).sum() for want, fall in zip(wants, falls, strict=False)]).sum()
    return ((eta * squared - along) / squared.clamp(min=TINY)).clamp(min=0)


@hookimpl
def uex_methods() -> list[type[Method]]:
    """Register."""
    return [GameUnlearnable]

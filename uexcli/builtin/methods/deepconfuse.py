"""DeepConfuse: a generator of noise that leads the training of a classifier astray."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from uexcli.api import Method, OnStep, Preset, Problem, State, Trainer, Work, hookimpl, option
from uexcli.builtin.methods._run import Run, generator_passes, under, within

if TYPE_CHECKING:
    from torch import Tensor, nn

UNROLLED = 8  # passes that a step of the generator takes, but for its own: a gradient of a gradient, and clean images


@dataclass(frozen=True)
class DeepConfuse(Method):
    """A generator G learns to make a classifier that trains on x + G(x) wrong about clean images.

    In rounds: a fresh classifier trains on the images as the G of the round's start protects them; on each of its
    batches, G climbs the classifier's cross-entropy on the clean images after one imagined SGD step on x + G(x),
    through that step. The noise depends on the image alone: images that were not fitted can be protected, without
    labels.

    The defaults are a short schedule in place of the paper's days: a faster generator, whose rate falls, and a far
    longer imagined step. Against a fixed `small`, after 5 passes over 5,000 clean CIFAR-10 images, 160 steps of a
    generator of width 8 (one seed) brought the cross-entropy on clean images, after a step at .1, to .98 (without
    noise: .88), and after a step at 1 to 2.2 (1.1). How well the defaults protect was not measured.
    """

    name: ClassVar[str] = "deepconfuse"
    summary: ClassVar[str] = "a network that makes the noise, against a classifier's training; protects new images"
    paper: ClassVar[str] = "Feng, Cai, Zhou, Learning to Confuse, NeurIPS 2019, arXiv 1905.09027"
    default_norm: ClassVar[str] = "linf"
    default_eps: ClassVar[str | None] = "0.032"
    modes: ClassVar[tuple[str, ...]] = ("universal",)
    presets: ClassVar[tuple[str, ...]] = ("quick", "feng2019")
    gives_network: ClassVar[bool] = True
    takes_patches: ClassVar[bool] = False
    least: ClassVar[dict[str, Any]] = {"rounds": 2, "epochs": 2, "warm": 0, "batch": 12, "generator_width": 4}

    rounds: int = option(12, "how often the classifier starts anew; the paper takes up to 1000")
    epochs: int = option(10, "passes over the images in a round; the paper takes 20")
    warm: int = option(3, "of these, passes in which the generator waits for the classifier; the paper: 0")
    batch: int = option(128, "most images in a batch")
    generator_width: int = option(64, "channels of the generator at full size; they double at each of three halvings")
    lr: float = option(0.05, "learning rate of the classifier, SGD")
    momentum: float = option(0.9, "momentum of the classifier; the imagined step has none")
    unrolled_lr: float = option(1.0, "learning rate of the imagined step; the paper: the classifier's")
    generator_lr: float = option(1e-3, "learning rate of the generator, Adam")
    anneal: bool = option(True, "let the generator's rate fall to 0; the paper keeps it")

    def __post_init__(self) -> None:
        """Refuse what cannot run."""
        if min(self.rounds, self.epochs, self.generator_width) < 1 or self.batch < 2:
            raise ValueError("rounds, epochs and generator_width must be at least 1, and batch 2")
        if min(self.lr, self.unrolled_lr, self.generator_lr) <= 0 or not 0 <= self.momentum < 1:
            raise ValueError("lr, unrolled_lr and generator_lr must be above 0, and momentum in [0, 1)")
        if not 0 <= self.warm < self.epochs:
            raise ValueError("warm must be at least 0, and less than epochs")

    @classmethod
    def preset(cls, name: str, *, own: bool) -> Preset:
        """Give the paper's constants, days of work, or a `quick` try: minutes on two CPU cores for 5,000 small images.

        That is too little to protect them: a target `small` still reached 64.3 %, against 66.1 % on clean images
        (CIFAR-10, one seed).
        """
        if name == "quick":
            quick = {"rounds": 3, "epochs": 8, "warm": 3, "batch": 64, "generator_width": 8}
            return Preset({**quick, "unrolled_lr": 2.0, "generator_lr": 4e-3})
        options = {
            "rounds": 1000,
            "epochs": 20,
            "warm": 0,
            "batch": 256,
            "generator_width": 64,
            "lr": 0.01,
            "momentum": 0.0,
            "unrolled_lr": 0.01,
            "generator_lr": 1e-4,
            "anneal": False,
        }
        return Preset(options, eps="0.032")

    def network(self, *, channels: int, size: int, num_rows: int) -> nn.Module:
        """Build the generator."""
        from uexcli.builtin.methods._unet import Generator

        return Generator(channels=channels, width=self.generator_width)

    def fit(self, problem: Problem, on_step: OnStep) -> nn.Module:
        """Play the rounds: all, or those an interrupted fit has left."""
        from uexcli.builtin.methods._unet import Course

        duel = Duel(self, problem)
        return Course(problem, duel, passes=self.rounds * self.epochs, batch=self.batch, on_step=on_step).run()

    def largest_batch(self, images: int) -> int:
        """Every batch, but for rounding."""
        return min(self.batch, images)

    def work(self, images: int, *, rows: int) -> Work:
        """The classifier's pass and the frozen generator's forward one; the imagined step and the generator's."""
        seen, moved = images * self.rounds * self.epochs, images * self.rounds * (self.epochs - self.warm)
        each = generator_passes(self.generator_width)
        every = seen * (1.5 + each / 3) + moved * (UNROLLED + each)
        return Work(every, every)

    def rehearse(self, problem: Problem) -> float:
        """Passes in which the generator waits, and others."""
        from uexcli.builtin.methods._unet import rehearsed

        passes = {0: self.rounds * self.warm} if self.warm else {}
        passes[self.warm] = self.rounds * (self.epochs - self.warm)
        return rehearsed(problem, Duel(self, problem), self.batch, passes)


class Duel(Run):
    """The generator, its copy of the round's start, and the round's classifier."""

    def __init__(self, method: DeepConfuse, problem: Problem) -> None:
        from uexcli.builtin.methods._unet import Adam, Studio, weights_of

        self._method = method
        self._problem = problem
        self._studio = Studio(problem)
        self.generator = self._studio.generator(method.generator_width)
        self._still = copy.deepcopy(self.generator).eval()  # as it would be published
        self._adam = Adam(list(weights_of(self.generator).values()), lr=method.generator_lr)
        self._trainer = self._fresh(0)
        self._waits = False

    def _fresh(self, number: int) -> Trainer:
        """Make a classifier that has learnt nothing, another for every round."""
        model, method = self._problem.build(draw=number), self._method
        return self._problem.trainer(model, lr=method.lr, momentum=method.momentum, decay=5e-4, clip=5, augment=False)

    def begin(self, passed: int) -> None:
        """Begin a round, where one is over."""
        number, within_round = divmod(passed, self._method.epochs)
        self._waits = within_round < self._method.warm
        if within_round == 0:
            self._still.load_state_dict(self.generator.state_dict())
            self._trainer = self._fresh(number)

    def step(self, batch: Tensor, share: float) -> Tensor:
        """Move the generator, then the classifier: `(2,)`, cross-entropies on protected images and after the step."""
        import torch

        images, labels = self._studio.look(batch)
        after = torch.zeros((), device=images.device) if self._waits else self._climb(images, labels, batch, share)
        with torch.no_grad():
            protected = self._studio.protect(self._still, images, batch)
        return torch.stack((self._trainer.learn(protected, batch), after))

    def _climb(self, images: Tensor, labels: Tensor, batch: Tensor, share: float) -> Tensor:
        import torch

        from uexcli.builtin.methods._unet import weights_of

        model = self._trainer.model.train()
        protected = self._studio.protect(self.generator, images, batch)
        net, weights = self._studio.net(model), weights_of(model)
        loss = unrolled(net, weights, protected, images, labels, lr=self._method.unrolled_lr)
        grads = torch.autograd.grad(-loss, list(self.generator.parameters()))
        self._adam.lr = self._method.generator_lr * (1 - share if self._method.anneal else 1)
        self._adam.step(grads)
        return loss.detach()

    def words(self, losses: list[float]) -> str:
        """The two losses."""
        after = "" if self._waits else f", {losses[1]:.2f} on clean ones a step later"
        return f"classifier's cross-entropy {losses[0]:.2f} on protected images{after}"

    def state(self) -> State:
        """The nets, the classifier's momentum, the moments of Adam."""
        return {
            "waits": self._waits,
            **within("generator.", self.generator.state_dict()),
            **within("still.", self._still.state_dict()),
            **within("adam.", self._adam.state()),
            **within("trainer.", self._trainer.state()),
        }

    def load(self, state: State) -> None:
        """Go on from a state."""
        self._waits = state["waits"]
        self.generator.load_state_dict(under("generator.", state))
        self._still.load_state_dict(under("still.", state))
        self._adam.load(under("adam.", state))
        self._trainer.load(under("trainer.", state))


def unrolled(
    net: Callable[[Mapping[str, Tensor], Tensor], Tensor],
    weights: Mapping[str, Tensor],
    protected: Tensor,
    images: Tensor,
    labels: Tensor,
    *,
    lr: float,
) -> Tensor:
    """Give the cross-entropy on clean images after one SGD step on protected ones, a scalar.

    Both float `(B, C, S, S)`, with labels int64 `(B,)`; `net` maps weights and images to logits. Differentiable in the
    protected images, through the step.
    """
    import torch
    from torch.nn.functional import cross_entropy

    loss = cross_entropy(net(weights, protected), labels)
    grads = torch.autograd.grad(loss, list(weights.values()), create_graph=True)
    stepped = {name: weight - lr * grad for (name, weight), grad in zip(weights.items(), grads, strict=True)}
    return cross_entropy(net(stepped, images), labels)


@hookimpl
def uex_methods() -> list[type[Method]]:
    """Register."""
    return [DeepConfuse]

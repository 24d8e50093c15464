"""DeepConfuse: a generator of noise that leads the training of a classifier astray."""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from uexcli.builtin.methods._generator_stages import Player, generator_passes, primer_passes, times_over
from uexcli.plugin import Method, OnStep, Preset, Problem, State, Trainer, Work, hookimpl, option
from uexcli.plugin.resume import under, within

if TYPE_CHECKING:
    from torch import Tensor, nn

    from uexcli.builtin.methods._generator_training import Course
    from uexcli.builtin.methods._unet import Generator

UNROLLED = 8  # passes that a step of the generator takes, but for its own: a gradient of a gradient, and clean images


@dataclass(frozen=True)
class DeepConfuse(Method):
    """A generator G learns to make a classifier that trains on x + G(x) wrong about clean images.

    In rounds: a fresh classifier trains on the images as the G of the round's start protects them; on each of its
    batches, G climbs the classifier's cross-entropy on the clean images after one imagined SGD step on x + G(x),
    through that step. The noise depends on the image alone: images that were not fitted can be protected, without
    labels.

    The defaults are a short schedule in place of the paper's days, with four things of its own. G learns to tell the
    classes apart and to mark them before the rounds begin (`classes`, `marks`). The classifier sees protected images
    through crops and flips. G meets it as it was at any time of its course, in earlier rounds too (`checkpoints`): the
    paper's G meets it as it is, and forgets in the next pass what led it astray before. And the imagined step is
    far longer. What each is worth stands in benchmarks/RESULTS.md; how well the defaults protect CIFAR-10 from
    ResNet-18 was not measured.
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
    test_options: ClassVar[dict[str, Any]] = {
        "rounds": 2,
        "epochs": 2,
        "batch": 12,
        "generator_width": 4,
        "checkpoints": 3,
        "classes": 1,
        "marks": 1,
        "batches": 3,
    }

    rounds: int = option(5, "how often the classifier starts anew; the paper takes up to 1000")
    epochs: int = option(2, "passes over the images in a round; the paper takes 20")
    classes: int = option(20, "passes before, in which the generator learns to tell the classes apart; 0 in the paper")
    marks: int = option(4, "passes then, in which it learns to mark them; 0 in the paper")
    augment: bool = option(True, "the classifier sees protected images through crops and flips")
    checkpoints: int = option(16, "of the classifier's course, met at random; 0: it is met as it is, as in the paper")
    batch: int = option(128, "most images in a batch")
    batches: int = option(40, "fewest batches that make a pass: it goes over a small set several times; 0 in the paper")
    generator_width: int = option(64, "channels of the generator at full size; they double at each of three halvings")
    lr: float = option(0.05, "learning rate of the classifier, SGD")
    momentum: float = option(0.9, "momentum of the classifier; the imagined step has none")
    unrolled_lr: float = option(0.5, "learning rate of the imagined step; the paper: the classifier's")
    generator_lr: float = option(3e-4, "learning rate of the generator, Adam; faster, it forgets its marks")
    anneal: bool = option(True, "let the generator's rate fall to 0; the paper keeps it")

    def __post_init__(self) -> None:
        """Refuse what cannot run."""
        if min(self.rounds, self.epochs, self.generator_width) < 1 or self.batch < 3:
            raise ValueError("rounds, epochs and generator_width must be at least 1, and batch 3")
        if min(self.lr, self.unrolled_lr, self.generator_lr) <= 0 or not 0 <= self.momentum < 1:
            raise ValueError("lr, unrolled_lr and generator_lr must be above 0, and momentum in [0, 1)")
        if min(self.checkpoints, self.classes, self.marks, self.batches) < 0:
            raise ValueError("checkpoints, classes, marks and batches must be at least 0")

    @classmethod
    def preset(cls, name: str, *, per_sample: bool) -> Preset:
        """Give the paper's constants, days of work, or a `quick` try: minutes on two cores for 5,000 small images."""
        if name == "quick":
            return Preset(
                {
                    "classes": 40,
                    "marks": 8,
                    "rounds": 2,
                    "epochs": 2,
                    "batch": 64,
                    "generator_width": 16,
                }
            )
        options = {
            "rounds": 1000,
            "epochs": 20,
            "checkpoints": 0,
            "classes": 0,
            "marks": 0,
            "batches": 0,
            "augment": False,
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
        return self._course(problem, on_step).run()

    def _course(self, problem: Problem, on_step: OnStep) -> Course:
        from uexcli.builtin.methods._primer import primed

        play = functools.partial(Duel, self, problem)
        return primed(
            problem,
            on_step,
            classes=self.classes,
            marks=self.marks,
            play=play,
            passes=self.rounds * self.epochs,
            cost=self._cost,
            width=self.generator_width,
            batch=self.batch,
            batches=self.batches,
        )

    @property
    def _cost(self) -> float:
        """Of a pass of the game."""
        each = generator_passes(self.generator_width)
        return 1.5 + each / 3 + UNROLLED + each

    def largest_batch(self, images: int) -> int:
        """Every batch, but for rounding."""
        return min(self.batch, images)

    @property
    def spare_nets(self) -> int:
        """The checkpoints."""
        return self.checkpoints

    def work(self, images: int, *, rows: int) -> Work:
        """The classifier's pass and the frozen generator's forward one; the imagined step and the generator's."""
        game = self.rounds * self.epochs * self._cost
        seen = images * times_over(images, batch=self.batch, batches=self.batches)
        every = seen * (game + primer_passes(self.generator_width, self.classes, self.marks))
        return Work(every, every)

    def rehearse(self, problem: Problem) -> float:
        """A step or two of each stage."""
        return self._course(problem, lambda _: None).rehearse()


class Duel(Player):
    """The generator, its copy of the round's start, the round's classifier, and checkpoints of all classifiers."""

    def __init__(self, method: DeepConfuse, problem: Problem, generator: Generator) -> None:
        from uexcli.builtin.methods._generator_training import Studio
        from uexcli.core.optim import Adam

        self._method = method
        self._problem = problem
        self._studio = Studio(problem)
        self._generator = generator
        self._still = copy.deepcopy(generator).eval()  # as it would be published
        self._learning = generator.learning()
        self._adam = Adam(self._learning, lr=method.generator_lr)
        self._view = problem.generator("view")
        self._trainer = self._fresh(0)
        self._draws = problem.generator("checkpoints")
        self._kept: list[dict[str, Tensor]] = []
        images = len(problem.images)
        times = times_over(images, batch=method.batch, batches=method.batches)
        batches = times * math.ceil(images / method.batch) * method.epochs
        self._spacing = math.ceil(batches / max(1, method.checkpoints))  # so that a round leaves as many as are kept
        self._met = 0  # batches

    def _fresh(self, number: int) -> Trainer:
        """Make a classifier that has learnt nothing, another for every round."""
        model, method = self._problem.build(draw=number), self._method
        return self._problem.trainer(model, lr=method.lr, momentum=method.momentum, decay=5e-4, clip=5, augment=False)

    def begin(self, passed: int) -> None:
        """Begin a round, where one is over."""
        number, within_round = divmod(passed, self._method.epochs)
        if within_round == 0:
            self._still.load_state_dict(self._generator.state_dict())
            self._trainer = self._fresh(number)

    def step(self, batch: Tensor, share: float) -> Tensor:
        """Move the generator, then the classifier: `(2,)`, cross-entropies on protected images and after the step."""
        import torch

        images, labels = self._studio.look(batch)
        self._keep()
        after = self._climb(images, labels, batch, share)
        with torch.no_grad():
            protected = self._protect(self._still, images, batch)
        return torch.stack((self._trainer.learn(protected, batch), after))

    def _protect(self, generator: Generator, images: Tensor, batch: Tensor) -> Tensor:
        """Protect images, and see them as the classifier does."""
        protected = self._studio.protect(generator, images, batch)
        return self._problem.view(protected, self._view) if self._method.augment else protected

    def _keep(self) -> None:
        """Take a checkpoint where one is due; where there are enough, another goes, whichever."""
        import torch

        from uexcli.builtin.methods._generator_training import weights_of

        most = self._method.checkpoints
        if most and self._met % self._spacing == 0:
            taken = {name: weight.detach().clone() for name, weight in weights_of(self._trainer.model).items()}
            if len(self._kept) < most:
                self._kept.append(taken)
            else:
                self._kept[int(torch.randint(most, (), generator=self._draws))] = taken
        self._met += 1

    def _climb(self, images: Tensor, labels: Tensor, batch: Tensor, share: float) -> Tensor:
        import torch

        from uexcli.builtin.methods._generator_training import slopes, weights_of

        model = self._trainer.model.train()
        weights = weights_of(model)
        if self._kept:
            chosen = self._kept[int(torch.randint(len(self._kept), (), generator=self._draws))]
            weights = {name: weight.requires_grad_() for name, weight in chosen.items()}
        protected = self._protect(self._generator, images, batch)
        loss = unrolled(self._studio.net(model), weights, protected, images, labels, lr=self._method.unrolled_lr)
        grads = slopes(-loss, self._learning, self._problem.reduce)
        self._adam.lr = self._method.generator_lr * (1 - share if self._method.anneal else 1)
        self._adam.step(grads)
        return loss.detach()

    def words(self, losses: list[float]) -> str:
        """The two losses."""
        after = f"{losses[1]:.2f} on clean ones a step later"
        return f"classifier's cross-entropy {losses[0]:.2f} on protected images, {after}"

    def state(self) -> State:
        """The copy, the classifier with its momentum, checkpoints, moments of Adam, and what is drawn next."""
        kept: dict[str, Any] = {}
        for number, weights in enumerate(self._kept):
            kept.update(within(f"kept.{number}.", weights))
        return {
            "met": self._met,
            "draws": self._draws.get_state(),
            "view": self._view.get_state(),
            "checkpoints": len(self._kept),
            **kept,
            **within("still.", self._still.state_dict()),
            **within("adam.", self._adam.state()),
            **within("trainer.", self._trainer.state()),
        }

    def load(self, state: State) -> None:
        """Go on from a state."""
        self._met = state["met"]
        self._draws.set_state(state["draws"])
        self._view.set_state(state["view"])
        device = self._problem.device
        kept = [under(f"kept.{number}.", state) for number in range(state["checkpoints"])]
        self._kept = [{name: weight.to(device, copy=True) for name, weight in weights.items()} for weights in kept]
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
    every = list(weights.values())
    grads = torch.autograd.grad(loss, every, create_graph=True, allow_unused=True, materialize_grads=True)
    stepped = {name: weight - lr * grad for (name, weight), grad in zip(weights.items(), grads, strict=True)}
    return cross_entropy(net(stepped, images), labels)


@hookimpl
def uex_methods() -> list[type[Method]]:
    """Register."""
    return [DeepConfuse]

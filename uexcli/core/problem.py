"""The Problem that methods are handed: one fit, held in memory on one device."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn

from uexcli import api
from uexcli.core import pgd, seeding
from uexcli.core.augment import crop_and_flip
from uexcli.core.nets import as_input, predict
from uexcli.core.pixels import publish
from uexcli.core.train import forward, learn
from uexcli.errors import UexError

CHUNK = 1024  # images at once where only memory is at stake


@dataclass(frozen=True)
class BankProblem(api.Problem):
    """A fit over a noise bank; see `uexcli.api.Problem` for what each member means."""

    images: Tensor
    labels: Tensor
    rows: Tensor
    keys: Sequence[str]
    num_rows: int
    num_classes: int
    norm: api.Norm
    eps: float
    seed: int
    device: torch.device
    make_surrogate: Callable[[], nn.Module]
    autocast: torch.dtype | None = None
    survival: Tensor | None = None  # see `core.pixels.survival`; None where photos have the fit's size

    @property
    def own(self) -> bool:
        """Whether each row serves exactly one image."""
        return self.num_rows == len(self.images)

    def generator(self, purpose: str) -> Generator:
        """Make a CPU generator of its own for `purpose`."""
        return seeding.generator(self.seed, purpose)

    def start(self, *, random: bool) -> Tensor:
        """Make a bank of zeros, or one uniform in [-1, 1) keyed by the row's name."""
        if not random:
            return torch.zeros(self.shape, device=self.device)
        return seeding.keyed_uniform(self._row_keys(), self.shape[1:], self.seed).to(self.device)

    def _row_keys(self) -> list[str]:
        if not self.own:
            return [f"row {row}" for row in range(self.num_rows)]
        names = [""] * self.num_rows
        for key, row in zip(self.keys, self.rows.tolist(), strict=True):
            names[row] = key
        return names

    def build(self) -> nn.Module:
        """Build the surrogate from the seed."""
        with seeding.global_seed(self.seed, "surrogate"):
            model = self.make_surrogate()
        return model.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]

    def trainer(
        self, model: nn.Module, *, lr: float, momentum: float, decay: float, clip: float, augment: bool
    ) -> api.Trainer:
        """Make an SGD trainer."""
        optimiser = torch.optim.SGD(model.parameters(), lr=lr, momentum=momentum, weight_decay=decay)
        return SgdTrainer(self, model, optimiser, clip, self.generator("augment") if augment else None)

    def batches(self, size: int, generator: Generator | None = None) -> Iterator[Tensor]:
        """Go once over all images."""
        count = len(self.images)
        order = torch.arange(count) if generator is None else torch.randperm(count, generator=generator)
        yield from order.to(self.device).split(size)

    def published(self, delta: Tensor, batch: Tensor) -> Tensor:
        """Float images in [0, 1] with their noise as it arrives, clamped: `(B, C, S, S)`."""
        return (as_input(self.images[batch]) + self.arriving(delta, batch)).clamp_(0, 1)

    def arriving(self, delta: Tensor, batch: Tensor) -> Tensor:
        """The noise of each image as it reaches a net: `(B, C, S, S)`."""
        return pgd.through(delta[self.rows[batch]], self.survival)

    def move(
        self,
        model: nn.Module,
        delta: Tensor,
        batch: Tensor,
        *,
        step: float,
        steps: int = 1,
        ascend: bool = False,
        generator: Generator | None = None,
    ) -> None:
        """Take projected steps on the rows of a batch, in place; the net is put in eval mode and left untouched."""
        model.eval()
        learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
        for parameter in learning:
            parameter.requires_grad_(False)
        pgd.move(
            lambda inputs: forward(model, inputs.contiguous(memory_format=torch.channels_last), self.autocast),
            delta,
            as_input(self.images[batch]),
            self.labels[batch],
            self.rows[batch],
            norm=self.norm,
            eps=self.eps,
            step=step * self.norm.reach(self.eps) * (-1 if ascend else 1),
            steps=steps,
            own=self.own,
            view=generator,
            survival=self.survival,
        )
        for parameter in learning:
            parameter.requires_grad_(True)

    def error(self, model: nn.Module, delta: Tensor) -> float:
        """Give the share of images the model gets wrong as they would be published."""
        wrong = 0
        for batch in self.batches(CHUNK):
            written = publish(self.images[batch], self.arriving(delta, batch), self.norm, self.eps)
            wrong += int((predict(model, written) != self.labels[batch]).sum())
        return wrong / len(self.images)

    def project(self, delta: Tensor) -> Tensor:
        """Bring a whole bank inside the bound."""
        return self._by_chunk(
            delta, lambda rows, images: self._boxed(self.norm.project(rows, self.eps, images), images)
        )

    def fill(self, delta: Tensor) -> Tensor:
        """Bring every row to the bound."""
        return self._by_chunk(delta, lambda rows, images: self.norm.fill(rows, self.eps, images))

    @staticmethod
    def _boxed(rows: Tensor, images: Tensor | None) -> Tensor:
        return rows if images is None else (images + rows).clamp_(0, 1) - images

    def _by_chunk(self, delta: Tensor, change: Callable[[Tensor, Tensor | None], Tensor]) -> Tensor:
        """Apply `change` to the bank a chunk of rows at a time, each with its image where it serves only one."""
        if not self.own:
            return change(delta, None)
        image_of = torch.empty_like(self.rows)
        image_of[self.rows] = torch.arange(len(self.rows), device=self.rows.device)
        parts = torch.arange(self.num_rows, device=self.rows.device).split(CHUNK)
        return torch.cat([change(delta[part], as_input(self.images[image_of[part]])) for part in parts])


@dataclass
class SgdTrainer(api.Trainer):
    """SGD on protected images, gradient norm clipped."""

    problem: BankProblem
    model: nn.Module
    optimiser: torch.optim.Optimizer
    clip: float
    view: Generator | None

    def step(self, delta: Tensor | None, batch: Tensor) -> float:
        """Train on one batch; returns its loss before the step."""
        self.model.train()
        problem = self.problem
        inputs = as_input(problem.images[batch]) if delta is None else problem.published(delta, batch)
        if self.view is not None:
            inputs = crop_and_flip(inputs, self.view)
        inputs = inputs.contiguous(memory_format=torch.channels_last)
        loss = learn(
            self.model, self.optimiser, inputs, problem.labels[batch], clip=self.clip, autocast=problem.autocast
        )
        value = float(loss)
        if not math.isfinite(value):
            raise UexError("the surrogate diverged: its loss is not finite.", hint="Try a smaller -O lr.")
        return value

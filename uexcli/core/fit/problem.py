"""The Problem that methods are handed: one fit over a noise bank."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from uexcli import plugin
from uexcli.core import seeding
from uexcli.core.augment import crop_and_flip, draw
from uexcli.core.fit import pgd
from uexcli.core.fit.bank import NoiseBank, chunk_of
from uexcli.core.fit.data import Data
from uexcli.core.fit.execution import Execution
from uexcli.core.fit.frozen import Frozen
from uexcli.core.fit.stream import ShuffledBatches
from uexcli.core.fit.trainer import SgdTrainer
from uexcli.core.nets import as_input
from uexcli.core.optim import Sgd
from uexcli.core.pixels import publish
from uexcli.core.training import perturb_weights
from uexcli.errors import UexError


@dataclass(frozen=True)
class BankProblem(plugin.Problem):
    """A fit over a noise bank: its data, its noise and what runs it, behind one face for methods.

    See `uexcli.plugin.Problem` for what each member means.
    """

    data: Data
    noise: NoiseBank
    execution: Execution
    make_surrogate: Callable[[], nn.Module]
    make_ensemble: Sequence[Callable[[], nn.Module]] = ()
    known_features: Callable[[], Tensor] | None = None  # of the surrogate, where they were needed before
    journal: plugin.Journal = field(default_factory=plugin.Journal)

    @property
    def images(self) -> Tensor:
        """uint8 `(N, C, S, S)`."""
        return self.data.images

    @property
    def labels(self) -> Tensor:
        """int64 `(N,)`."""
        return self.data.labels

    @property
    def keys(self) -> Sequence[str]:
        """The names of the images, `(N,)`."""
        return self.data.keys

    @property
    def num_classes(self) -> int:
        """The number of classes."""
        return self.data.num_classes

    @property
    def device(self) -> torch.device:
        """On which nets run."""
        return self.data.device

    @property
    def rows(self) -> Tensor:
        """The row of each image, int64 `(N,)`."""
        return self.noise.rows

    @property
    def num_rows(self) -> int:
        """The number of rows."""
        return self.noise.num_rows

    @property
    def norm(self) -> plugin.Norm:
        """The norm of the bound."""
        return self.noise.norm

    @property
    def eps(self) -> float:
        """The bound."""
        return self.noise.eps

    @property
    def seed(self) -> int:
        """The seed of the fit."""
        return self.noise.seed

    @property
    def survival(self) -> Tensor | None:
        """What resizing leaves of noise."""
        return self.noise.survival

    @property
    def autocast(self) -> torch.dtype | None:
        """The lower precision of nets."""
        return self.execution.autocast

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """The shape of the bank."""
        return self.noise.shape

    @property
    def per_sample(self) -> bool:
        """Whether each row serves exactly one image."""
        return self.noise.per_sample

    def reduce(self, tensor: Tensor) -> Tensor:
        """Add up what was summed over a batch, over all machines that share the fit."""
        return self.execution.reduce(tensor)

    def _micro(self) -> int:
        return self.execution.engine.size(self.device, self.data.values)

    @property
    def chunk(self) -> int:
        """Give a number of images the device works well on at once."""
        parts = math.ceil(len(self.images) / self._micro())
        return math.ceil(len(self.images) / parts)

    def secret(self, purpose: str) -> plugin.Secret:
        """Make a stream of its own for `purpose`, keyed by all of the seed."""
        return seeding.Secret(self.seed, purpose)

    def generator(self, purpose: str) -> Generator:
        """Make a CPU generator of its own for `purpose`, for what is no secret."""
        return seeding.generator(self.seed, purpose)

    def bank(self) -> Tensor:
        """Make an empty bank where there is room for it."""
        return self.noise.empty()

    def release(self) -> None:
        """Say that a part of a bank is done with for now."""
        self.data.store.release()

    def copy(self, delta: Tensor, into: Tensor | None = None) -> Tensor:
        """Copy a bank, a chunk of rows at a time."""
        return self.noise.copy(delta, into)

    def start(self, *, random: bool, draw: int = 0) -> Tensor:
        """Make a bank of zeros, or one uniform in [-1, 1) keyed by the row's name."""
        return self.noise.start(random=random, draw=draw)

    def build(self, *, draw: int = 0) -> nn.Module:
        """Build the surrogate from the seed."""
        with seeding.global_seed(self.seed, f"surrogate {draw}" if draw else "surrogate"):
            model = self.make_surrogate()
        model.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._freeze(model)  # what can be folded is found on a fresh net, so that a resumed fit folds the same
        return model

    def ensemble(self) -> list[nn.Module]:
        """Build the further nets from the seed."""
        made = []
        for number, make in enumerate(self.make_ensemble):
            with seeding.global_seed(self.seed, f"ensemble {number}"):
                model = make()
            made.append(model.to(self.device, memory_format=torch.channels_last))  # type: ignore[call-overload]
        return made

    def features(self) -> Tensor:
        """Give the features of all images as the surrogate sees them once built, in full precision."""
        if self.known_features is not None:
            return self.known_features()
        model = self.build().eval()
        parts = []
        for batch in self.batches(64):
            with torch.inference_mode():
                features: Tensor = model.features(self.inputs(batch))  # type: ignore[operator]
            parts.append(features.float().cpu())
        return torch.cat(parts).clone()

    def trainer(
        self, model: nn.Module, *, lr: float, momentum: float, decay: float, clip: float, augment: bool
    ) -> plugin.Trainer:
        """Make an SGD trainer."""
        optimiser = Sgd(model.parameters(), lr=lr, momentum=momentum, decay=decay)
        view = self.generator("augment") if augment else None
        return SgdTrainer(self.noise, self.execution, model, optimiser, clip, view)

    def batches(self, size: int, generator: Generator | None = None, only: Tensor | None = None) -> Iterator[Tensor]:
        """Go once over the images."""
        return self.data.batches(size, generator, only)

    def stream(self, size: int, purpose: str) -> plugin.Stream:
        """Make an endless stream of shuffled batches."""
        return ShuffledBatches(len(self.images), size, self.generator(purpose), self.images.device)

    def inputs(self, batch: Tensor) -> Tensor:
        """Float images in [0, 1] on the device: `(B, C, S, S)`, channels last."""
        return self.data.inputs(batch)

    def published(self, delta: Tensor, batch: Tensor) -> Tensor:
        """Float images in [0, 1] with their noise as it arrives, clamped: `(B, C, S, S)`."""
        return self.noise.published(delta, batch)

    def view(self, images: Tensor, generator: Generator) -> Tensor:
        """Crop and flip each image."""
        return crop_and_flip(images, generator)

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
        labels: Tensor | None = None,
    ) -> None:
        """Take projected steps on the rows of a batch, in place; the net is left untouched."""
        frozen = self._freeze(model)
        self.execution.engine.tally.moved += steps * len(batch)
        plan = self._plan(-step if ascend else step, steps)
        labels = self.labels if labels is None else labels
        cuts = None
        if generator is not None:
            drawn = [draw(len(batch), self.images.shape[2], generator) for _ in range(steps)]
            cuts = torch.stack(drawn).to(self.device)
        if not self.per_sample:
            self._move_shared(frozen, delta, batch, cuts, plan, labels)
            return
        done = 0
        while done < len(batch):
            size = min(self._micro(), len(batch) - done)
            if self._move_own(frozen, delta, batch, cuts, plan, labels, slice(done, done + size)):
                done += size
                self.data.store.release()

    def _move_own(
        self,
        frozen: Frozen,
        delta: Tensor,
        batch: Tensor,
        cuts: Tensor | None,
        plan: pgd.Step,
        labels: Tensor,
        where: slice,
    ) -> bool:
        """Move the rows of one micro-batch; False where memory ran out, and nothing was changed."""
        rows = self.rows[batch[where]].to(delta.device)
        moved = self.execution.engine.attempt(
            lambda: self.execution.engine.steps(
                frozen, delta[rows].to(self.device), [self._part(batch, cuts, where, delta.dtype, labels)], plan
            )
        )
        if moved is not None:
            delta[rows] = moved.to(delta.device)
        return moved is not None

    def _move_shared(
        self,
        frozen: Frozen,
        delta: Tensor,
        batch: Tensor,
        cuts: Tensor | None,
        plan: pgd.Step,
        labels: Tensor,
    ) -> None:
        """Move the rows that a batch's images share, by the sum of their gradients."""
        touched, index = self.noise.touched(batch, delta)

        def work() -> Tensor:
            size = self._micro()
            cutting = [slice(begin, begin + size) for begin in range(0, len(batch), size)]
            parts = [self._part(batch, cuts, where, delta.dtype, labels, index) for where in cutting]
            return self.execution.engine.steps(frozen, delta[touched].to(self.device), parts, plan)

        moved = None
        while moved is None:
            moved = self.execution.engine.attempt(work)
        delta[touched] = moved.to(delta.device)

    def apply_gradient(self, delta: Tensor, batch: Tensor, grad: Tensor, *, step: float) -> None:
        """Take one projected step on the rows of a batch, in place, against a gradient."""
        every, plan = slice(0, len(batch)), self._plan(step, 1)
        if self.per_sample:
            touched, index = self.rows[batch].to(delta.device), None
        else:
            touched, index = self.noise.touched(batch, delta)
        part = self._part(batch, None, every, delta.dtype, self.labels, index)
        delta[touched] = pgd.take(delta[touched].to(self.device), [part], [grad.to(delta.dtype)], plan).to(delta.device)
        self.data.store.release()

    def _plan(self, step: float, steps: int) -> pgd.Step:
        length = step * self.norm.reach(self.eps)
        return pgd.Step(self.norm, self.eps, length, steps, self.per_sample, self.survival, self.execution.reduce)

    def _part(
        self,
        batch: Tensor,
        cuts: Tensor | None,
        where: slice,
        dtype: torch.dtype,
        labels: Tensor,
        index: Tensor | None = None,
    ) -> pgd.Part:
        picked = batch[where]
        return pgd.Part(
            self.inputs(picked).to(dtype),
            labels[picked.to(labels.device)].to(self.device),
            torch.arange(len(picked), device=self.device) if index is None else index[where],
            None if cuts is None else cuts[:, where],
            self.noise.places_of(picked),
        )

    def perturb_weights(
        self, model: nn.Module, std: float, generator: Generator
    ) -> contextlib.AbstractContextManager[None]:
        """Put Gaussian noise on a net's weights for a while."""
        return perturb_weights(model, std, generator)

    def freeze(self, model: nn.Module, *, features: bool = False, branches: float = 1.0) -> plugin.Frozen:
        """Give a fast copy of a net for input gradients."""
        return self.execution.frozen(model, self._example(model), features=features, branches=branches)

    def _example(self, model: nn.Module) -> Tensor:
        few = torch.arange(min(2, len(self.images)), device=self.images.device)
        return self.inputs(few).to(next(model.parameters()).dtype)

    def _freeze(self, model: nn.Module) -> Frozen:
        return self.execution.freeze(model, self._example(model))

    def judge(
        self, model: nn.Module, delta: Tensor, only: Tensor | None = None, labels: Tensor | None = None
    ) -> plugin.Verdict:
        """Show a net images as they would be published."""
        frozen = self._freeze(model)
        wanted = self.labels if labels is None else labels
        losses = []
        wrong = torch.zeros((), dtype=torch.int64, device=self.device)
        finite = torch.ones((), dtype=torch.bool, device=self.device)
        for batch in self.batches(chunk_of(self.data.values), only=only):
            pixels = self.images[batch].to(self.device)
            written = publish(pixels, self.noise.arriving(delta, batch), self.norm, self.eps)
            with torch.inference_mode():
                logits = torch.cat([frozen(as_input(part)) for part in written.split(256)])
            here = wanted[batch.to(wanted.device)].to(self.device)
            losses.append(functional.cross_entropy(logits, here, reduction="none"))
            self.execution.engine.tally.seen += len(batch)
            wrong += (logits.argmax(1) != here).sum()
            finite &= logits.isfinite().all()
            self.data.store.release()
        each = torch.cat(losses)
        if not bool(finite):
            raise UexError("the surrogate diverged: its outputs are not finite.", hint="Try a smaller `options[lr]`.")
        wrong, count = self.reduce(wrong), self.reduce(torch.full_like(wrong, len(each)))
        return plugin.Verdict(int(wrong) / int(count), each)

    def project(self, delta: Tensor) -> Tensor:
        """Bring a whole bank inside the bound."""
        return self.noise.project(delta)

    def fill(self, delta: Tensor) -> Tensor:
        """Bring every row to the bound."""
        return self.noise.fill(delta)

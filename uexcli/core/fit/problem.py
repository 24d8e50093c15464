"""The Problem that methods are handed: one fit over a noise bank."""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from uexcli import plugin
from uexcli.core import seeding
from uexcli.core.augment import crop_and_flip, draw
from uexcli.core.fit import pgd
from uexcli.core.fit.engine import Engine
from uexcli.core.fit.frozen import Features, Frozen
from uexcli.core.fit.patch import Patch, lift
from uexcli.core.fit.store import Store
from uexcli.core.fit.stream import ShuffledBatches
from uexcli.core.nets import as_input
from uexcli.core.optim import Sgd
from uexcli.core.pixels import publish
from uexcli.core.training import learn, shaken
from uexcli.errors import UexError


def chunk_of(values: int) -> int:
    """Give how many images of so many values to work on at once, where only memory is at stake."""
    return max(16, min(1024, 2**24 // values))


@dataclass(frozen=True)
class BankProblem(plugin.Problem):
    """A fit over a noise bank; see `uexcli.plugin.Problem` for what each member means."""

    images: Tensor
    labels: Tensor
    rows: Tensor
    keys: Sequence[str]
    num_rows: int
    num_classes: int
    norm: plugin.Norm
    eps: float
    seed: int
    device: torch.device
    make_surrogate: Callable[[], nn.Module]
    autocast: torch.dtype | None = None
    survival: Tensor | None = None  # see `core.pixels.survival`; None where photos have the fit's size
    patch: Patch | None = None  # rows are patches of this size
    journal: plugin.Journal = field(default_factory=plugin.Journal)
    store: Store = field(default_factory=Store)
    engine: Engine = field(default_factory=Engine)
    make_ensemble: Sequence[Callable[[], nn.Module]] = ()
    known_features: Callable[[], Tensor] | None = None  # of the surrogate, where they were needed before

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """The shape of the bank."""
        _, channels, height, width = self.images.shape
        if self.patch is not None:
            height = width = self.patch.size
        return (self.num_rows, channels, height, width)

    @functools.cached_property
    def places(self) -> Tensor | None:
        """Where the patch of each image lies, int64 `(N, 2)`, on the device; None where noise is as big as images."""
        if self.patch is None:
            return None
        return self.patch.places(self.keys, int(self.images.shape[2]), self.seed).to(self.device)

    @property
    def own(self) -> bool:
        """Whether each row serves exactly one image."""
        return self.num_rows == len(self.images)

    def _micro(self) -> int:
        return self.engine.size(self.device, self.images[0].numel())

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
        return self.store.bank(self.shape, self.device)

    def release(self) -> None:
        """Say that a part of a bank is done with for now."""
        self.store.release()

    def copy(self, delta: Tensor, into: Tensor | None = None) -> Tensor:
        """Copy a bank, a chunk of rows at a time."""
        into = self.bank() if into is None else into
        for part in _slices(delta):
            into[part] = delta[part]
            self.store.release()
        return into

    def start(self, *, random: bool, draw: int = 0) -> Tensor:
        """Make a bank of zeros, or one uniform in [-1, 1) keyed by the row's name."""
        delta = self.bank()
        names = self._row_keys() if random else []
        purpose = f"start {draw}"
        for part in _slices(delta):
            delta[part] = seeding.keyed_uniform(names[part], self.shape[1:], self.seed, purpose) if random else 0
            self.store.release()
        return delta

    def _row_keys(self) -> list[str]:
        if not self.own:
            return [f"row {row}" for row in range(self.num_rows)]
        names = [""] * self.num_rows
        for key, row in zip(self.keys, self.rows.tolist(), strict=True):
            names[row] = key
        return names

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
        return SgdTrainer(self, model, optimiser, clip, self.generator("augment") if augment else None)

    def batches(self, size: int, generator: Generator | None = None, only: Tensor | None = None) -> Iterator[Tensor]:
        """Go once over the images."""
        picked = torch.arange(len(self.images)) if only is None else only.cpu()
        order = picked if generator is None else picked[torch.randperm(len(picked), generator=generator)]
        for batch in order.to(self.images.device).split(size) if len(order) else ():
            yield batch
            self.store.release()

    def stream(self, size: int, purpose: str) -> plugin.Stream:
        """Make an endless stream of shuffled batches."""
        return ShuffledBatches(len(self.images), size, self.generator(purpose), self.images.device)

    def inputs(self, batch: Tensor) -> Tensor:
        """Float images in [0, 1] on the device: `(B, C, S, S)`, channels last."""
        return as_input(self.images[batch].to(self.device))

    def published(self, delta: Tensor, batch: Tensor) -> Tensor:
        """Float images in [0, 1] with their noise as it arrives, clamped: `(B, C, S, S)`."""
        return self.inputs(batch).add_(self.arriving(delta, batch)).clamp_(0, 1)

    def arriving(self, delta: Tensor, batch: Tensor) -> Tensor:
        """The noise of each image as it reaches a net: `(B, C, S, S)`."""
        return pgd.through(self.spread(delta, batch), self.survival)

    def spread(self, delta: Tensor, batch: Tensor) -> Tensor:
        """The noise of each image as it is published: `(B, C, S, S)`."""
        noise = delta[self.rows[batch].to(delta.device)].to(self.device)
        return pgd.arriving(noise, None, self._places(batch), int(self.images.shape[2]))

    def _places(self, batch: Tensor) -> Tensor | None:
        return None if self.places is None else self.places[batch.to(self.device)]

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
        self.engine.tally.moved += steps * len(batch)
        plan = self._plan(-step if ascend else step, steps)
        labels = self.labels if labels is None else labels
        cuts = None
        if generator is not None:
            drawn = [draw(len(batch), self.images.shape[2], generator) for _ in range(steps)]
            cuts = torch.stack(drawn).to(self.device)
        if not self.own:
            self._move_shared(frozen, delta, batch, cuts, plan, labels)
            return
        done = 0
        while done < len(batch):
            size = min(self._micro(), len(batch) - done)
            if self._move_own(frozen, delta, batch, cuts, plan, labels, slice(done, done + size)):
                done += size
                self.store.release()

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
        moved = self.engine.attempt(
            lambda: self.engine.steps(
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
        touched, index = self._touched(batch, delta)

        def work() -> Tensor:
            size = self._micro()
            cutting = [slice(begin, begin + size) for begin in range(0, len(batch), size)]
            parts = [self._part(batch, cuts, where, delta.dtype, labels, index) for where in cutting]
            return self.engine.steps(frozen, delta[touched].to(self.device), parts, plan)

        moved = None
        while moved is None:
            moved = self.engine.attempt(work)
        delta[touched] = moved.to(delta.device)

    def nudge(self, delta: Tensor, batch: Tensor, grad: Tensor, *, step: float) -> None:
        """Take one projected step on the rows of a batch, in place, against a gradient."""
        every, plan = slice(0, len(batch)), self._plan(step, 1)
        if self.own:
            touched, index = self.rows[batch].to(delta.device), None
        else:
            touched, index = self._touched(batch, delta)
        part = self._part(batch, None, every, delta.dtype, self.labels, index)
        delta[touched] = pgd.take(delta[touched].to(self.device), [part], [grad.to(delta.dtype)], plan).to(delta.device)
        self.store.release()

    def _plan(self, step: float, steps: int) -> pgd.Step:
        return pgd.Step(self.norm, self.eps, step * self.norm.reach(self.eps), steps, self.own, self.survival)

    def _touched(self, batch: Tensor, delta: Tensor) -> tuple[Tensor, Tensor]:
        """Give the rows of the bank that a batch shares, and for each of its images which of these it uses."""
        rows = self.rows[batch]
        every = self.num_rows <= len(batch)  # the same shapes for every batch; rows without a gradient stay
        touched = torch.arange(self.num_rows, device=rows.device) if every else rows.unique()
        index = rows if every else torch.searchsorted(touched, rows)
        return touched.to(delta.device), index.to(self.device)

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
            self._places(picked),
        )

    def shaken(self, model: nn.Module, std: float, generator: Generator) -> contextlib.AbstractContextManager[None]:
        """Put Gaussian noise on a net's weights for a while."""
        return shaken(model, std, generator)

    def freeze(self, model: nn.Module, *, features: bool = False, branches: float = 1.0) -> plugin.Frozen:
        """Give a fast copy of a net for input gradients."""
        net, engine = Features(model) if features else model, self.engine
        example, count = self._example(model), engine.tally.count
        return Frozen(net, example, self.autocast, compiled=engine.compiled, branches=branches, on_run=count)

    def _example(self, model: nn.Module) -> Tensor:
        few = torch.arange(min(2, len(self.images)), device=self.images.device)
        return self.inputs(few).to(next(model.parameters()).dtype)

    def _freeze(self, model: nn.Module) -> Frozen:
        return self.engine.freeze(model, self._example(model), self.autocast)

    def judge(
        self, model: nn.Module, delta: Tensor, only: Tensor | None = None, labels: Tensor | None = None
    ) -> plugin.Verdict:
        """Show a net images as they would be published."""
        frozen = self._freeze(model)
        wanted = self.labels if labels is None else labels
        losses = []
        wrong = torch.zeros((), dtype=torch.int64, device=self.device)
        finite = torch.ones((), dtype=torch.bool, device=self.device)
        for batch in self.batches(chunk_of(self.images[0].numel()), only=only):
            pixels = self.images[batch].to(self.device)
            written = publish(pixels, self.arriving(delta, batch), self.norm, self.eps)
            with torch.inference_mode():
                logits = torch.cat([frozen(as_input(part)) for part in written.split(256)])
            here = wanted[batch.to(wanted.device)].to(self.device)
            losses.append(functional.cross_entropy(logits, here, reduction="none"))
            self.engine.tally.seen += len(batch)
            wrong += (logits.argmax(1) != here).sum()
            finite &= logits.isfinite().all()
            self.store.release()
        each = torch.cat(losses)
        if not bool(finite):
            raise UexError("the surrogate diverged: its outputs are not finite.", hint="Try a smaller -O lr.")
        return plugin.Verdict(int(wrong) / len(each), each)

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
        """Apply `change` to the bank a chunk of rows at a time, in place, each with its image where it serves one."""
        image_of = torch.empty_like(self.rows)
        if self.own:
            image_of[self.rows] = torch.arange(len(self.rows), device=self.rows.device)
        for part in _slices(delta):
            images = self.inputs(image_of[part]) if self.own else None
            if images is not None and self.places is not None:
                images = lift(images, self.places[image_of[part].to(self.device)], self.shape[2])
            delta[part] = change(delta[part].to(self.device, torch.float32), images).to(delta.device)
            self.store.release()
        return delta


def _slices(bank: Tensor) -> list[slice]:
    size, count = chunk_of(bank[0].numel()), len(bank)
    return [slice(begin, min(begin + size, count)) for begin in range(0, count, size)]


@dataclass
class SgdTrainer(plugin.Trainer):
    """SGD on protected images, gradient norm clipped."""

    problem: BankProblem
    model: nn.Module
    optimiser: Sgd
    clip: float
    view: Generator | None

    @property
    def lr(self) -> float:
        """The learning rate."""
        return self.optimiser.lr

    @lr.setter
    def lr(self, rate: float) -> None:
        self.optimiser.lr = rate

    def step(
        self, delta: Tensor | None, batch: Tensor, *, jitter: tuple[float, int, Generator] | None = None
    ) -> Tensor:
        """Train on one batch; gives its loss before the step, which is not waited for."""
        problem = self.problem
        inputs = problem.inputs(batch) if delta is None else problem.published(delta, batch)
        if self.view is not None:
            inputs = crop_and_flip(inputs, self.view)
        return self._learn(inputs, batch, jitter)

    def learn(self, inputs: Tensor, batch: Tensor) -> Tensor:
        """Train on ready-made views of a batch."""
        return self._learn(inputs, batch, None)

    def _learn(self, inputs: Tensor, batch: Tensor, jitter: tuple[float, int, Generator] | None) -> Tensor:
        self.model.train()
        problem = self.problem
        problem.engine.tally.trained += len(batch) * (jitter[1] if jitter else 1)
        inputs = inputs.contiguous(memory_format=torch.channels_last)
        labels = problem.labels[batch].to(problem.device)
        problem.store.release()
        return learn(
            self.model, self.optimiser, inputs, labels, clip=self.clip, autocast=problem.autocast, jitter=jitter
        )

    def state(self) -> plugin.State:
        """Everything a trainer of the same net needs to go on."""
        state: dict[str, Any] = {f"model.{name}": tensor for name, tensor in self.model.state_dict().items()}
        state.update({f"speed.{number}": speed for number, speed in enumerate(self.optimiser.speeds)})
        if self.view is not None:
            state["view"] = self.view.get_state()
        return state

    def load(self, state: plugin.State) -> None:
        """Go on from a state."""
        self.model.load_state_dict({name: state[f"model.{name}"] for name in self.model.state_dict()})
        for number, speed in enumerate(self.optimiser.speeds):
            speed.copy_(state[f"speed.{number}"])
        if self.view is not None:
            self.view.set_state(state["view"])

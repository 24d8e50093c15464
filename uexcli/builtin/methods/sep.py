"""SEP: self-ensemble protection, one training's checkpoints as many nets."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from uexcli.builtin.methods._passes import Teaching, order_of_pass
from uexcli.plugin import Frozen, Method, OnStep, Preset, Problem, Progress, State, Work, hookimpl, option
from uexcli.plugin.resume import Run, take_up, under, within

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class SelfEnsemble(Method):
    """Targeted noise along the mean gradient of checkpoints that one training of the surrogate passed through.

    With `features` (SEP-FA) the loss pulls the penultimate features towards the mean of the target class, of the same
    checkpoint; without, it is the cross-entropy to that class. With `reduced` (VR) a step is the sum of `inner` small
    ones, of single checkpoints drawn at random, each corrected by how far that checkpoint's gradient lies from the mean
    where the step began.
    """

    name: ClassVar[str] = "sep"
    summary: ClassVar[str] = "targeted noise against the checkpoints of one training, features and reduced variance"
    undone_by: ClassVar[tuple[str, ...]] = ("jpeg:10",)
    paper: ClassVar[str] = "Chen et al., Self-Ensemble Protection, ICLR 2023, arXiv 2211.12005"
    presets: ClassVar[tuple[str, ...]] = ("quick",)
    takes_patches: ClassVar[bool] = False
    test_options: ClassVar[dict[str, object]] = {"epochs": 2, "checkpoints": 2, "steps": 2, "inner": 2}

    epochs: int = option(120, "passes over the clean images to train the surrogate")
    checkpoints: int | None = option(None, "of the training that are kept, equally spaced; auto: 15 reduced, else 30")
    steps: int = option(30, "steps of the noise")
    step: float = option(0.125, "length of a noise step, as a share of eps: one level of 8")
    shift: int = option(5, "the class to be seen is this many after the true one")
    features: bool = option(True, "pull features towards the other class's mean; false: logits, by cross-entropy")
    reduced: bool = option(True, "variance reduction: a step is a sum of inner ones")
    inner: int = option(15, "inner steps of a step, with variance reduction")
    batch: int = option(128, "images in a batch of the surrogate's training, and of noise that images share")
    lr: float = option(0.1, "learning rate of the surrogate")

    def __post_init__(self) -> None:
        """Refuse what cannot run."""
        checkpoints = 1 if self.checkpoints is None else self.checkpoints
        counts = (self.epochs, self.steps, self.shift, self.inner, self.batch, checkpoints)
        if min(counts) < 1 or min(self.step, self.lr) <= 0:
            raise ValueError("epochs, checkpoints, steps, shift, inner and batch must be at least 1, step, lr above 0")

    @classmethod
    def preset(cls, name: str, *, per_sample: bool) -> Preset:
        """Fewer checkpoints of a shorter training, fewer and longer steps."""
        return Preset({"epochs": 15, "checkpoints": 5, "steps": 10, "step": 0.3, "inner": 5})

    @property
    def kept(self) -> int:
        """How many checkpoints."""
        return self.checkpoints or (15 if self.reduced else 30)

    def fit(self, problem: Problem, on_step: OnStep) -> Tensor:
        """Train, then craft."""
        run = _Run(self, problem, on_step)
        take_up(run, problem)
        return run.result()

    def largest_batch(self, images: int) -> int:
        """As the option says."""
        return self.batch

    @property
    def spare_nets(self) -> int:
        """The checkpoints, and what is frozen of each."""
        return 2 * self.kept

    def work(self, images: int, *, rows: int) -> Work:
        """A training pass costs one and a half, a mean of features a third."""
        each = self.kept + (self.inner if self.reduced else 0)
        every = images * (1.5 * self.epochs + 0.4 * self.kept + self.steps * each)
        return Work(every, every)


class _Run(Run):
    def __init__(self, method: SelfEnsemble, problem: Problem, on_step: OnStep) -> None:
        self._method, self._problem, self._on_step = method, problem, on_step
        self._teaching = Teaching(problem, epochs=method.epochs, batch=method.batch, lr=method.lr)
        self._kept: list[nn.Module] = []
        self._delta = problem.start(random=False)
        self._step = 0
        self._moved = 0
        self._draws = problem.generator("checkpoints")
        classes = problem.num_classes
        self._targets = ((problem.labels + (method.shift % classes or 1)) % classes).to(problem.device)

    def result(self) -> Tensor:
        """Go on to the end."""
        method, problem = self._method, self._problem
        self._learn()
        nets = [_Net(method, problem, model) for model in self._kept]
        while self._step < method.steps:
            order = order_of_pass(problem, method.batch, f"step {self._step}")
            for batch in problem.batches(
                problem.chunk if problem.per_sample else method.batch, only=order[self._moved :]
            ):
                problem.apply_gradient(self._delta, batch, self._gradient(nets, batch), step=method.step)
                self._moved += len(batch)
                problem.journal.save(self.state)
                self._tell((self._step + self._moved / len(order)) / method.steps)
            self._step, self._moved = self._step + 1, 0
        self._on_step(Progress(1, 1, f"{len(nets)} checkpoints, {method.steps} steps"))
        return self._delta

    def _learn(self) -> None:
        teaching, wanted = self._teaching, self._method.kept
        while len(self._kept) < wanted:
            until = round(teaching.total * (len(self._kept) + 1) / wanted)
            teaching.go_on(
                lambda: self._problem.journal.save(self.state),
                lambda share: self._on_step(Progress(share / 3, 1, "training the surrogate")),
                until,
            )
            self._kept.append(copy.deepcopy(teaching.model))

    def _gradient(self, nets: list[_Net], batch: Tensor) -> Tensor:
        """Give the direction of one step for a batch, `(B, C, S, S)`."""
        import torch

        method, problem = self._method, self._problem
        shown, targets = problem.published(self._delta, batch), self._targets[batch.to(problem.device)]
        outer = torch.stack([net.gradient(shown, targets) for net in nets])
        mean = outer.mean(0)
        if not method.reduced:
            return mean
        clean, total, norm = problem.inputs(batch), torch.zeros_like(mean), problem.norm
        length, images = method.step * norm.reach(problem.eps), clean if norm.needs_images else None
        noise = self._delta[problem.rows[batch].to(self._delta.device)].to(problem.device)  # each image's own, for now
        inner = shown
        for which in torch.randint(len(nets), (method.inner,), generator=self._draws).tolist():
            total = total + nets[which].gradient(inner, targets) - (outer[which] - mean)
            back = _resized(total, None if problem.survival is None else problem.survival.T)
            noise = norm.project(noise - length * norm.steepest(back), problem.eps, images)
            inner = (clean + _resized(noise, problem.survival)).clamp(0, 1)
        return total

    def _tell(self, share: float) -> None:
        self._on_step(Progress(1 / 3 + 2 / 3 * share, 1, f"step {self._step + 1} of {self._method.steps}"))

    def state(self) -> State:
        """Position, noise, and all checkpoints so far."""
        kept: dict[str, Any] = {}
        for number, model in enumerate(self._kept):
            kept.update(within(f"kept.{number}.", model.state_dict()))
        return {
            "step": self._step,
            "moved": self._moved,
            "delta": self._delta,
            "draws": self._draws.get_state(),
            "checkpoints": len(self._kept),
            **kept,
            **within("teaching.", self._teaching.state()),
        }

    def load(self, state: State) -> None:
        """Go on from it."""
        self._step, self._moved = state["step"], state["moved"]
        self._problem.copy(state["delta"], into=self._delta)
        self._draws.set_state(state["draws"])
        self._teaching.load(under("teaching.", state))
        for number in range(state["checkpoints"]):
            model = copy.deepcopy(self._teaching.model)
            model.load_state_dict(under(f"kept.{number}.", state))
            self._kept.append(model)


class _Net:
    """A checkpoint, and what it is asked for: the gradient of its summed loss with respect to images."""

    def __init__(self, method: SelfEnsemble, problem: Problem, model: nn.Module) -> None:
        self._run: Frozen = problem.freeze(model, features=method.features)
        self._means = _class_means(problem, self._run) if method.features else None

    def gradient(self, images: Tensor, targets: Tensor) -> Tensor:
        """Give it for float images `(B, C, S, S)` and the classes they should be seen as, `(B,)`."""
        import torch
        from torch.nn import functional

        leaf = images.detach().requires_grad_(True)
        found = self._run(leaf)
        if self._means is None:
            loss = functional.cross_entropy(found, targets, reduction="sum")
        else:
            loss = (found - self._means[targets]).square().mean(1).sum()
        (grad,) = torch.autograd.grad(loss, leaf)
        return grad


def _resized(noise: Tensor, survival: Tensor | None) -> Tensor:
    """Give noise `(B, C, S, S)` as it reaches a net; see `Problem.survival`."""
    return noise if survival is None else survival @ noise @ survival.T


def _class_means(problem: Problem, run: Frozen) -> Tensor:
    """Give the mean features of the clean images of each class, float32 `(K, F)`."""
    import torch

    sums: Tensor | None = None
    for batch in problem.batches(problem.chunk):
        with torch.inference_mode():
            found = run(problem.inputs(batch))
        if sums is None:
            sums = torch.zeros(problem.num_classes, found.shape[1], device=found.device)
        sums.index_add_(0, problem.labels[batch].to(found.device), found)
    assert sums is not None
    counts = problem.labels.to(sums.device).bincount(minlength=problem.num_classes).clamp(min=1)
    return sums / counts.unsqueeze(1)


@hookimpl
def uex_methods() -> list[type[Method]]:
    """Register."""
    return [SelfEnsemble]

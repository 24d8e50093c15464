"""PIL: noise for a linear net, in closed form; the fast method."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from uexcli.plugin import Method, OnStep, Problem, Progress, State, hookimpl, option

if TYPE_CHECKING:
    from torch import Tensor

MOMENTUM = 0.9
BLOCK = 128  # images whose noise moves at once: what stays in a processor's cache


@dataclass(frozen=True)
class Pil(Method):
    """Noise -d such that a linear net f knows the class from d alone, and nothing from what is left of the image.

    f(x) = W2 W1 x is trained on the clean images; then d descends lambda CE(f(d), y) + (1 - lambda) KL(u || f(x - d)),
    u uniform. What is published is x - d. With W = W2 W1 the gradient is
    lambda (softmax f(d) - y) W - (1 - lambda) (softmax f(x - d) - u) W: two thin matrix products, no autograd.
    With `augment`, W is replaced by its mean over random crops and flips, which costs nothing, as f is linear; the
    paper does without.
    """

    name: ClassVar[str] = "pil"
    summary: ClassVar[str] = "noise that a linear net reads, in closed form; no surrogate, the fast one"
    paper: ClassVar[str] = "Liu, Chen, Zhang, PIL, ICLR 2026, arXiv 2601.19967"
    needs_surrogate: ClassVar[bool] = False
    takes_patches: ClassVar[bool] = False  # the linear net reads whole images

    epochs: int | None = option(None, "passes over the clean images to train the linear net; auto: 30, or 1000 steps")
    steps: int = option(30, "steps of the noise")
    step: float = option(0.1, "length of a noise step, as a share of eps")
    weight: float = option(0.9, "share of the noise's own class in the loss; the rest hides the image's")
    augment: bool = option(True, "let noise and linear net meet through random crops and flips, as a mean")
    batch: int = option(512, "images in a batch of the linear net's training")
    lr: float = option(0.003, "learning rate of the linear net")

    def __post_init__(self) -> None:
        """Refuse what cannot run."""
        epochs = 1 if self.epochs is None else self.epochs
        if min(epochs, self.steps, self.batch) < 1 or min(self.step, self.lr) <= 0 or not 0 <= self.weight <= 1:
            raise ValueError("epochs, steps and batch must be at least 1, step and lr above 0, weight in [0, 1]")

    def fit(self, problem: Problem, on_step: OnStep) -> Tensor:
        """Train the linear net, then move the noise."""
        saved = problem.journal.load() or {}
        if "matrix" in saved:
            matrix = saved["matrix"].clone().to(problem.device)
        else:
            matrix = self._train(problem, saved, on_step)
            matrix = _cropped(problem, matrix) if self.augment else matrix
        delta = problem.copy(saved["delta"]) if "delta" in saved else problem.fill(problem.start(random=True))
        done = int(saved.get("done", 0))
        del saved  # it keeps the file of an old state
        if problem.per_sample:
            self._move_own(problem, delta, matrix, done, on_step)
        else:
            self._move_shared(problem, delta, matrix)
        on_step(Progress(3, 3, f"{self.steps} steps"))
        return delta

    def _train(self, problem: Problem, saved: State, on_step: OnStep) -> Tensor:
        """Give W2 W1 of the trained net, float32 `(K, C * S * S)`: momentum SGD, cosine rate, images in fixed order."""
        import torch

        generator = problem.generator("linear net")
        sizes = (problem.num_classes, math.prod(problem.shape[1:])), (problem.num_classes, problem.num_classes)
        # torch's own start of a linear layer: uniform in +-1 / sqrt(inputs)
        drawn = [(torch.rand(size, generator=generator) * 2 - 1) / math.sqrt(size[1]) for size in sizes]
        state = [*drawn, *(torch.zeros(size) for size in sizes)]
        first, second, *moves = (
            saved.get(f"linear.{n}", tensor).clone().to(problem.device) for n, tensor in enumerate(state)
        )
        epochs = self.epochs or max(30, math.ceil(1000 / math.ceil(len(problem.images) / self.batch)))
        for epoch in range(int(saved.get("epoch", 0)), epochs):
            rate = self.lr * (1 + math.cos(math.pi * epoch / epochs)) / 2
            for batch in problem.batches(self.batch):
                flat = _flat(problem, batch)
                labels = problem.labels[batch].to(problem.device)
                hidden = flat @ first.T
                pull = torch.softmax(hidden @ second.T, 1)
                pull[torch.arange(len(labels), device=pull.device), labels] -= 1
                pull /= len(labels)
                gradients = (pull @ second).T @ flat, pull.T @ hidden
                for weight, move, gradient in zip((first, second), moves, gradients, strict=True):
                    move.mul_(MOMENTUM).add_(problem.reduce(gradient))
                    weight.sub_(move, alpha=rate)
            kept = {f"linear.{n}": tensor for n, tensor in enumerate((first, second, *moves))}
            problem.journal.save(lambda epoch=epoch, kept=kept: {"epoch": epoch + 1, **kept})  # type: ignore[misc]
            on_step(Progress((epoch + 1) / epochs, 3, "training the linear net"))
        matrix: Tensor = second @ first
        return matrix

    def _move_own(self, problem: Problem, delta: Tensor, matrix: Tensor, done: int, on_step: OnStep) -> None:
        """Move each image's own noise."""
        felt = _felt(problem, matrix)
        for batch in problem.batches(BLOCK):
            if int(batch[0]) < done:
                continue
            rows = problem.rows[batch].to(delta.device)
            noise = delta[rows].to(problem.device)
            labels = problem.labels[batch].to(problem.device)
            clean = _flat(problem, batch) @ matrix.T
            images = problem.inputs(batch) if problem.norm.needs_images else None
            for _ in range(self.steps):
                pull = self._pull(clean, noise.flatten(1) @ felt.T, labels)
                noise = self._step(problem, noise, pull @ felt, images)
            delta[rows] = noise.to(delta.device)
            done = int(batch[-1]) + 1
            problem.journal.save(lambda done=done: {"matrix": matrix, "delta": delta, "done": done})  # type: ignore[misc]
            on_step(Progress(1 + 2 * done / len(problem.images), 3, "moving the noise"))

    def _move_shared(self, problem: Problem, delta: Tensor, matrix: Tensor) -> None:
        """Move noise that images share, by the sum of their gradients: as f is linear, their logits are enough."""
        import torch

        felt, rows = _felt(problem, matrix), problem.rows.to(problem.device)
        clean = torch.cat([_flat(problem, batch) @ matrix.T for batch in problem.batches(BLOCK)])
        labels = problem.labels.to(problem.device)
        noise = delta.to(problem.device)
        for _ in range(self.steps):
            pull = self._pull(clean, (noise.flatten(1) @ felt.T)[rows], labels)
            summed = pull.new_zeros(len(noise), pull.shape[1]).index_add_(0, rows, pull)
            noise = self._step(problem, noise, problem.reduce(summed) @ felt, None)
        delta.copy_(noise)

    def _pull(self, clean: Tensor, noise: Tensor, labels: Tensor) -> Tensor:
        """Give the gradient of the loss in the logits of the published noise, `(N, K)`; noise -d has logits -f(d)."""
        import torch

        own = -self.weight * torch.softmax(-noise, 1)
        own[torch.arange(len(labels), device=own.device), labels] += self.weight
        return own.add_(torch.softmax(clean + noise, 1) - 1 / noise.shape[1], alpha=1 - self.weight)

    def _step(self, problem: Problem, noise: Tensor, gradient: Tensor, images: Tensor | None) -> Tensor:
        norm, length = problem.norm, self.step * problem.norm.reach(problem.eps)
        direction = norm.steepest(gradient.view_as(noise))
        return norm.project(noise.sub(direction, alpha=length), problem.eps, images)


def _cropped(problem: Problem, matrix: Tensor) -> Tensor:
    """Give the linear net behind random crops and flips, as a mean: with T a crop, the mean of f(T n) is linear, too.

    The crops are those of `core.augment`: an eighth of the side and back, zeros outside.
    """
    from torch.nn import functional

    planes = matrix.view(-1, *problem.shape[1:])
    pad = max(1, planes.shape[2] // 8)
    smooth = functional.avg_pool2d(planes, 2 * pad + 1, stride=1, padding=pad)
    return ((smooth + smooth.flip(3)) / 2).flatten(1)


def _flat(problem: Problem, batch: Tensor) -> Tensor:
    return problem.images[batch].to(problem.device).flatten(1).float().div_(255)


def _felt(problem: Problem, matrix: Tensor) -> Tensor:
    """Give the linear net as the noise meets it: with A the resizing, f(A n A^T) is linear in n, too."""
    if problem.survival is None:
        return matrix
    planes = matrix.view(-1, *problem.shape[1:])
    return (problem.survival.T @ planes @ problem.survival).flatten(1)


@hookimpl
def uex_methods() -> list[type[Method]]:
    """Register."""
    return [Pil]

"""What becomes of a bank after its method: checked, brought to the 8-bit grid, measured."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from uexcli.core.pixels import publish
from uexcli.core.problem import BankProblem
from uexcli.errors import UexError


def check(delta: Tensor, problem: BankProblem, method: str) -> Tensor:
    """Trust no plugin: the bank's shape and finiteness are checked, and it is projected again."""
    if tuple(delta.shape) != problem.shape:
        raise UexError(f"method '{method}' gave a bank of shape {tuple(delta.shape)}, not {problem.shape}.")
    if not bool(delta.isfinite().all()):
        raise UexError(f"method '{method}' gave noise that is not finite.", hint="Try a smaller -O lr or -O step.")
    return problem.project(delta.to(problem.device, torch.float32))


def on_grid(delta: Tensor, problem: BankProblem) -> Tensor:
    """Bring the bank to what can be written: whole levels, where rows have one image or the norm counts levels."""
    if problem.own:
        bank = torch.empty_like(delta)
        for batch in problem.batches(1024):
            images, rows = problem.images[batch], problem.rows[batch]
            bank[rows] = (publish(images, delta[rows], problem.norm, problem.eps).float() - images.float()) / 255
        return bank
    limit = problem.norm.levels(problem.eps)
    return delta if limit is None else (255 * delta).round().clamp(-limit, limit) / 255


def measure(bank: Tensor, problem: BankProblem) -> dict[str, float]:
    """Measure what will be published: the largest size, the share of images near the bound, and the RMS change."""
    largest, reached, squares = 0.0, 0, 0.0
    for batch in problem.batches(1024):
        images = problem.images[batch]
        change = publish(images, bank[problem.rows[batch]], problem.norm, problem.eps).float() - images.float()
        sizes = problem.norm.size(change / 255, images.float() / 255)
        largest = max(largest, float(sizes.max()))
        reached += int((sizes >= 0.95 * min(problem.eps, _reachable(problem))).sum())
        squares += float(change.square().mean((1, 2, 3)).cpu().double().sum())
    count = len(problem.images)
    return {"largest": largest, "at_bound": reached / count, "rms_levels": math.sqrt(squares / count)}


def _reachable(problem: BankProblem) -> float:
    limit = problem.norm.levels(problem.eps)
    return problem.eps if limit is None else limit / 255

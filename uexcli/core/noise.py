"""What becomes of a bank after its method: checked, brought to the 8-bit grid, measured."""

from __future__ import annotations

import math

from torch import Tensor

from uexcli.core.pixels import publish
from uexcli.core.problem import BankProblem, chunk_of
from uexcli.errors import UexError


def check(delta: Tensor, problem: BankProblem, method: str) -> Tensor:
    """Trust no plugin: the bank's shape and finiteness are checked, and it is projected again."""
    if tuple(delta.shape) != problem.shape:
        raise UexError(f"method '{method}' gave a bank of shape {tuple(delta.shape)}, not {problem.shape}.")
    if not all(bool(part.isfinite().all()) for part in delta.split(chunk_of(delta[0].numel()))):
        raise UexError(f"method '{method}' gave noise that is not finite.", hint="Try a smaller -O lr or -O step.")
    return problem.project(delta.float())


def on_grid(delta: Tensor, problem: BankProblem) -> Tensor:
    """Bring the bank, in place, to what can be written: whole levels where a row has one image or the norm levels."""
    if problem.own:
        for batch in problem.batches(chunk_of(delta[0].numel())):
            images, rows = problem.images[batch].to(problem.device), problem.rows[batch].to(delta.device)
            written = publish(images, delta[rows].to(problem.device), problem.norm, problem.eps).float()
            delta[rows] = ((written - images.float()) / 255).to(delta.device)
            problem.store.release()
        return delta
    limit = problem.norm.levels(problem.eps)
    return delta if limit is None else (255 * delta).round().clamp(-limit, limit) / 255


def measure(bank: Tensor, problem: BankProblem) -> dict[str, float]:
    """Measure what will be published: the largest size, the share of images near the bound, and the RMS change."""
    largest, reached, squares = 0.0, 0, 0.0
    for batch in problem.batches(chunk_of(bank[0].numel())):
        images, rows = problem.images[batch].to(problem.device), problem.rows[batch].to(bank.device)
        noise = bank[rows].to(problem.device)
        change = publish(images, noise, problem.norm, problem.eps).float() - images.float()
        problem.store.release()
        sizes = problem.norm.size(change / 255, images.float() / 255)
        largest = max(largest, float(sizes.max()))
        reached += int((sizes >= 0.95 * min(problem.eps, _reachable(problem))).sum())
        squares += float(change.square().mean((1, 2, 3)).cpu().double().sum())
    count = len(problem.images)
    return {"largest": largest, "at_bound": reached / count, "rms_levels": math.sqrt(squares / count)}


def _reachable(problem: BankProblem) -> float:
    limit = problem.norm.levels(problem.eps)
    return problem.eps if limit is None else limit / 255

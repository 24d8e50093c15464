"""What becomes of what a method gives: checked, brought to the 8-bit grid, measured."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from uexcli.core.fit.bank import chunk_of
from uexcli.core.fit.patch import lift
from uexcli.core.fit.problem import BankProblem
from uexcli.core.pixels import publish
from uexcli.errors import UexError
from uexcli.plugin import Method, Norm

NoiseOf = Callable[[Tensor], Tensor]  # indices of images to their noise as it is published, float (B, C, S, S)
Forward = Callable[[Tensor, Tensor], Tensor]  # images and rows to noise


def check(made: object, problem: BankProblem, method: Method) -> Tensor | nn.Module:
    """Trust no plugin: what it gave must be a finite bank, which is projected again, or a network of noise."""
    if method.gives_network:
        return _check_network(made, problem, method.name)
    if not isinstance(made, Tensor) or tuple(made.shape) != problem.shape:
        shape = f"a bank of shape {tuple(made.shape)}" if isinstance(made, Tensor) else f"a {type(made).__name__}"
        raise UexError(f"method '{method.name}' gave {shape}, not {problem.shape}.")
    if not all(bool(part.isfinite().all()) for part in made.split(chunk_of(made[0].numel()))):
        raise _not_finite(method.name)
    return problem.project(made.float())


def _check_network(network: object, problem: BankProblem, method: str) -> nn.Module:
    if not isinstance(network, nn.Module):
        raise UexError(f"method '{method}' gave a {type(network).__name__}, not a network.")
    network.eval().to(problem.device)
    few = next(problem.batches(2))
    images = problem.inputs(few)
    with torch.inference_mode():
        noise = network(images, problem.rows[few].to(problem.device))
    if not isinstance(noise, Tensor) or noise.shape != images.shape:
        raise UexError(f"method '{method}': its network does not give noise of the images' shape.")
    return network


def _not_finite(method: str) -> UexError:
    return UexError(
        f"method '{method}' gave noise that is not finite.", hint="Try a smaller `options[lr]` or `options[step]`."
    )


def computed(forward: Forward, images: Tensor, rows: Tensor, norm: Norm, eps: float) -> Tensor:
    """Give the noise that a network makes of float images `(B, C, S, S)` in [0, 1], inside the bound.

    Raises:
        UexError: it is not finite.
    """
    with torch.inference_mode():
        noise = forward(images, rows).float()
        if not bool(noise.isfinite().all()):
            raise UexError(
                "the network gives noise that is not finite.", hint="Fit again, with a smaller `options[lr]`."
            )
        return norm.project(noise, eps, images)


def noise_of(made: Tensor | nn.Module, problem: BankProblem) -> NoiseOf:
    """Give what tells the noise of images, from a bank or from a network."""
    if isinstance(made, Tensor):
        return lambda batch: problem.noise.spread(made, batch)

    def noise(batch: Tensor) -> Tensor:
        parts = batch.split(problem.chunk)  # a network takes more memory than noise does
        rows = [problem.rows[part].to(problem.device) for part in parts]
        each = zip(parts, rows, strict=True)
        return torch.cat([computed(made, problem.inputs(part), row, problem.norm, problem.eps) for part, row in each])

    return noise


def on_grid(delta: Tensor, problem: BankProblem) -> Tensor:
    """Bring the bank, in place, to what can be written: whole levels where a row has one image or the norm levels."""
    if problem.per_sample:
        for batch in problem.batches(chunk_of(delta[0].numel())):
            images, rows = problem.images[batch].to(problem.device), problem.rows[batch].to(delta.device)
            written = publish(images, problem.noise.spread(delta, batch), problem.norm, problem.eps).float()
            change = (written - images.float()) / 255
            if problem.noise.places is not None:
                change = lift(change, problem.noise.places[batch.to(problem.device)], problem.shape[2])
            delta[rows] = change.to(delta.device)
            problem.release()
        return delta
    limit = problem.norm.levels(problem.eps)
    return delta if limit is None else (255 * delta).round().clamp(-limit, limit) / 255


def measure(noise: NoiseOf, problem: BankProblem) -> dict[str, float]:
    """Measure what will be published: the largest size, the share of images near the bound, and the RMS change."""
    largest, reached, squares = 0.0, 0, 0.0
    for batch in problem.batches(chunk_of(problem.images[0].numel())):
        images = problem.images[batch].to(problem.device)
        change = publish(images, noise(batch), problem.norm, problem.eps).float() - images.float()
        problem.release()
        sizes = problem.norm.size(change / 255, images.float() / 255)
        largest = max(largest, float(sizes.max()))
        reached += int((sizes >= 0.95 * min(problem.eps, _reachable(problem))).sum())
        squares += float(change.square().mean((1, 2, 3)).cpu().double().sum())
    count = len(problem.images)
    return {"largest": largest, "at_bound": reached / count, "rms_levels": math.sqrt(squares / count)}


def _reachable(problem: BankProblem) -> float:
    limit = problem.norm.levels(problem.eps)
    return problem.eps if limit is None else limit / 255

"""Pretrained nets taught a little against changes of their input: what fools those fools other nets, too.

Springer et al., A little robustness goes a long way, NeurIPS 2021.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from uexcli.builtin.methods._heads import Head
from uexcli.plugin import Problem

BATCH = 16  # photos of a step
# of SGD, the rate falling to 0; four times as high, 600 photos made a net forget what others know, too
RATE, MOMENTUM, DECAY = 0.0005, 0.9, 1e-4
SCALE = 5.0  # on the scores of a ridge probe, so that they are logits
REACH = 1.25  # of one step of the adversary, in its bound (Wong et al., Fast is better than free, ICLR 2020)


def harden(
    net: nn.Module, head: Head, problem: Problem, generator: Generator, *, bound: float, steps: int
) -> Iterator[None]:
    """Teach a net, in place, by so many steps against changes of each value by at most `bound`, in [0, 1].

    Yields after each step. The bound grows from 0 in the first half, as nets that know nothing of such
    changes forget all else at once under them. Batch norms keep their statistics: few photos have worse ones. `head`
    reads classes off its features, and learns beside it.
    """
    weight, bias = (nn.Parameter(SCALE * part) for part in (head.weight, head.bias))
    learning = [*net.eval().requires_grad_(True).parameters(), weight, bias]
    sgd = torch.optim.SGD(learning, lr=RATE, momentum=MOMENTUM, nesterov=True, weight_decay=DECAY)

    def loss(images: Tensor, labels: Tensor) -> Tensor:
        with torch.autocast(images.device.type, dtype=problem.autocast, enabled=problem.autocast is not None):
            features = net.features(images)  # type: ignore[operator]
        return functional.cross_entropy(features.float() @ weight + bias, labels)

    for number, batch in enumerate(_batches(problem, generator, steps)):
        images, labels = problem.inputs(batch), problem.labels[batch].to(problem.device)
        if _drawn(generator):
            images = images.flip(3)
        adversarial = _adversary(loss, images, labels, bound * min(1, 2 * number / steps), generator)
        for group in sgd.param_groups:
            group["lr"] = RATE * (1 - number / steps)
        sgd.zero_grad()
        loss(adversarial, labels).backward()
        for part in learning:
            part.grad = None if part.grad is None else problem.reduce(part.grad)
        sgd.step()
        yield
    net.requires_grad_(False)


def kinds(nets: Sequence[nn.Module]) -> list[list[nn.Module]]:
    """Put nets together that have the same weights, but for those of the last layer."""
    found: list[list[nn.Module]] = []
    for net in nets:
        for others in found:
            if _same(net, others[0]):
                others.append(net)
                break
        else:
            found.append([net])
    return found


def copied(net: nn.Module, into: nn.Module) -> None:
    """Give a net of the same kind the weights of another.

    By their order: the side at which a net sees images may decide what its parts are called.
    """
    into.load_state_dict(dict(zip(into.state_dict(), net.state_dict().values(), strict=True)))


def _same(net: nn.Module, other: nn.Module) -> bool:
    if type(net) is not type(other):
        return False
    ours, theirs = ([v for k, v in each.state_dict().items() if not k.startswith("head.")] for each in (net, other))
    return len(ours) == len(theirs) and all(torch.equal(one, two) for one, two in zip(ours, theirs, strict=True))


def _batches(problem: Problem, generator: Generator, steps: int) -> Iterator[Tensor]:
    while True:
        for batch in problem.batches(BATCH, generator):
            if steps == 0:
                return
            steps -= 1
            yield batch


def _adversary(
    loss: Callable[[Tensor, Tensor], Tensor], images: Tensor, labels: Tensor, bound: float, generator: Generator
) -> Tensor:
    """Change images by at most a bound for the worse, by one step from a random start."""
    draws = torch.rand(images.shape, generator=generator, device=generator.device).to(images)
    change = ((2 * draws - 1) * bound).requires_grad_(True)
    (grad,) = torch.autograd.grad(loss((images + change).clamp(0, 1), labels), change)
    change = (change.detach() + REACH * bound * grad.sign()).clamp(-bound, bound)
    return (images + change).clamp_(0, 1)


def _drawn(generator: Generator) -> bool:
    return bool(torch.randint(0, 2, (), generator=generator, device=generator.device))

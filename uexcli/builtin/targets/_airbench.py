"""The fast net and its training, after Keller Jordan's description (arXiv 2404.00498) and his Muon optimiser."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from uexcli.core.eval.supervised import reached
from uexcli.core.nets import as_input, embed
from uexcli.plugin import Outcome, Progress, Trial

LEAST_STEPS = 25  # an epoch
BIAS_LR, HEAD_LR, MOMENTUM, DECAY = 0.053, 0.67, 0.85, 4e-3
SMOOTH = 0.2
SHIFT = 2  # px, of 32
WHITENED = 5000  # images the first layer is made from
FLAT = 1e-9  # of the strongest direction's variance: what has less does not vary
WHITE_EPOCHS = 3  # in which the bias of the first layer still learns
NEWTON = (3.4445, -4.7750, 2.0315)  # pushes singular values towards 1


class Net(nn.Module):
    """Float images `(B, C, S, S)` in [0, 1] to logits `(B, K)`; `features` are the `(B, 4 * width)` before."""

    def __init__(self, *, num_classes: int, channels: int, size: int, width: int) -> None:
        super().__init__()
        white = 2 * channels * 4
        self.white = nn.Conv2d(channels, white, 2)
        self.white.weight.requires_grad_(False)
        groups = (_Group(white, width, size), _Group(width, 4 * width, size), _Group(4 * width, 4 * width, size))
        self.body = nn.Sequential(nn.GELU(), *groups)
        self.head = nn.Linear(4 * width, num_classes, bias=False)

    def features(self, images: Tensor) -> Tensor:
        made = self.body(self.white((images - 0.5) * 4))
        features: Tensor = made.amax((2, 3))
        return features

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.features(images)) / 9
        return logits

    def restart(self, images: Tensor) -> None:
        """Start anew: filters that pass their input on, and a first layer that whitens `images`, as the net's input."""
        for module in self.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear, nn.BatchNorm2d)):
                module.reset_parameters()
            if isinstance(module, nn.Conv2d) and module is not self.white:
                nn.init.dirac_(module.weight[: module.in_channels])
        with torch.no_grad():
            patches = ((images - 0.5) * 4).unfold(2, 2, 1).unfold(3, 2, 1).permute(0, 2, 3, 1, 4, 5).flatten(3)
            flat = patches.reshape(-1, patches.shape[3]).cpu().double()
            values, vectors = torch.linalg.eigh(flat.T @ flat / len(flat))
            # grey images in colour have directions without any signal: a channel that never varies has a batch norm
            # whose gradient knows no bounds, so those that vary take their places
            varies, every = values >= FLAT * values.max(), torch.arange(len(values))
            places = torch.where(varies, every, every[varies].repeat(len(values))[: len(values)])
            values, vectors = values[places], vectors[:, places]
            filters = (vectors / (values + 5e-4).sqrt()).T.reshape(-1, images.shape[1], 2, 2).to(images)
            self.white.weight.copy_(torch.cat([filters, -filters]))
            assert self.white.bias is not None
            self.white.bias.zero_()


class _Group(nn.Module):
    """Two convolutions; the first one is pooled."""

    def __init__(self, inputs: int, outputs: int, size: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.MaxPool2d(2, ceil_mode=size < 16),
            _norm(outputs), nn.GELU(),
            nn.Conv2d(outputs, outputs, 3, padding=1, bias=False), _norm(outputs), nn.GELU(),
        )  # fmt: skip

    def forward(self, images: Tensor) -> Tensor:
        made: Tensor = self.layers(images)
        return made


def _norm(channels: int) -> nn.BatchNorm2d:
    """Batch norm whose weight does not learn."""
    norm = nn.BatchNorm2d(channels, eps=1e-12, momentum=0.4)
    norm.weight.requires_grad_(False)
    return norm


@dataclass
class Muon:
    """Moves filters along the nearest orthogonal matrix of their momentum, and keeps their size."""

    weights: list[nn.Parameter]
    lr: float
    momentum: float = 0.6

    def __post_init__(self) -> None:
        self._sums = [torch.zeros_like(weight) for weight in self.weights]

    @torch.no_grad()
    def step(self) -> None:
        """Take one step along the gradients."""
        for weight, total in zip(self.weights, self._sums, strict=True):
            if weight.grad is None:
                continue
            total.mul_(self.momentum).add_(weight.grad)
            moved = weight.grad + self.momentum * total
            weight.mul_(len(weight) ** 0.5 / weight.norm())
            weight.add_(orthogonal(moved.reshape(len(moved), -1)).view_as(weight), alpha=-self.lr)


def orthogonal(matrix: Tensor, steps: int = 3) -> Tensor:
    """Push the singular values of a matrix `(M, N)` towards 1, by a few Newton-Schulz steps."""
    a, b, c = NEWTON
    tall = matrix.shape[0] > matrix.shape[1]
    made = (matrix.T if tall else matrix).float()
    made = made / (made.norm() + 1e-7)
    for _ in range(steps):
        square = made @ made.T
        made = a * made + (b * square + c * square @ square) @ made
    turned: Tensor = made.T if tall else made
    return turned


@functools.lru_cache(maxsize=4)
def _built(num_classes: int, channels: int, size: int, width: int, device: torch.device) -> tuple[Net, nn.Module]:
    """Make a net, and the compiled one of the same weights, where that pays."""
    net = Net(num_classes=num_classes, channels=channels, size=size, width=width)
    net.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    compiled: nn.Module = torch.compile(net) if device.type == "cuda" else net  # type: ignore[assignment]
    return net, compiled


_warm: set[tuple[object, ...]] = set()  # shapes for which code was compiled


def learn(trial: Trial, *, epochs: int, batch: int, lr: float, width: int) -> Outcome:
    """Train and test; the time that a later run of the same shape does not need is told apart."""
    images, labels = trial.train_images, trial.train_labels
    net, compiled = _built(trial.num_classes, trial.channels, trial.size, width, trial.device)
    batch = max(2, min(batch, max(64, len(images) // LEAST_STEPS), len(images)))
    shape = (id(net), batch, trial.size, trial.autocast)
    warm_up = 0.0
    if trial.device.type == "cuda" and shape not in _warm:
        began = time.perf_counter()
        drawn = torch.randint(trial.num_classes, (batch,), generator=trial.generator("warm-up")).to(trial.device)
        _train(trial, net, compiled, images[:batch], drawn, epochs=2, batch=batch, lr=lr, on_epoch=lambda _: None)
        predict(compiled, trial.test_images, trial.autocast)
        _warm.add(shape)
        warm_up = _now(trial.device) - began
    book = trial.scores()
    guess = functools.partial(predict, compiled, autocast=trial.autocast)

    def on_epoch(epoch: int) -> None:
        trial.on_step(Progress(epoch, epochs, f"test accuracy {book.epoch(guess):.1%}"))

    began = _now(trial.device)
    _train(trial, net, compiled, images, labels, epochs=epochs, batch=batch, lr=lr, on_epoch=on_epoch)
    seconds = _now(trial.device) - began
    return book.outcome(
        guess,
        seconds=seconds,
        compile_seconds=warm_up,
        embed=functools.partial(embed, net, autocast=trial.autocast),
        gradient=reached(net, images[:64], labels[:64]),
    )


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def _train(
    trial: Trial,
    net: Net,
    compiled: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    epochs: int,
    batch: int,
    lr: float,
    on_epoch: Callable[[int], None],
) -> None:
    """Start anew and train; the rates fall in a line to zero."""
    generator = trial.generator("batches")
    with trial.seeded("target"):
        net.restart(as_input(images[:: 1 + len(images) // WHITENED]))
    assert net.white.bias is not None
    filters = [weight for weight in net.parameters() if weight.requires_grad and weight.dim() == 4]
    muon = Muon(filters, lr)
    decay = DECAY * batch / 2000
    biases = [module.bias for module in net.modules() if isinstance(module, nn.BatchNorm2d)]
    others = torch.optim.SGD(
        [
            {"params": [net.white.bias], "lr": BIAS_LR, "weight_decay": decay / BIAS_LR},
            {"params": biases, "lr": BIAS_LR, "weight_decay": decay / BIAS_LR},
            {"params": [net.head.weight], "lr": HEAD_LR, "weight_decay": decay / HEAD_LR},
        ],
        momentum=MOMENTUM,
        nesterov=True,
    )
    first = [group["lr"] for group in others.param_groups]
    steps = len(images) // batch
    total = epochs * steps
    flipped = torch.rand(len(images), generator=generator) < 0.5
    for epoch in range(epochs):
        net.train()
        compiled.train()
        order = torch.randperm(len(images), generator=generator)
        for number in range(steps):
            done = epoch * steps + number
            falls = 1 - done / total
            whitens = max(0.0, 1 - done / (WHITE_EPOCHS * steps))
            for group, start, share in zip(others.param_groups, first, (whitens, falls, falls), strict=True):
                group["lr"] = start * share
            muon.lr = lr * falls
            picked = order[number * batch : (number + 1) * batch]
            inputs = _seen(images[picked.to(images.device)], flipped[picked], generator)
            net.zero_grad(set_to_none=True)
            trial.loss(compiled, inputs, labels[picked.to(labels.device)], generator, smooth=SMOOTH).backward()
            others.step()
            muon.step()
        flipped = ~flipped  # each image by turns as it is and mirrored, not by chance
        on_epoch(epoch + 1)


def _seen(images: Tensor, flipped: Tensor, generator: Generator) -> Tensor:
    """Mirror those that are flipped, shift all by up to 2 px of 32: uint8 to float in [0, 1]."""
    reach = max(1, images.shape[2] * SHIFT // 32)
    places = torch.randint(0, 2 * reach + 1, (len(images), 2), generator=generator)
    padded = functional.pad(as_input(images), (reach,) * 4, mode="reflect")
    padded = torch.where(flipped.view(-1, 1, 1, 1).to(padded.device), padded.flip(3), padded)
    side = images.shape[2]
    every = torch.arange(side, device=images.device)
    lines, columns = (places[:, axis, None].to(images.device) + every for axis in range(2))
    which = torch.arange(len(images), device=images.device)[:, None, None]
    cut = padded.permute(0, 2, 3, 1)[which, lines[:, :, None], columns[:, None, :]]
    return cut.permute(0, 3, 1, 2)


def predict(model: nn.Module, images: Tensor, autocast: torch.dtype | None = None) -> Tensor:
    """Give the class of each image and its mirrored one together: uint8 `(N, C, S, S)` to int64 `(N,)`."""
    model.eval()
    found = []
    with torch.inference_mode(), torch.autocast(images.device.type, dtype=autocast, enabled=autocast is not None):
        for part in images.split(2000):
            shown = as_input(part)
            found.append((model(shown) + model(shown.flip(3))).argmax(1))
    return torch.cat(found)

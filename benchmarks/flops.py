"""Counted work and measured rates: what share of the hardware a fit uses."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode


@dataclass(frozen=True)
class PerImage:
    """Floating point operations of one image, a multiplication and an addition counted as two."""

    forward: float
    step: float
    train: float


def per_image(model: nn.Module, channels: int, size: int, batch: int = 4) -> PerImage:
    """Count the operations of a forward pass, a noise step (frozen parameters) and a training step."""
    images, labels = torch.rand(batch, channels, size, size), torch.zeros(batch, dtype=torch.int64)

    def count(parameters: bool, inputs: bool) -> float:
        for parameter in model.parameters():
            parameter.requires_grad_(parameters)
        with FlopCounterMode(display=False) as counter:
            loss = functional.cross_entropy(model(images.clone().requires_grad_(inputs)), labels)
            if parameters or inputs:
                loss.backward()
        return float(counter.get_total_flops()) / batch

    model.train()
    return PerImage(count(False, False), count(False, True), count(True, False))


def matmul_rate(device: torch.device, dtype: torch.dtype, seconds: float = 2.0) -> float:
    """Measure the operations per second of a large matrix product: the roof that shares are of."""
    side = 8192 if device.type == "cuda" else 2048
    left, right = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    best, until = 0.0, time.perf_counter() + seconds
    while time.perf_counter() < until:
        count = 8 if device.type == "cuda" else 1
        _wait(device)
        began = time.perf_counter()
        for _ in range(count):
            left @ right
        _wait(device)
        best = max(best, 2 * count * side**3 / (time.perf_counter() - began))
    return best


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)

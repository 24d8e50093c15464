"""Fine-tuning from a linear probe, with batch statistics that stay: what a few images cannot give anew is kept."""

from __future__ import annotations

import dataclasses
import time

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from uexcli.builtin.targets._probe import solve
from uexcli.plugin import Outcome, Trial, UsageError

LAST_LAYER = 2  # tensors of weights: all there is where another library runs the net
CLIP = 1.0  # the length of the gradient: without it a rate three times too high ruins the net


class FixedStatistics(nn.Module):
    """A net whose batch norms stay in eval mode while it learns; their scales and shifts learn."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def train(self, mode: bool = True) -> FixedStatistics:
        """Set the mode of everything else."""
        super().train(mode)
        for module in self.modules():
            if isinstance(module, _BatchNorm):
                module.eval()
        return self

    def features(self, images: Tensor) -> Tensor:
        """Float `(B, C, S, S)` to `(B, F)`."""
        features: Tensor = self.net.features(images)  # type: ignore[operator]
        return features

    def forward(self, images: Tensor) -> Tensor:
        """Float `(B, C, S, S)` to logits `(B, K)`."""
        logits: Tensor = self.net(images)
        return logits


def finetune(trial: Trial, name: str, weights: str, *, epochs: int, batch: int, lr: float) -> Outcome:
    """Fit the last layer of a surrogate to its features of the training images, then train all of it on.

    Raises:
        UexError: the surrogate has no weights that could be trained, or is not here.
    """
    began = time.perf_counter()
    net = trial.surrogate(name, weights)
    if sum(1 for _ in net.parameters()) <= LAST_LAYER:
        raise UsageError(f"surrogate '{name}' cannot be trained.", hint=f"probe:{name} can.")
    start(net, trial.encoder(name, weights)(trial.train_images), trial.train_labels, trial.num_classes)
    started = time.perf_counter() - began
    outcome = trial.supervised(
        lambda: FixedStatistics(net), epochs=epochs, batch=batch, lr=lr, decay=1e-4, clip=CLIP, knows=True
    )
    return dataclasses.replace(outcome, seconds=outcome.seconds + started)


def start(net: nn.Module, features: Tensor, labels: Tensor, classes: int) -> None:
    """Put what a probe finds into the last layer of a net with these features, float `(N, F)`."""
    fitting = [
        module
        for module in net.modules()
        if isinstance(module, nn.Linear) and (module.in_features, module.out_features) == (features.shape[1], classes)
    ]
    if not fitting:
        return
    # one scale for all of them: large weights on features that hardly vary would make the first steps large
    mean, scale = features.mean(0), features.std(0).square().mean().sqrt().clamp(min=1e-6)
    solve(fitting[-1], (features - mean) / scale, labels)
    with torch.no_grad():
        fitting[-1].weight.div_(scale)
        fitting[-1].bias.sub_(fitting[-1].weight @ mean)

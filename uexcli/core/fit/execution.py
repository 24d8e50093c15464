"""How a fit runs its nets: in which precision, in what portions, and on how many machines."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from uexcli.core.fit.engine import Engine
from uexcli.core.fit.frozen import Features, Frozen
from uexcli.core.fit.pgd import Reduce, alone


@dataclass(frozen=True)
class Execution:
    """What runs the steps of a fit."""

    autocast: torch.dtype | None = None
    engine: Engine = field(default_factory=Engine)
    reduce: Reduce = alone  # adds up, over the machines that share a fit, what was summed over images

    def freeze(self, model: nn.Module, example: Tensor) -> Frozen:
        """Give the one frozen copy that the steps use, with the weights that the net has now."""
        return self.engine.freeze(model, example, self.autocast)

    def frozen(self, model: nn.Module, example: Tensor, *, features: bool, branches: float) -> Frozen:
        """Give a frozen copy of a net, to its logits or its features, that is the caller's own."""
        net, engine = Features(model) if features else model, self.engine
        count = engine.tally.count
        return Frozen(net, example, self.autocast, compiled=engine.compiled, branches=branches, on_run=count)

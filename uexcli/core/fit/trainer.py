"""A surrogate while it learns the protected images of a fit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor, nn

from uexcli import plugin
from uexcli.core.augment import crop_and_flip
from uexcli.core.fit.bank import NoiseBank
from uexcli.core.fit.execution import Execution
from uexcli.core.optim import Sgd
from uexcli.core.training import learn


@dataclass
class SgdTrainer(plugin.Trainer):
    """SGD on protected images, gradient norm clipped."""

    noise: NoiseBank
    execution: Execution
    model: nn.Module
    optimiser: Sgd
    clip: float
    view: Generator | None

    @property
    def lr(self) -> float:
        """The learning rate."""
        return self.optimiser.lr

    @lr.setter
    def lr(self, rate: float) -> None:
        self.optimiser.lr = rate

    def step(
        self, delta: Tensor | None, batch: Tensor, *, jitter: tuple[float, int, Generator] | None = None
    ) -> Tensor:
        """Train on one batch; gives its loss before the step, which is not waited for."""
        inputs = self.noise.data.inputs(batch) if delta is None else self.noise.published(delta, batch)
        if self.view is not None:
            inputs = crop_and_flip(inputs, self.view)
        return self._learn(inputs, batch, jitter)

    def learn(self, inputs: Tensor, batch: Tensor) -> Tensor:
        """Train on ready-made views of a batch."""
        return self._learn(inputs, batch, None)

    def _learn(self, inputs: Tensor, batch: Tensor, jitter: tuple[float, int, Generator] | None) -> Tensor:
        self.model.train()
        data, execution = self.noise.data, self.execution
        execution.engine.tally.trained += len(batch) * (jitter[1] if jitter else 1)
        inputs = inputs.contiguous(memory_format=torch.channels_last)
        labels = data.labels[batch].to(data.device)
        data.store.release()
        return learn(
            self.model, self.optimiser, inputs, labels,
            clip=self.clip, autocast=execution.autocast, jitter=jitter, reduce=execution.reduce,
        )  # fmt: skip

    def state(self) -> plugin.State:
        """Everything a trainer of the same net needs to go on."""
        state: dict[str, Any] = {f"model.{name}": tensor for name, tensor in self.model.state_dict().items()}
        state.update({f"speed.{number}": speed for number, speed in enumerate(self.optimiser.speeds)})
        if self.view is not None:
            state["view"] = self.view.get_state()
        return state

    def load(self, state: plugin.State) -> None:
        """Go on from a state."""
        self.model.load_state_dict({name: state[f"model.{name}"] for name in self.model.state_dict()})
        for number, speed in enumerate(self.optimiser.speeds):
            speed.copy_(state[f"speed.{number}"])
        if self.view is not None:
            self.view.set_state(state["view"])

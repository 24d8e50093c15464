"""The steps of a micro-batch as one CUDA graph: a GPU that waits for no Python."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from uexcli.core.fit.pgd import Forward, Part, Step, move


class Captured:
    """`pgd.move` for one shape of bank and micro-batch, recorded once and replayed.

    Raises:
        RuntimeError: it cannot be recorded, as a norm or a net asks the device for values.
    """

    def __init__(self, forward: Forward, bank: Tensor, part: Part, step: Step) -> None:
        self._bank = bank.clone()
        self._part = Part(*(None if tensor is None else tensor.clone() for tensor in _tensors(part)))  # type: ignore[arg-type]
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        once = dataclasses.replace(step, count=1)
        with torch.cuda.stream(side):  # libraries choose their kernels and take their workspaces before the capture
            move(forward, self._bank, [self._part], once)
            mode = torch.cuda.get_sync_debug_mode()
            try:
                torch.cuda.set_sync_debug_mode("error")  # what waits for the device fails here, not in the capture
                move(forward, self._bank, [self._part], once)
            finally:
                torch.cuda.set_sync_debug_mode(mode)
        torch.cuda.current_stream().wait_stream(side)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph, capture_error_mode="thread_local"):  # a state may be written meanwhile
            self._moved = move(forward, self._bank, [self._part], step)

    def __call__(self, bank: Tensor, part: Part) -> Tensor:
        """Replay on other rows and images of the same shapes; the result is overwritten by the next call."""
        self._bank.copy_(bank)
        for mine, given in zip(_tensors(self._part), _tensors(part), strict=True):
            if mine is not None and given is not None:
                mine.copy_(given)
        self._graph.replay()
        return self._moved


def _tensors(part: Part) -> tuple[Tensor | None, ...]:
    return part.images, part.labels, part.index, part.cuts, part.places

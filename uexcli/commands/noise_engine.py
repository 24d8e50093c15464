"""What runs the network of a noise file: torch, or ONNX Runtime, with a model made now or exported before."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from torch import nn

from uexcli.commands import export
from uexcli.commands.listener import Listener, visible
from uexcli.core.noise import Forward
from uexcli.errors import UsageError, unknown
from uexcli.io import noise_file, onnx

TORCH, ONNX = "torch", "onnx"


def check(engine: str, noise: noise_file.Noise) -> None:
    """Refuse what `--engine` cannot mean for this noise file.

    Raises:
        UsageError: no such engine, no such model, or no network to run.
    """
    kind, colon, model = engine.partition(":")
    if kind not in (TORCH, ONNX) or (colon and kind == TORCH):
        raise unknown("engine", engine, [TORCH, ONNX, f"{ONNX}:MODEL.onnx"])
    if kind == ONNX and not noise.network:
        raise UsageError(
            f"--engine {engine}: the noise file holds a bank of noise, no network to run.",
            hint="Leave --engine out.",
        )
    if colon and not Path(model).is_file():
        raise UsageError(f"--engine {engine}: no such ONNX model.", hint="Write one with: uex export NOISE MODEL.onnx")


def start(
    engine: str, network: nn.Module, noise: noise_file.Noise, listener: Listener, jobs: int
) -> tuple[Forward, str]:
    """Give what runs the network, called by `jobs` threads at once, and its name; says what ONNX Runtime took.

    A model is not kept: it is made in memory, compared with the network, and gone with the process.

    Raises:
        UexError: the network cannot be exported, or the model is not of it, or does not compute what it does.
    """
    kind, _, path = engine.partition(":")
    threads = max(1, (os.cpu_count() or 1) // jobs)
    if kind == TORCH:
        torch.set_num_threads(threads)  # of each job
        return network, TORCH
    shape = {"channels": noise.channels, "size": noise.size}
    if path:
        session = onnx.read(Path(path), network, threads=threads)
    else:
        session = onnx.Session(onnx.convert(network, **shape, metadata=export.facts(noise)), threads=threads)
    onnx.check(session, network, **shape, num_rows=noise.num_rows)
    not_taken = f" ({', '.join(session.passed_over)} is listed, but could not be used)" if session.passed_over else ""
    listener.say(visible(f"The noise is computed by ONNX Runtime with {session.provider}{not_taken}."))
    return session, f"{ONNX} ({session.provider})"

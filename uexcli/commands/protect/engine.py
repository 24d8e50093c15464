"""What makes the noise of photos: torch, or ONNX Runtime, with a model made now or exported before."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from torch import nn

from uexcli.commands.protect import onnx_model
from uexcli.commands.protect.protector import Protector
from uexcli.core.fit.noise import Forward
from uexcli.errors import UsageError, unknown
from uexcli.io.noise import noise_file
from uexcli.io.onnx import networks, photo_graph
from uexcli.messages import Listener, visible

TORCH, ONNX = "torch", "onnx"


def check(engine: str) -> None:
    """Refuse what `--engine` cannot mean.

    Raises:
        UsageError: no such engine, or no such model.
    """
    kind, colon, model = engine.partition(":")
    if kind not in (TORCH, ONNX) or (colon and kind == TORCH):
        raise unknown("engine", engine, [TORCH, ONNX, f"{ONNX}:MODEL.onnx"])
    if colon and not Path(model).is_file():
        raise UsageError(f"`engine={engine}`: no such ONNX model.", hint="Write one with: uex export NOISE MODEL.onnx")


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
        session = networks.read(Path(path), network, threads=threads)
    else:
        session = networks.Session(networks.convert(network, **shape, metadata=noise.facts()), threads=threads)
    networks.check(session, network, **shape, num_rows=noise.num_rows)
    return session, _told(session, listener)


def start_photos(
    engine: str, protector: Protector, listener: Listener, jobs: int
) -> tuple[photo_graph.PhotoSession | None, str]:
    """Give the model that protects whole photos with shared noise, called by `jobs` threads at once; None: torch does.

    Raises:
        UexError: no model can be made of this noise, or it does not do what torch does.
    """
    threads = max(1, (os.cpu_count() or 1) // jobs)
    if engine == TORCH:
        return None, TORCH
    session = onnx_model.load(engine, protector, threads)
    return session, _told(session, listener)


def _told(session: networks.Session | photo_graph.PhotoSession, listener: Listener) -> str:
    """Say what ONNX Runtime took, and give the engine's name."""
    not_taken = f" ({', '.join(session.passed_over)} is listed, but could not be used)" if session.passed_over else ""
    listener.say(visible(f"The noise is computed by ONNX Runtime with {session.provider}{not_taken}."))
    return f"{ONNX} ({session.provider})"

"""Export: the network of a noise file as an ONNX model, which ONNX Runtime runs without uex or torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from uexcli.commands import noise_source
from uexcli.errors import UexError, UsageError
from uexcli.io import atomic, noise_file, onnx
from uexcli.registry import load


@dataclass(frozen=True)
class Request:
    """Which noise file, and where the model goes."""

    noise: Path
    output: Path
    force: bool = False


@dataclass(frozen=True)
class Result:
    """What was written."""

    output: Path
    bytes: int
    method: str
    weights: str  # SHA-256 of the network's weights
    opset: int
    channels: int
    size: int
    difference: float  # from the network in torch, the largest on random images, in 8-bit levels


def run(request: Request) -> Result:
    """Write the model, once it computes what the network does.

    Raises:
        UsageError: the output exists.
        UexError: the noise file holds a bank, or its network cannot be exported.
    """
    noise = noise_file.read(request.noise)
    _check_output(request)
    if not noise.network:
        raise UexError(
            f"{request.noise}: holds a bank of noise, no network.",
            hint="There is nothing to export; apply it as it is: uex apply NOISE PHOTOS -o RELEASE",
        )
    atomic.check_room(request.output, request.noise.stat().st_size)
    network = noise_source.network(load(), noise)
    difference = onnx.export(
        network,
        channels=noise.channels,
        size=noise.size,
        num_rows=noise.num_rows,
        path=request.output,
        metadata=facts(noise),
    )
    return Result(
        output=request.output,
        bytes=request.output.stat().st_size,
        method=noise.recipe["method"]["name"],
        weights=onnx.digest(network),
        opset=onnx.OPSET,
        channels=noise.channels,
        size=noise.size,
        difference=difference,
    )


def _check_output(request: Request) -> None:
    output = request.output
    if output.is_dir():
        raise UsageError(f"{output} is a folder.", hint="Give the model a name, such as model.onnx.")
    if output.exists() and output.samefile(request.noise):
        raise UsageError(f"{output} is the noise file itself.", hint="Give the model another name.")
    if output.exists() and not request.force:
        raise UsageError(f"{output} exists.", hint="Give another name, or --force to replace it.")


def facts(noise: noise_file.Noise) -> dict[str, Any]:
    """What whoever runs a model must know: its noise is still to be brought inside the bound."""
    norm = noise.recipe["norm"]
    return {
        "method": noise.recipe["method"]["name"],
        "norm": {"name": norm["name"], "options": norm.get("options", {})},
        "eps": noise.eps,
        "channels": noise.channels,
        "size": noise.size,
    }

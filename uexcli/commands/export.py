"""Export: a noise file as an ONNX model, which ONNX Runtime runs without uex or torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from uexcli.commands.protect import onnx_model, source
from uexcli.commands.protect.protector import protector_of
from uexcli.errors import UsageError
from uexcli.io import atomic
from uexcli.io.claims import claim
from uexcli.io.noise import noise_file
from uexcli.io.onnx import networks, photo_graph
from uexcli.registry import load


@dataclass(frozen=True)
class Request:
    """Which noise file, and where the model goes."""

    noise: Path
    output: Path
    force: bool = False
    weights: Path | None = None  # of the encoder, where they do not lie where `fit` found them


@dataclass(frozen=True)
class Result:
    """What was written."""

    output: Path
    bytes: int
    takes: str  # `images` of the noise's size, to their noise; or `photos` of any size, to protected ones
    chooses: bool  # it finds the noise of a photo by itself
    rows: int
    method: str
    mode: str
    weights: str  # SHA-256 of the network's weights, or of the bank and what chooses
    opset: int
    channels: int
    size: int
    difference: float  # from the network in torch, the largest on random images, in 8-bit levels


def run(request: Request) -> Result:
    """Write the model, once it computes what the network does.

    Raises:
        UsageError: the output exists.
        UexError: its noise belongs to the photos that were fitted, or ONNX cannot say what it does.
    """
    with claim(request.output):
        return _run(request)


def _run(request: Request) -> Result:
    noise = noise_file.read(request.noise)
    _check_output(request)
    atomic.check_room(request.output, request.noise.stat().st_size)
    exported = _network if noise.network else _photos
    weights, difference, chooses = exported(noise, request)
    return Result(
        output=request.output,
        bytes=request.output.stat().st_size,
        takes="images" if noise.network else "photos",
        chooses=chooses,
        rows=noise.num_rows,
        method=noise.recipe["method"]["name"],
        mode=noise.recipe["granularity"]["name"],
        weights=weights,
        opset=networks.OPSET,
        channels=noise.channels,
        size=noise.size,
        difference=difference,
    )


def _network(noise: noise_file.Noise, request: Request) -> tuple[str, float, bool]:
    """Write the network; give its digest and how far it differs."""
    network = source.network(load(), noise)
    difference = networks.export(
        network,
        channels=noise.channels,
        size=noise.size,
        num_rows=noise.num_rows,
        path=request.output,
        metadata=noise.facts(),
    )
    return networks.digest(network.state_dict()), difference, False


def _photos(noise: noise_file.Noise, request: Request) -> tuple[str, float, bool]:
    """Write the graph of a shared bank; give its digest, how far it differs, and whether it chooses the noise."""
    protector = protector_of(load(), noise, request.weights)
    model = onnx_model.make(protector)
    session = photo_graph.PhotoSession(model, cuda=False)
    difference = onnx_model.compare(session, protector)
    atomic.write(request.output, model, private=True)
    return onnx_model.bank_of(noise), difference, session.chooses


def _check_output(request: Request) -> None:
    output = request.output
    if output.is_dir():
        raise UsageError(f"{output} is a folder.", hint="Give the model a name, such as model.onnx.")
    if output.exists() and output.samefile(request.noise):
        raise UsageError(f"{output} is the noise file itself.", hint="Give the model another name.")
    if output.exists() and not request.force:
        raise UsageError(f"{output} exists.", hint="Give another name, or `force=True` to replace it.")

"""Shared noise as an ONNX graph that takes photos: made of a noise file, and compared with what `apply` does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from uexcli.commands.protect.protector import Protector
from uexcli.core.stripes import planes
from uexcli.errors import UexError
from uexcli.io.images import photo_files
from uexcli.io.noise import noise_file
from uexcli.io.onnx import networks, photo_graph

CLOSE = 1  # 8-bit level


def check(protector: Protector) -> None:
    """Refuse noise of which no such graph can be made.

    Raises:
        UexError: it is of one image each, a patch, or under a norm that ONNX cannot keep.
    """
    noise, norm, granularity = protector.noise, protector.norm, protector.granularity
    hint = "Apply it as it is: uex apply NOISE PHOTOS -o RELEASE"
    if not granularity.can_assign:
        raise UexError(
            f"{granularity.name} noise belongs to the photos it was fitted on: no model can give it.", hint=hint
        )
    if norm.levels(noise.eps) is None:
        raise UexError(f"a model cannot keep the norm '{norm.name}', which judges whole images.", hint=hint)
    if noise.patch is not None:
        raise UexError("a model cannot place patches.", hint=hint)


def bank_of(noise: noise_file.Noise) -> str:
    """The digest of the noise and of what chooses it: what a model is told by."""
    return networks.digest({"delta": noise.bank(), **noise.memory})


def make(protector: Protector) -> bytes:
    """Make the graph.

    Raises:
        UexError: see `check`; or the encoder of the fit is not here, or ONNX cannot say what it does.
    """
    check(protector)
    networks.need()
    noise, norm = protector.noise, protector.norm
    chooser = protector.granularity.chooser(noise.memory)
    stages = [] if chooser is None else [*_stages(protector.encoding.net), chooser.eval()]
    return photo_graph.convert(
        noise.bank(),
        levels=norm.levels(noise.eps) or 0,
        eps=noise.eps,
        chooser=stages,
        metadata={**noise.facts(), "bank": bank_of(noise), "classes": list(noise.classes)},
    )


def _stages(net: nn.Module) -> list[photo_graph.Stage]:
    """Give the parts of an encoder: itself, or where ONNX Runtime runs it, its model and what lies around it."""
    inner = getattr(net, "model", None)
    model = getattr(inner, "onnx_model", None)
    if not isinstance(inner, nn.Module) or not isinstance(model, bytes):
        return [net]
    return [_Call(inner, "shown"), model, nn.Flatten()]


class _Call(nn.Module):
    """A method of a module, as a module."""

    def __init__(self, inner: nn.Module, name: str) -> None:
        super().__init__()
        self.inner = inner
        self.name = name

    def forward(self, given: Tensor) -> Tensor:
        made: Tensor = getattr(self.inner, self.name)(given)
        return made


def compare(session: photo_graph.PhotoSession, protector: Protector) -> int:
    """Protect random photos of several sizes by the graph and in torch; give the largest difference, in levels.

    Raises:
        UexError: it is more than one level, or the graph chooses other noise, or cannot be run.
    """
    noise = protector.noise
    size, drawn = noise.size, np.random.default_rng(0)
    largest = 0
    for height, width, channels in (
        (size, size, 3),
        (2 * size + 3, size + 5, 3),
        (size - 3, size + 2, 3),
        (size + 1, 9, 1),
    ):
        coarse = drawn.integers(0, 256, (7, 9, channels), dtype=np.uint8)
        wide = torch.nn.functional.interpolate(planes(coarse).float(), (height, width), mode="bilinear")
        pixels = wide[0].permute(1, 2, 0).round().to(torch.uint8).numpy()
        photo = photo_files.Photo(pixels, None, "L" if channels == 1 else "RGB", None, "")
        row = int(drawn.integers(noise.num_rows))
        if session.chooses:
            row, _ = protector.assigned(photo, torch.zeros(1, dtype=torch.int64), "")
        made, taken, _ = session(pixels, -1 if session.chooses else row)
        if taken != row:
            raise UexError(
                f"the ONNX model chooses noise {taken} where torch chooses {row}.", hint="Use `engine=torch`."
            )
        wanted = protector.protect(photo, "", row)
        largest = max(largest, int(np.abs(made.astype(np.int16) - wanted.astype(np.int16)).max()))
    if largest > CLOSE:
        raise UexError(f"the ONNX model and torch differ by {largest} levels of 255.", hint="Use `engine=torch`.")
    return largest


def load(engine: str, protector: Protector, threads: int) -> photo_graph.PhotoSession:
    """Give the session for `--engine onnx`, made now, or `onnx:MODEL`, read; compared with torch before it is used.

    Raises:
        UexError: see `make`, `onnx_photo.read` and `compare`.
    """
    _, _, path = engine.partition(":")
    check(protector)
    if path:
        session = photo_graph.read(Path(path), bank_of(protector.noise), threads=threads)
    else:
        session = photo_graph.PhotoSession(make(protector), threads=threads)
    compare(session, protector)
    return session

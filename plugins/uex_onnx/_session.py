"""An ONNX model as a module that has features and no gradient."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from uexcli.api import UexError

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
FATAL = 4  # ONNX Runtime's severity; what goes wrong below it is told by us
FLOATS = "tensor(float)"


class Model(nn.Module):
    """Features by ONNX Runtime; `provider` is what it really runs on. Its only tensor is the file's SHA-256."""

    sha256: Tensor
    provider: str

    def __init__(self, path: Path, *, size: int, side: int, mean: float, std: float) -> None:
        super().__init__()
        try:
            import onnxruntime
        except ImportError as error:
            raise UexError(f"ONNX Runtime is not usable ({error}).", hint="Look at it with: uex doctor") from None
        self.onnx_model = path.read_bytes()
        options = onnxruntime.SessionOptions()
        options.log_severity_level = FATAL
        options.use_deterministic_compute = True
        options.intra_op_num_threads = os.cpu_count() or 1
        listed = onnxruntime.get_available_providers()
        try:
            try:
                wanted = [CUDA, CPU] if CUDA in listed else [CPU]
                self._session = onnxruntime.InferenceSession(
                    self.onnx_model, options, providers=wanted, enable_fallback=0
                )
            except Exception:  # a CUDA that is listed and does not work
                self._session = onnxruntime.InferenceSession(self.onnx_model, options, providers=[CPU])
        except Exception as error:  # ONNX Runtime's exceptions have no common base
            raise UexError(f"{path}: no ONNX model, or a damaged one ({_short(error)}).") from None
        self.provider = self._session.get_providers()[0]
        inputs = self._session.get_inputs()
        shape = list(inputs[0].shape) if inputs else []
        if len(inputs) != 1 or len(shape) != 4 or inputs[0].type != FLOATS or shape[1] not in (3, "C", None):
            told = [(each.name, each.shape, each.type) for each in inputs]
            raise UexError(f"{path}: no image encoder; one input (batch, 3, height, width) is wanted, not {told}.")
        self.input, self.output = inputs[0].name, self._session.get_outputs()[0].name
        self.height, self.width = (each if isinstance(each, int) else side for each in shape[2:])
        self.batch = shape[0] if isinstance(shape[0], int) else None
        self.mean, self.std = mean, std
        self.smooth = size > min(self.height, self.width)
        digest = hashlib.sha256(self.onnx_model).digest()
        self.register_buffer("sha256", torch.tensor(list(digest), dtype=torch.uint8))

    def shown(self, images: Tensor) -> Tensor:
        """Float `(B, C, S, S)` in [0, 1] to what the model takes: `(B, 3, height, width)`."""
        wide = functional.interpolate(
            images.expand(-1, 3, -1, -1), size=(self.height, self.width), mode="bilinear", antialias=self.smooth
        )
        return (wide - self.mean) / self.std

    def features(self, images: Tensor) -> Tensor:
        """Float `(B, C, S, S)` in [0, 1] to `(B, F)`."""
        shown = self.shown(images).numpy(force=True)
        step = self.batch or len(shown)
        made: list[Any] = []
        try:
            for begin in range(0, len(shown), step):
                part = shown[begin : begin + step]
                if len(part) < step:
                    raise UexError(f"the ONNX model takes {step} images at once.", hint="Export it for any batch.")
                made += [self._session.run([self.output], {self.input: part})[0]]
        except UexError:
            raise
        except Exception as error:
            raise UexError(f"ONNX Runtime cannot run the model ({_short(error)}).") from None
        return torch.cat([torch.from_numpy(part).float().reshape(step, -1) for part in made]).to(images.device)

    def forward(self, images: Tensor) -> Tensor:
        """The features: it has no classes."""
        return self.features(images)


def _short(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200].rstrip(". ")

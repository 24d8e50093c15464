"""An ONNX model as a module that has features and no gradient."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from uexcli.plugin import UexError
from uexcli.plugin.encoder import reason, triangles

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
FULL = {"use_tf32": "0", "cudnn_conv_algo_search": "HEURISTIC"}  # float32 as on the CPU
FATAL = 4  # ONNX Runtime's severity; what goes wrong below it is told by us
FLOATS = "tensor(float)"


class Model(nn.Module):
    """Features by ONNX Runtime; `provider` is what it really runs on. Its only tensor is the file's SHA-256."""

    sha256: Tensor
    down: Tensor
    across: Tensor
    provider: str

    def __init__(self, path: Path, *, size: int, side: int, mean: float, std: float) -> None:
        super().__init__()
        try:
            import onnxruntime
        except ImportError as error:
            raise UexError(f"ONNX Runtime is not usable ({error}).", hint="Look at it with: uex doctor") from None
        self.onnx_model = path.read_bytes()
        onnxruntime.set_default_logger_severity(FATAL)  # a provider that cannot be loaded is logged by no session
        options = onnxruntime.SessionOptions()
        options.log_severity_level = FATAL
        options.use_deterministic_compute = True
        options.intra_op_num_threads = os.cpu_count() or 1
        listed = onnxruntime.get_available_providers()
        try:
            try:
                wanted = [(CUDA, FULL), CPU] if CUDA in listed else [CPU]
                self._session = onnxruntime.InferenceSession(
                    self.onnx_model, options, providers=wanted, enable_fallback=0
                )
            except Exception:  # a CUDA that is listed and does not work
                self._session = onnxruntime.InferenceSession(self.onnx_model, options, providers=[CPU])
        except Exception as error:  # ONNX Runtime's exceptions have no common base
            raise UexError(f"{path}: no ONNX model, or a damaged one ({reason(error)}).") from None
        self.provider = self._session.get_providers()[0]
        inputs = self._session.get_inputs()
        shape = list(inputs[0].shape) if inputs else []
        if (
            len(inputs) != 1
            or len(shape) != 4
            or inputs[0].type != FLOATS
            or (isinstance(shape[1], int) and shape[1] != 3)
        ):
            told = [(each.name, each.shape, each.type) for each in inputs]
            raise UexError(f"{path}: no image encoder; one input (batch, 3, height, width) is wanted, not {told}.")
        self.input, self.output = inputs[0].name, self._session.get_outputs()[0].name
        self.height, self.width = (each if isinstance(each, int) else side for each in shape[2:])
        self.batch = shape[0] if isinstance(shape[0], int) else None
        self.mean, self.std = mean, std
        for name, side_there in (("down", self.height), ("across", self.width)):
            self.register_buffer(name, triangles(size, side_there), persistent=False)
        digest = hashlib.sha256(self.onnx_model).digest()
        self.register_buffer("sha256", torch.tensor(list(digest), dtype=torch.uint8))

    def shown(self, images: Tensor) -> Tensor:
        """Float `(B, C, S, S)` in [0, 1] to what the model takes: `(B, 3, height, width)`."""
        wide = self.down @ images.expand(-1, 3, -1, -1) @ self.across.T
        return (wide - self.mean) / self.std

    def features(self, images: Tensor) -> Tensor:
        """Float `(B, C, S, S)` in [0, 1] to `(B, F)`."""
        shown = self.shown(images).float().numpy(force=True)  # autocast may have made it less
        step = self.batch or len(shown)
        made: list[Any] = []
        for begin in range(0, len(shown), step):
            part = shown[begin : begin + step]
            if len(part) < step:
                raise UexError(f"the ONNX model takes {step} images at once.", hint="Export it for any batch.")
            try:
                made += [self._session.run([self.output], {self.input: part})[0]]
            except Exception as error:
                raise UexError(f"ONNX Runtime cannot run the model ({reason(error)}).") from None
            if not made[-1].shape or made[-1].shape[0] != step:
                raise UexError(
                    f"the ONNX model gives {list(made[-1].shape)} for {step} images: no features of each.",
                    hint="An image encoder gives (batch, features).",
                )
        return torch.cat([torch.from_numpy(part).float().flatten(1) for part in made]).to(images.device)

    def forward(self, images: Tensor) -> Tensor:
        """The features: it has no classes."""
        return self.features(images)

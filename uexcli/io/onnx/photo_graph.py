"""Shared noise as one ONNX graph: a photo in, the protected photo out. Secret, as the noise is.

    photo  uint8 (height, width, channels)         upright, 1 or 3 channels
    row    int64 (1,)                              which noise; below 0, where the graph can choose: let it
 -> protected  uint8 (height, width, channels)
    taken      int64 (1,)                          which noise it was
    near       float (1,)                          how far the photo lies from what was fitted with it, where 1 is the
                                                   farthest that was; below 0: not known

It does to a photo what `apply` does: the noise is stretched to it, added on the 8-bit grid, and clamped.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from uexcli import __version__
from uexcli.core.pixels import LUMA
from uexcli.errors import UexError
from uexcli.io.onnx import networks

FORMAT = 1
INPUTS, OUTPUTS = ("photo", "row"), ("protected", "taken", "near")
CHOOSES = "chooses"  # in the metadata: whether the graph finds the row of a photo
IR_VERSION = 10  # ONNX Runtime 1.20 reads it
TINY = 1e-12
PHOTO, SIDE = ("height of photo", "width of photo"), "side of noise"  # in the graph
Stage = nn.Module | bytes  # of what chooses: a module, or an ONNX model with one input


def convert(delta: Tensor, *, levels: int, eps: float, chooser: Sequence[Stage], metadata: Mapping[str, Any]) -> bytes:
    """Make the graph of a bank, float `(R, C, S, S)`, under L-inf: `levels` are the whole 8-bit levels in `eps`.

    The stages of `chooser`, each of what the one before gives, take a photo at the size of the noise, float
    `(1, C, S, S)` in [0, 1], and end in its row, int64 `(1,)`, and how near that is, float `(1,)`. Without stages `row`
    has to be given, unless there is one row only.

    Raises:
        UexError: the packages it takes are missing, or ONNX cannot say what a stage does.
    """
    networks.need()
    from onnx import TensorProto, checker, helper

    rows, channels, size = int(delta.shape[0]), int(delta.shape[1]), int(delta.shape[2])
    graph = Graph()
    _open(graph, size)
    if chooser:
        _shrink(graph, channels, size)
        example: Any = torch.rand(1, channels, size, size, generator=torch.Generator().manual_seed(0))
        source = "small"
        for number, stage in enumerate(chooser):
            last = number == len(chooser) - 1
            names = ["chosen", "near"] if last else [f"stage {number}"]
            example = _add_stage(graph, stage, example, source, names, f"s{number}/")
            source = names[0]
    else:
        # where there are several, a row outside the bank: not to be told is an error
        graph.constant("chosen", np.array([0 if rows == 1 else rows], np.int64))
        graph.node("Identity", [graph.constant("unknown", np.full(1, -1, np.float32))], "near")
    _paint(graph, delta, levels=levels, eps=eps)
    pixels = ["height", "width", "channels"]
    inputs = [
        helper.make_tensor_value_info("photo", TensorProto.UINT8, pixels),
        helper.make_tensor_value_info("row", TensorProto.INT64, [1]),
    ]
    outputs = [
        helper.make_tensor_value_info("protected", TensorProto.UINT8, pixels),
        helper.make_tensor_value_info("taken", TensorProto.INT64, [1]),
        helper.make_tensor_value_info("near", TensorProto.FLOAT, [1]),
    ]
    whole = helper.make_graph(graph.nodes, "uex", inputs, outputs, graph.constants)
    model = helper.make_model(whole, opset_imports=[helper.make_opsetid("", networks.OPSET)], ir_version=IR_VERSION)
    model.producer_name, model.producer_version = "uexcli", __version__
    facts = {"format": FORMAT, "uexcli": __version__, "opset": networks.OPSET, "rows": rows, CHOOSES: bool(chooser)}
    entry = model.metadata_props.add()
    entry.key, entry.value = networks.ENTRY, json.dumps({**facts, **metadata})
    try:
        checker.check_model(model)
    except Exception as error:  # of a checker in C++
        raise UexError(f"this noise cannot be written as ONNX ({networks.short(error)}).") from error
    return bytes(model.SerializeToString())


class Graph:
    """Nodes and constants of a graph that grows."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def node(self, kind: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        """Add an operation; give the name of its output."""
        from onnx import helper

        self.nodes.append(helper.make_node(kind, list(inputs), [output], **attributes))
        return output

    def constant(self, name: str, value: np.ndarray) -> str:
        """Add a constant; give its name."""
        from onnx import numpy_helper

        self.constants.append(numpy_helper.from_array(value, name))
        return name

    def resize(self, source: str, before: Sequence[str], after: Sequence[str], output: str) -> str:
        """Resize planes from a height and width to others, scalars, as torch does: bilinear, smooth where it shrinks.

        By two matrices: ONNX Runtime's own smooth resizing takes other weights.
        """
        down, across = (
            self._weights(old, new, f"{output}/{axis}") for axis, old, new in zip("hw", before, after, strict=True)
        )
        self.node("MatMul", [down, source], f"{output}/lines")
        self.node("Transpose", [across], f"{output}/across", perm=[1, 0])
        return self.node("MatMul", [f"{output}/lines", f"{output}/across"], output)

    def _weights(self, before: str, after: str, name: str) -> str:
        """Give the matrix (after, before): triangles around where each new pixel lies, one or more old pixels wide."""

        def do(kind: str, *inputs: str, **attributes: Any) -> str:
            return self.node(kind, inputs, f"{name}/{len(self.nodes)}", **attributes)

        half, unit = "half", "1.0"
        old, new = do("Cast", before, to=1), do("Cast", after, to=1)
        scale = do("Div", old, new)
        support = do("Max", scale, unit)
        places = do("Add", do("Cast", do("Range", "0", before, "1"), to=1), half)
        centres = do("Mul", do("Add", do("Cast", do("Range", "0", after, "1"), to=1), half), scale)
        apart = do("Abs", do("Sub", places, do("Unsqueeze", centres, "one")))
        triangles = do("Relu", do("Sub", unit, do("Div", apart, support)))
        return do("Div", triangles, do("ReduceSum", triangles, "one", keepdims=1))


def _open(graph: Graph, size: int) -> None:
    """From `photo` to `base`, float (1, C, H, W) of levels; and what depends on its shape."""
    for name, value in (("zero", 0), ("one", 1), ("three", 3)):
        graph.constant(name, np.array([value], np.int64))
    for name, value in (("0", 0), ("1", 1), ("2", 2), ("3", 3), (SIDE, size)):
        graph.constant(name, np.array(value, np.int64))
    graph.constant("half", np.array(0.5, np.float32))
    graph.constant("1.0", np.array(1, np.float32))
    graph.node("Cast", ["photo"], "levels", to=1)
    graph.node("Transpose", ["levels"], "planes", perm=[2, 0, 1])
    graph.node("Unsqueeze", ["planes", "zero"], "base")
    graph.node("Shape", ["base"], "shape")
    graph.node("Gather", ["shape", "one"], "count", axis=0)  # of channels, (1,)
    graph.node("Gather", ["shape", "2"], "height of photo", axis=0)
    graph.node("Gather", ["shape", "3"], "width of photo", axis=0)
    # 0, 1, 2 for a photo in colour, and 3 for a grey one
    graph.node("Squeeze", ["count"], "count scalar")
    graph.node("Range", ["0", "count scalar", "1"], "counting")
    graph.node("Equal", ["count", "one"], "grey")
    graph.node("Cast", ["grey"], "grey number", to=7)
    graph.node("Mul", ["grey number", "three"], "skipped")
    graph.node("Add", ["counting", "skipped"], "planes wanted")


def _shrink(graph: Graph, channels: int, size: int) -> None:
    """From `base` to `small`, the photo as nets see it: float (1, channels, size, size) in [0, 1]."""
    if channels == 1:
        graph.constant("luma", np.array([*LUMA, 1], np.float32))
        graph.node("Gather", ["luma", "planes wanted"], "weights", axis=0)
        graph.node(
            "Reshape", ["weights", graph.constant("as planes", np.array([1, -1, 1, 1], np.int64))], "weights of planes"
        )
        graph.node("Mul", ["base", "weights of planes"], "weighted")
        graph.node("ReduceSum", ["weighted", "one"], "shown", keepdims=1)
    else:
        graph.node("Expand", ["base", graph.constant("in colour", np.array([1, 3, 1, 1], np.int64))], "shown")
    graph.node("Div", ["shown", graph.constant("white level", np.array(255, np.float32))], "shown in one")
    graph.resize("shown in one", PHOTO, [SIDE] * 2, "small")


def _add_stage(graph: Graph, stage: Stage, example: Any, source: str, names: Sequence[str], prefix: str) -> Any:
    """Add a stage that takes `source` and gives `names`; gives what it makes of an example."""
    from onnx import compose

    model, made = _stage(stage, example, len(names))
    model = compose.add_prefix(model, prefix)
    inner = model.graph
    weights = {item.name for item in inner.initializer}
    takes = [item.name for item in inner.input if item.name not in weights]
    graph.node("Identity", [source], takes[0])
    graph.nodes += list(inner.node)
    graph.constants += list(inner.initializer)
    for output, name in zip(inner.output, names, strict=False):
        graph.node("Identity", [output.name], name)
    return made


def _stage(stage: Stage, example: Tensor, outputs: int) -> tuple[Any, Any]:
    """Give a stage as an ONNX model of our opset, without functions of its own, and what it makes of an example."""
    import onnx as package
    from onnx import inliner, version_converter

    if isinstance(stage, nn.Module):
        try:
            with torch.inference_mode():
                made = stage(example)
        except RuntimeError as error:
            raise UexError(f"the encoder cannot be made a part of the model ({networks.short(error)}).") from error
        return inliner.inline_local_functions(
            networks.program(stage, (example,), ["given"], [f"made {number}" for number in range(outputs)])
        ), made
    try:
        model = package.load_from_string(stage)
        if {item.domain: item.version for item in model.opset_import}.get("", 0) != networks.OPSET:
            model = version_converter.convert_version(model, networks.OPSET)
        session, _, _ = networks.opened(stage, threads=1, cuda=False)
        made = session.run(None, {session.get_inputs()[0].name: example.numpy()})[0]
    except UexError:
        raise
    except Exception as error:  # of converters in C++
        raise UexError(f"the encoder cannot be made a part of the model ({networks.short(error)}).") from error
    return inliner.inline_local_functions(model), torch.from_numpy(made)


def _paint(graph: Graph, delta: Tensor, *, levels: int, eps: float) -> None:
    """From `base` and the row to `protected`: the noise stretched, added on the 8-bit grid, clamped."""
    channels, size = int(delta.shape[1]), int(delta.shape[2])
    graph.node("Less", ["row", "zero"], "free")
    graph.node("Where", ["free", "chosen", "row"], "taken")
    scaled = 255 * delta
    if bool((scaled == scaled.round()).all()) and float(scaled.abs().max()) <= 127:
        graph.node("Gather", [graph.constant("bank", scaled.to(torch.int8).numpy()), "taken"], "whole", axis=0)
        graph.node("Cast", ["whole"], "noise in levels", to=1)
    else:
        graph.node("Gather", [graph.constant("bank", scaled.float().numpy()), "taken"], "noise in levels", axis=0)
    if channels == 1:
        graph.node(
            "Concat",
            ["one", "count", graph.constant("own sides", np.array([size, size], np.int64))],
            "own shape",
            axis=0,
        )
        graph.node("Expand", ["noise in levels", "own shape"], "matched")
    else:
        graph.node("ReduceMean", ["noise in levels", "one"], "mean noise", keepdims=1)
        graph.node("Concat", ["noise in levels", "mean noise"], "noise and mean", axis=1)
        graph.node("Gather", ["noise and mean", "planes wanted"], "matched", axis=1)
    graph.resize("matched", [SIDE] * 2, PHOTO, "stretched")
    # averaged on a photo that is smaller than the noise, or grey: brought up to the bound again
    graph.node("Abs", ["stretched"], "sizes")
    graph.node("ReduceMax", ["sizes"], "largest", keepdims=0)
    graph.node("Max", ["largest", graph.constant("tiny", np.array(TINY, np.float32))], "at least tiny")
    graph.node("Div", [graph.constant("bound", np.array(255 * eps, np.float32)), "at least tiny"], "filling")
    graph.node("Min", list(PHOTO), "shorter")
    graph.node("Less", ["shorter", SIDE], "is smaller")
    if channels > 1:
        graph.node("Squeeze", ["grey"], "is grey")
        graph.node("Or", ["is smaller", "is grey"], "is weaker")
    weaker = "is weaker" if channels > 1 else "is smaller"
    graph.node("Where", [weaker, "filling", graph.constant("as it is", np.array(1, np.float32))], "factor")
    graph.node("Mul", ["stretched", "factor"], "added")
    graph.node("Add", ["base", "added"], "sum")
    graph.node("Round", ["sum"], "rounded")
    graph.node("Sub", ["rounded", "base"], "change")
    limits = [graph.constant(name, np.array(value, np.float32)) for name, value in (("low", -levels), ("high", levels))]
    graph.node("Clip", ["change", *limits], "bounded")
    graph.node("Add", ["base", "bounded"], "whole sum")
    ends = [graph.constant(name, np.array(value, np.float32)) for name, value in (("black", 0), ("white", 255))]
    graph.node("Clip", ["whole sum", *ends], "clamped")
    graph.node("Squeeze", ["clamped", "zero"], "clamped planes")
    graph.node("Transpose", ["clamped planes"], "clamped pixels", perm=[1, 2, 0])
    graph.node("Cast", ["clamped pixels"], "protected", to=2)


class PhotoSession:
    """Such a graph in ONNX Runtime; several threads may call it at once. See `onnx.Session` for its attributes."""

    provider: str
    passed_over: tuple[str, ...]
    facts: dict[str, Any]

    def __init__(self, model: bytes, *, threads: int = 1, cuda: bool = True) -> None:
        """Load it.

        Raises:
            UexError: ONNX Runtime is not usable, or this is no model that `convert` made.
        """
        self._session, self.provider, self.passed_over = networks.opened(model, threads=threads, cuda=cuda)
        self.facts = networks.facts_of(self._session)
        names = tuple(
            tuple(item.name for item in items) for items in (self._session.get_inputs(), self._session.get_outputs())
        )
        if names != (INPUTS, OUTPUTS):
            raise UexError(f"the model takes {', '.join(names[0])} and gives {', '.join(names[1])}: none of uex's.")

    @property
    def chooses(self) -> bool:
        """Whether it finds the row of a photo."""
        return bool(self.facts.get(CHOOSES))

    def __call__(self, pixels: np.ndarray, row: int) -> tuple[np.ndarray, int, float | None]:
        """Protect a photo, uint8 (H, W, C), with a noise, or with the one it chooses (below 0); see the module.

        Raises:
            UexError: ONNX Runtime cannot run it.
        """
        given = {"photo": np.ascontiguousarray(pixels), "row": np.array([row], np.int64)}
        try:
            protected, taken, near = self._session.run(list(OUTPUTS), given)
        except Exception as error:
            raise UexError(
                f"ONNX Runtime cannot run the model ({networks.short(error)}).", hint="Use `engine=torch`."
            ) from None
        return protected, int(taken[0]), float(near[0]) if near[0] >= 0 else None


def read(path: Path, bank: str, *, threads: int = 1) -> PhotoSession:
    """Load a graph that was exported from the noise file whose bank has this digest.

    Raises:
        UsageError: there is no such file.
        UexError: it cannot be read, is no such graph, of another format, or of another noise file.
    """
    session = networks.loaded(path, lambda model: PhotoSession(model, threads=threads))
    if session.facts.get("format") != FORMAT:
        version = session.facts.get("uexcli", "unknown")
        raise UexError(f"{path}: a model written by uexcli {version}.", hint="Export the noise file again.")
    if session.facts.get("bank") != bank:
        raise UexError(
            f"{path}: exported from another noise file.", hint="Export this one: uex export NOISE MODEL.onnx"
        )
    return session

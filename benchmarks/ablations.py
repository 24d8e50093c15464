"""What each part of `band` and `shield` is good for: one thing changed at a time; resumable.

    python -m benchmarks.ablations --data cifar10:ROOT --work FOLDER --out benchmarks/results

FOLDER keeps noise, releases and trainings. What no option changes is changed in the code while that row is fitted.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor

from benchmarks.judge import TARGET, Told, written
from uexcli.builtin.methods import _reader
from uexcli.builtin.methods._textures import Textures
from uexcli.builtin.methods.shield import Shield
from uexcli.commands import bench
from uexcli.plugin import Problem

AGAINST = ["none", "jpeg-crop:10", "randsharp"]
BAND: dict[str, dict[str, Any]] = {
    "band": {},
    "gain-1.25": {"options.gain": 1.25},
    "gain-5": {"options.gain": 5.0},
    "width-.01": {"options.width": 0.01},
    "width-.04": {"options.width": 0.04},
    "blue-0": {"options.blue": 0.0},
    "blue-half": {"options.blue": 0.5},
    "octaves-2": {"options.octaves": 2},
    "levels-4": {"eps": "4/255"},
    "levels-6": {"eps": "6/255"},
    "levels-12": {"eps": "12/255"},
}
SHIELD: dict[str, dict[str, Any]] = {
    "shield": {},
    "steps-15": {"options.steps": 15},
    "steps-120": {"options.steps": 120},
    "step-half": {"options.step": 0.0625},
}
CHANGED = ("random-phase", "no-treatments", "no-codecs", "codecs-alone", "random-start")


@contextmanager
def changed(name: str) -> Iterator[None]:
    """Change the code as a row of `CHANGED` says."""
    treatments = _reader.TREATMENTS
    codecs = tuple(pair for pair in treatments if type(pair[0]).__name__ in ("Jpeg", "Webp"))
    kept = {
        "no-treatments": ((None, 1.0),),
        "no-codecs": tuple(pair for pair in treatments if pair not in codecs),
        "codecs-alone": codecs,
    }.get(name, treatments)
    with ExitStack() as patches:
        patches.enter_context(mock.patch.object(_reader, "TREATMENTS", kept))
        if name == "random-start":
            patches.enter_context(mock.patch.object(Textures, "luma", _scattered))
        if name == "random-phase":
            patches.enter_context(mock.patch.object(Shield, "_moved", _unlocked))
        yield


def _scattered(textures: Textures, images: Tensor, rows: Tensor) -> Tensor:
    drawn = torch.rand(images[:, 0].shape, generator=torch.Generator().manual_seed(int(images.sum() * 255)))
    return (2 * drawn.to(images.device) - 1) * textures.bound


def _unlocked(
    _: Shield, problem: Problem, batch: Tensor, textures: Textures, reader: _reader.Reader, treatments: Any = None
) -> Tensor:
    """Give the closed form of white noise instead of the photo: the same textures, of a phase of their own."""
    images = problem.inputs(batch)
    drawn = torch.randn(images.shape, generator=torch.Generator().manual_seed(int(batch[0])))
    noise: Tensor = textures(drawn.to(images.device), problem.labels[batch].to(problem.device))
    return noise


def main() -> None:
    """Fit and judge each row, then write the table of all of them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", required=True)
    parser.add_argument("--count", type=int, default=2500)
    parser.add_argument("--tests", type=int, default=2000)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    kept, trainings = given.out / "judge-trainings", given.work / bench.TRAININGS
    if kept.is_dir():  # of an earlier machine's run
        shutil.copytree(kept, trainings, dirs_exist_ok=True)
    test = written(given.data, given.work / "test", given.tests, split="test")
    head = [
        f"photos = {json.dumps(given.data)}",
        f"test = {json.dumps(str(test))}",
        f"limit = {given.count}",
        f"epochs = {given.epochs}",
        f"targets = [{json.dumps(TARGET)}]",
        f"against = {json.dumps(AGAINST)}",
    ]
    rows = {name: _row(name, "band", more) for name, more in BAND.items()}
    rows |= {name: _row(name, "shield", more) for name, more in SHIELD.items()}
    rows |= {name: _row(name, "shield", {}) for name in CHANGED}
    for name, row in rows.items():
        with changed(name):
            _bench(given.work, "ablation", [*head, row])
    for path in _bench(given.work, "ablations", [*head, *rows.values()]):
        shutil.copy(path, given.out / f"judge-ablations-{given.count}{path.suffix}")
    shutil.copytree(trainings, kept, dirs_exist_ok=True)


def _row(name: str, method: str, more: dict[str, Any]) -> str:
    lines = {"name": name, "method": method, "seed": 1, **more}
    return "\n".join(["[[row]]", *(f"{key} = {json.dumps(value)}" for key, value in lines.items())])


def _bench(work: Path, name: str, lines: list[str]) -> list[Path]:
    recipes = work / f"{name}.toml"
    recipes.write_text("\n".join(lines))
    return list(bench.run(bench.Request(recipes, work, on_error="skip"), Told()).tables)


if __name__ == "__main__":
    main()

"""Label-agnostic noise, cluster by cluster: uc beside em, lsp and advpoison, all without labels, on the same clusters.

Each row: fit with labels hidden, apply, verify, then a target trained on the decoded files with the true labels, and
with these merged into 5 and into 2 classes. Rows are files of their own and are not measured twice.

    python -m benchmarks.clusters --data cifar10:ROOT --count 5000 --tag cifar10-5000 --out benchmarks/results
    python -m benchmarks.clusters --data FOLDER/train --test FOLDER/val --size 64 --epochs 30 --tag photos \\
        --out benchmarks/results
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageOps
from torch import Tensor

from uexcli import __version__, plugin
from uexcli.commands import apply, evaluate, fit, verify
from uexcli.commands.evaluate.data import Sources, read
from uexcli.core.eval.statistics import interval
from uexcli.core.eval.trial import MemoryTrial
from uexcli.messages import Listener
from uexcli.registry import load
from uexcli.runtime import machine

ROWS: dict[str, dict[str, Any]] = {
    "clean": {},
    "uc": {"method": "uc"},
    "uc-paper-generator": {"method": "uc", "options": {"width": "64", "blocks": "6"}},
    "random": {"method": "random"},
    "em": {"method": "em"},
    "lsp": {"method": "lsp", "norm": "linf"},
    "advpoison": {"method": "advpoison", "options": {"restarts": "1", "steps": "50"}},
}
EPS = "16/255"
MERGED = (5, 2)


def main() -> None:
    """Measure what is not measured yet, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", required=True)
    parser.add_argument("--test", default=None)
    parser.add_argument("--count", type=int, default=None)
    parser.add_argument("--tests", type=int, default=None, help="at most so many test images")
    parser.add_argument("--size", type=int, default=None)
    parser.add_argument("--epochs", type=int, default=None)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--target", default="small")
    parser.add_argument("--also", default="", help="another target, on the true labels")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--only", default="clean,uc,em,lsp,advpoison")
    parser.add_argument("--weights", default="auto", help="the file of efficientnet_lite0, where its package is not")
    parser.add_argument("--tag", required=True, help="name of the data in the results' names")
    parser.add_argument("--merged", default="clean,uc", help="rows that are also trained on merged classes")
    parser.add_argument("--views", default="", help="rows that are also trained on crops, as trainers cut them")
    parser.add_argument("--sources", default="112x112,224x224,336x224", help="of photos of these widths and heights")
    parser.add_argument("--fit-seed", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    for name in given.only.split(","):
        path = given.out / f"clusters-{given.tag}-{name}.json"
        if not path.exists():
            path.write_text(json.dumps(row(name, given), indent=2) + "\n")
        print(line(json.loads(path.read_text())), flush=True)


def row(name: str, given: argparse.Namespace) -> dict[str, Any]:
    """Measure one row."""
    recipe = ROWS[name]
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        facts: dict[str, Any] = {}
        release = root / "release"
        if recipe:
            facts = _protect(recipe, given, root, release)
        sources = Sources(given.data, str(release) if recipe else given.data, _test(given), None, _size(given), "fail")
        device = machine.pick_device(given.device)
        (data,) = read(sources, device, Listener())
        if given.count and not recipe:
            data = dataclasses.replace(
                data,
                clean=data.clean[: given.count],
                protected=data.protected[: given.count],
                labels=data.labels[: given.count],
            )
        if given.tests:
            data = dataclasses.replace(data, test=data.test[: given.tests], test_labels=data.test_labels[: given.tests])
        scores = {"true": _trained(data.protected, data.labels, data, given, device)}
        for count in MERGED if name in given.merged.split(",") else ():
            merged = dataclasses.replace(data, test_labels=data.test_labels % count)
            scores[f"into {count}"] = _trained(data.protected, data.labels % count, merged, given, device)
        if given.also:
            other = argparse.Namespace(**{**vars(given), "target": given.also})
            scores[given.also] = _trained(data.protected, data.labels, data, other, device)
        if name in given.views.split(","):
            facts["views"] = _viewed(root, given)
    return {
        "row": name,
        "data": given.tag,
        "count": len(data.labels),
        "tests": len(data.test_labels),
        "target": given.target,
        **facts,
        "accuracy": scores,
        "machine": {**machine.describe(), "device": machine.name_of(device), "uexcli": __version__},
    }


def _test(given: argparse.Namespace) -> str:
    return str(given.test or given.data)


def _size(given: argparse.Namespace) -> int | None:
    size: int | None = given.size
    return size


def _protect(recipe: Mapping[str, Any], given: argparse.Namespace, root: Path, release: Path) -> dict[str, Any]:
    """Fit without labels, apply, verify."""
    # every row groups the photos by the same net; uc is fitted against it too
    weights = {"weights": given.weights} if recipe["method"] == "uc" else {}
    options = {**weights, "encoder": f"efficientnet_lite0:{given.weights}", **recipe.get("options", {})}
    began = time.perf_counter()
    noise = root / "n.noise.safetensors"
    fitted = fit.run(
        fit.Request(
            given.data,
            output=noise,
            mode="clusterwise",
            eps=EPS,
            no_labels=True,
            limit=given.count,
            size=given.size,
            seed=given.fit_seed,
            device=given.device,
            **{**recipe, "options": options},
        )
    )
    seconds = time.perf_counter() - began
    apply.run(apply.Request(noise, given.data, release, limit=given.count))
    checked = verify.run(verify.Request(release, source=given.data, allow_missing=True))
    assert not checked.findings, checked.findings
    assert checked.psnr is not None
    return {
        "fit_seconds": round(fitted.seconds, 1),
        "whole_seconds": round(seconds, 1),  # with reading, features, clusters and the estimate
        "outcome": fitted.outcome,
        "levels": checked.most_levels,
        "psnr": round(checked.psnr["median"], 2),
    }


def _trained(
    images: Tensor, labels: Tensor, data: Any, given: argparse.Namespace, device: torch.device
) -> dict[str, Any]:
    """Train on images with labels; accuracies of each seed, in percent."""
    target: plugin.Target = load().make(plugin.Target, "target", given.target)  # type: ignore[type-abstract]
    autocast = machine.pick_precision("auto", device)
    classes = int(labels.max()) + 1
    runs = []
    for seed in range(given.seeds):
        trial = MemoryTrial(images, labels, data.test, data.test_labels, classes, seed, given.epochs, device, autocast)
        runs.append(target.evaluate(trial))
    return {
        "last": [round(100 * run.last, 2) for run in runs],
        "peak": [round(100 * run.peak, 2) for run in runs],
        "own": [round(100 * run.train_accuracy, 2) for run in runs],
        "seconds": [round(run.seconds, 1) for run in runs],
    }


def _viewed(root: Path, given: argparse.Namespace) -> dict[str, Any]:
    """Resize the photos, protect them as new ones, and train on crops that a trainer cuts from the written files."""
    found: dict[str, Any] = {}
    for source in given.sources.split(","):
        width, height = map(int, source.split("x"))
        photos, release = root / f"photos-{source}", root / f"release-{source}"
        for path in sorted(Path(given.data).rglob("*.*")):
            made = photos / path.parent.name / f"new-{path.stem}.png"
            made.parent.mkdir(parents=True, exist_ok=True)
            with Image.open(path) as image:
                ImageOps.fit(image, (width, height), Image.Resampling.LANCZOS).save(made, compress_level=1)
        applied = apply.run(apply.Request(root / "n.noise.safetensors", str(photos), release))
        for view in ("crop", "resized-crop"):
            result = evaluate.run(
                evaluate.Request(
                    str(photos),
                    str(release),
                    test=_test(given),
                    targets=(given.target,),
                    seeds=given.seeds,
                    epochs=given.epochs,
                    size=given.size,
                    device=given.device,
                    view=view,
                )
            )
            assert isinstance(result, evaluate.Result)
            cell = result.cells[0]
            found[f"{source} {view}"] = {
                "new": applied.new,
                **{
                    side: [round(100 * run.last, 2) for run in getattr(cell, side).runs]
                    for side in ("clean", "protected")
                },
            }
            print(source, view, found[f"{source} {view}"], flush=True)
    return found


def line(found: Mapping[str, Any]) -> str:
    """A row of the table."""
    cells = [found["row"], str(found.get("fit_seconds", "")), str(found.get("psnr", ""))]
    for score in found["accuracy"].values():
        last = statistics.fmean(score["last"])
        within = 100 * interval([value / 100 for value in score["last"]], found["tests"])
        cells.append(f"{last:.1f} ± {within:.1f} / {statistics.fmean(score['peak']):.1f}")
    return "| " + " | ".join(cells) + " |"


if __name__ == "__main__":
    main()

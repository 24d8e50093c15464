"""What nets that know the world already learn from photos under `shift`: nets fitted against, and nets never seen.

    python -m benchmarks.encoders --wheels WHEELS --out FOLDER
    python -m benchmarks.pretrained --data PHOTOS --side 128 --unseen onnx:FOLDER/nsfw.onnx --work FOLDER --out RESULTS

PHOTOS holds `train` and `val`, class folders. With --side the photos are first shrunk to it, centre and all. Each row
is a bound, each with three seeds of the fit. WORK keeps noise, releases and trainings: a run that was stopped goes on.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageOps

from benchmarks.judge import Told
from benchmarks.released import release
from uexcli.commands import evaluate, fit
from uexcli.core.eval.learnability import renamed

SEEN, SIBLING = ("probe:efficientnet_lite0", "probe:efficientnet_lite1"), "efficientnet_lite2"


def main() -> None:
    """Fit, release and judge each row, and write those that are done."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--name", default="imagenette", help="of the data, in the files' names")
    parser.add_argument("--side", type=int, default=0, help="px, to which photos are shrunk first; 0: not")
    parser.add_argument("--fit-side", type=int, default=None, help="px, at which noise is fitted; none: as uex chooses")
    parser.add_argument("--eps", default="8/255 16/255")
    parser.add_argument("--seeds", type=int, default=3, help="of the fit")
    parser.add_argument("--method", default="shift")
    parser.add_argument("--option", action="append", default=[], help="NAME=VALUE, of the fit")
    parser.add_argument(
        "--hidden", action="store_true", help="the fit does not know the labels; each photo has a noise"
    )
    parser.add_argument("--against", default="grayscale jpeg:75 jpeg:50 webp:75")
    parser.add_argument("--unseen", default="", help="further targets that no fit saw, with spaces")
    parser.add_argument("--finetune", action="store_true", help="fine-tune the sibling, too")
    parser.add_argument("--tag", default="", help="in the files' names")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    for folder in (given.work, given.out):
        folder.mkdir(parents=True, exist_ok=True)
    photos = shrunk(given.data, given.work / f"photos-{given.side}", given.side) if given.side else given.data
    found: list[dict[str, Any]] = []
    for seed in range(1, given.seeds + 1):
        for eps in given.eps.split():
            found.append(row(given, photos, eps, seed))
            write(given, found)


def shrunk(data: Path, into: Path, side: int) -> Path:
    """Write photos at a side, lossless, once."""
    for path in sorted(data.glob("*/*/*")):
        target = into / path.relative_to(data).with_suffix(".png")
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            with Image.open(path) as photo:
                small = ImageOps.fit(photo.convert("RGB"), (side, side), Image.Resampling.BILINEAR)
            small.save(target.with_suffix(".part"), "png")
            target.with_suffix(".part").rename(target)
    return into


def row(given: argparse.Namespace, photos: Path, eps: str, seed: int) -> dict[str, Any]:
    """Fit with one bound and seed, write the release, and ask all targets."""
    tag = f"{given.name}-{given.side}-{given.method}{given.tag}-{eps.replace('/', 'of')}-{seed}"
    print(f"[{tag}]", flush=True)
    noise, into = given.work / f"{tag}.noise.safetensors", given.work / tag
    options = dict(each.split("=", 1) for each in given.option)
    request = fit.Request(
        str(photos / "train"), method=given.method, size=given.fit_side, eps=eps, seed=seed, options=options,
        output=noise, resume=True, no_labels=given.hidden, mode="samplewise" if given.hidden else None,
    )  # fmt: skip
    told = release(request, noise, into)
    seen = [*SEEN, f"probe:{SIBLING}", *given.unseen.split()]
    cells = judged(given, photos, into, seen, tuple(given.against.split()))
    if given.finetune:
        cells += judged(given, photos, into, [f"finetune:{SIBLING}"], ())
    return {
        "eps": eps,
        "seed": seed,
        **told,
        "cells": cells,
    }


def judged(
    given: argparse.Namespace, photos: Path, into: Path, targets: list[str], against: tuple[str, ...]
) -> list[dict[str, Any]]:
    """Give each target's accuracy on clean test photos, after clean and after protected ones, and then renamed."""
    made = evaluate.run(
        evaluate.Request(
            str(photos / "train"), str(into), test=str(photos / "val"), targets=tuple(targets),
            against=("none", *against), size=given.side or None, seeds=1, cells=given.work / "cells",
        ),
        Told(),
    )  # fmt: skip
    assert isinstance(made, evaluate.Result)
    return [
        {
            "target": ":".join(Path(part).name for part in cell.target.split(":")),
            "against": cell.against,
            "clean": cell.clean.runs[0].last,
            "protected": cell.protected.runs[0].last,
            "renamed": renamed(cell.protected.runs[0].confusion),
        }
        for cell in made.cells
    ]


def write(given: argparse.Namespace, rows: list[dict[str, Any]]) -> None:
    """Write what is done, for `benchmarks.holds`."""
    made = {
        "data": given.name,
        "side": given.side,
        "method": given.method + given.tag,
        "seen": list(SEEN) if given.method == "shift" else [],
        "machine": f"torch {torch.__version__.partition('+')[0]}, {torch.get_num_threads()} thread of a CPU",
        "rows": rows,
    }
    name = f"pretrained-{given.name}-{given.side or 'full'}-{given.method}{given.tag}.json"
    (given.out / name).write_text(json.dumps(made, indent=2) + "\n")


if __name__ == "__main__":
    main()

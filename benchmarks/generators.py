"""What each part of a generator's schedule is worth: `python -m benchmarks.generators --data cifar10:ROOT`.

A generator is fitted on the first images, then protects those and as many that follow, which it has never seen and
whose labels it is not told. A target learns from either. Rows that are there already are kept, so an interrupted run
goes on where it stopped.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

from benchmarks.__main__ import Columns, table_of
from benchmarks.methods import HERE, RELEASED, read, spread, train

NO_GAME = {"generator_lr": "1e-9", "rounds": "1", "epochs": "1"}  # a game that moves the statistics of batch norm alone
FAST = {"rounds": "4", "generator_lr": "2e-3"}
UNPRIMED = {"classes": "0", "marks": "0"}


@dataclasses.dataclass(frozen=True)
class Row:
    """A schedule: `quick` but for these options; no method at all: the clean images."""

    name: str
    method: str | None = None
    options: dict[str, str] = dataclasses.field(default_factory=dict)


ROWS = (
    Row("clean"),
    Row("deepconfuse", "deepconfuse"),
    Row("deepconfuse-no-game", "deepconfuse", NO_GAME),
    Row("deepconfuse-unprimed", "deepconfuse", {**UNPRIMED, **FAST}),
    Row("deepconfuse-fast-game", "deepconfuse", FAST),
    Row("deepconfuse-no-marks", "deepconfuse", {"marks": "0"}),
    Row("deepconfuse-no-views", "deepconfuse", {"augment": "false"}),
    Row("gue", "gue"),
    Row("gue-unprimed", "gue", UNPRIMED),
)


def measure(row: Row, *, data: str, count: int, device: str, spec: str, seeds: int) -> dict[str, Any]:
    """Fit, protect fitted and new images, train on either."""
    from uexcli import __version__
    from uexcli.commands import apply, fit
    from uexcli.io.noise import noise_file
    from uexcli.runtime import machine

    with tempfile.TemporaryDirectory() as folder:
        path, out = Path(folder) / "noise.safetensors", Path(folder) / RELEASED
        request = fit.Request(photos=data, limit=count, device=device, seed=1, output=path, method="random")
        if row.method is not None:
            request = dataclasses.replace(request, method=row.method, preset="quick", options=row.options)
        else:
            request = dataclasses.replace(request, mode="universal")  # of which no training image has a trace
        fitted = fit.run(request)
        apply.run(apply.Request(path, data, out, limit=2 * count))
        found, known = read(data, out, device), set(noise_file.read(path).keys)
    new = torch.tensor([key not in known for key in found.keys]).to(found.labels.device)
    halves = {"fitted": (~new).nonzero().flatten(), "new": new.nonzero().flatten()}
    clean = row.method is None
    return {
        "row": dataclasses.asdict(row),
        "images": {name: len(half) for name, half in halves.items()},
        "fit_seconds": 0 if clean else fitted.seconds,
        "outcome": "" if clean else fitted.outcome,
        "target": {"spec": spec, "seeds": seeds, "tests": len(found.test)},
        **{name: train(found, spec, seeds, clean=clean, only=half) for name, half in halves.items()},
        "machine": {**machine.describe(), "device": fitted.plan.device, "uexcli": __version__},
    }


COLUMNS: Columns = (
    ("row", lambda row: row["row"]["name"]),
    ("options", lambda row: " ".join(f"{name}={value}" for name, value in row["row"]["options"].items())),
    ("fit, s", lambda row: f"{row['fit_seconds']:.0f}"),
    ("fitted images, last", lambda row: spread(row["fitted"]["last"])),
    ("peak, fitted", lambda row: spread(row["fitted"]["peak"])),
    ("new images, last", lambda row: spread(row["new"]["last"])),
    ("peak, new", lambda row: spread(row["new"]["peak"])),
)


def main() -> None:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.generators", description=__doc__)
    parser.add_argument("--data", help="a dataset with a test split, such as cifar10:ROOT")
    parser.add_argument("--count", type=int, default=5000, help="images that are fitted, and as many new ones")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--target", default="small", help="such as small or resnet18:60")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--only", default="", help="rows of these names, comma-separated")
    parser.add_argument("--table", action="store_true", help="measure nothing")
    parser.add_argument("--out", type=Path, default=HERE / "results")
    asked = parser.parse_args()
    names = [name for name in asked.only.split(",") if name]
    asked.out.mkdir(parents=True, exist_ok=True)
    paths = [asked.out / f"generators-{asked.count}-{row.name}.json" for row in ROWS]
    for row, path in zip(ROWS, paths, strict=True):
        if asked.table or (names and row.name not in names) or path.exists():
            continue
        print(f"{row.name} ...", file=sys.stderr, flush=True)
        options = {"count": asked.count, "device": asked.device, "spec": asked.target, "seeds": asked.seeds}
        path.write_text(json.dumps(measure(row, data=asked.data, **options), indent=1) + "\n")
    print(table_of(COLUMNS, [json.loads(path.read_text()) for path in paths if path.exists()]))


if __name__ == "__main__":
    main()

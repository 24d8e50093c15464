"""What each part of a generator's schedule is worth: `python -m benchmarks.generators --data cifar10:ROOT`.

A generator is fitted on the first images, then protects those and as many that follow, which it has never seen and
whose labels it is not told. A target learns from either, and from the same images clean. Rows that are there already
are kept, so an interrupted run goes on where it stopped.
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

NOTHING = {"generator_lr": "1e-9", "rounds": "1", "epochs": "1"}  # a game that changes nothing


@dataclasses.dataclass(frozen=True)
class Row:
    """A schedule: `quick` but for these options."""

    name: str
    method: str
    options: dict[str, str] = dataclasses.field(default_factory=dict)


ROWS = (
    Row("deepconfuse", "deepconfuse"),
    Row("deepconfuse-unprimed", "deepconfuse", {"classes": "0", "marks": "0"}),
    Row("deepconfuse-classes-only", "deepconfuse", {"marks": "0"}),
    Row("deepconfuse-plain-images", "deepconfuse", {"augment": "false"}),
    Row("deepconfuse-no-checkpoints", "deepconfuse", {"checkpoints": "0"}),
    Row("no-game", "deepconfuse", NOTHING),
    Row("gue", "gue"),
    Row("gue-unprimed", "gue", {"classes": "0", "marks": "0"}),
)


def measure(row: Row, *, data: str, count: int, device: str, spec: str, seeds: int) -> dict[str, Any]:
    """Fit, protect fitted and new images, train on either."""
    from uexcli import __version__
    from uexcli.commands import apply, fit
    from uexcli.io import noise_file
    from uexcli.runtime import machine

    with tempfile.TemporaryDirectory() as folder:
        path, out = Path(folder) / "noise.safetensors", Path(folder) / RELEASED
        fitted = fit.run(
            fit.Request(
                photos=data,
                method=row.method,
                preset="quick",
                options=row.options,
                limit=count,
                device=device,
                seed=1,
                output=path,
            )
        )
        apply.run(apply.Request(path, data, out, limit=2 * count))
        found, known = read(data, out, device), set(noise_file.read(path).keys)
    new = torch.tensor([key not in known for key in found.keys]).to(found.labels.device)
    halves = {"fitted": (~new).nonzero().flatten(), "new": new.nonzero().flatten()}
    return {
        "row": dataclasses.asdict(row),
        "images": {name: len(half) for name, half in halves.items()},
        "fit_seconds": fitted.seconds,
        "outcome": fitted.outcome,
        "target": {"spec": spec, "seeds": seeds, "tests": len(found.test)},
        "clean": {name: train(found, spec, 1, clean=True, only=half) for name, half in halves.items()},
        "protected": {name: train(found, spec, seeds, clean=False, only=half) for name, half in halves.items()},
        "machine": {**machine.describe(), "device": fitted.plan.device, "uexcli": __version__},
    }


COLUMNS: Columns = (
    ("row", lambda row: row["row"]["name"]),
    ("options", lambda row: " ".join(f"{name}={value}" for name, value in row["row"]["options"].items())),
    ("fit, s", lambda row: f"{row['fit_seconds']:.0f}"),
    ("clean", lambda row: spread(row["clean"]["fitted"]["last"])),
    ("fitted images, last", lambda row: spread(row["protected"]["fitted"]["last"])),
    ("peak", lambda row: spread(row["protected"]["fitted"]["peak"])),
    ("clean, new", lambda row: spread(row["clean"]["new"]["last"])),
    ("new images, last", lambda row: spread(row["protected"]["new"]["last"])),
    ("peak, new", lambda row: spread(row["protected"]["new"]["peak"])),
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

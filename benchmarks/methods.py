"""All methods on the same images, by the same target: `python -m benchmarks.methods --data cifar10:ROOT`.

Every row goes the whole way that a release goes: fit, apply, verify, and a target trained on the decoded files. Rows
that are there already are kept, so an interrupted run goes on where it stopped; `--table` only prints what there is.

On a GPU, with the published schedules and the papers' images and target, as long as ten minutes last:
`python -m benchmarks.methods --data cifar10:ROOT --device cuda --count 0 --target resnet18:60 --seeds 1 --full
--minutes 9 --out FOLDER`.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.__main__ import Columns, table_of

if TYPE_CHECKING:
    import torch

    from uexcli.commands.evaluate import data

HERE = Path(__file__).parent
RELEASED = "release"


@dataclasses.dataclass(frozen=True)
class Row:
    """A method as it is compared; `published` is the accuracy of METHOD's source, on 50,000 images with ResNet-18."""

    name: str
    method: str
    mode: str | None = None
    norm: str | None = None
    preset: str | None = None
    patch: str | None = None
    options: dict[str, str] = dataclasses.field(default_factory=dict)
    published: str = ""


ROWS = (
    Row("clean", "none", published="94.7 ISS"),
    Row("random", "random", published="near clean, Huang 2021"),
    Row("random-class", "random", "classwise", published="low after 15 epochs, Huang 2021"),
    Row("em", "em", published="20.8 APBench, 21.1 ISS"),
    Row("em-class", "em", "classwise", published="16.4 Huang 2021"),
    Row("em-universal", "em", "universal"),
    Row("em-two-sets", "em", "classwise", options={"sets": "2"}),
    Row("em-patch", "em", "classwise", patch="16:random"),
    Row("pue", "em", "classwise", options={"weight_noise": "0.05", "copies": "2"}),
    Row("emax", "emax", preset="quick", published="near clean, Huang 2021"),
    Row("emax-class", "emax", "classwise", preset="quick", published="low after 15 epochs, Huang 2021"),
    Row("advpoison", "advpoison", preset="quick", published="6.3 APBench, 8.2 ISS"),
    Row("lsp", "lsp", published="13.1 APBench, 19.1 ISS"),
    Row("deepconfuse", "deepconfuse", preset="quick", published="15.2 APBench, 16.3 ISS"),
    Row("pil", "pil", published="12.8 its authors"),
    Row("ar", "ar", published="11.7 APBench, 13.3 ISS"),
    Row("ops", "ops", published="14.7 APBench, 36.6 ISS"),
    Row("cuda", "cuda", published="18.5 its paper"),
    Row("rem", "rem", preset="quick", published="17.5 APBench, 25.4 ISS"),
    Row("sem", "sem", preset="quick", published="15.9 DUNE paper"),
    Row("sep", "sep", preset="quick", published="3.9 ISS"),
    Row("gue", "gue", preset="quick", published="12.8 BridgePure paper"),
    Row("em-l2", "em", norm="l2"),
    Row("em-l1", "em", norm="l1"),
    Row("em-l0", "em", norm="l0"),
    Row("em-ssim", "em", norm="ssim"),
)


def measure(row: Row, *, data: str, count: int | None, device: str, target: str, seeds: int) -> dict[str, Any]:
    """Fit, apply, verify, train; gives the row's figures."""
    from uexcli import __version__
    from uexcli.commands import apply, fit, verify
    from uexcli.runtime import machine

    common: dict[str, Any] = {"photos": data, "limit": count, "device": device, "seed": 1}
    method = "random" if row.method == "none" else row.method
    with tempfile.TemporaryDirectory() as folder:
        noise, out = Path(folder) / "noise.safetensors", Path(folder) / RELEASED
        request = fit.Request(
            method=method,
            mode=row.mode,
            norm=row.norm,
            preset=row.preset,
            patch=row.patch,
            options=row.options,
            output=noise,
            **common,
        )
        fitted = fit.run(request)
        applied = apply.run(apply.Request(noise, data, out, limit=count, on_error="skip"))
        checked = verify.run(verify.Request(out, source=data, allow_missing=True))
        found: dict[str, Any] = {
            "row": dataclasses.asdict(row),
            "images": fitted.plan.images,
            "left_out": fitted.plan.images - applied.written,  # on which the noise leaves no trace
            "surrogate": fitted.plan.surrogate,
            "norm": fitted.plan.norm,
            "eps": fitted.plan.eps,
            "mode": fitted.plan.mode,
            "fit_seconds": fitted.seconds,
            "outcome": fitted.outcome,
            "passes": dataclasses.asdict(fitted.passes),
            "largest_share": checked.largest_share,
            "most_levels": checked.most_levels,
            "psnr": checked.psnr and checked.psnr["median"],
            "ssim": checked.ssim and checked.ssim["median"],
            "findings": len(checked.findings),
            "target": _train(data, out, device, target, seeds, clean=row.method == "none"),
            "machine": {**machine.describe(), "device": fitted.plan.device, "uexcli": __version__},
        }
    return found


def _train(data: str, out: Path, device: str, spec: str, seeds: int, *, clean: bool) -> dict[str, Any]:
    found = read(data, out, device)
    return {"spec": spec, "seeds": seeds, "tests": len(found.test), **train(found, spec, seeds, clean=clean)}


def read(data: str, out: Path, device: str) -> data.Data:
    """Give the images, and what a release's files hold."""
    from uexcli.commands.evaluate import data as eval_data
    from uexcli.messages import Listener
    from uexcli.runtime import machine

    where = machine.pick_device(device)
    machine.settle(where)
    (found,) = eval_data.read(eval_data.Sources(data, str(out), data, None, None, "fail"), where, Listener())
    return found


def train(found: data.Data, spec: str, seeds: int, *, clean: bool, only: torch.Tensor | None = None) -> dict[str, Any]:
    """Train a target on clean or protected images, all or `only` those with these indices, int64."""
    from uexcli import plugin
    from uexcli.core.eval.trial import MemoryTrial
    from uexcli.registry import load
    from uexcli.runtime import machine

    target = load().make(plugin.Target, "target", spec)  # type: ignore[type-abstract]
    images, labels, where = found.clean if clean else found.protected, found.labels, found.labels.device
    outcomes = []
    for seed in range(seeds):
        trial = MemoryTrial(
            images if only is None else images[only],
            labels if only is None else labels[only],
            found.test,
            found.test_labels,
            len(found.classes),
            seed,
            None,
            where,
            machine.pick_precision("auto", where),
        )
        outcomes.append(target.evaluate(trial))
    return {
        "last": [outcome.last for outcome in outcomes],
        "peak": [outcome.peak for outcome in outcomes],
        "own": [outcome.train_accuracy for outcome in outcomes],
        "curves": [outcome.curve for outcome in outcomes],
        "seconds": sum(outcome.seconds for outcome in outcomes),
    }


def spread(values: list[float]) -> str:
    """Mean, and standard deviation where there are several, in percent."""
    deviation = f" ± {100 * statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{100 * statistics.mean(values):.1f}{deviation}"


COLUMNS: Columns = (
    ("row", lambda row: row["row"]["name"]),
    ("mode", lambda row: row["mode"]),
    ("bound", lambda row: f"{row['norm']} {row['eps']}"),
    ("schedule", lambda row: row["row"]["preset"] or "default"),
    ("fit, s", lambda row: f"{row['fit_seconds']:.0f}"),
    ("of the bound", lambda row: f"{row['largest_share']:.1%}"),
    ("levels", lambda row: f"{row['most_levels']:g}"),
    ("PSNR, dB", lambda row: f"{row['psnr']:.1f}"),
    ("last", lambda row: spread(row["target"]["last"])),
    ("peak", lambda row: spread(row["target"]["peak"])),
    ("published", lambda row: row["row"]["published"]),
)


def main() -> None:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.methods", description=__doc__)
    parser.add_argument("--data", help="a dataset with a test split, such as cifar10:ROOT")
    parser.add_argument("--count", type=int, default=5000, help="images; 0: all")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--target", default="small", help="such as small or resnet18:60")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--only", default="", help="rows of these names, comma-separated")
    parser.add_argument("--again", action="store_true", help="measure what is there already, too")
    parser.add_argument("--table", action="store_true", help="measure nothing")
    parser.add_argument("--out", type=Path, default=HERE / "results")
    parser.add_argument("--full", action="store_true", help="published schedules, where rows have a quick one")
    parser.add_argument("--minutes", type=float, help="after this, no further row is begun")
    parser.add_argument("--row", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.row:
        row = next(row for row in ROWS if row.name == asked.row)
        row = dataclasses.replace(row, preset=None) if asked.full else row
        options = {"device": asked.device, "target": asked.target, "seeds": asked.seeds}
        print(json.dumps(measure(row, data=asked.data, count=asked.count or None, **options)))
        return
    names = [name for name in asked.only.split(",") if name]
    prefix = f"methods-{asked.device.partition(':')[0]}-{asked.count or 'all'}"
    start = time.monotonic()
    asked.out.mkdir(parents=True, exist_ok=True)
    for row in ROWS:
        path = asked.out / f"{prefix}-{row.name}.json"
        if asked.minutes is not None and time.monotonic() - start > 60 * asked.minutes:
            print(f"no time is left for {row.name}", file=sys.stderr, flush=True)
            continue
        if asked.table or (names and row.name not in names) or (path.exists() and not asked.again):
            continue
        print(f"{row.name} ...", file=sys.stderr, flush=True)
        began = time.perf_counter()
        words = [sys.executable, "-m", "benchmarks.methods", *sys.argv[1:], "--row", row.name]
        ran = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=False)
        if ran.returncode:  # the others are still worth having
            print(f"{row.name} failed", file=sys.stderr, flush=True)
            continue
        found = json.loads(ran.stdout.splitlines()[-1])
        path.write_text(json.dumps({**found, "whole_seconds": time.perf_counter() - began}, indent=1) + "\n")
    paths = [asked.out / f"{prefix}-{row.name}.json" for row in ROWS]
    print(table_of(COLUMNS, [json.loads(path.read_text()) for path in paths if path.exists()]))


if __name__ == "__main__":
    main()

"""What a patient reader of a release can average out: `python -m benchmarks.averaging --data cifar10:ROOT`.

The reader has the release and its labels, no noise file and no original. They take the mean of each class, take away
what is smooth in it (the mean of many photos is smooth, most noise is not), hold what is left for the noise, and
subtract it. Rows that are there already are kept.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.__main__ import Columns, table_of
from benchmarks.methods import HERE, RELEASED, read

METHODS = ("random", "em", "lsp", "ar", "pil")
MODES = ("classwise", "samplewise")
SMOOTH = 9  # side of the box that a mean is smoothed by, px


def without_smooth(means: Tensor) -> Tensor:
    """Take from images `(K, C, S, S)` what a box of `SMOOTH` px leaves of them."""
    return means - functional.avg_pool2d(means, SMOOTH, 1, SMOOTH // 2, count_include_pad=False)


def averaged(released: Tensor, labels: Tensor, levels: float) -> Tensor:
    """What the reader takes for the noise of each image, `(N, C, S, S)`, from images in levels and labels `(N,)`.

    The reader knows the bound, so the estimate is scaled to the largest it can be.
    """
    count = int(labels.max()) + 1
    sums = torch.zeros(count, *released.shape[1:], dtype=torch.float64).index_add_(0, labels, released)
    found = without_smooth(sums / labels.bincount(minlength=count).view(-1, 1, 1, 1))
    return found.clamp(-levels, levels)[labels]


def measure(method: str, mode: str, *, data: str, count: int, device: str) -> dict[str, Any]:
    """Fit, protect, average, compare with the noise that is in the files."""
    from uexcli import __version__
    from uexcli.commands import apply, fit
    from uexcli.runtime import machine

    with tempfile.TemporaryDirectory() as folder:
        path, out = Path(folder) / "noise.safetensors", Path(folder) / RELEASED
        request = fit.Request(photos=data, limit=count, device=device, seed=1, output=path, method=method, mode=mode)
        fitted = fit.run(request)
        apply.run(apply.Request(path, data, out, limit=count))
        found = read(data, out, "cpu")
    clean, released, labels = found.clean.double(), found.protected.double(), found.labels
    noise = released - clean
    guess = averaged(released, labels, float(noise.abs().max()))
    one, two = ((each - each.mean((1, 2, 3), keepdim=True)).flatten(1) for each in (noise, guess))
    per_image = functional.cosine_similarity(one, two)
    return {
        "method": method,
        "mode": mode,
        "images": len(labels),
        "correlation": float(per_image.mean()),
        "rms_before": float(noise.square().mean().sqrt()),
        "rms_after": float((noise - guess).square().mean().sqrt()),
        "machine": {**machine.describe(), "device": fitted.plan.device, "uexcli": __version__},
    }


COLUMNS: Columns = (
    ("method", lambda row: row["method"]),
    ("mode", lambda row: row["mode"]),
    ("images", lambda row: f"{row['images']:,}"),
    ("correlation with the noise", lambda row: f"{row['correlation']:.2f}"),
    ("levels to the originals, RMS", lambda row: f"{row['rms_before']:.2f}"),
    ("after subtraction", lambda row: f"{row['rms_after']:.2f}"),
)


def main() -> None:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.averaging", description=__doc__)
    parser.add_argument("--data", help="a dataset, such as cifar10:ROOT")
    parser.add_argument("--count", type=int, default=3000)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--table", action="store_true", help="measure nothing")
    parser.add_argument("--out", type=Path, default=HERE / "results")
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    paths = {}
    for method in METHODS:
        for mode in MODES:
            path = paths[method, mode] = asked.out / f"averaging-{asked.count}-{method}-{mode}.json"
            if asked.table or path.exists():
                continue
            print(f"{method}, {mode} ...", file=sys.stderr, flush=True)
            row = measure(method, mode, data=asked.data, count=asked.count, device=asked.device)
            path.write_text(json.dumps(row, indent=1) + "\n")
    print(table_of(COLUMNS, [json.loads(path.read_text()) for path in paths.values() if path.exists()]))


if __name__ == "__main__":
    main()

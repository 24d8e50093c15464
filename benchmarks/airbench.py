"""The target `airbench` on all of CIFAR-10: accuracy, seconds of training, and seconds of compiling apart.

    python -m benchmarks.airbench --data cifar10:ROOT --runs 5 --out FOLDER
    python -m benchmarks.airbench --data cifar10:ROOT --count 2000 --target airbench:width=16 --runs 2 --out FOLDER

The mark is 94 % in 2.6 s on an A100, compiling not counted.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from statistics import fmean

import numpy as np
import torch
from torch import Tensor

from uexcli import plugin
from uexcli.core.eval.trial import MemoryTrial
from uexcli.io.images.photo_files import open_photo
from uexcli.io.samples import label
from uexcli.io.sources import source_of
from uexcli.registry import load
from uexcli.runtime import machine


def main() -> None:
    """Train it a few times, and write what came out."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", required=True)
    parser.add_argument("--count", type=int, default=None)
    parser.add_argument("--target", default="airbench")
    parser.add_argument("--epochs", type=int, default=None)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    device = machine.pick_device(given.device)
    autocast = machine.pick_precision("auto", device)
    machine.settle(device)
    train, test = (_tensors(given.data, split, given.count, device) for split in ("train", "test"))
    target: plugin.Target = load().make(plugin.Target, "target", given.target)  # type: ignore[type-abstract]
    runs = []
    for seed in range(given.runs):
        trial = MemoryTrial(*train, *test, int(train[1].max()) + 1, seed, given.epochs, device, autocast)
        made = target.evaluate(trial)
        runs.append({"last": made.last, "seconds": made.seconds, "compile_seconds": made.compile_seconds})
        print(json.dumps(runs[-1]), flush=True)
    found = {
        "target": given.target,
        "train_images": len(train[0]),
        "runs": runs,
        "mean_last": fmean(run["last"] for run in runs),
        "mean_seconds": fmean(run["seconds"] for run in runs),
        "machine": {**machine.describe(), "device": machine.name_of(device)},
    }
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / f"airbench-{device.type}-{len(train[0])}.json").write_text(json.dumps(found, indent=2) + "\n")
    print(f"{found['mean_last']:.2%} in {found['mean_seconds']:.2f} s, mean of {len(runs)} runs")


def _tensors(data: str, split: str, count: int | None, device: torch.device) -> tuple[Tensor, Tensor]:
    """Give uint8 images `(N, C, S, S)` and labels."""
    found = label(source_of(load(), data).read(split)[:count])
    pixels = np.stack([open_photo(sample).pixels.transpose(2, 0, 1) for sample in found.samples])
    return torch.from_numpy(pixels).to(device), torch.tensor(found.labels, device=device)


if __name__ == "__main__":
    main()

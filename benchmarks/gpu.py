"""Everything a GPU is asked for, within ten minutes: `python -m benchmarks.gpu --data cifar10:ROOT --out FOLDER`.

Checks first (a captured graph gives what eager steps give; the micro-batch does not matter; one step agrees with the
CPU), then CIFAR-10 sample-wise against ResNet-18 by the paper's schedule and by the default one, then ResNet-18 for 60
epochs on clean and on both protected sets. Every row is written and printed as it comes; what no time is left for is
left out, and said.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.__main__ import run, table
from benchmarks.cell import Cell
from uexcli import plugin
from uexcli.core.fit.bank import NoiseBank
from uexcli.core.fit.data import Data
from uexcli.core.fit.engine import Engine
from uexcli.core.fit.execution import Execution
from uexcli.core.fit.problem import BankProblem
from uexcli.core.nets import ResNet18
from uexcli.registry import load
from uexcli.runtime import machine


def problem(device: torch.device, engine: Engine, count: int = 96, dtype: torch.dtype | None = None) -> BankProblem:
    """A fit of random pictures against ResNet-18."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (count, 3, 32, 32), generator=generator, dtype=torch.uint8)
    keys = [str(number) for number in range(count)]
    data = Data(images.to(device), (torch.arange(count) % 10).to(device), keys, 10, device)
    norm = load().make(plugin.Norm, "norm", "linf")  # type: ignore[type-abstract]
    noise = NoiseBank(data, torch.arange(count, device=device), count, norm, 8 / 255, seed=0)
    return BankProblem(
        data, noise, Execution(dtype, engine), make_surrogate=lambda: ResNet18(num_classes=10, channels=3, size=32)
    )


def moved(task: BankProblem, *, steps: int) -> Tensor:
    """The bank after a few steps, on the CPU, in 8-bit levels."""
    delta = task.start(random=False)
    task.move(task.build(), delta, torch.arange(len(task.images), device=task.images.device), step=0.2, steps=steps)
    return (255 * delta).round().to(torch.int8).cpu()


class Eager(Engine):
    """An engine that captures nothing."""

    def steps(self, frozen: Any, bank: Tensor, parts: Any, step: Any) -> Tensor:
        """Take the steps one kernel at a time."""
        from uexcli.core.fit.pgd import move

        return move(frozen, bank, parts, step)


def checks(device: torch.device) -> dict[str, float]:
    """Give the shares of 8-bit levels that agree."""
    low = machine.pick_precision("auto", device)

    def agree(left: Tensor, right: Tensor) -> float:
        return float((left == right).double().mean())

    graph = moved(problem(device, Engine(32), dtype=low), steps=5)
    captured = Engine(32)
    again = moved(problem(device, captured, dtype=low), steps=5)
    eager = moved(problem(device, Eager(32), dtype=low), steps=5)
    whole = moved(problem(device, Engine(96), dtype=low), steps=5)
    return {
        "the same run twice": agree(graph, again),
        "graph and eager": agree(graph, eager),
        "micro-batch 32 and 96": agree(graph, whole),
        "one float32 step on the CPU and here": agree(
            moved(problem(torch.device("cpu"), Engine()), steps=1), moved(problem(device, Engine()), steps=1)
        ),
        "steps captured as a graph": float(any(value is not None for value in captured._captured.values())),
    }


def main() -> None:
    """Check, measure, print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--data", required=True, help="CIFAR-10, as cifar10:ROOT")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=9.5, help="after this, no further row is begun")
    parser.add_argument("--count", type=int, help="use so many images only, to try the script")
    parser.add_argument("--surrogate", default="resnet18")
    parser.add_argument("--target", default="resnet18:60,512,0.2", help="who trains on the images")
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    device = machine.pick_device(asked.device)
    machine.settle(device)
    print(json.dumps(machine.describe()), flush=True)
    found = checks(device)
    print(json.dumps(found, indent=1), flush=True)
    (asked.out / "checks.json").write_text(json.dumps({**found, "machine": machine.describe()}, indent=1) + "\n")
    common: dict[str, Any] = {"data": asked.data, "device": asked.device, "count": asked.count}
    net = {**common, "surrogate": asked.surrogate}
    judged = {"target": asked.target, "target_seeds": 1}
    cells = [
        Cell("em-sample-paper", preset="huang2021", **net, **judged),
        Cell("em-sample", **net, **judged),
        Cell("clean", method="none", **common, **judged),
        Cell("em-class", mode="classwise", **net),
        Cell("em-sample-compiled", compiled=True, **net),
        Cell("pil", method="pil", **common),
        Cell("lsp", method="lsp", **common),
    ]
    rows = []
    for cell in cells:
        if time.monotonic() - began > 60 * asked.minutes:
            print(f"no time is left for {cell.name}", file=sys.stderr, flush=True)
            continue
        rows.append(run(cell, asked.out / f"gpu-{cell.name}.json"))
        print(f"{time.monotonic() - began:.0f} s\n{table(rows)}", flush=True)


if __name__ == "__main__":
    main()

"""One measurement, in a process of its own so that its peak memory is its own: `python -m benchmarks.cell JSON`."""

from __future__ import annotations

import dataclasses
import json
import resource
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks import flops, reference
from uexcli import __version__, plugin
from uexcli.commands import fit
from uexcli.commands.fit import problem
from uexcli.commands.fit import setup as fit_setup
from uexcli.core.eval.trial import MemoryTrial
from uexcli.core.fit.problem import BankProblem
from uexcli.core.fit.store import Store
from uexcli.core.pixels import publish
from uexcli.io import samples
from uexcli.io.noise import noise_file
from uexcli.io.sources import source_of
from uexcli.messages import Listener
from uexcli.registry import load
from uexcli.runtime import machine

MOVING = 5.0  # seconds to time the noise steps alone for


@dataclasses.dataclass(frozen=True)
class Cell:
    """What to measure."""

    name: str
    data: str
    count: int | None = None
    method: str = "em"
    mode: str = "samplewise"
    surrogate: str = "auto"
    device: str = "cpu"
    precision: str = "auto"
    preset: str | None = None
    options: dict[str, str] = dataclasses.field(default_factory=dict)
    memory: str | None = None
    compiled: bool = False
    plain: bool = False  # the reference loop instead of uex
    settled: bool = False  # the reference loop, too, keeps freed memory as uex makes the system do
    seconds: float | None = None  # end the reference loop after the round that passes this
    seed: int = 1
    target: str | None = None  # who trains on the protected images, such as `small` or `resnet18:60`
    target_seeds: int = 3
    test: int | None = None


def measure(cell: Cell) -> dict[str, Any]:
    """Run a cell and give its row."""
    began = time.perf_counter()
    request = fit.Request(
        photos=cell.data,
        method=cell.method,
        mode=cell.mode,
        surrogate=cell.surrogate,
        limit=cell.count,
        device=cell.device,
        precision=cell.precision,
        preset=cell.preset,
        options=cell.options,
        memory=cell.memory,
        compiled=cell.compiled,
        seed=cell.seed,
    )
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "noise.safetensors"
        request = dataclasses.replace(request, output=output)
        row = _plain(request, cell) if cell.plain else _uex(request)
        row["command_seconds"] = time.perf_counter() - began
        row.setdefault("peak_bytes", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
        device = machine.pick_device(cell.device)
        if device.type == "cuda":
            row["peak_gpu_bytes"] = torch.cuda.max_memory_allocated(device)
        delta, rows = row.pop("delta"), row.pop("rows")
        problem = _problem(request)
        row["images"] = len(problem.images)
        if row["moved"]:
            row.update(_rates(problem, row, plain=cell.plain))
        if cell.target is not None:
            row["target"] = _train(cell, problem, delta, rows, problem.images)
    row["cell"] = dataclasses.asdict(cell)
    row["machine"] = {**machine.describe(), "threads": torch.get_num_threads(), "uexcli": __version__}
    return row


def clean(cell: Cell) -> dict[str, Any]:
    """Train the cell's target on the clean images: what protection is measured against."""
    problem = _problem(fit.Request(photos=cell.data, method="random", limit=cell.count, device=cell.device, seed=0))
    outcome = _train(cell, problem, None, None, problem.images)
    return {"cell": dataclasses.asdict(cell), "target": outcome, "images": len(problem.images)}


def _uex(request: fit.Request) -> dict[str, Any]:
    result = fit.run(request)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    noise = noise_file.read(result.plan.output)
    return {
        "fit_seconds": result.seconds,
        "outcome": result.outcome,
        "surrogate": result.plan.surrogate,
        "precision": noise.recipe["precision"],
        "moved": result.passes.moved,
        "trained": result.passes.trained,
        "seen": result.passes.seen,
        "stated_bytes": result.plan.memory,
        "peak_bytes": peak,
        "delta": None if noise.delta is None else noise.bank(),
        "rows": noise.rows,
    }


def _plain(request: fit.Request, cell: Cell) -> dict[str, Any]:
    if not cell.settled:
        machine._keep_memory = lambda *, photos: None  # as a script has it that knows nothing of uex
    problem = _problem(dataclasses.replace(request, precision="float32"))
    own = problem.per_sample
    began = time.perf_counter()
    run = reference.fit(
        problem.images,
        problem.labels,
        problem.rows,
        problem.build,
        own=own,
        steps=20 if own else 1,
        on_round=lambda _round, error: _heard(error, began, cell.seconds),
    )
    setup = fit_setup.prepare(request)
    return {
        "fit_seconds": time.perf_counter() - began,
        "outcome": f"{len(run.errors)} rounds, errors {', '.join(f'{error:.1%}' for error in run.errors)}",
        "surrogate": setup.parts.surrogate.name if setup.parts.surrogate else None,
        "precision": "float32",
        "moved": run.moved,
        "trained": run.trained,
        "seen": run.seen,
        "delta": run.delta,
        "rows": problem.rows,
    }


def _heard(error: float, began: float, limit: float | None) -> bool:
    seconds = time.perf_counter() - began
    print(f"{seconds:8.1f} s  surrogate error {error:.1%}", file=sys.stderr, flush=True)
    return limit is None or seconds < limit


def _problem(request: fit.Request) -> BankProblem:
    setup = fit_setup.prepare(dataclasses.replace(request, output=Path(tempfile.gettempdir()) / "no such noise"))
    loaded = samples.load(setup.found, setup.size, setup.channels)
    return problem.make_problem(setup, loaded, request.seed or 0, Store(), Listener()).problem


def _rates(problem: BankProblem, row: dict[str, Any], *, plain: bool) -> dict[str, Any]:
    """Time the noise steps alone, and give the share of the measured matrix rate that the whole fit used."""
    model, delta = problem.build(), problem.start(random=False)
    counted = flops.per_image(problem.make_surrogate(), problem.images.shape[1], problem.images.shape[2])
    batch = torch.arange(min(problem.chunk, len(problem.images)), device=problem.images.device)
    steps = 5 if problem.per_sample else 1
    problem.move(model, delta, batch, step=0.1, steps=steps)
    done, began = 0, time.perf_counter()
    while (passed := time.perf_counter() - began) < MOVING:
        problem.move(model, delta, batch, step=0.1, steps=steps)
        done += steps * len(batch)
        float(delta[0, 0, 0, 0])  # waits for the device
    dtype = problem.autocast or torch.float32
    roof = flops.matmul_rate(problem.device, torch.float32 if row["precision"] == "float32" else dtype)
    work = row["moved"] * counted.step + row["trained"] * counted.train + row["seen"] * counted.forward
    return {
        "steps_per_second": row["moved"] / row["fit_seconds"] if plain else done / passed,
        "fit_steps_per_second": row["moved"] / row["fit_seconds"],
        "flops": work,
        "flops_per_step": counted.step,
        "matmul_rate": roof,
        "utilisation": work / row["fit_seconds"] / roof,
    }


def _train(
    cell: Cell, problem: BankProblem, delta: Tensor | None, rows: Tensor | None, images: Tensor
) -> dict[str, Any]:
    """Train the target on the protected images, test on the data's own test images."""
    device = problem.device
    if delta is not None and rows is not None:
        parts = torch.arange(len(images)).split(1024)
        written = [
            publish(images[part.to(images.device)].cpu(), delta[rows[part]].cpu(), problem.norm, problem.eps)
            for part in parts
        ]
        images = torch.cat(written)
    registry = load()
    found = samples.limited(source_of(registry, cell.data).samples(split="test"), cell.test, ordered=True)
    tests = samples.load(found, problem.images.shape[2], problem.images.shape[1])
    target = registry.make(plugin.Target, "target", cell.target or "small")  # type: ignore[type-abstract]
    outcomes = [
        target.evaluate(
            MemoryTrial(
                images.to(device),
                problem.labels.to(device),
                tests.images.to(device),
                tests.labels.to(device),
                problem.num_classes,
                seed,
                None,
                device,
                problem.autocast,
            )
        )
        for seed in range(cell.target_seeds)
    ]
    return {
        "spec": cell.target,
        "seeds": cell.target_seeds,
        "tests": len(tests.labels),
        "last": _spread([outcome.last for outcome in outcomes]),
        "peak": _spread([outcome.peak for outcome in outcomes]),
        "own": _spread([outcome.train_accuracy for outcome in outcomes]),
        "seconds": sum(outcome.seconds for outcome in outcomes),
        "curves": [outcome.curve for outcome in outcomes],
    }


def _spread(values: list[float]) -> list[float]:
    return [statistics.mean(values), statistics.stdev(values) if len(values) > 1 else 0.0]


if __name__ == "__main__":
    asked = Cell(**json.loads(sys.argv[1]))
    print(json.dumps(clean(asked) if asked.method == "none" else measure(asked)))

"""Evaluate: what does a net still learn from the release, compared with the same training on the clean photos?"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev

import torch
from torch import Tensor

from uexcli import api
from uexcli.commands.eval_data import Data, Sources, read
from uexcli.commands.listener import Listener, duration
from uexcli.core import seeding
from uexcli.core.learnability import chance, learnability
from uexcli.core.trial import Fresh, MemoryTrial
from uexcli.errors import UexError, UsageError, unknown
from uexcli.io import samples, views
from uexcli.registry import load
from uexcli.runtime import machine

PLAIN = "none"


@dataclass(frozen=True)
class Request:
    """What to compare, and how to train."""

    photos: str
    release: str
    test: str | None = None
    target: str = "auto"
    against: tuple[str, ...] = ()
    seeds: int = 1
    epochs: int | None = None
    size: int | None = None
    labels: Path | None = None
    device: str = "auto"
    precision: str = "auto"
    on_error: str = "fail"
    max_learnability: float | None = None
    view: str = views.SQUASH


@dataclass(frozen=True)
class Side:
    """The runs of one side of a cell, one a seed."""

    runs: tuple[api.Outcome, ...]

    def mean(self, what: str) -> float:
        """The mean of `last`, `peak`, `train_accuracy` or `seconds` over seeds."""
        return fmean(getattr(run, what) for run in self.runs)

    def spread(self, what: str) -> float:
        """The standard deviation over seeds; 0 with one."""
        return stdev([getattr(run, what) for run in self.runs]) if len(self.runs) > 1 else 0.0


@dataclass(frozen=True)
class Cell:
    """Clean and protected, trained alike, under one countermeasure."""

    against: str
    clean: Side
    protected: Side
    learnability_last: float
    learnability_peak: float


@dataclass(frozen=True)
class Result:
    """The cells, worst first, and what they were measured with."""

    cells: tuple[Cell, ...]
    target: str
    epochs: int
    seeds: int
    size: int
    view: str
    train_images: int
    test_images: int
    test_source: str
    classes: int
    chance: float
    device: str
    warnings: tuple[str, ...]
    max_learnability: float | None
    seconds: float

    @property
    def worst(self) -> float:
        """The highest mean peak learnability of any cell."""
        return max(cell.learnability_peak for cell in self.cells)

    @property
    def passed(self) -> bool:
        """Whether the gate holds; true where none was set."""
        return self.max_learnability is None or self.worst <= self.max_learnability


def run(request: Request, listener: Listener | None = None) -> Result:
    """Train on clean and on protected images, with one recipe, and compare on clean test images.

    Raises:
        UsageError: photos without labels, unknown names, a gate that is no number in [0, 1].
        UexError: the clean baseline is not above chance, so nothing can be said.
    """
    listener = listener or Listener()
    registry = load()
    device = machine.pick_device(request.device)
    autocast = machine.pick_precision(request.precision, device)
    machine.settle(device)
    _check(request)
    name = ("small" if device.type == "cpu" else "resnet18") if request.target == "auto" else request.target
    target: api.Target = registry.make(api.Target, "target", name)  # type: ignore[type-abstract]
    measures: list[tuple[str, api.Countermeasure | None]] = [(PLAIN, None)]
    measures += [
        (spec, registry.make(api.Countermeasure, "countermeasure", spec))  # type: ignore[type-abstract]
        for spec in dict.fromkeys(request.against)
    ]
    sources = Sources(
        request.photos, request.release, request.test, request.labels, request.size, request.on_error, request.view
    )
    data = read(sources, device, listener)
    base = chance(data.test_labels)
    listener.say(
        f"{len(data.labels):,} training and {len(data.test_labels):,} test images ({data.test_source}), "
        f"{len(data.classes)} classes, chance {base:.1%}, target {name} on {machine.name_of(device)}"
    )

    def trial(
        images: Tensor, seed: int, on_step: api.OnStep = lambda _: None, fresh: Fresh | None = None
    ) -> MemoryTrial:
        return MemoryTrial(
            images,
            data.labels,
            data.test,
            data.test_labels,
            len(data.classes),
            seed,
            request.epochs,
            device,
            autocast,
            on_step,
            fresh,
        )

    runs = 2 * request.seeds * len(measures)
    estimate = (_estimate(target, trial(data.clean, 0)) + _cutting(data, target, trial(data.clean, 0))) * runs
    listener.say(f"{runs} trainings; estimated time: about {duration(estimate)}")
    began = time.perf_counter()
    cells: list[Cell] = []
    epochs = 0
    for number, (spec, measure) in enumerate(measures):
        sides: list[list[api.Outcome]] = [[], []]
        pair = [
            (_against(measure, images), _fresh(measure, drawn))
            for images, drawn in ((data.clean, data.clean_views), (data.protected, data.protected_views))
        ]
        for seed in range(request.seeds):
            for side, (images, fresh) in enumerate(pair):
                position = (number * request.seeds + seed) * 2 + side
                what = f"{('clean', 'protected')[side]}, {spec}, seed {seed}"

                def on_step(p: api.Progress, position: int = position, what: str = what) -> None:
                    note = f"{what}: {p.note}" if p.note else what
                    listener.step(api.Progress(position + p.done / p.total, runs, note, "train"))

                outcome = target.evaluate(trial(images, seed, on_step, fresh))
                epochs = len(outcome.curve)
                sides[side].append(outcome)
        cells.append(_cell(spec, Side(tuple(sides[0])), Side(tuple(sides[1])), base))
    cells.sort(key=lambda cell: -cell.learnability_peak)
    result = Result(
        cells=tuple(cells),
        target=name,
        epochs=epochs,
        seeds=request.seeds,
        size=int(data.clean.shape[2]),
        view=request.view,
        train_images=len(data.labels),
        test_images=len(data.test_labels),
        test_source=data.test_source,
        classes=len(data.classes),
        chance=base,
        device=machine.name_of(device),
        warnings=tuple(doubts(cells, base, len(data.test_labels), data)),
        max_learnability=request.max_learnability,
        seconds=time.perf_counter() - began,
    )
    for text in result.warnings:
        listener.warn(text)
    return result


def _check(request: Request) -> None:
    if request.seeds < 1:
        raise UsageError(f"--seeds {request.seeds}: at least 1.")
    if request.epochs is not None and request.epochs < 1:
        raise UsageError(f"--epochs {request.epochs}: at least 1.")
    if request.size is not None and request.size < 8:
        raise UsageError(f"--size {request.size}: too small.", hint="Use 8 or more.")
    if request.max_learnability is not None and not 0 <= request.max_learnability <= 1:
        raise UsageError(f"--max-learnability {request.max_learnability}: not within 0 to 1.")
    if request.view not in views.VIEWS:
        raise unknown("view", request.view, views.VIEWS)
    samples.check_options(request.on_error)


def _against(measure: api.Countermeasure | None, images: Tensor) -> Tensor:
    """Apply a countermeasure; clean and protected images see the same random numbers."""
    return images if measure is None else measure.apply(images, seeding.generator(0, f"against {measure.name}"))


def _fresh(measure: api.Countermeasure | None, drawn: views.Views | None) -> Fresh | None:
    """Give what draws the crops of an epoch, which the countermeasure then changes."""
    if drawn is None:
        return None
    return lambda generator: _against(measure, drawn(generator))


def _estimate(target: api.Target, trial: MemoryTrial) -> float:
    """Time one epoch on a few images and multiply by the target's work; seconds for one training."""
    few = torch.arange(min(256, len(trial.train_images)), device=trial.device)
    probe = MemoryTrial(
        trial.train_images[few], trial.train_labels[few], trial.test_images[:32], trial.test_labels[:32],
        trial.num_classes, 0, 1, trial.device, trial.autocast,
    )  # fmt: skip
    target.evaluate(probe)  # the first run pays for start-up
    began = time.perf_counter()
    target.evaluate(probe)
    each = (time.perf_counter() - began) / max(1.0, target.work(probe))
    tests = 0.3 * len(trial.test_images) * target.work(trial) / max(1, len(trial.train_images))
    return each * (target.work(trial) + tests)


def _cutting(data: Data, target: api.Target, trial: MemoryTrial) -> float:
    """Time the crops of a few photos; seconds for one training, which cuts each photo anew in every epoch."""
    if data.clean_views is None:
        return 0.0
    few = dataclasses.replace(data.clean_views, samples=data.clean_views.samples[:32])
    began = time.perf_counter()
    few(seeding.generator(0, "estimate"))
    return (time.perf_counter() - began) / len(few.samples) * target.work(trial)


def _cell(spec: str, clean: Side, protected: Side, base: float) -> Cell:
    for what in ("last", "peak"):
        if clean.mean(what) <= base:
            raise UexError(
                f"under '{spec}' the clean baseline reaches {clean.mean(what):.1%}, not above chance "
                f"({base:.1%}): nothing can be said.",
                hint="Train longer (--epochs), or on more images.",
            )
    last, peak = (learnability(protected.mean(what), clean.mean(what), base) for what in ("last", "peak"))
    return Cell(spec, clean, protected, last, peak)


def doubts(cells: Sequence[Cell], base: float, tests: int, data: Data) -> list[str]:
    """Look for the ways in which the result may be wrong."""
    found = []
    if torch.equal(data.clean, data.protected):
        found.append("clean and protected images are the same at this size: there is no noise to measure")
    for cell in cells:
        noise = 2 * (cell.clean.mean("last") * (1 - cell.clean.mean("last")) / tests) ** 0.5
        if cell.clean.mean("last") < base + noise:
            found.append(f"under '{cell.against}' the clean baseline is within the uncertainty of chance; train longer")
        if cell.protected.mean("train_accuracy") < 0.9:
            found.append(
                f"under '{cell.against}' the target fits only {cell.protected.mean('train_accuracy'):.1%} of the "
                "protected training images: it may not have been trained long enough to tell"
            )
    if tests < 100:
        found.append(f"only {tests} test images: accuracies are uncertain by about {100 / tests**0.5:.0f} points")
    return found

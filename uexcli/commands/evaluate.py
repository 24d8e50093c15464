"""Evaluate: what does a net still learn from the release, compared with the same training on the clean photos?"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from torch import Tensor

from uexcli import api
from uexcli.commands import eval_cells, eval_protocol, eval_runs, eval_scenario
from uexcli.commands.eval_data import Sources, read, read_pairs
from uexcli.commands.eval_doubts import TOLD, doubts, of_data, verdict
from uexcli.commands.eval_protocol import Protocol
from uexcli.commands.eval_runs import Done, Plan
from uexcli.commands.eval_scenario import CLEAN, CLEAN_PART, PROTECTED, Scenario, Wanted
from uexcli.commands.eval_transfer import into
from uexcli.commands.listener import Listener
from uexcli.core.detect import Probe, detect
from uexcli.core.learnability import chance, learnability
from uexcli.core.statistics import interval
from uexcli.errors import UexError, UsageError, unknown
from uexcli.io import images, samples, shards, views
from uexcli.io.claims import claim
from uexcli.registry import load
from uexcli.runtime import machine

SHOWN = 8  # pairs of the contact sheet


@dataclass(frozen=True)
class Request:
    """What to compare, and how to train; what is None or empty is the protocol's."""

    photos: str
    release: str
    test: str | None = None
    protocol: str | None = None
    targets: tuple[str, ...] = ()
    against: tuple[str, ...] = ()
    seeds: int | None = None
    epochs: int | None = None
    size: int | None = None
    view: str | None = None
    share: float = 1.0
    protect_classes: tuple[str, ...] = ()
    merge: str | None = None
    into: str | None = None
    into_test: str | None = None
    pairs: Path | None = None
    pairs_middle: float = 1.0
    labels: Path | None = None
    device: str = "auto"
    precision: str = "auto"
    on_error: str = "fail"
    max_learnability: float | None = None
    max_pixels: int | None = None  # of an image
    cells: Path | None = None
    fresh: bool = False
    shard: str | None = None
    report: Path | None = None
    force: bool = False


@dataclass(frozen=True)
class Side:
    """The runs of one side of a cell, one a seed."""

    runs: tuple[api.Outcome, ...]

    def mean(self, what: str) -> float:
        """The mean over seeds of a number that every run has, such as `last`, `peak` or `seconds`."""
        return fmean(getattr(run, what) for run in self.runs)

    def has(self, what: str) -> bool:
        """Whether every run knows this number."""
        return all(getattr(run, what) is not None for run in self.runs)


@dataclass(frozen=True)
class Cell:
    """Clean and protected, trained alike, by one target under one countermeasure.

    Learnability is None where the clean baseline is not above chance.
    """

    target: str
    against: str
    clean: Side
    protected: Side
    learnability_last: float | None
    learnability_peak: float | None
    learnability_early_stop: float | None = None
    verdict: str = TOLD  # whether the figures tell anything: `told`, `alike` or `unclear`
    clean_part: Side | None = None  # trained on the images that are not protected, where some are
    intervals: Mapping[str, float] = field(default_factory=dict)  # half of the 95 % interval of `last`, by side
    groups: Mapping[str, Mapping[str, float]] = field(default_factory=dict)  # of test classes: accuracy by side
    hinders: bool = False  # the countermeasure keeps a net from fitting its training images
    strengths: tuple[tuple[str, float | None], ...] = ()  # of the countermeasures, beside what rivals them


@dataclass(frozen=True)
class Result:
    """The cells, worst first, and what they were measured with."""

    cells: tuple[Cell, ...]
    protocol: str
    targets: tuple[str, ...]
    seeds: int
    size: int
    view: str
    train_images: int
    test_images: int
    test_source: str
    classes: tuple[str, ...]
    chance: float
    scenario: str  # what of the data is protected, and how it is labelled; "" for all, as it is
    share: float  # of the training images that are protected
    detect: Mapping[str, tuple[Probe, ...]]  # by side
    device: str
    versions: Mapping[str, object]
    warnings: tuple[str, ...]
    max_learnability: float | None
    seconds: float
    reused: int  # trainings that were done before
    folder: str  # of the trainings

    @property
    def worst(self) -> float:
        """The highest mean peak learnability of any cell."""
        return max(cell.learnability_peak for cell in self.cells if cell.learnability_peak is not None)

    @property
    def undecided(self) -> bool:
        """Whether a gate was set and nothing speaks against it, but some cell says nothing at all."""
        silent = any(cell.learnability_peak is None for cell in self.cells)
        return self.max_learnability is not None and silent and self.worst <= self.max_learnability

    @property
    def passed(self) -> bool:
        """Whether the gate holds; true where none was set."""
        return self.max_learnability is None or (self.worst <= self.max_learnability and not self.undecided)


@dataclass(frozen=True)
class Partial:
    """A shard is done, and other shards are not."""

    done: int
    of: int
    folder: str
    seconds: float


def run(request: Request, listener: Listener | None = None) -> Result | Partial:
    """Train on clean and on protected images, with one recipe, and compare on clean test images.

    Raises:
        UsageError: photos without labels, unknown names, a gate that is no number in [0, 1], an existing report.
        UexError: the clean baseline is not above chance, so nothing can be said; or weights are missing.
    """
    if request.report is None:
        return _run(request, listener or Listener())
    with claim(request.report):
        return _run(request, listener or Listener())


def _run(request: Request, listener: Listener) -> Result | Partial:
    registry = load()
    protocol = protocol_of(request)
    check(request, protocol)
    shard = shards.parse(request.shard)
    device = machine.pick_device(request.device)
    autocast = machine.pick_precision(request.precision, device)
    machine.settle(device)
    images.limit_pixels(request.max_pixels)
    strict = request.protocol is None
    eval_runs.jobs_of(registry, protocol, device, protocol.size or 32, strict=strict, listener=Listener())
    cells = eval_cells.Cells(request.cells or eval_cells.default_folder(), fresh=request.fresh)
    wanted = Wanted(request.share, request.protect_classes, request.merge)
    eval_scenario.check(wanted)
    sources = Sources(
        request.photos, request.release, request.test, request.labels, protocol.size, request.on_error, protocol.view
    )
    data = read(sources, device, listener)
    if request.into is not None:
        data = into(data, request.into, request.into_test, sources, listener)
    scenario = eval_scenario.stage(data, wanted)
    pairs = None
    if request.pairs is not None:
        size, channels = int(data.clean.shape[2]), int(data.clean.shape[1])
        pairs = read_pairs(request.pairs, size, channels, request.pairs_middle, device)
    jobs = eval_runs.jobs_of(registry, protocol, device, int(data.clean.shape[2]), strict=strict, listener=listener)
    base = chance(scenario.test_labels)
    names = ", ".join(dict.fromkeys(job.name for job in jobs))
    listener.say(
        f"{len(data.labels):,} training and {len(data.test_labels):,} test images ({data.test_source}), "
        f"{len(scenario.classes)} classes, chance {base:.1%}, target {names} on {machine.name_of(device)}"
    )
    if scenario.words:
        listener.say(f"Scenario: {scenario.words}.")
    early = of_data(data)
    for text in early:
        listener.warn(text)
    cells.prepare()
    plan = Plan(registry, scenario, pairs, jobs, protocol, device, autocast, cells, shard, listener)
    began = time.perf_counter()
    done = plan.run()
    if done is None:
        return Partial(plan.have, plan.total, str(cells.folder), time.perf_counter() - began)
    made = sorted(
        (_cell(job, scenario, done, base) for job in jobs),
        key=lambda cell: -(cell.learnability_peak if cell.learnability_peak is not None else float("-inf")),
    )
    if all(cell.learnability_peak is None for cell in made):
        first = made[0]
        raise UexError(
            f"under '{first.against}' the clean baseline reaches {first.clean.mean('last'):.1%}, not above chance "
            f"({base:.1%}): nothing can be said.",
            hint="Train longer (--epochs), or on more images.",
        )
    result = Result(
        cells=tuple(made),
        protocol=protocol.name,
        targets=tuple(dict.fromkeys(job.name for job in jobs)),
        seeds=protocol.seeds,
        size=int(data.clean.shape[2]),
        view=protocol.view,
        train_images=len(data.labels),
        test_images=len(data.test_labels),
        test_source=data.test_source,
        classes=scenario.classes,
        chance=base,
        scenario=scenario.words,
        share=scenario.share,
        detect=_detected(scenario, cells, listener),
        device=machine.name_of(device),
        versions=machine.describe(),
        warnings=(*early, *doubts(made, base, len(data.test_labels), faces=pairs is not None)),
        max_learnability=request.max_learnability,
        seconds=time.perf_counter() - began,
        reused=cells.used,
        folder=str(cells.folder),
    )
    for text in result.warnings[len(early) :]:
        listener.warn(text)
    if request.report is not None:
        from uexcli.commands.eval_report import write

        write(request.report, result, sample_pairs(scenario), request)
        listener.say(f"Report: {request.report}")
    return result


def protocol_of(request: Request) -> Protocol:
    """Give the protocol, changed by what the command line says."""
    protocol = Protocol() if request.protocol is None else eval_protocol.read(request.protocol)
    # plain training always belongs to it
    against = tuple(dict.fromkeys((eval_protocol.PLAIN, *(request.against or protocol.against))))
    return dataclasses.replace(
        protocol,
        targets=request.targets or protocol.targets,
        against=against,
        seeds=protocol.seeds if request.seeds is None else request.seeds,
        epochs=protocol.epochs if request.epochs is None else request.epochs,
        size=protocol.size if request.size is None else request.size,
        view=protocol.view if request.view is None else request.view,
    )


def check(request: Request, protocol: Protocol) -> None:
    """Refuse what cannot be asked.

    Raises:
        UsageError: it is out of range, does not go together, or a report is there already.
    """
    if protocol.seeds < 1:
        raise UsageError(f"--seeds {protocol.seeds}: at least 1.")
    if protocol.epochs is not None and protocol.epochs < 1:
        raise UsageError(f"--epochs {protocol.epochs}: at least 1.")
    if protocol.size is not None and protocol.size < 8:
        raise UsageError(f"--size {protocol.size}: too small.", hint="Use 8 or more.")
    if request.max_learnability is not None and not 0 <= request.max_learnability <= 1:
        raise UsageError(f"--max-learnability {request.max_learnability}: not within 0 to 1.")
    if not 0 < request.pairs_middle <= 1:
        raise UsageError(f"--pairs-middle {request.pairs_middle}: not above 0 and at most 1.")
    if protocol.view not in views.VIEWS:
        raise unknown("view", protocol.view, views.VIEWS)
    if request.into is not None and protocol.view != views.SQUASH:
        raise UsageError("--into: photos of two sets are squashed.", hint="Leave --view out.")
    if request.into_test is not None and request.into is None:
        raise UsageError("--into-test: there is no --into.")
    if request.report is not None and request.report.exists() and not request.force:
        raise UsageError(f"{request.report}: exists already.", hint="Use --force to replace it.")
    samples.check_options(request.on_error)


def _learnt(protected: Side, clean: Side, what: str, labels: Tensor) -> float | None:
    """Count the test images that are right, over all seeds; chance is to name the largest class."""
    if not (clean.has(what) and protected.has(what)):
        return None
    right = [sum(round(getattr(run, what) * len(labels)) for run in side.runs) for side in (protected, clean)]
    return learnability(right[0], right[1], len(clean.runs) * int(labels.bincount().max()))


def _cell(job: eval_runs.Job, scenario: Scenario, done: Done, base: float) -> Cell:
    labels = scenario.test_labels.cpu()
    tests = len(labels)
    sides = {name: Side(tuple(done[job, name, seed] for seed in range(job.seeds))) for name in scenario.sides}
    clean, protected = sides[CLEAN], sides[PROTECTED]
    learnt: dict[str, float | None] = {}
    above = _learnt(clean, clean, "last", labels)
    for what in ("last", "peak", "early_stop"):
        # not by the peak: the best of many epochs is above chance for a net that learnt nothing
        learnt[what] = None if above is None else _learnt(protected, clean, what, labels)
    return Cell(
        target=job.name,
        against=job.against.spec,
        clean=clean,
        protected=protected,
        learnability_last=learnt["last"],
        learnability_peak=learnt["peak"],
        learnability_early_stop=learnt["early_stop"],
        verdict=verdict(clean, protected, learnt["peak"], base, tests),
        clean_part=sides.get(CLEAN_PART),
        intervals={name: interval([run.last for run in side.runs], tests) for name, side in sides.items()},
        groups=_groups(scenario, sides),
        hinders=job.against.on_batches or not job.target.batches,
        strengths=tuple((part.rivals or part.name, part.strength) for part in job.against.parts),
    )


def _groups(scenario: Scenario, sides: Mapping[str, Side]) -> dict[str, dict[str, float]]:
    """Give the accuracy on the protected classes and on the others, where not all are protected."""
    if not scenario.protected_classes:
        return {}
    counts = scenario.test_labels.bincount(minlength=len(scenario.classes)).tolist()
    mine = {scenario.classes.index(name) for name in scenario.protected_classes}
    numbers = {"protected classes": mine, "other classes": set(range(len(scenario.classes))) - mine}
    return {
        group: {
            name: fmean(sum(run.right[number] for number in chosen) / total for run in side.runs)
            for name, side in sides.items()
            if all(run.right for run in side.runs)
        }
        for group, chosen in numbers.items()
        if (total := sum(counts[number] for number in chosen))
    }


def _detected(scenario: Scenario, cells: eval_cells.Cells, listener: Listener) -> dict[str, tuple[Probe, ...]]:
    """Ask simple nets about the clean and the protected set; what they said before is kept."""
    found = {}
    for place, name in enumerate((CLEAN, PROTECTED)):
        side = scenario.sides[name]

        def probe(place: int = place, name: str = name, side: eval_scenario.Side = side) -> list[dict[str, Any]]:
            listener.step(api.Progress(place, 2, f"simple nets on the {name} images", "detect"))
            made = detect(side.images, side.labels, scenario.test, scenario.test_labels, len(scenario.classes))
            return [dataclasses.asdict(one) for one in made]

        asked = eval_cells.fingerprint(side.images, side.labels, scenario.test, scenario.test_labels)
        key = cells.key({"detect": asked})
        found[name] = cells.remember(key, probe, lambda made: tuple(Probe(**one) for one in made))
    return found


def sample_pairs(scenario: Scenario) -> list[tuple[np.ndarray, np.ndarray]]:
    """Pick clean and protected images for the contact sheet, of different classes: uint8 (H, W, C) each."""
    clean, protected = scenario.sides[CLEAN], scenario.sides[PROTECTED]
    mask = protected.parts
    places = list(range(len(clean.labels))) if mask is None else mask.nonzero().flatten().tolist()
    labels = clean.labels.tolist()
    picked: dict[int, int] = {}
    for position in places:
        picked.setdefault(labels[position], position)
    chosen = list(picked.values())[:SHOWN]
    chosen += [position for position in places[: 2 * SHOWN] if position not in chosen][: SHOWN - len(chosen)]

    def shown(side: Tensor, position: int) -> np.ndarray:
        return side[position].permute(1, 2, 0).cpu().numpy()

    return [(shown(clean.images, position), shown(protected.images, position)) for position in chosen]

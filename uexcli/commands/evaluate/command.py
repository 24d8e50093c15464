"""Evaluate: what does a net still learn from the release, compared with the same training on the clean photos?"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from uexcli import plugin
from uexcli.commands.evaluate import cache, data, folds
from uexcli.commands.evaluate import jobs as eval_jobs
from uexcli.commands.evaluate import protocol as eval_protocol
from uexcli.commands.evaluate import scenario as eval_scenario
from uexcli.commands.evaluate.cell import Cell, Side
from uexcli.commands.evaluate.checks import doubts, of_data
from uexcli.commands.evaluate.data import Data, Sources, read, read_pairs
from uexcli.commands.evaluate.host_set import into
from uexcli.commands.evaluate.protocol import Protocol
from uexcli.commands.evaluate.request import ATTACKERS, BLIND, Request
from uexcli.commands.evaluate.result import Partial, Result, cell_of
from uexcli.commands.evaluate.scenario import CLEAN, PROTECTED, Scenario, Wanted
from uexcli.commands.evaluate.trainings import Ground, Place, Plan
from uexcli.core.eval.detect import NETS, RULE, Probe, detect
from uexcli.core.eval.learnability import chance
from uexcli.core.eval.statistics import told_apart
from uexcli.errors import UexError, UsageError, unknown
from uexcli.io import samples
from uexcli.io.claims import claim
from uexcli.io.images import crops, photo_files
from uexcli.io.release import layout, shards
from uexcli.messages import Listener, Quietly
from uexcli.registry import Registry, load, options_of
from uexcli.runtime import machine, room
from uexcli.wording import plainly

__all__ = ["Cell", "Partial", "Request", "Result", "Side", "check", "protocol_of", "run"]

SHOWN = 8  # pairs of the contact sheet
NATIVE = 260  # px, the most that a pretrained net is used to
PRETRAINED = ("probe",)  # beside the default target, where photos are large enough for it


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
    photo_files.limit_pixels(request.max_pixels)
    strict = request.protocol is None
    eval_jobs.jobs_of(registry, protocol, device, protocol.size or 32, strict=strict, listener=Listener())
    cells = cache.Cells(request.cells or cache.default_folder(), fresh=request.fresh)
    wanted = scenarios_of(request)
    informed = _informed(request, registry, listener)
    sources = Sources(
        request.photos, request.release, request.test, request.labels, protocol.size or request.usual_size,
        request.on_error, protocol.view, 1 if request.into is not None else protocol.folds,
    )  # fmt: skip
    folds = _read(sources, request, device, listener)
    size, channels = int(folds[0].clean.shape[2]), int(folds[0].clean.shape[1])
    jobs = eval_jobs.jobs_of(
        registry, protocol, device, size, strict=strict, listener=listener, weights=request.weights,
        side=_side(folds, protocol, channels, wanted.values(), listener), sized=protocol.size is not None,
        informed=informed,
    )  # fmt: skip
    if request.weights != "auto" and not any("weights" in options_of(type(job.target)) for job in jobs):
        raise UsageError("`weights`: no pretrained net is tried.", hint="Name one, for example `targets=probe`.")
    grounds = _grounds(jobs, folds, sources, request, device, listener)
    jobs = [dataclasses.replace(job, at=at) for at in wanted for job in jobs]
    first = grounds[next(iter(wanted)), jobs[0].size]
    scenario, base = first.folds[0], chance(first.test_labels)
    tests = len(first.test_labels)
    names = ", ".join(dict.fromkeys(_shown(job, jobs) for job in jobs))
    listener.say(
        f"{len(folds[0].labels):,} training and {tests:,} test images ({folds[0].test_source}), "
        f"{len(scenario.classes)} classes, chance {base:.1%}, target {names} on {machine.name_of(device)}"
    )
    words = "; ".join(dict.fromkeys(ground.folds[0].words for ground in grounds.values() if ground.folds[0].words))
    if words:
        listener.say(f"Scenario: {words}.")
    listener.say(
        f"On {tests:,} test images accuracies that differ by less than about {100 * told_apart(tests):.1f} points may "
        f"not be told apart{'' if protocol.seeds > 1 else '; what another start of the nets gives is for `seeds`'}."
    )
    early = of_data(folds)
    for text in early:
        listener.warn(text)
    cells.prepare()
    plan = Plan(registry, grounds, jobs, protocol, device, autocast, cells, shard, listener)
    began = time.perf_counter()
    done = plan.run()
    if done is None:
        return Partial(plan.have, plan.total, str(cells.folder), time.perf_counter() - began)
    made = sorted(
        (cell_of(job, plan.ground(job), done, wanted[job.at][1]) for job in jobs),
        key=lambda cell: (not cell.tells, -(cell.learnability_peak or 0.0)),
    )
    if all(cell.learnability_peak is None for cell in made):
        worst = made[0]
        raise UexError(
            f"under {plainly(worst.against)} the clean baseline reaches {worst.clean.mean('last'):.1%}, not above "
            f"chance ({worst.chance:.1%}): nothing can be said.",
            hint="Train longer (`epochs`), or on more images.",
        )
    result = Result(
        cells=tuple(made),
        protocol=protocol.name,
        targets=tuple(dict.fromkeys(job.name for job in jobs)),
        seeds=protocol.seeds,
        folds=len(folds),
        size=size,
        view=protocol.view,
        train_images=len(folds[0].labels),
        test_images=tests,
        test_source=folds[0].test_source,
        classes=scenario.classes,
        chance=base,
        scenario=words,
        share=scenario.share,
        attacker=request.attacker,
        detect=_detected(scenario, cells, listener),
        device=machine.name_of(device),
        versions=machine.describe(),
        warnings=(*early, *doubts(made, tests, faces=request.pairs is not None)),
        max_learnability=request.max_learnability,
        seconds=time.perf_counter() - began,
        reused=cells.used,
        folder=str(cells.folder),
        at=next(iter(wanted)),
    )
    for text in result.warnings[len(early) :]:
        listener.warn(text)
    if request.report is not None:
        from uexcli.commands.evaluate.report import write

        write(request.report, result, sample_pairs(scenario), request)
        listener.say(f"Report: {request.report}")
    return result


def _grounds(
    jobs: Sequence[eval_jobs.Job],
    folds: tuple[Data, ...],
    sources: Sources,
    request: Request,
    device: torch.device,
    listener: Listener,
) -> dict[Place, Ground]:
    """Stage each scenario at each size that a target sees; what was read is read again for other sizes."""
    size, channels = int(folds[0].clean.shape[2]), int(folds[0].clean.shape[1])
    found: dict[Place, Ground] = {}
    for shown in dict.fromkeys(job.size for job in jobs):
        data = folds
        if shown != size:
            data = _read(dataclasses.replace(sources, size=shown), request, device, Quietly(listener))
        pairs = None
        if request.pairs is not None:
            pairs = read_pairs(request.pairs, shown, channels, request.pairs_middle, device)
        for at, (wanted, _) in scenarios_of(request).items():
            found[at, shown] = Ground(eval_scenario.stage_all(data, wanted), pairs)
    return found


def _shown(job: eval_jobs.Job, jobs: Sequence[eval_jobs.Job]) -> str:
    """Name a target, with the size at which it sees the photos where that is not the same for all."""
    return job.name if len({one.size for one in jobs}) == 1 else f"{job.name} at {job.size} px"


def _read(sources: Sources, request: Request, device: torch.device, listener: Listener) -> tuple[Data, ...]:
    """Read the images, within another set where one is named."""
    folds = read(sources, device, listener)
    if request.into is None:
        return folds
    return tuple(into(data, request.into, request.into_test, sources, listener) for data in folds)


def _side(
    folds: Sequence[Data],
    protocol: Protocol,
    channels: int,
    scenarios: Iterable[tuple[Wanted, float | None]],
    listener: Listener,
) -> int:
    """Give the side of the photos, or 0 where they would not fit into memory at the size of pretrained nets."""
    side = folds[0].side
    photos = (len(folds[0].labels) + len(folds[0].test_labels)) * (1 if len(folds) == 1 else 2)
    # where only some are protected, each fold has a mixture of its own
    mixed = sum(wanted.share < 1 or bool(wanted.classes) or folds[0].stays is not None for wanted, _ in scenarios)
    photos += mixed * sum(len(data.labels) for data in folds)
    fits = eval_jobs.fits(photos, NATIVE, channels, room.left())
    if side > data.LARGEST and protocol.size is None and not fits:
        listener.warn("pretrained nets see the photos as small as the others do: larger ones would not fit into memory")
        return 0
    return side


def scenarios_of(request: Request) -> dict[str, tuple[Wanted, float | None]]:
    """Name all scenarios that are asked for, "" where there is one; with the share or number of classes of each."""
    found: dict[str, tuple[Wanted, float | None]] = {}
    one_list = (len(request.shares) > 1) != (len(request.merges) > 1)  # of two lists there is no one curve
    for share in request.shares:
        for merge in request.merges:
            words = [f"share {100 * share:g}%"] if len(request.shares) > 1 else []
            words += [f"merged into {merge}" if merge else "not merged"] if len(request.merges) > 1 else []
            value = share if len(request.shares) > 1 else float(merge) if merge and merge.isdecimal() else None
            found[", ".join(words)] = (Wanted(share, request.protect_classes, merge), value if one_list else None)
    return found


def _informed(request: Request, registry: Registry, listener: Listener) -> tuple[str, ...]:
    """Give the countermeasures of who knows the method, as the release says it; none for a blind attacker."""
    if request.attacker == BLIND:
        return ()
    root = Path(str(request.release))
    facts = (layout.read_facts(root) if root.is_dir() else None) or {}
    found: dict[str, None] = {}
    for kind in ("method", "granularity"):
        if facts.get(kind) in registry.names(kind):
            cls = registry.find(kind, facts[kind]).cls
            assert issubclass(cls, plugin.Method | plugin.Granularity)
            found |= dict.fromkeys(cls.undone_by)
    if "method" not in facts:
        listener.warn("the release does not say by what method it was made: an informed attacker knows no more")
    elif not found:
        listener.say(f"No countermeasure is known that undoes {facts['method']} and no other method.")
    return tuple(found)


def protocol_of(request: Request) -> Protocol:
    """Give the protocol, changed by what the command line says."""
    usual = Protocol(pretrained=PRETRAINED, large_only=not request.pretrained)
    protocol = usual if request.protocol is None else eval_protocol.read(request.protocol)
    # plain training always belongs to it
    against = tuple(dict.fromkeys((eval_protocol.PLAIN, *(request.against or protocol.against))))
    return dataclasses.replace(
        protocol,
        targets=request.targets or protocol.targets,
        pretrained=request.pretrained or (() if request.targets else protocol.pretrained),
        against=against,
        seeds=protocol.seeds if request.seeds is None else request.seeds,
        folds=protocol.folds if request.folds is None else request.folds,
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
        raise UsageError(f"`seeds={protocol.seeds}`: at least 1.")
    if protocol.epochs is not None and protocol.epochs < 1:
        raise UsageError(f"`epochs={protocol.epochs}`: at least 1.")
    if protocol.size is not None and protocol.size < 8:
        raise UsageError(f"`size={protocol.size}`: too small.", hint="Use 8 or more.")
    if request.max_learnability is not None and not 0 <= request.max_learnability <= 1:
        raise UsageError(f"`max_learnability={request.max_learnability}`: not within 0 to 1.")
    if not 0 < request.pairs_middle <= 1:
        raise UsageError(f"`pairs_middle={request.pairs_middle}`: not above 0 and at most 1.")
    folds.check(protocol.folds, together=request.into is None, tested=request.test is not None)
    for wanted, _ in scenarios_of(request).values():
        eval_scenario.check(wanted)
    if request.attacker not in ATTACKERS:
        raise unknown("attacker", request.attacker, ATTACKERS)
    if protocol.view not in crops.VIEWS:
        raise unknown("view", protocol.view, crops.VIEWS)
    if request.into is not None and protocol.view != crops.SQUASH:
        raise UsageError("`into`: photos of two sets are squashed.", hint="Leave `view` out.")
    if request.into_test is not None and request.into is None:
        raise UsageError("`into_test`: there is no `into`.")
    if request.report is not None and request.report.exists() and not request.force:
        raise UsageError(f"{request.report}: exists already.", hint="Use `force=True` to replace it.")
    samples.check_options(request.on_error)


def _detected(scenario: Scenario, cells: cache.Cells, listener: Listener) -> dict[str, tuple[Probe, ...]]:
    """Ask simple nets about the clean and the protected set; what they said before is kept."""
    found = {}
    for place, name in enumerate((CLEAN, PROTECTED)):
        side = scenario.sides[name]

        def probe(place: int = place, name: str = name, side: eval_scenario.Side = side) -> list[dict[str, Any]]:
            listener.step(plugin.Progress(place, 2, f"simple nets on the {name} images", "detect"))
            made = detect(side.images, side.labels, scenario.test, scenario.test_labels, len(scenario.classes))
            return [dataclasses.asdict(one) for one in made]

        asked = cache.fingerprint(side.images, side.labels, scenario.test, scenario.test_labels)
        key = cells.key({"detect": asked, "nets": NETS, "rule": RULE})
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

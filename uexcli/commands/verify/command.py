"""Verify: is a release bounded, complete and intact? Needs no GPU and no noise file."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean, median
from typing import Any

import numpy as np
import torch

from uexcli import plugin
from uexcli.commands import bounds
from uexcli.commands.protect import memory
from uexcli.commands.protect.protector import Protector, protector_of
from uexcli.commands.verify import leaks, strict
from uexcli.commands.verify.integrity import checksums, coverage, decodes
from uexcli.commands.verify.pair import Bound, Checked, Finding, check_pair, memory_of_pair
from uexcli.commands.verify.result import Request, Result, cases
from uexcli.commands.verify.survival import STEPS
from uexcli.core.pixels import SLACK
from uexcli.core.quality import psnr
from uexcli.errors import UexError, UsageError
from uexcli.io import samples
from uexcli.io.claims import claim
from uexcli.io.images import photo_files
from uexcli.io.images.header import Shape
from uexcli.io.noise import noise_file
from uexcli.io.pool import parallel
from uexcli.io.release import layout
from uexcli.io.reports import junit
from uexcli.io.sources import source_of
from uexcli.messages import Listener, tell_notes
from uexcli.registry import Registry, load, remake
from uexcli.runtime import machine

SURVIVE = 64  # images at which it is measured what is left of the noise
DECODE_BYTES = 5  # a value of an image that is only decoded, at the most


def run(request: Request, listener: Listener | None = None) -> Result:
    """Check every file of a release, and write a report if one is asked for.

    Raises:
        UsageError: a path is missing, or no bound is known; or the report exists.
        UexError: it cannot be checked at all (no images, a damaged manifest, an unreadable source).
    """
    if request.strict and request.fast:
        raise UsageError("`strict=True` decodes every file, `fast=True` none.", hint="Leave one of them out.")
    report = request.junit
    if report is None:
        return _check(request, listener or Listener())
    with claim(report):
        if report.exists() and not request.force:
            raise UsageError(f"{report}: exists already.", hint="Use `force=True` to replace it.")
        if request.release.resolve() in report.resolve().parents:
            raise UsageError(f"`junit={report}` lies in the release.", hint="Write it elsewhere.")
        result = _check(request, listener or Listener())
        junit.write(report, f"uex verify {request.release}", cases(result))
        return result


def _check(request: Request, listener: Listener) -> Result:
    registry = load()
    memory.check_options(request.jobs, request.memory)
    photo_files.limit_pixels(request.max_pixels)
    machine.settle(torch.device("cpu"), photos=True)
    root = request.release
    if not root.is_dir():
        raise UsageError(f"{root}: no such folder.", hint="Give the folder of a release.")
    facts = layout.read_facts(root) or {}
    there, findings = _listed(root)
    pictures = [name for name in there if Path(name).suffix.lower() in plugin.IMAGE_SUFFIXES]
    checks: dict[str, str] = {}
    if not pictures:
        raise UexError(f"{root}: no image in this release.")
    if request.source is None and not (root / layout.SUMS).is_file():
        raise UexError(
            f"{root}: no {layout.SUMS} here, so there is nothing to check against.", hint="Give `source=PHOTOS`."
        )
    findings += checksums(root, there, checks, request, listener)
    bound = _bound(request, facts, registry) if request.source is not None else None
    if request.source is None:
        checks["bound"] = "not checked: give `source`"
        checks["coverage"] = "not checked: give `source`"
        if request.noise is not None:
            raise UsageError("`noise`: the photos are needed to tell the noise.", hint="Give `source=PHOTOS`.")
        room = None if request.fast else _room(_released(root, pictures), DECODE_BYTES, "", request, listener)
        if room is not None:
            findings += decodes(root, pictures, room, listener)
        result = _result(request, findings, None, pictures, [], np.zeros(256, np.int64), bound, checks, room)
        return _strict(result, request, pictures, (), room, listener)

    source = source_of(registry, request.source)
    found = source.samples(strict=False)
    _apart(root, found, source.root)
    tell_notes(found.notes, listener)
    pairs = layout.pair(found.keys, pictures, facts.get("suffix", ".png"))
    findings += coverage(found, pairs, pictures, there, facts, request)
    checks["coverage"] = f"{len(pairs):,} of {len(found.samples):,} sources have a released image"
    by_key = {sample.key: sample for sample in found.samples}
    checked: list[Checked] = []
    counts = np.zeros(256, np.int64)
    room = None
    if not request.fast:
        assert bound is not None
        work = [(by_key[key], name) for key, name in pairs.items()]
        each = memory_of_pair(bound.norm, noise=request.noise is not None)
        room = _room([sample for sample, _ in work], each, facts.get("suffix", ".png"), request, listener)
        checked, counts = _compared(request, registry, work, facts, bound, room, listener)
        usual = float(facts.get("rms_levels", 0))
        findings += [finding for item in checked for finding in item.findings]
        findings += leaks.find(root, found, pictures, pairs, checked, usual, room.jobs, listener)
        checks["leaks"] = "every released image was compared with its source; odd ones with every source"
    else:
        checks["bound"] = "not checked: `fast=True` decodes nothing"
    result = _result(request, findings, len(found.samples), pictures, checked, counts, bound, checks, room)
    return _strict(result, request, pictures, found.samples, room, listener)


def _listed(root: Path) -> tuple[list[str], list[Finding]]:
    """List the files of a release, sorted; what is no file is a finding."""
    there = layout.files(root)
    there += [name for name in (layout.JOB, layout.JOURNAL) if (root / name).exists() and name not in there]
    links = layout.irregular(root, there)
    findings = [Finding("link", name, "a file", "a link, or no regular file") for name in links]
    return sorted(set(there) - set(links)), findings


def _strict(
    result: Result,
    request: Request,
    pictures: Sequence[str],
    sources: Sequence[plugin.Sample],
    room: memory.Plan | None,
    listener: Listener,
) -> Result:
    """Add what a second decoder says, where it was asked."""
    if not request.strict or room is None:
        return result
    outcome = strict.check(request.release, pictures, sources, room, listener)
    findings = sorted((*result.findings, *outcome.findings), key=lambda f: (f.path, f.code))
    checks = {**result.checks, "decoders": outcome.text}
    return dataclasses.replace(result, findings=tuple(findings), checks=checks, alone=outcome.alone)


def _compared(
    request: Request,
    registry: Registry,
    work: Sequence[tuple[plugin.Sample, str]],
    facts: Mapping[str, Any],
    bound: Bound,
    room: memory.Plan,
    listener: Listener,
) -> tuple[list[Checked], np.ndarray]:
    """Check every released image against its source; count all values by how much they change, see `Checked.counts`."""
    stated: dict[str, set[str]] = {}
    for item in facts.get("mode_changes", []):
        stated.setdefault(item["path"], set()).add(str(item.get("change")))
    protector = _protector(request, registry, [sample for sample, _ in work])
    chosen = {name for _, name in work[:: max(1, -(-len(work) // SURVIVE))]}

    def one(item: tuple[plugin.Sample, str]) -> Checked:
        said, name = stated.get(item[1], set()), item[1]
        with memory.enough(item[0].key):
            return check_pair(request.release, *item, bound, said, protector=protector, survive=name in chosen)

    checked: list[Checked] = []
    counts = np.zeros(256, np.int64)
    began = time.monotonic()
    for done, result in enumerate(parallel(one, work, room.jobs, processes=True, apart=room.apart), 1):
        if result.counts is not None:
            counts += result.counts
        checked.append(dataclasses.replace(result, counts=None))
        rate = done / max(time.monotonic() - began, 1e-9)
        listener.step(plugin.Progress(done, len(work), f"{rate:,.0f} images/s", stage="decode"))
    return checked, counts


def _room(shown: Sequence[plugin.Sample], each: int, suffix: str, request: Request, listener: Listener) -> memory.Plan:
    """Plan the memory for these images at `each` bytes a value, and say how much where that is much.

    A value of what files of this suffix hold of them.

    Raises:
        UexError: one of them takes more than there is.
    """
    shapes = memory.shapes_of(shown)

    def cost(shape: Shape) -> int:
        return each * shape.within(suffix).values * (1 + shape.deep) + 2 * shape.stored

    room = memory.plan(shapes, cost, len(shown), jobs=request.jobs, memory=request.memory, skip=None)
    memory.say(room, len(shown), "images to check", request.jobs, listener, always=False)
    return room


def _protector(request: Request, registry: Registry, wanted: Iterable[plugin.Sample]) -> Protector | None:
    """What tells the noise that should be there, ready for all photos."""
    if request.noise is None:
        return None
    protector = protector_of(registry, noise_file.read(request.noise), request.weights)
    if any(sample.key not in protector.fitted for sample in wanted):
        protector.check_new()
    return protector


def _bound(request: Request, facts: Mapping[str, Any], registry: Registry) -> Bound:
    stated = facts.get("norm", {"name": "linf", "options": {}})
    name = request.norm or stated["name"]
    cls = registry.find("norm", name).cls
    if name != stated["name"] and request.eps is None and "eps" in facts:
        raise UsageError(f"`norm={name}`: the release states its bound under {stated['name']}.", hint="Add `eps`.")
    try:
        norm = remake(cls, stated["options"] if name == stated["name"] else {})
    except ValueError:
        raise UexError(f"{layout.FACTS}: norm '{name}' does not take the options {stated['options']}.") from None
    assert isinstance(norm, plugin.Norm)
    text = request.eps or facts.get("eps_text")
    if text is None and "eps" not in facts:
        raise UsageError(f"{request.release}: the bound is not known.", hint="Say it with `eps=8/255`.")
    eps = norm.parse(str(text)) if text is not None else float(facts["eps"])
    if request.eps is not None and "eps_text" in facts and name == stated["name"]:
        bounds.check(norm, request.eps, eps, str(facts["eps_text"]), at=" in this release")
    return Bound(norm, eps, str(text or eps), request.size or facts.get("size"))


def _apart(root: Path, found: samples.Labelled, place: Path) -> None:
    target = root.resolve()
    for sample in found.samples[:1]:
        lies = (sample.path or place).resolve()
        if sample.array is None and (target == lies or target in lies.parents):
            raise UsageError(f"`source` lies inside {root}.", hint="Give the folder of the original photos.")


def _released(root: Path, pictures: Sequence[str]) -> list[plugin.Sample]:
    return [plugin.Sample(name, None, path=root / name) for name in pictures]


def _result(
    request: Request,
    findings: Sequence[Finding],
    sources: int | None,
    pictures: Sequence[str],
    checked: Sequence[Checked],
    counts: np.ndarray,
    bound: Bound | None,
    checks: dict[str, str],
    room: memory.Plan | None,
) -> Result:
    shares = [item.size / item.allowed for item in checked if item.size is not None and item.allowed]
    levels = [item.levels for item in checked if item.levels is not None]
    noise = [psnr(item.rms) for item in checked if item.rms]
    similar = [item.ssim for item in checked if item.ssim is not None and item.ssim == item.ssim]
    if shares and bound is not None and not bound.norm.bounded:
        checks["bound"] = f"none is promised: norm '{bound.norm.name}' allows any change"
    elif shares:
        checks["bound"] = f"{sum(share <= 1 + SLACK for share in shares):,} of {len(shares):,} images are within it"
    limit = bound.norm.levels(bound.eps) if bound else None
    present = [item.present for item in checked if item.present is not None]
    if request.noise is not None and not request.fast:
        others = "" if len(present) == len(checked) else "; the others have none in the file"
        checks["noise"] = f"looked for in {len(present):,} of {len(checked):,} images{others}"
    left = [item.survival for item in checked if item.survival]
    without = sum(len(one) < len(STEPS) for one in left)
    if without:
        checks["survival"] = f"without JPEG for {without:,} of {len(left):,} images, which no JPEG file can hold"
    known = {step: [one[step] for one in left if step in one] for step in STEPS}
    once = {(finding.code, finding.path): finding for finding in findings}  # checksums and coverage both miss a file
    return Result(
        release=str(request.release),
        findings=tuple(sorted(once.values(), key=lambda f: (f.path, f.code))),
        sources=sources,
        images=len(pictures),
        decoded=len(checked),
        norm=bound.norm.name if bound else None,
        eps=bound.text if bound else None,
        bounded=bound.norm.bounded if bound else None,
        largest_share=max(shares) if shares else None,
        most_levels=max(levels) if levels else None,
        p999_levels=int(np.searchsorted(np.cumsum(counts), 0.999 * counts.sum())) if counts.any() else None,
        values_over=int(counts[limit + 1 :].sum()) if limit is not None and counts.any() else None,
        psnr={"min": min(noise), "median": median(noise)} if noise else None,
        ssim={"min": min(similar), "median": median(similar)} if similar else None,
        present={"min": min(present), "median": median(present)} if present else None,
        survival={step: fmean(shares) for step, shares in known.items() if shares} if left else None,
        survived=len(left),
        looked=not request.fast,
        checks=checks,
        jobs=room.jobs if room else None,
        memory=room.bytes if room else None,
    )

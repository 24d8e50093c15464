"""Verify: is a release bounded, complete and intact? Needs no GPU and no noise file."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
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
from uexcli.commands.verify.pair import Bound, Checked, Finding, check_pair, hidden, memory_of_pair
from uexcli.commands.verify.survival import STEPS
from uexcli.core.pixels import SLACK
from uexcli.core.quality import psnr
from uexcli.errors import Exit, UexError, UsageError
from uexcli.io import samples
from uexcli.io.claims import claim
from uexcli.io.images import photo_files
from uexcli.io.images.header import Shape
from uexcli.io.noise import noise_file
from uexcli.io.pool import parallel
from uexcli.io.release import layout
from uexcli.io.reports import junit
from uexcli.messages import Listener, tell_notes
from uexcli.registry import Registry, load, remake
from uexcli.runtime import machine

SCHEMA = "uex.verify/1"
LINES = "uex.verify-lines/1"
SHAPE = "size, mode, profile"
CASES = {  # of a report: what the findings are about
    "missing": "coverage", "unexpected": "coverage",
    "checksum": "integrity", "link": "integrity", "unlisted": "integrity", "unreadable": "integrity",
    "over-bound": "bound", "noise-missing": "noise", "leak": "leaks", "metadata": "metadata",
    strict.CODE: "decoders", "changed-size": SHAPE,
}  # fmt: skip
SURVIVE = 64  # images at which it is measured what is left of the noise
DECODE_BYTES = 5  # a value of an image that is only decoded, at the most


@dataclass(frozen=True)
class Request:
    """What to verify, against what."""

    release: Path
    source: str | None = None
    eps: str | None = None
    norm: str | None = None
    size: int | None = None
    noise: Path | None = None  # the noise that should be there
    weights: Path | None = None  # of its encoder
    allow_missing: bool = False
    fast: bool = False
    jobs: int | None = None
    max_pixels: int | None = None
    junit: Path | None = None  # a report to write
    force: bool = False
    strict: bool = False  # decode all by a second decoder, too
    memory: str | None = None  # to take at the most


@dataclass(frozen=True)
class Result:
    """The verdict."""

    release: str
    findings: tuple[Finding, ...]
    sources: int | None
    images: int
    decoded: int
    norm: str | None
    eps: str | None
    bounded: bool | None  # False: the norm promises nothing
    largest_share: float | None  # of the bound
    most_levels: float | None  # of 8 bits
    p999_levels: float | None  # 99.9 % of all values change by no more
    values_over: int | None  # that change by more than the bound allows, where it is one for each value
    psnr: dict[str, float] | None
    ssim: dict[str, float] | None
    present: dict[str, float] | None  # with --noise: agreement with the fitted noise
    survival: dict[str, float] | None  # share of the noise left after what trainers do, mean of `survived` images
    survived: int
    looked: bool  # into every released file, for what must not be in it
    checks: dict[str, str] = field(default_factory=dict)  # what was looked at, and how it came out
    alone: tuple[strict.Alone, ...] | None = None  # files that one decoder alone reads; None without --strict
    jobs: int | None = None  # images at a time
    memory: int | None = None  # bytes that took at the most

    @property
    def exit(self) -> Exit:
        """Exit 0 or 1."""
        return Exit.FAILED if self.findings else Exit.OK


def run(request: Request, listener: Listener | None = None) -> Result:
    """Check every file of a release, and write a report if one is asked for.

    Raises:
        UsageError: a path is missing, or no bound is known; or the report exists.
        UexError: it cannot be checked at all (no images, a damaged manifest, an unreadable source).
    """
    if request.strict and request.fast:
        raise UsageError("--strict decodes every file, --fast none.", hint="Leave one of them out.")
    report = request.junit
    if report is None:
        return _check(request, listener or Listener())
    with claim(report):
        if report.exists() and not request.force:
            raise UsageError(f"{report}: exists already.", hint="Use --force to replace it.")
        if request.release.resolve() in report.resolve().parents:
            raise UsageError(f"--junit {report} lies in the release.", hint="Write it elsewhere.")
        result = _check(request, listener or Listener())
        junit.write(report, f"uex verify {request.release}", cases(result))
        return result


def cases(result: Result) -> dict[str, list[str] | None]:
    """What there is to check, and what was found wrong with it; None for what was not looked at."""
    compared, looked = result.decoded > 0, result.sources is not None
    done = {"coverage": looked, "bound": compared and bool(result.bounded), "leaks": compared, SHAPE: compared,
            "noise": result.present is not None, "metadata": result.looked, "integrity": True,
            "decoders": result.alone is not None}  # fmt: skip
    asked = [name for name in dict.fromkeys(CASES.values()) if name != "decoders" or result.alone is not None]
    found: dict[str, list[str]] = {name: [] for name in asked}
    for item in result.findings:
        wrong = f"{item.code}: {item.path}: expected {item.expected}, found {item.found}"
        found[CASES.get(item.code, SHAPE)].append(wrong)
    return {name: wrong if wrong or done[name] else None for name, wrong in found.items()}


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
            f"{root}: no {layout.SUMS} here, so there is nothing to check against.", hint="Give --source PHOTOS."
        )
    findings += _checksums(root, there, checks, request, listener)
    bound = _bound(request, facts, registry) if request.source is not None else None
    if request.source is None:
        checks["bound"] = "not checked: give --source"
        checks["coverage"] = "not checked: give --source"
        if request.noise is not None:
            raise UsageError("--noise: the photos are needed to tell the noise.", hint="Give --source PHOTOS.")
        room = None if request.fast else _room(_released(root, pictures), DECODE_BYTES, "", request, listener)
        if room is not None:
            findings += _decodes(root, pictures, room, listener)
        result = _result(request, findings, None, pictures, [], np.zeros(256, np.int64), bound, checks, room)
        return _strict(result, request, pictures, (), room, listener)

    found = samples.list_samples(registry, request.source, strict=False)
    _apart(root, found, samples.place_of(registry, request.source))
    tell_notes(found.notes, listener)
    pairs = layout.pair(found.keys, pictures, facts.get("suffix", ".png"))
    findings += _coverage(found, pairs, pictures, there, facts, request)
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
        checks["bound"] = "not checked: --fast decodes nothing"
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
        raise UsageError(f"--norm {name}: the release states its bound under {stated['name']}.", hint="Add --eps.")
    try:
        norm = remake(cls, stated["options"] if name == stated["name"] else {})
    except ValueError:
        raise UexError(f"{layout.FACTS}: norm '{name}' does not take the options {stated['options']}.") from None
    assert isinstance(norm, plugin.Norm)
    text = request.eps or facts.get("eps_text")
    if text is None and "eps" not in facts:
        raise UsageError(f"{request.release}: the bound is not known.", hint="Say it with --eps 8/255.")
    eps = norm.parse(str(text)) if text is not None else float(facts["eps"])
    if request.eps is not None and "eps_text" in facts and name == stated["name"]:
        bounds.check(norm, request.eps, eps, str(facts["eps_text"]), at=" in this release")
    return Bound(norm, eps, str(text or eps), request.size or facts.get("size"))


def _apart(root: Path, found: samples.Labelled, place: Path) -> None:
    target = root.resolve()
    for sample in found.samples[:1]:
        lies = (sample.path or place).resolve()
        if sample.array is None and (target == lies or target in lies.parents):
            raise UsageError(f"--source lies inside {root}.", hint="Give the folder of the original photos.")


def _checksums(
    root: Path, there: Sequence[str], checks: dict[str, str], request: Request, listener: Listener
) -> Iterator[Finding]:
    """Compare every file with SHA256SUMS, where there is one."""
    path = root / layout.SUMS
    if not path.is_file():
        checks["checksums"] = f"no {layout.SUMS}"
        if (root / layout.FACTS).is_file():
            yield Finding("checksum", layout.SUMS, "a list of checksums", "missing")
        return
    sums = layout.read_sums(path)
    members = [*there, *(name for name in (layout.FACTS, layout.CROISSANT) if (root / name).is_file())]
    for name in sorted(set(sums) - set(members)):
        yield Finding("missing", name, f"listed in {layout.SUMS}", "no such file")
    for name in sorted(set(members) - set(sums)):
        yield Finding("unlisted", name, f"a line in {layout.SUMS}", "none")
    if request.fast:
        checks["checksums"] = "names only: --fast reads no file"
        return
    listed = sorted(set(sums) & set(members))
    digests = parallel(lambda name: layout.digest_file(root / name), listed, request.jobs)
    wrong = 0
    for done, (name, digest) in enumerate(zip(listed, digests, strict=True), 1):
        listener.step(plugin.Progress(done, len(listed), stage="checksums"))
        if digest != sums[name]:
            wrong += 1
            yield Finding("checksum", name, sums[name][:12], digest[:12])
    checks["checksums"] = f"{len(listed) - wrong:,} of {len(listed):,} match {layout.SUMS}"


def _released(root: Path, pictures: Sequence[str]) -> list[plugin.Sample]:
    return [plugin.Sample(name, None, path=root / name) for name in pictures]


def _decodes(root: Path, pictures: Sequence[str], room: memory.Plan, listener: Listener) -> Iterator[Finding]:
    def one(name: str) -> list[Finding]:
        try:
            with memory.enough(name):
                photo_files.open_photo(plugin.Sample(name, None, path=root / name))
        except UexError as error:
            return [Finding("unreadable", name, "an image", error.message)]
        return hidden(root, name)

    for done, found in enumerate(parallel(one, pictures, room.jobs, processes=True, apart=room.apart), 1):
        listener.step(plugin.Progress(done, len(pictures), stage="decode"))
        yield from found


def _coverage(
    found: samples.Labelled,
    pairs: Mapping[str, str],
    pictures: Sequence[str],
    there: Sequence[str],
    facts: Mapping[str, Any],
    request: Request,
) -> Iterator[Finding]:
    """Sources without a released image, and released files without a source."""
    allowed = {item["path"] for item in facts.get("skipped", [])} if request.allow_missing else set()
    wanted = layout.names(found.keys, facts.get("suffix", ".png"))
    for key in found.keys:
        if key not in pairs and key not in allowed:
            yield Finding("missing", wanted[key], f"the protected image of {key}", "no such file")
    for name in sorted(set(pictures) - set(pairs.values())):
        yield Finding("unexpected", name, "a source of this name", "none")
    for name in sorted(set(there) - set(pictures)):
        yield Finding("unexpected", name, "images only", "another file")


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

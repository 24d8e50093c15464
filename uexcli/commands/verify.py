"""Verify: is a release bounded, complete and intact? Needs no GPU and no noise file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from uexcli import api
from uexcli.commands import leaks
from uexcli.commands.listener import Listener
from uexcli.commands.verify_pair import Bound, Checked, Finding, check_pair
from uexcli.core.pixels import SLACK
from uexcli.core.quality import psnr
from uexcli.errors import Exit, UexError, UsageError
from uexcli.io import images, release, samples
from uexcli.registry import Registry, load

SCHEMA = "uex.verify/1"


@dataclass(frozen=True)
class Request:
    """What to verify, against what."""

    release: Path
    source: str | None = None
    eps: str | None = None
    norm: str | None = None
    size: int | None = None
    allow_missing: bool = False
    fast: bool = False
    jobs: int | None = None


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
    most_levels: int | None
    psnr: dict[str, float] | None
    ssim: dict[str, float] | None
    checks: dict[str, str] = field(default_factory=dict)  # what was looked at, and how it came out

    @property
    def exit(self) -> Exit:
        """Exit 0 or 1."""
        return Exit.FAILED if self.findings else Exit.OK


def run(request: Request, listener: Listener | None = None) -> Result:
    """Check every file of a release.

    Raises:
        UsageError: a path is missing, or no bound is known.
        UexError: it cannot be checked at all (no images, a damaged manifest, an unreadable source).
    """
    listener = listener or Listener()
    registry = load()
    samples.check_options("fail", request.jobs)
    root = request.release
    if not root.is_dir():
        raise UsageError(f"{root}: no such folder.", hint="Give the folder of a release.")
    facts = release.read_facts(root) or {}
    there = release.files(root)
    pictures = [name for name in there if Path(name).suffix.lower() in _extensions()]
    findings: list[Finding] = []
    checks: dict[str, str] = {}
    if not pictures:
        raise UexError(f"{root}: no image in this release.")
    if request.source is None and not (root / release.SUMS).is_file():
        raise UexError(
            f"{root}: no {release.SUMS} here, so there is nothing to check against.", hint="Give --source PHOTOS."
        )
    findings += _checksums(root, there, checks, request, listener)
    bound = _bound(request, facts, registry) if request.source is not None else None
    if request.source is None:
        checks["bound"] = "not checked: give --source"
        checks["coverage"] = "not checked: give --source"
        if not request.fast:
            findings += _decodes(root, pictures, request, listener)
        return _result(request, findings, None, pictures, [], bound, checks)

    found = samples.list_samples(registry, request.source, strict=False)
    _apart(root, found)
    pairs = release.pair(found.keys, pictures, facts.get("suffix", ".png"))
    findings += _coverage(found, pairs, pictures, there, facts, request)
    checks["coverage"] = f"{len(pairs):,} of {len(found.samples):,} sources have a released image"
    by_key = {sample.key: sample for sample in found.samples}
    checked: list[Checked] = []
    if not request.fast:
        assert bound is not None
        flattened = {item["path"] for item in facts.get("mode_changes", []) if item.get("change") == images.FLATTENED}
        work = [(by_key[key], name) for key, name in pairs.items()]

        def one(item: tuple[api.Sample, str]) -> Checked:
            return check_pair(root, *item, bound, flattened)

        for done, result in enumerate(samples.parallel(one, work, request.jobs), 1):
            checked.append(result)
            listener.step(api.Progress(done, len(work), stage="decode"))
        stated = float(facts.get("rms_levels", 0))
        findings += [finding for item in checked for finding in item.findings]
        findings += leaks.find(root, found, pictures, pairs, checked, stated, listener)
        checks["leaks"] = "every released image was compared with its source; odd ones with every source"
    else:
        checks["bound"] = "not checked: --fast decodes nothing"
    return _result(request, findings, len(found.samples), pictures, checked, bound, checks)


def _bound(request: Request, facts: Mapping[str, Any], registry: Registry) -> Bound:
    stated = facts.get("norm", {"name": "linf", "options": {}})
    name = request.norm or stated["name"]
    cls = registry.find("norm", name).cls
    if name != stated["name"] and request.eps is None and "eps" in facts:
        raise UsageError(f"--norm {name}: the release states its bound under {stated['name']}.", hint="Add --eps.")
    try:
        norm = cls(**(stated["options"] if name == stated["name"] else {}))
    except (TypeError, ValueError):
        raise UexError(f"{release.FACTS}: norm '{name}' does not take the options {stated['options']}.") from None
    assert isinstance(norm, api.Norm)
    text = request.eps or facts.get("eps_text")
    if text is None and "eps" not in facts:
        raise UsageError(f"{request.release}: the bound is not known.", hint="Say it with --eps 8/255.")
    eps = norm.parse(str(text)) if text is not None else float(facts["eps"])
    return Bound(norm, eps, str(text or eps), request.size or facts.get("size"))


def _extensions() -> frozenset[str]:
    from uexcli.builtin.datasets.folder import EXTENSIONS

    return EXTENSIONS


def _apart(root: Path, found: samples.Labelled) -> None:
    target = root.resolve()
    for sample in found.samples[:1]:
        if sample.path is not None and target in sample.path.resolve().parents:
            raise UsageError(f"--source lies inside {root}.", hint="Give the folder of the original photos.")


def _checksums(
    root: Path, there: Sequence[str], checks: dict[str, str], request: Request, listener: Listener
) -> Iterator[Finding]:
    """Compare every file with SHA256SUMS, where there is one."""
    path = root / release.SUMS
    if not path.is_file():
        checks["checksums"] = f"no {release.SUMS}"
        if (root / release.FACTS).is_file():
            yield Finding("checksum", release.SUMS, "a list of checksums", "missing")
        return
    sums = release.read_sums(path)
    members = [*there, release.FACTS] if (root / release.FACTS).is_file() else list(there)
    for name in sorted(set(sums) - set(members)):
        yield Finding("missing", name, f"listed in {release.SUMS}", "no such file")
    for name in sorted(set(members) - set(sums)):
        yield Finding("unlisted", name, f"a line in {release.SUMS}", "none")
    if request.fast:
        checks["checksums"] = "names only: --fast reads no file"
        return
    listed = sorted(set(sums) & set(members))
    digests = samples.parallel(lambda name: release.digest_file(root / name), listed, request.jobs)
    wrong = 0
    for done, (name, digest) in enumerate(zip(listed, digests, strict=True), 1):
        listener.step(api.Progress(done, len(listed), stage="checksums"))
        if digest != sums[name]:
            wrong += 1
            yield Finding("checksum", name, sums[name][:12], digest[:12])
    checks["checksums"] = f"{len(listed) - wrong:,} of {len(listed):,} match {release.SUMS}"


def _decodes(root: Path, pictures: Sequence[str], request: Request, listener: Listener) -> Iterator[Finding]:
    def one(name: str) -> str | None:
        try:
            images.open_photo(api.Sample(name, None, path=root / name))
        except UexError as error:
            return error.message
        return None

    for done, (name, wrong) in enumerate(zip(pictures, samples.parallel(one, pictures, request.jobs), strict=True), 1):
        listener.step(api.Progress(done, len(pictures), stage="decode"))
        if wrong:
            yield Finding("unreadable", name, "an image", wrong)


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
    wanted = release.names(found.keys, facts.get("suffix", ".png"))
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
    bound: Bound | None,
    checks: dict[str, str],
) -> Result:
    shares = [item.size / item.allowed for item in checked if item.size is not None and item.allowed]
    levels = [item.levels for item in checked if item.levels is not None]
    noise = [psnr(item.rms) for item in checked if item.rms]
    similar = [item.ssim for item in checked if item.ssim is not None and item.ssim == item.ssim]
    if shares and bound is not None and not bound.norm.bounded:
        checks["bound"] = f"none is promised: norm '{bound.norm.name}' allows any change"
    elif shares:
        checks["bound"] = f"{sum(share <= 1 + SLACK for share in shares):,} of {len(shares):,} images are within it"
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
        psnr={"min": min(noise), "median": median(noise)} if noise else None,
        ssim={"min": min(similar), "median": median(similar)} if similar else None,
        checks=checks,
    )

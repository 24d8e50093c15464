"""What a check of a release is asked for, and what it finds."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from uexcli.commands.verify import strict
from uexcli.commands.verify.pair import Finding
from uexcli.errors import Exit

SCHEMA = "uex.verify/1"
LINES = "uex.verify-lines/1"
SHAPE = "size, mode, profile"
CASES = {  # of a report: what the findings are about
    "missing": "coverage", "unexpected": "coverage",
    "checksum": "integrity", "link": "integrity", "unlisted": "integrity", "unreadable": "integrity",
    "over-bound": "bound", "noise-missing": "noise", "leak": "leaks", "metadata": "metadata",
    strict.CODE: "decoders", "changed-size": SHAPE,
}  # fmt: skip


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

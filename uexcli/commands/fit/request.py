"""What a fit is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from uexcli.io.sources import Source


@dataclass(frozen=True)
class Request:
    """What to fit, and how; None means: choose what is usual."""

    photos: str | Source
    output: Path | None = None
    method: str | None = None  # None: what is usual for such photos
    mode: str | None = None
    norm: str | None = None
    eps: str | None = None
    surrogate: str = "auto"
    size: int | None = None
    limit: int | None = None
    labels: Path | None = None
    no_labels: bool = False
    device: str = "auto"
    precision: str = "auto"
    seed: int | None = None
    options: Mapping[str, str] = field(default_factory=dict)
    on_error: str = "fail"
    force: bool = False
    dry_run: bool = False
    resume: bool = False
    memory: str | None = None
    preset: str | None = None
    compiled: bool = False
    patch: str | None = None
    max_pixels: int | None = None  # of an image

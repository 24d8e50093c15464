"""What an apply is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from uexcli.commands.protect import engine as noise_engine
from uexcli.io.sources import Source


@dataclass(frozen=True)
class Request:
    """What to protect, with which noise, and where to."""

    noise: Path
    photos: str | Source
    output: Path
    format: str = "png"
    allow_lossy: bool = False
    png_level: int = 1
    jobs: int | None = None
    labels: Path | None = None
    limit: int | None = None
    on_error: str = "fail"
    force: bool = False
    resume: bool = False
    dry_run: bool = False
    engine: str = noise_engine.TORCH  # no part of the job: pixels are the same within one level
    weights: Path | None = None  # of the encoder, where they do not lie where `fit` found them
    keep_metadata: bool = False
    croissant: bool = False
    usage: str | None = None  # what its `usageInfo` says instead of what is usual; with it, too, one is written
    shard: str | None = None
    max_pixels: int | None = None
    memory: str | None = None  # to take at the most; no part of the job
    near: bool = False  # say of new images how near they are, also where nothing is written

"""What an evaluation is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from uexcli.io.sources import Source

BLIND, INFORMED = "blind", "informed"
ATTACKERS = (BLIND, INFORMED)


@dataclass(frozen=True)
class Request:
    """What to compare, and how to train; what is None or empty is the protocol's."""

    photos: str | Source
    release: str | Source
    test: str | Source | None = None
    protocol: str | None = None
    targets: tuple[str, ...] = ()
    against: tuple[str, ...] = ()
    pretrained: tuple[str, ...] = ()
    seeds: int | None = None
    epochs: int | None = None
    size: int | None = None
    usual_size: int | None = None  # where none is asked for; nets that are trained on larger photos keep to their own
    view: str | None = None
    folds: int | None = None  # of a cross-validation; None: several where there are few photos
    attacker: str = BLIND
    weights: str = "auto"  # of the pretrained nets
    shares: tuple[float, ...] = (1.0,)
    protect_classes: tuple[str, ...] = ()
    merges: tuple[str | None, ...] = (None,)
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

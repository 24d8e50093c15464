"""A release for a benchmark: what its fit took, and what `uex verify` says of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.judge import Told
from uexcli.commands import apply, fit, verify


def release(request: fit.Request, noise: Path, into: Path) -> dict[str, Any]:
    """Fit, apply and verify, going on where a run was stopped.

    Gives the seconds of the fit, None where it was stopped in between, and the PSNR in dB and SSIM of the median file.

    Raises:
        ValueError: `uex verify` found something.
    """
    told = into.with_suffix(".fit.json")
    fresh = not [*noise.parent.glob(f"{noise.name}*")]  # the noise, or the state of a fit that was stopped
    fitted = fit.run(request, Told())
    if not told.exists():
        told.write_text(json.dumps({"seconds": fitted.seconds if fresh else None}))
    apply.run(apply.Request(noise, request.photos, into, resume=True), Told())
    return {**json.loads(told.read_text()), **likeness(str(request.photos), into)}


def likeness(photos: str, released: Path) -> dict[str, float]:
    """Give PSNR and SSIM of the median file of a release."""
    found = verify.run(verify.Request(released, source=photos), Told())
    if found.findings or found.psnr is None or found.ssim is None:
        raise ValueError(f"{released}: {found.findings}")
    return {"psnr": found.psnr["median"], "ssim": found.ssim["median"]}

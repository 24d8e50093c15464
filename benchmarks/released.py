"""What a fit took, and how far the photos of its release are from those it protects."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from benchmarks.judge import Told
from uexcli.commands import apply, fit
from uexcli.core import quality


def release(request: fit.Request, noise: Path, into: Path) -> dict[str, Any]:
    """Fit and apply, going on where a run was stopped; give seconds, PSNR in dB and SSIM, means over the files.

    Seconds are None where the fit was stopped in between.
    """
    told = into.with_suffix(".fit.json")
    fresh = not [*noise.parent.glob(f"{noise.name}*"), *noise.parent.glob(f".{noise.name}*")]
    fitted = fit.run(request, Told())
    if not told.exists():
        told.write_text(json.dumps({"seconds": fitted.seconds if fresh else None}))
    apply.run(apply.Request(noise, request.photos, into, resume=True), Told())
    return {**json.loads(told.read_text()), **distance(Path(request.photos), into)}


def distance(photos: Path, released: Path) -> dict[str, float]:
    """Give mean PSNR and SSIM of released files, in folders of classes, beside the photos of the same stem."""
    clean = {(path.parent.name, path.stem): path for path in photos.glob("*/*")}
    found = [_pair(clean[path.parent.name, path.stem], path) for path in sorted(released.glob("*/*"))]
    return {"psnr": sum(pair[0] for pair in found) / len(found), "ssim": sum(pair[1] for pair in found) / len(found)}


def _pair(one: Path, other: Path) -> tuple[float, float]:
    first, second = _read(one), _read(other)
    rms = math.sqrt(float((first - second).square().mean())) * 255
    return quality.psnr(rms), float(quality.ssim(first, second))


def _read(path: Path) -> Tensor:
    with Image.open(path) as photo:
        return torch.from_numpy(np.array(photo.convert("RGB"))).permute(2, 0, 1)[None].float() / 255

"""Preview: one photo clean, its noise amplified, and protected, side by side."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from uexcli import plugin
from uexcli.commands.protect import protector as protect
from uexcli.core import stripes
from uexcli.core.quality import psnr
from uexcli.errors import UsageError
from uexcli.io.claims import claim
from uexcli.io.images import photo_files
from uexcli.io.noise import noise_file
from uexcli.io.reports import contact_sheet
from uexcli.registry import load


@dataclass(frozen=True)
class Request:
    """Which noise on which photo, and where the picture goes."""

    noise: Path
    photo: Path
    output: Path
    force: bool = False
    weights: Path | None = None  # of the encoder, where they do not lie where `fit` found them


@dataclass(frozen=True)
class Result:
    """How visible it is."""

    output: Path
    key: str
    fitted: bool
    psnr: float
    ssim: float
    levels: int
    amplified: float


def run(request: Request) -> Result:
    """Write the picture.

    Raises:
        UsageError: there is no such photo, or the output exists.
        UexError: the noise has no row for this photo.
    """
    with claim(request.output):
        return _run(request)


def _run(request: Request) -> Result:
    if not request.photo.is_file():
        raise UsageError(f"{request.photo}: no such photo.")
    if request.output.exists() and any(request.output.samefile(path) for path in (request.photo, request.noise)):
        raise UsageError(
            f"`output={request.output}` is the photo or the noise file itself.", hint="Give `output` another name."
        )
    if request.output.exists() and not request.force:
        raise UsageError(
            f"{request.output} exists.", hint="Use `output` for another name, or `force=True` to replace it."
        )
    noise = noise_file.read(request.noise)
    protector = protect.protector_of(load(), noise, request.weights)
    sample = _sample(request.photo, noise)
    photo = photo_files.open_photo(sample)
    protected = protector.protect(photo, sample.key, protector.row(sample, photo)[0])
    factor = contact_sheet.amplification(photo.pixels, protected)
    photo_files.write_png(request.output, contact_sheet.side_by_side(photo.pixels, protected, factor))
    rms, levels = stripes.changed_by(photo.pixels, protected)
    return Result(
        output=request.output,
        key=sample.key,
        fitted=sample.key in protector.fitted,
        psnr=psnr(rms),
        ssim=stripes.ssim(photo.pixels, protected),
        levels=int(levels),
        amplified=factor,
    )


def _sample(path: Path, noise: noise_file.Noise) -> plugin.Sample:
    """Find the key a photo was fitted under: the longest end of its path that is one; else its class and name."""
    parts = path.resolve().parts
    known = set(noise.keys)
    for length in range(len(parts), 0, -1):
        key = "/".join(parts[-length:])
        if key in known:
            return plugin.Sample(key, parts[-2] if length > 1 else None, path=path)
    return plugin.Sample(path.name, path.resolve().parent.name, path=path)

"""Apply: a noise file and photos in, a protected release out."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import PIL
import torch
from torch import Tensor

from uexcli import __version__, api
from uexcli.commands.listener import Listener
from uexcli.core import clusters
from uexcli.core.pixels import SLACK, match_channels, measure, publish, stretch
from uexcli.core.quality import psnr
from uexcli.errors import UexError, UsageError
from uexcli.io import atomic, images, noise_file, release, samples
from uexcli.registry import Registry, load

PARTIAL = ".partial"
JOB = ".uex-job.json"  # in a partial release only: what it is a part of


@dataclass(frozen=True)
class Request:
    """What to protect, with which noise, and where to."""

    noise: Path
    photos: str
    output: Path
    format: str = "png"
    allow_lossy: bool = False
    png_level: int = 1
    jobs: int | None = None
    labels: Path | None = None
    on_error: str = "fail"
    force: bool = False
    resume: bool = False
    dry_run: bool = False


@dataclass(frozen=True)
class Result:
    """What was written."""

    output: Path
    written: int
    kept: int = 0  # found whole in an interrupted release
    already: bool = False
    largest: float = 0.0
    eps: float = 0.0
    norm: str = ""
    psnr: float = 0.0
    new: int = 0  # images that were not fitted, and were assigned a noise
    skipped: tuple[samples.Skipped, ...] = ()
    mode_changes: tuple[tuple[str, str], ...] = ()
    receipt: Path | None = None


@dataclass(frozen=True)
class Written:
    """One protected image."""

    key: str
    name: str
    source: str  # SHA-256 of the source's bytes
    protected: str  # SHA-256 of the released file
    size: float
    allowed: float
    rms: float
    changes: tuple[str, ...] = ()
    kept: bool = False


@dataclass
class Protector:
    """Protects one image at a time; safe to use from several threads."""

    noise: noise_file.Noise
    norm: api.Norm
    granularity: api.Granularity
    suffix: str
    png_level: int
    lossy: bool
    label_rows: Mapping[str, int]
    fitted: dict[str, int] = field(init=False)

    def __post_init__(self) -> None:
        self.fitted = {key: position for position, key in enumerate(self.noise.keys)}

    def row(self, sample: api.Sample, photo: images.Photo) -> int:
        """The row of the bank an image uses.

        Raises:
            UexError: it was fitted with other bytes, or was not fitted and cannot be assigned.
        """
        position = self.fitted.get(sample.key)
        if position is not None:
            if self.noise.digests[position] != photo.digest:
                raise UexError(
                    f"{sample.key}: not the image of this name that the noise was fitted on.",
                    hint="Give the photos as they were, or fit again.",
                )
            return int(self.noise.rows[position])
        if not self.granularity.can_assign:
            raise UexError(
                f"{sample.key}: not among the {len(self.noise.keys):,} images this {self.granularity.name} noise was fitted on.",
                hint="Fit these photos: uex fit PHOTOS",
            )
        labels = torch.zeros(1, dtype=torch.int64)
        if self.granularity.needs_labels:
            if sample.label not in self.label_rows:
                known = ", ".join(sorted(self.label_rows)[:8])
                raise UexError(
                    f"{sample.key}: its class {sample.label or '(none)'} has no noise; there is one for: {known}.",
                    hint="Sort it into one of these, or fit again.",
                )
            labels[0] = self.label_rows[sample.label]

        def features() -> Tensor:
            _, channels, size, _ = self.noise.delta.shape
            return clusters.pixel_features(torch.from_numpy(images.squash(photo, size, channels))[None])

        return int(self.granularity.assign(labels, features, self.noise.memory)[0])

    def protect(self, photo: images.Photo, row: int) -> np.ndarray:
        """Add a row to a photo on the 8-bit grid: uint8 (H, W, C)."""
        height, width = photo.size
        source = planes(photo.pixels)
        delta = match_channels(self.noise.delta[row : row + 1], source.shape[1])
        changed = publish(source, stretch(delta, height, width), self.norm, self.allowed(photo))
        return changed[0].permute(1, 2, 0).contiguous().numpy()

    def allowed(self, photo: images.Photo) -> float:
        """The bound at the photo's own size."""
        return self.norm.rescale(self.noise.eps, (self.noise.size, self.noise.size), photo.size)

    def write(self, sample: api.Sample, root: Path, name: str) -> Written:
        """Protect one image and write it, unless it lies there already; decode what lies there, and measure it."""
        photo = images.open_photo(sample)
        wanted = self.protect(photo, self.row(sample, photo))
        target = root / name
        kept = target.exists()
        data = target.read_bytes() if kept else images.encode(photo, wanted, self.suffix, png_level=self.png_level)
        decoded = images.open_photo(api.Sample(name, None, path=target)) if kept else images.decode(data)
        if not self.lossy and not np.array_equal(decoded.pixels, wanted):
            if not kept:
                raise UexError(f"{sample.key}: decodes to other pixels than were written.", hint="Please report this.")
            target.unlink()
            return self.write(sample, root, name)
        if not kept:
            with atomic.told(target):
                target.parent.mkdir(parents=True, exist_ok=True)
                part = target.with_name(
                    f".{hashlib.sha256(name.encode('utf-8', 'surrogateescape')).hexdigest()[:24]}.tmp"
                )
                part.write_bytes(data)
                part.replace(target)
        source, published = planes(photo.pixels), planes(decoded.pixels)
        size, allowed = float(measure(source, published, self.norm)[0]), self.allowed(photo)
        if not self.lossy and size > allowed * (1 + SLACK):
            raise UexError(
                f"{sample.key}: the written file exceeds the bound ({size:.4g} > {allowed:.4g}).",
                hint="Please report this.",
            )
        rms = float((published.float() - source.float()).square().mean().sqrt())
        digest = hashlib.sha256(data).hexdigest()
        changes = (*photo.changes, *(["alpha dropped"] if photo.alpha is not None and decoded.alpha is None else []))
        return Written(sample.key, name, photo.digest, digest, size, allowed, rms, changes, kept)


def planes(pixels: np.ndarray) -> Tensor:
    """An image's pixels, uint8 (H, W, C), as a batch of one: uint8 `(1, C, H, W)`."""
    return torch.from_numpy(pixels.transpose(2, 0, 1).copy())[None]


def run(request: Request, listener: Listener | None = None) -> Result:
    """Write the protected release. The photos are only ever read.

    Raises:
        UexError: see `uexcli.errors` and the README's table of bad inputs.
    """
    listener = listener or Listener()
    registry = load()
    suffix = _suffix(request)
    noise = noise_file.read(request.noise)
    norm, granularity = parts(registry, noise)
    found = samples.list_samples(registry, request.photos, labels=request.labels)
    names = release.names(found.keys, suffix)
    protector = Protector(
        noise, norm, granularity, suffix, request.png_level, request.format in images.LOSSY, label_rows(noise)
    )
    _check_output(request.output, request.photos, found)
    chosen, left_out = _chosen(found, protector, listener)
    job = {
        "noise": release.digest_file(request.noise),
        "photos": hashlib.sha256("\0".join(found.keys).encode("utf-8", "surrogateescape")).hexdigest(),
        "format": request.format,
        "on_error": request.on_error,
    }
    receipt = release.receipt_path(request.noise)
    if request.output.exists() and not _is_empty(request.output):
        if _already(request.output, receipt, job, chosen):
            return Result(request.output, written=0, already=True, receipt=receipt)
        if not request.force:
            raise UsageError(
                f"{request.output} exists, and is not this release.",
                hint="Use -o for another folder, or --force to replace it.",
            )
        if release.read_facts(request.output) is None:
            raise UsageError(
                f"{request.output} is no uex release; --force would delete what is in it.",
                hint="Use -o for another folder.",
            )
    if not chosen:
        raise UexError(
            f"{request.noise}: fitted on {len(noise.keys):,} other images; none of {request.photos} is among them.",
            hint="Give the photos it was fitted on, or fit these.",
        )
    if request.dry_run:
        for sample in chosen:
            listener.say(f"{sample.key} -> {request.output / names[sample.key]}")
        return Result(request.output, written=0, eps=noise.eps, norm=norm.name)

    partial = request.output.with_name(request.output.name + PARTIAL)
    _open_partial(partial, job, request)
    done, skipped = _write_all(protector, chosen, names, partial, request, listener)
    skipped = [*skipped, *left_out]
    facts = _facts(protector, request, done, skipped)
    with atomic.told(partial):
        (partial / JOB).unlink()
        sums = {item.name: item.protected for item in done}
        sums[release.FACTS] = release.write_facts(partial, facts)
        atomic.write(partial / release.SUMS, release.sums_text(sums).encode("utf-8", "surrogateescape"))
        if request.output.exists():
            shutil.rmtree(request.output)
        partial.rename(request.output)
    _write_receipt(receipt, request.output, job, done)
    return Result(
        request.output,
        written=sum(not item.kept for item in done),
        kept=sum(item.kept for item in done),
        largest=max(item.size for item in done),
        eps=noise.eps,
        norm=norm.name,
        psnr=psnr(facts["rms_levels"]),
        new=sum(item.key not in protector.fitted for item in done),
        skipped=tuple(skipped),
        mode_changes=tuple((item.key, change) for item in done for change in item.changes),
        receipt=receipt,
    )


def parts(registry: Registry, noise: noise_file.Noise) -> tuple[api.Norm, api.Granularity]:
    """Make the norm and the granularity a noise file was fitted with."""
    made = []
    for kind in ("norm", "granularity"):
        described = noise.recipe[kind]
        try:
            made.append(registry.find(kind, described["name"]).cls(**described.get("options", {})))
        except UexError as error:
            raise UexError(
                f"the noise file needs the {kind} '{described['name']}', which is not installed.",
                hint=f"It came from {described.get('from')}.",
            ) from error
        except (TypeError, ValueError):
            raise UexError(
                f"the {kind} '{described['name']}' here does not take the noise file's options.",
                hint=f"Use {described.get('from')}.",
            ) from None
    return cast(api.Norm, made[0]), cast(api.Granularity, made[1])


def _suffix(request: Request) -> str:
    if request.format not in images.SUFFIXES:
        raise UsageError(f"--format {request.format}: unknown.", hint=f"Known: {', '.join(images.SUFFIXES)}.")
    if request.format in images.LOSSY and not request.allow_lossy:
        raise UsageError(
            f"--format {request.format} is lossy and breaks the bound.",
            hint="Add --allow-lossy to write and measure it all the same.",
        )
    if not 0 <= request.png_level <= 9:
        raise UsageError(f"--png-level {request.png_level}: not within 0 to 9.")
    return images.SUFFIXES[request.format]


def label_rows(noise: noise_file.Noise) -> dict[str, int]:
    """The row of each class, where labels decide: class-wise rows are numbered as the classes are."""
    return {name: row for row, name in enumerate(noise.classes) if row < len(noise.delta)}


def _check_output(output: Path, photos: str, found: samples.Labelled) -> None:
    if output.exists() and not output.is_dir():
        raise UsageError(f"{output} is a file.", hint="Give -o a folder.")
    if all(sample.path is None for sample in found.samples):
        return
    source, target = Path(photos.removeprefix("folder:")).resolve(), output.resolve()
    if target == source or source in target.parents or target in source.parents:
        raise UsageError(
            f"-o {output} lies in or around {photos}.", hint="Write the release beside the photos, never among them."
        )


def _chosen(
    found: samples.Labelled, protector: Protector, listener: Listener
) -> tuple[list[api.Sample], list[samples.Skipped]]:
    """The samples to protect: all, but for a fit with --limit only the ones it fitted."""
    noise = protector.noise
    missing = len(noise.keys) - sum(key in protector.fitted for key in found.keys)
    if 0 < missing < len(noise.keys):
        listener.warn(f"{missing:,} of the {len(noise.keys):,} fitted images are not here")
    if noise.recipe.get("limit") is None or protector.granularity.can_assign:
        if missing == len(noise.keys) and not protector.granularity.can_assign:
            return [], []
        return list(found.samples), []
    chosen = [sample for sample in found.samples if sample.key in protector.fitted]
    rest = [samples.Skipped(s.key, "not fitted (--limit)") for s in found.samples if s.key not in protector.fitted]
    if rest and chosen:
        listener.say(f"the noise was fitted with --limit {noise.recipe['limit']}: {len(rest):,} images are left out")
    return chosen, rest


def _is_empty(folder: Path) -> bool:
    return not any(folder.iterdir())


def _already(output: Path, receipt: Path, job: Mapping[str, Any], chosen: Sequence[api.Sample]) -> bool:
    """Whether the release there is what this job would write, and intact."""
    recorded = _read_receipt(receipt)["releases"].get(str(output.resolve()))
    if recorded is None or recorded["job"] != job:
        return False
    try:
        sums = release.read_sums(output / release.SUMS)
        for sample in chosen:
            item = recorded["files"].get(sample.key)
            if item is not None and item["source"] != images.digest_of(sample):
                return False
        return all(release.digest_file(output / name) == digest for name, digest in sums.items()) and {
            item["name"] for item in recorded["files"].values()
        } <= set(sums)
    except (UexError, OSError):
        return False


def _open_partial(partial: Path, job: Mapping[str, Any], request: Request) -> None:
    """Make the folder the release grows in, or take up the one of an interrupted run."""
    mark = partial / JOB
    with atomic.told(partial):
        if partial.exists():
            try:
                same = json.loads(mark.read_text()) == dict(job)
            except (OSError, ValueError):
                same = False
            if request.resume and same:
                for leftover in partial.rglob("*.tmp"):
                    leftover.unlink()
                return
            if not request.force:
                hint = "Add --resume to go on, or --force to start afresh." if same else "Remove it, or use --force."
                raise UsageError(
                    f"{partial} is left from an interrupted run{'' if same else ' of another job'}.", hint=hint
                )
            if not mark.exists() and not _is_empty(partial):
                raise UsageError(f"{partial} is not uex's; --force would delete what is in it.", hint="Move it away.")
            shutil.rmtree(partial)
        partial.mkdir(parents=True)
        atomic.write(mark, json.dumps(dict(job)).encode())


def _write_all(
    protector: Protector,
    chosen: Sequence[api.Sample],
    names: Mapping[str, str],
    partial: Path,
    request: Request,
    listener: Listener,
) -> tuple[list[Written], list[samples.Skipped]]:
    def work(sample: api.Sample) -> Written | samples.Skipped:
        try:
            return protector.write(sample, partial, names[sample.key])
        except UexError as error:
            if request.on_error == "fail" or str(error).startswith("cannot write"):
                raise
            return samples.Skipped(sample.key, error.message)

    done: list[Written] = []
    skipped: list[samples.Skipped] = []
    for count, item in enumerate(samples.parallel(work, chosen, request.jobs), 1):
        if isinstance(item, Written):
            done.append(item)
        else:
            skipped.append(item)
            listener.warn(f"skipped {item.reason}")
        listener.step(api.Progress(count, len(chosen), stage="protect"))
    if not done:
        shutil.rmtree(partial)
        raise UexError("not one of the images could be protected.", hint="See the reasons above.")
    return done, skipped


def _facts(
    protector: Protector, request: Request, done: Sequence[Written], skipped: Sequence[samples.Skipped]
) -> dict[str, Any]:
    """The public facts: enough to verify the release, nothing that helps to undo it."""
    noise = protector.noise
    worst = max(done, key=lambda item: item.size / item.allowed)
    return {
        "uexcli": __version__,
        "method": noise.recipe["method"]["name"],
        "granularity": noise.recipe["granularity"]["name"],
        "norm": {"name": protector.norm.name, "options": noise.recipe["norm"].get("options", {})},
        "eps": noise.eps,
        "eps_text": noise.header["eps_text"],
        "size": noise.size,
        "images": len(done),
        "suffix": protector.suffix,
        "lossless": not protector.lossy,
        "largest_share_of_bound": round(worst.size / worst.allowed, 6),
        "rms_levels": round(math.sqrt(sum(item.rms**2 for item in done) / len(done)), 4),
        "skipped": [{"path": item.key, "reason": item.reason} for item in skipped],
        "mode_changes": [{"path": item.name, "change": change} for item in done for change in item.changes],
        "pillow": PIL.__version__,
    }


def _read_receipt(path: Path) -> dict[str, Any]:
    try:
        receipt = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        receipt = None
    if isinstance(receipt, dict) and isinstance(receipt.get("releases"), dict):
        return receipt
    return {"schema": "uex.receipt/1", "releases": {}}


def _write_receipt(path: Path, output: Path, job: Mapping[str, Any], done: Sequence[Written]) -> None:
    receipt = _read_receipt(path)
    files = {item.key: {"name": item.name, "source": item.source, "protected": item.protected} for item in done}
    receipt["releases"][str(output.resolve())] = {"job": dict(job), "files": files}
    atomic.write(path, (json.dumps(receipt, indent=1) + "\n").encode())

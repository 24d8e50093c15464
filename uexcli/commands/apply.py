"""Apply: a noise file and photos in, a protected release out."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import PIL
from torch import nn

from uexcli import __version__, api
from uexcli.commands import noise_engine, noise_source
from uexcli.commands.listener import Listener, visible
from uexcli.commands.protect import Protector, Written, parts
from uexcli.core.quality import leak_limit, psnr, usual_rms
from uexcli.errors import UexError, UsageError
from uexcli.io import atomic, images, noise_file, partial, receipt, release, samples
from uexcli.registry import Registry, load

FAR = 1.01  # of the farthest fitted image's distance: beyond it, more than rounding


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
    limit: int | None = None
    on_error: str = "fail"
    force: bool = False
    resume: bool = False
    dry_run: bool = False
    engine: str = noise_engine.TORCH  # no part of the job: pixels are the same within one level
    weights: Path | None = None  # of the encoder, where they do not lie where `fit` found them
    near: bool = False  # say of new images how near they are, also where nothing is written


@dataclass(frozen=True)
class Assigned:
    """An image that was not fitted: its row, and how far it lies from what was fitted (see `protect.Place`)."""

    key: str
    row: int
    near: float | None


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
    bounded: bool = True  # False: the norm promises nothing
    psnr: float = 0.0
    new: int = 0  # images that were not fitted, and were assigned a noise
    assigned: tuple[Assigned, ...] = ()  # these images
    skipped: tuple[samples.Skipped, ...] = ()
    mode_changes: tuple[tuple[str, str], ...] = ()
    receipt: Path | None = None
    engine: str | None = None  # what made the noise; None where nothing was to be made


def run(request: Request, listener: Listener | None = None) -> Result:
    """Write the protected release. The photos are only ever read.

    Raises:
        UexError: see `uexcli.errors` and the README's table of bad inputs.
    """
    listener = listener or Listener()
    registry = load()
    suffix = _suffix(request)
    noise = noise_file.read(request.noise)
    noise_engine.check(request.engine)
    network = noise_source.network(registry, noise) if noise.network else None
    protector = _protector(registry, noise, network, suffix, request)
    norm, strict = protector.norm, protector.granularity.needs_labels
    found = samples.list_samples(registry, request.photos, labels=request.labels, strict=strict)
    names = release.names(found.keys, suffix)
    with atomic.told(request.output):
        _check_output(request, found)
    wanted = found
    if request.limit is not None:
        ordered = samples.find_dataset(registry, request.photos).ordered
        wanted = samples.limited(found, request.limit, ordered=ordered)
    chosen = _chosen(wanted, protector, listener)
    left_out = _left_out(found, chosen)
    outside = {item.key for item in left_out}
    by_key = {sample.key: sample for sample in found.samples}
    job = {
        "noise": release.digest_file(request.noise),
        "photos": hashlib.sha256("\0".join(found.keys).encode("utf-8", "surrogateescape")).hexdigest(),
        "format": request.format,
        "limit": request.limit,
        "labels": release.digest_file(request.labels) if request.labels else None,
    }
    beside = receipt.path_for(request.noise)
    if request.output.exists() and not partial.is_free(request.output):
        if receipt.matches(beside, request.output, job, chosen):
            places = _places(protector, chosen, request)
            return Result(request.output, 0, already=True, bounded=norm.bounded, **places, receipt=beside)
        if not request.force:
            raise UsageError(
                f"{request.output} exists, and is not this release.",
                hint="Use -o for another folder, or --force to replace it.",
            )
        partial.check_replaceable(request.output)
    if not chosen:
        raise UexError(
            f"{request.noise}: fitted on {len(noise.keys):,} other images; none of {request.photos} is among them.",
            hint="Give the photos it was fitted on, or fit these.",
        )
    engine = _start(protector, network, request, listener, chosen)
    if request.dry_run:
        for sample in chosen:
            listener.say(visible(f"{sample.key} -> {request.output / names[sample.key]}"))
        places = _places(protector, chosen, request)
        return Result(request.output, 0, eps=noise.eps, norm=norm.name, bounded=norm.bounded, **places, engine=engine)

    atomic.check_room(beside, 0)
    with partial.growing(request.output, job, resume=request.resume, force=request.force) as folder:
        done, skipped = _write_all(protector, chosen, names, folder, request, listener)
        done, weak = _without_weak(done, folder, request, listener)
        skipped = [*skipped, *weak, *left_out]
        facts = _facts(protector, request, done, skipped)
        sums = {item.name: item.protected for item in done}
        sums[release.FACTS] = release.write_facts(folder, facts)
        for name in set(release.files(folder)) - set(sums):  # of a photo that was usable before an interruption
            (folder / name).unlink()
        atomic.write(folder / release.SUMS, release.sums_text(sums).encode("utf-8", "surrogateescape"))
        files = {item.key: {"name": item.name, "source": item.source, "protected": item.protected} for item in done}
        lost = {item.key: receipt.try_digest(by_key[item.key]) for item in skipped if item.key not in outside}
        receipt.record(beside, request.output, job, files, lost)
        partial.finish(folder, request.output)
    assigned = _told_of_new(done, listener)
    return Result(
        request.output,
        written=sum(not item.kept for item in done),
        kept=sum(item.kept for item in done),
        largest=max(item.size for item in done),
        eps=noise.eps,
        norm=norm.name,
        bounded=norm.bounded,
        psnr=psnr(facts["rms_levels"]),
        new=len(assigned),
        assigned=assigned,
        skipped=tuple(skipped),
        mode_changes=tuple((item.key, change) for item in done for change in item.changes),
        receipt=beside,
        engine=engine,
    )


def _protector(
    registry: Registry, noise: noise_file.Noise, network: nn.Module | None, suffix: str, request: Request
) -> Protector:
    norm, granularity = parts(registry, noise)
    source = noise_source.make(noise, norm, network)
    lossy = request.format in images.LOSSY
    return Protector(noise, norm, granularity, source, suffix, request.png_level, lossy=lossy, weights=request.weights)


def _suffix(request: Request) -> str:
    if request.format not in images.SUFFIXES:
        raise UsageError(f"--format {request.format}: unknown.", hint=f"Known: {', '.join(images.SUFFIXES)}.")
    if request.format in images.LOSSY and not request.allow_lossy:
        raise UsageError(
            f"--format {request.format} is lossy and breaks the bound.",
            hint="Add --allow-lossy to write and measure it all the same.",
        )
    samples.check_options(request.on_error, request.jobs)
    if request.limit is not None and request.limit < 1:
        raise UsageError(f"--limit {request.limit}: at least 1.")
    if not 0 <= request.png_level <= 9:
        raise UsageError(f"--png-level {request.png_level}: not within 0 to 9.")
    return images.SUFFIXES[request.format]


def _check_output(request: Request, found: samples.Labelled) -> None:
    """Refuse an output that is a file, holds the noise file, or lies among the photos."""
    output = request.output
    if output.exists() and not output.is_dir():
        raise UsageError(f"{output} is a file.", hint="Give -o a folder.")
    target, secret = output.resolve(), request.noise.resolve()
    if any(sample.path is not None for sample in found.samples):
        source = Path(request.photos.removeprefix("folder:")).resolve()
        if target == source or source in target.parents or target in source.parents:
            raise UsageError(
                f"-o {output} lies in or around {request.photos}.",
                hint="Write the release beside the photos, never among them.",
            )
    if target in secret.parents:
        raise UsageError(
            f"{request.noise} lies in -o {output}, and is secret.", hint="Give the release its own folder."
        )


def _chosen(wanted: samples.Labelled, protector: Protector, listener: Listener) -> list[api.Sample]:
    """The samples to protect: the wanted ones, but of a fit with --limit that cannot assign only those it fitted."""
    noise = protector.noise
    fitted = [sample for sample in wanted.samples if sample.key in protector.fitted]
    if protector.granularity.can_assign:
        return list(wanted.samples)
    if noise.recipe.get("limit") is not None or not fitted:
        return fitted
    if len(fitted) < len(noise.keys):
        listener.warn(f"{len(noise.keys) - len(fitted):,} of the {len(noise.keys):,} fitted images are not here")
    return list(wanted.samples)


def _left_out(found: samples.Labelled, chosen: Sequence[api.Sample]) -> list[samples.Skipped]:
    keys = {sample.key for sample in chosen}
    return [samples.Skipped(key, f"{key}: outside --limit.") for key in found.keys if key not in keys]


def _start(
    protector: Protector,
    network: nn.Module | None,
    request: Request,
    listener: Listener,
    chosen: Sequence[api.Sample],
) -> str:
    """Let the engine asked for make the noise of the chosen images, and get ready for new ones; give its name."""
    jobs = min(len(chosen), request.jobs or os.cpu_count() or 1)
    if network is None:
        protector.model, name = noise_engine.start_photos(request.engine, protector, listener, jobs)
    else:
        forward, name = noise_engine.start(request.engine, network, protector.noise, listener, jobs)
        protector.source = noise_source.make(protector.noise, protector.norm, forward)
    if any(sample.key not in protector.fitted for sample in chosen):
        protector.check_new()
    return name


def _write_all(
    protector: Protector,
    chosen: Sequence[api.Sample],
    names: Mapping[str, str],
    folder: Path,
    request: Request,
    listener: Listener,
) -> tuple[list[Written], list[samples.Skipped]]:
    def work(sample: api.Sample) -> Written | samples.Skipped:
        try:
            return protector.write(sample, folder, names[sample.key])
        except UexError as error:
            if request.on_error == "fail" or isinstance(error, atomic.WriteError):
                raise error if error.hint else UexError(error.message, hint=samples.SKIP) from None
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
        raise UexError("not one of the images could be protected.", hint="See the reasons above.")
    return done, skipped


def _places(protector: Protector, chosen: Sequence[api.Sample], request: Request) -> dict[str, Any]:
    """Look where new images lie, without writing any, if that is asked for."""
    if not request.near:
        return {}
    found = []
    for sample in chosen:
        if sample.key not in protector.fitted:
            _, place = protector.row(sample, images.open_photo(sample))
            assert place is not None
            found.append(Assigned(sample.key, place.row, place.near))
    return {"new": len(found), "assigned": tuple(found)}


def _told_of_new(done: Sequence[Written], listener: Listener) -> tuple[Assigned, ...]:
    """List the images that were not fitted; warn of those that nothing fitted is like."""
    new = tuple(Assigned(item.key, item.place.row, item.place.near) for item in done if item.place is not None)
    far = [item for item in new if item.near is not None and item.near > FAR]
    if far:
        worst = max(far, key=lambda item: item.near or 0)
        others = f" and {len(far) - 1:,} more" if len(far) > 1 else ""
        listener.warn(
            f"unlike any photo that was fitted: {worst.key} ({worst.near:.2f} times as far as the farthest){others}; "
            "--near lists them all"
        )
    return new


def _without_weak(
    done: list[Written], folder: Path, request: Request, listener: Listener
) -> tuple[list[Written], list[samples.Skipped]]:
    """Take out images that the noise left (nearly) clean, being tiny or saturated: `verify` calls them leaks."""
    skipped: list[samples.Skipped] = []
    while True:
        limit = leak_limit(usual_rms([item.rms for item in done]))
        weak = [item for item in done if item.rms <= limit and not item.visible]
        if not weak:
            return done, skipped
        reason = f"{weak[0].key}: the noise leaves almost no trace on it (RMS {weak[0].rms:.2f} levels)."
        if request.on_error == "fail" or len(weak) == len(done):
            raise UexError(reason, hint=samples.SKIP)
        for item in weak:
            (folder / item.name).unlink()
            skipped.append(samples.Skipped(item.key, f"{item.key}: the noise leaves almost no trace on it."))
            listener.warn(f"skipped {skipped[-1].reason}")
        done = [item for item in done if item not in weak]


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
        "largest_share_of_bound": round(
            min(1.0, worst.size / worst.allowed) if not protector.lossy else worst.size / worst.allowed, 6
        ),
        "rms_levels": round(usual_rms([item.rms for item in done]), 4),
        "ignored": samples.find_dataset(load(), request.photos).ignored(request.photos),
        "skipped": [{"path": item.key, "reason": item.reason} for item in skipped],
        "mode_changes": [{"path": item.name, "change": change} for item in done for change in item.changes],
        "pillow": PIL.__version__,
    }

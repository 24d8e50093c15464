"""Apply: a noise file and photos in, a protected release out."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import PIL
import torch
from torch import nn

from uexcli import __version__, plugin
from uexcli.commands.apply import assemble
from uexcli.commands.apply.assemble import LeftOut
from uexcli.commands.apply.existing import is_done, written_before
from uexcli.commands.apply.new_images import Assigned, near_of_new, warn_far_images
from uexcli.commands.apply.request import Request
from uexcli.commands.protect import engine as noise_engine
from uexcli.commands.protect import memory
from uexcli.commands.protect import source as noise_source
from uexcli.commands.protect.protector import Protector, Written, parts
from uexcli.core import seeding
from uexcli.core.quality import psnr, usual_rms
from uexcli.errors import UexError, UsageError
from uexcli.io import atomic, leftovers, samples
from uexcli.io.claims import claim
from uexcli.io.images import photo_files
from uexcli.io.noise import noise_file
from uexcli.io.pool import parallel
from uexcli.io.release import layout, part, receipt, shards, staging
from uexcli.io.release.croissant import NO_TRAINING
from uexcli.io.release.write_log import Journal
from uexcli.io.sources import Source, source_of
from uexcli.messages import Listener, tell_notes, visible
from uexcli.registry import Registry, load
from uexcli.runtime import machine

MANY = 1000  # number of images above which the job is announced


@dataclass(frozen=True)
class Result:
    """What was written."""

    output: Path
    written: int
    kept: int = 0  # found whole in an interrupted release
    already: bool = False
    largest: float = 0.0
    nearest: tuple[float, float] = (0.0, 0.0)  # of the image that comes nearest to its bound: its size and the bound
    fitted_at: int = 0  # px; eps is the bound at this size
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
    shard: str | None = None  # the output is only this part of the release
    jobs: int | None = None  # images at a time
    memory: int | None = None  # bytes that takes at the most


def run(request: Request, listener: Listener | None = None) -> Result:
    """Write the protected release, or with a shard a part of it. The photos are only ever read.

    Raises:
        UexError: see `uexcli.errors` and the README's table of bad inputs.
    """
    shard = shards.parse(request.shard)
    output = request.output if request.shard is None else shard.folder(request.output)
    if request.dry_run:
        return _run(request, shard, output, listener or Listener())
    with claim(output):
        return _run(request, shard, output, listener or Listener())


def _run(request: Request, shard: shards.Shard, output: Path, listener: Listener) -> Result:
    registry = load()
    photo_files.limit_pixels(request.max_pixels)
    machine.settle(torch.device("cpu"), photos=True)
    suffix = _suffix(request)
    noise = noise_file.read(request.noise)
    noise_engine.check(request.engine)
    network = noise_source.network(registry, noise) if noise.network else None
    protector = _protector(registry, noise, network, suffix, request)
    norm, strict = protector.norm, protector.granularity.needs_labels
    source = source_of(registry, request.photos)
    found = source.samples(labels=request.labels, strict=strict)
    names = layout.names(found.keys, suffix)
    _check_output(request, output, source, found)
    wanted = found
    if request.limit is not None:
        wanted = samples.limited(found, request.limit, ordered=source.dataset.ordered)
    every = _chosen(wanted, protector, listener)
    chosen = [sample for sample in every if shard.holds(sample.key)]
    header = _header(protector, request, source, found)
    job = header["job"] if request.shard is None else {**header["job"], "shard": request.shard}
    beside = Path(header["receipt"])
    if not request.dry_run:
        leftovers.sweep(beside.parent)
    if is_done(output, header, job, chosen, force=request.force):
        places = near_of_new(protector, chosen, request)
        return Result(output, 0, already=True, bounded=norm.bounded, **places, receipt=beside, shard=request.shard)
    if not every:
        raise UexError(
            f"{request.noise}: fitted on {len(noise.keys):,} other images; none of {request.photos} is among them.",
            hint="Give the photos it was fitted on, or fit these.",
        )
    tell_notes((*found.notes, *_guessable(noise)), listener)
    room = _room(protector, chosen, request, listener)
    engine = _start(protector, network, request, listener, chosen, room.jobs)
    taken: dict[str, Any] = {"engine": engine, "jobs": room.jobs, "memory": room.bytes}
    if request.dry_run:
        for sample in chosen:
            listener.say(visible(f"{sample.key} -> {output / names[sample.key]}"))
        places = near_of_new(protector, chosen, request)
        return Result(output, 0, eps=noise.eps, norm=norm.name, bounded=norm.bounded, **places, **taken)

    atomic.check_room(beside, 0)
    unwanted = _unwanted(found, every, shard)
    with staging.growing(output, job, resume=request.resume, force=request.force) as folder:
        done, skipped = _write_all(protector, chosen, names, folder, request, room, listener)
        if request.shard is None:
            if not done:
                raise UexError("not one of the images could be protected.", hint="See the reasons above.")
            made = assemble.assemble(folder, output, header, done, skipped, unwanted, listener)
            done, left_out = list(made.done), list(made.left_out)
        else:
            left_out = [*skipped, *unwanted]
            positions = {key: position for position, key in enumerate(found.keys)}
            said = {key: value for key, value in header.items() if key != "receipt"}  # a part names no other place
            part.write(folder, part.Part({**said, "shards": shard.count}, _items(done, skipped, unwanted, positions)))
        staging.finish(folder, output, force=request.force)
    assigned = warn_far_images(done, listener)
    return Result(
        output,
        written=sum(not item.kept for item in done),
        kept=sum(item.kept for item in done),
        largest=max((item.size for item in done), default=0.0),
        nearest=max(
            ((item.size, item.allowed) for item in done), key=lambda pair: pair[0] / pair[1], default=(0.0, 0.0)
        ),
        fitted_at=noise.size,
        eps=noise.eps,
        norm=norm.name,
        bounded=norm.bounded,
        psnr=psnr(usual_rms([item.rms for item in done])),
        new=len(assigned),
        assigned=assigned,
        skipped=tuple(samples.Skipped(item.key, item.reason) for item in left_out),
        mode_changes=tuple((item.key, change) for item in done for change in item.changes),
        receipt=beside,
        shard=request.shard,
        **taken,
    )


def _guessable(noise: noise_file.Noise) -> list[str]:
    """What is to be said of noise that anybody can make again."""
    known = seeding.can_be_guessed(noise.header.get("seed"))
    return ["the seed of this noise can be guessed, and the noise made again: fit anew, without `seed`"] * known


def _header(protector: Protector, request: Request, source: Source, found: samples.Labelled) -> dict[str, Any]:
    """What the parts of a release have in common: the job, the facts but for what is counted, and what to do."""
    noise = protector.noise
    return {
        "job": {
            "noise": layout.digest_file(request.noise),
            "photos": hashlib.sha256("\0".join(found.keys).encode("utf-8", "surrogateescape")).hexdigest(),
            "format": request.format,
            "metadata": request.keep_metadata,
            "usage": _usage(request),
            "max_pixels": request.max_pixels,
            "png_level": request.png_level,
            "limit": request.limit,
            "labels": layout.digest_file(request.labels) if request.labels else None,
        },
        "facts": {
            "uexcli": __version__,
            "method": noise.recipe["method"]["name"],
            "granularity": noise.recipe["granularity"]["name"],
            "norm": {"name": protector.norm.name, "options": noise.recipe["norm"].get("options", {})},
            "eps": noise.eps,
            "eps_text": noise.header["eps_text"],
            "size": noise.size,
            "suffix": protector.suffix,
            "lossless": not protector.lossy,
            "ignored": source.ignored,
            "pillow": PIL.__version__,
        },
        "on_error": request.on_error,
        "usage": _usage(request),
        "receipt": str(receipt.path_for(request.noise).resolve()),
        "images": len(found.keys),
        "loses_labels": _loses_labels(protector, found),
    }


def _loses_labels(protector: Protector, found: samples.Labelled) -> bool:
    """Whether the photos have classes that the folders of a release, as its readers take them, do not tell."""
    if not found.labels:
        return protector.noise.recipe.get("labels") == "csv"
    folders = [sample.key.partition("/")[0] if "/" in sample.key else "" for sample in found.samples]
    return any(sample.label != folder for sample, folder in zip(found.samples, folders, strict=True))


def _usage(request: Request) -> str | None:
    """What the release's croissant.json says may not be done; None where there is to be none."""
    return request.usage or (NO_TRAINING if request.croissant else None)


def _items(
    done: Sequence[Written], skipped: Sequence[LeftOut], unwanted: Sequence[LeftOut], places: Mapping[str, int]
) -> list[dict[str, Any]]:
    kinds = (("written", done), ("skipped", skipped), ("unwanted", unwanted))
    return [
        {"position": places[item.key], kind: dataclasses.asdict(item)} for kind, members in kinds for item in members
    ]


def _room(protector: Protector, chosen: Sequence[plugin.Sample], request: Request, listener: Listener) -> memory.Plan:
    """Plan the memory, and say what is about to be done, where that takes a while or much memory.

    Raises:
        UsageError: `--memory` is no size.
        UexError: an image takes more memory than there is, or no file of this format can hold it.
    """
    shapes = memory.shapes_of(chosen)
    refused = {key: error for key, shape in shapes.items() if (error := protector.refusal(key, shape)) is not None}
    skip = request.on_error == "skip"
    if refused and not skip:
        raise next(iter(refused.values()))
    whole = request.engine != noise_engine.TORCH
    cost = functools.partial(protector.memory, whole=whole)
    fitting = {key: shape for key, shape in shapes.items() if key not in refused}
    room = memory.plan(fitting, cost, len(chosen), jobs=request.jobs, memory=request.memory, skip=skip)
    always = request.dry_run or len(chosen) >= MANY
    what = f"images to protect, {protector.suffix} files"
    memory.say(room, len(chosen), what, request.jobs, listener, always=always)
    return dataclasses.replace(room, refused={**refused, **room.refused})


def _protector(
    registry: Registry, noise: noise_file.Noise, network: nn.Module | None, suffix: str, request: Request
) -> Protector:
    norm, granularity = parts(registry, noise)
    source = noise_source.make(noise, norm, network)
    lossy = request.format in photo_files.LOSSY
    return Protector(
        noise, norm, granularity, source, suffix, request.png_level,
        lossy=lossy, weights=request.weights, texts=request.keep_metadata,
    )  # fmt: skip


def _suffix(request: Request) -> str:
    if request.format not in photo_files.SUFFIXES:
        raise UsageError(f"`format={request.format}`: unknown.", hint=f"Known: {', '.join(photo_files.SUFFIXES)}.")
    if request.format in photo_files.LOSSY and not request.allow_lossy:
        raise UsageError(
            f"`format={request.format}` is lossy and breaks the bound.",
            hint="Add `allow_lossy=True` to write and measure it all the same.",
        )
    samples.check_options(request.on_error, request.jobs)
    if request.limit is not None and request.limit < 1:
        raise UsageError(f"`limit={request.limit}`: at least 1.")
    if request.usage is not None and not request.usage.strip():
        raise UsageError("`usage_info`: it is empty.", hint="Say what may not be done, or leave it out.")
    if not 0 <= request.png_level <= 9:
        raise UsageError(f"`png_level={request.png_level}`: not within 0 to 9.")
    return photo_files.SUFFIXES[request.format]


def _check_output(request: Request, output: Path, source: Source, found: samples.Labelled) -> None:
    """Refuse an output that is a file, holds the noise file, or lies among the photos; put right what a kill left."""
    with atomic.told(output):
        if output.exists() and not output.is_dir():
            raise UsageError(f"{output} is a file.", hint="Give `output` a folder.")
    target, secret = output.resolve(), request.noise.resolve()
    if any(sample.array is None for sample in found.samples):
        root = source.root.resolve()
        real = {root} if root.is_file() else {root, *_linked(root, found)}
        if any(target == one or one in target.parents or target in one.parents for one in real):
            raise UsageError(
                f"`output={output}` lies in or around {request.photos}.",
                hint="Write the release beside the photos, never among them.",
            )
    if target in secret.parents:
        raise UsageError(
            f"{request.noise} lies in `output={output}`, and is secret.", hint="Give the release its own folder."
        )
    if not request.dry_run:
        staging.recover(output)


def _linked(source: Path, found: samples.Labelled) -> set[Path]:
    """The folders elsewhere that links among the photos lead to."""
    folders = {sample.path.parent for sample in found.samples if sample.path is not None}
    return {real for real in (folder.resolve() for folder in folders) if not real.is_relative_to(source)}


def _chosen(wanted: samples.Labelled, protector: Protector, listener: Listener) -> list[plugin.Sample]:
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


def _unwanted(found: samples.Labelled, chosen: Sequence[plugin.Sample], shard: shards.Shard) -> list[LeftOut]:
    keys = {sample.key for sample in chosen}
    return [LeftOut(key, f"{key}: outside `limit`.") for key in found.keys if key not in keys and shard.holds(key)]


def _start(
    protector: Protector,
    network: nn.Module | None,
    request: Request,
    listener: Listener,
    chosen: Sequence[plugin.Sample],
    jobs: int,
) -> str:
    """Let the engine asked for make the noise of the chosen images, and get ready for new ones; give its name."""
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
    chosen: Sequence[plugin.Sample],
    names: Mapping[str, str],
    folder: Path,
    request: Request,
    room: memory.Plan,
    listener: Listener,
) -> tuple[list[Written], list[LeftOut]]:
    journal = Journal(folder / layout.JOURNAL)
    before = {item.key: item for item in written_before(journal)} if request.resume else {}

    def work(sample: plugin.Sample) -> Written | LeftOut:
        try:
            if sample.key in room.refused:
                raise room.refused[sample.key]
            with memory.enough(sample.key):
                return protector.write(sample, folder, names[sample.key], before.get(sample.key))
        except UexError as error:
            if isinstance(error, atomic.WriteError):
                raise
            if request.on_error == "fail":
                raise samples.or_skip(error) from None
            return LeftOut(sample.key, error.message, receipt.try_digest(sample))

    done: list[Written] = []
    skipped: list[LeftOut] = []
    # ONNX Runtime's threads are not there in a forked process
    processes = request.engine == noise_engine.TORCH
    began = time.monotonic()
    with journal:
        for count, item in enumerate(parallel(work, chosen, room.jobs, processes=processes, apart=room.apart), 1):
            if isinstance(item, Written):
                done.append(item)
                if not item.kept:
                    journal.add(dataclasses.asdict(item))
            else:
                skipped.append(item)
                listener.warn(f"skipped {item.reason}")
            rate = count / max(time.monotonic() - began, 1e-9)
            listener.step(plugin.Progress(count, len(chosen), f"{rate:,.0f} images/s", stage="protect"))
    return done, skipped

"""Fit: a dataset in, a noise file out."""

from __future__ import annotations

import math
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from uexcli import __version__, api
from uexcli.commands import fit_parts
from uexcli.commands.fit_parts import Parts
from uexcli.commands.listener import Listener, duration
from uexcli.core import clusters, seeding
from uexcli.core import noise as bank
from uexcli.core.pixels import survival
from uexcli.core.problem import BankProblem
from uexcli.core.quality import psnr
from uexcli.errors import UexError, UsageError
from uexcli.io import atomic, noise_file, samples
from uexcli.registry import Registry, load
from uexcli.runtime import machine

PSEUDO_CLASSES = 10
SMALL_SIDE = 96  # images up to this side are fitted as they are
MOST_STRETCH = 8  # beyond this, more stretching loses nothing more
SIZE = {"cpu": 64, "cuda": 224, "mps": 224}


@dataclass(frozen=True)
class Request:
    """What to fit, and how; None means: choose what is usual."""

    photos: str
    output: Path | None = None
    method: str = "em"
    mode: str | None = None
    norm: str | None = None
    eps: str | None = None
    surrogate: str = "auto"
    size: int | None = None
    limit: int | None = None
    labels: Path | None = None
    device: str = "auto"
    precision: str = "auto"
    seed: int | None = None
    options: Mapping[str, str] = field(default_factory=dict)
    on_error: str = "fail"
    force: bool = False
    dry_run: bool = False


@dataclass(frozen=True)
class Plan:
    """What a fit will do, as told before it starts."""

    output: Path
    images: int
    classes: int
    labels: str
    size: int
    channels: int
    method: str
    mode: str
    rows: int
    norm: str
    eps: str
    surrogate: str | None
    device: str
    seconds: float | None
    most_seconds: float | None


@dataclass(frozen=True)
class Result:
    """What a fit did. `written` is False where the output was there already, or with --dry-run."""

    plan: Plan
    written: bool
    already: bool = False
    seconds: float = 0.0
    largest: float = 0.0
    at_bound: float = 0.0
    psnr: float = 0.0
    skipped: tuple[samples.Skipped, ...] = ()


def run(request: Request, listener: Listener | None = None) -> Result:
    """Fit noise and write the noise file.

    Raises:
        UexError: see `uexcli.errors` and the README's table of bad inputs.
    """
    listener = listener or Listener()
    setup = prepare(request)
    loaded = _read(setup, request, listener)
    existing = setup.existing
    seed = existing.header["seed"] if existing else request.seed if request.seed is not None else secrets.randbits(48)
    labels, label_source = _labels(loaded, seed)
    problem, memory = make_problem(setup, loaded, labels, seed)
    estimate = None if existing else _estimate(setup.parts.method, problem)
    plan = _plan(setup, problem, label_source, estimate)
    if existing is not None:
        return Result(plan, written=False, already=True, skipped=loaded.skipped)
    _announce(plan, listener)
    if request.dry_run:
        return Result(plan, written=False, skipped=loaded.skipped)
    atomic.check_room(setup.output, math.prod(problem.shape))

    began = time.perf_counter()
    delta = bank.check(setup.parts.method.fit(problem, listener.step), problem, plan.method)
    seconds = time.perf_counter() - began
    written = bank.on_grid(delta, problem)
    measured = bank.measure(written, problem)
    if measured["rms_levels"] == 0:
        raise UexError(
            f"method '{plan.method}' found no noise at all.", hint="Try other -O options, or a larger --eps."
        )
    if measured["at_bound"] == 0:
        listener.warn("the noise of not one image reaches the bound")
    dataset = {"uri": request.photos, "count": plan.images, "fingerprint": _fingerprint(loaded)}
    noise = noise_file.Noise(
        delta=written.cpu(),
        rows=problem.rows.cpu(),
        keys=tuple(loaded.found.keys),
        digests=loaded.digests,
        classes=loaded.found.classes,
        memory=memory,
        header={
            "uexcli": __version__,
            "recipe": setup.recipe,
            "eps": setup.eps,
            "eps_text": setup.eps_text,
            "seed": seed,
            "dataset": dataset,
            "measured": measured,
            "torch": torch.__version__,
            "device": setup.device.type,
        },
    )
    noise_file.write(setup.output, noise)
    return Result(
        plan,
        written=True,
        seconds=seconds,
        largest=measured["largest"],
        at_bound=measured["at_bound"],
        psnr=psnr(measured["rms_levels"]),
        skipped=loaded.skipped,
    )


@dataclass(frozen=True)
class Setup:
    """Everything that is settled before an image is decoded."""

    found: samples.Labelled
    parts: Parts
    recipe: dict[str, Any]
    eps: float
    eps_text: str
    size: int
    channels: int
    output: Path
    existing: noise_file.Noise | None  # the output, where it is there already and of this recipe
    device: torch.device
    autocast: torch.dtype | None


def prepare(request: Request) -> Setup:
    """Settle what a request leaves open; whatever is wrong with it is told here, before long work."""
    registry = load()
    device = machine.pick_device(request.device)
    autocast = machine.pick_precision(request.precision, device)
    machine.settle(device)
    if request.size is not None and request.size < 8:
        raise UsageError(f"--size {request.size}: too small.", hint="Use 8 or more.")
    if request.limit is not None and request.limit < 2:
        raise UsageError(f"--limit {request.limit}: at least 2 images are needed.")
    found = find_photos(registry, request)
    parts = fit_parts.pick(
        registry,
        method=request.method,
        norm=request.norm,
        mode=request.mode,
        surrogate=request.surrogate,
        options=request.options,
        labelled=bool(found.labels),
        device=device.type,
    )
    if request.eps is not None:
        parts.norm.parse(request.eps)  # a wrong bound is told before anything is read
    seen = samples.survey(found, on_error=request.on_error)
    small = seen.common if seen.common is not None and seen.common <= SMALL_SIDE else None
    size = request.size or small or SIZE[device.type]
    eps_text = request.eps or fit_parts.usual_eps(parts, seen.channels, size)
    eps = parts.norm.parse(eps_text)
    recipe = {
        **parts.recipe(registry),
        "size": size,
        "channels": seen.channels,
        "photo_side": min(seen.side, MOST_STRETCH * size),
        "limit": request.limit,
        "labels": "csv" if request.labels else "folders" if found.labels else "k-means",
        "precision": str(autocast).removeprefix("torch.") if autocast else "float32",
    }
    output = request.output or Path(default_name(request.photos))
    existing = check_existing(output, found, recipe, eps, request)
    return Setup(found, parts, recipe, eps, eps_text, size, seen.channels, output, existing, device, autocast)


def _read(setup: Setup, request: Request, listener: Listener) -> samples.Loaded:
    """Decode the photos; refuse those the existing output was not fitted on."""
    loaded = samples.load(
        setup.found,
        setup.size,
        setup.channels,
        on_error=request.on_error,
        on_done=lambda done, total: listener.step(api.Progress(done, total, stage="read")),
    )
    for lost in loaded.skipped:
        listener.warn(f"skipped {lost.reason}")
    _enough(request.photos, loaded.found)
    existing = setup.existing
    if existing is not None and existing.header["dataset"].get("fingerprint") != _fingerprint(loaded):
        raise UsageError(
            f"{setup.output} was fitted on other photos.", hint="Use -o for another name, or --force to replace it."
        )
    return loaded


def _fingerprint(loaded: samples.Loaded) -> str:
    return noise_file.fingerprint(loaded.found.keys, loaded.digests)


def _plan(setup: Setup, problem: BankProblem, labels: str, estimate: tuple[float, float] | None) -> Plan:
    return Plan(
        output=setup.output,
        images=len(problem.images),
        classes=problem.num_classes,
        labels=labels,
        size=setup.size,
        channels=setup.channels,
        method=setup.parts.method.name,
        mode=setup.parts.granularity.name,
        rows=problem.num_rows,
        norm=setup.parts.norm.name,
        eps=setup.eps_text,
        surrogate=setup.parts.surrogate.name if setup.parts.surrogate else None,
        device=machine.name_of(setup.device),
        seconds=estimate[0] if estimate else None,
        most_seconds=estimate[1] if estimate else None,
    )


def find_photos(registry: Registry, request: Request) -> samples.Labelled:
    """List the photos of a request; labelled ones must have two classes or more."""
    samples.check_options(request.on_error)
    found = samples.list_samples(registry, request.photos, labels=request.labels)
    ordered = samples.find_dataset(registry, request.photos).ordered
    found = samples.limited(found, request.limit, ordered=ordered)
    _enough(request.photos, found)
    return found


def _enough(photos: str, found: samples.Labelled) -> None:
    """Refuse one image, and one class."""
    if len(found.samples) < 2:
        raise UexError(f"{photos}: only one image.", hint="At least 2 are needed to fit noise.")
    if len(found.classes) == 1:
        raise UexError(
            f"{photos}: all {len(found.samples)} images are of one class, '{found.classes[0]}'.",
            hint="Give the folder above it, --labels FILE.csv, or a flat folder to protect without labels.",
        )


def default_name(uri: str) -> str:
    """`photos.noise.safetensors` for ./photos, `cifar10.noise.safetensors` for cifar10:ROOT."""
    scheme, colon, _ = uri.partition(":")
    if colon and scheme.isalnum() and len(scheme) > 1 and scheme != "folder" and not Path(uri).exists():
        return scheme + noise_file.SUFFIX
    return (Path(uri.removeprefix("folder:")).resolve().name or "photos") + noise_file.SUFFIX


def check_existing(
    output: Path, found: samples.Labelled, recipe: Mapping[str, Any], eps: float, request: Request
) -> noise_file.Noise | None:
    """Give the noise file that is there already, of the same recipe, or None.

    Raises:
        UsageError: something else is there, and no --force.
    """
    with atomic.told(output):
        if output.is_dir():
            raise UsageError(f"{output} is a folder.", hint="Give -o a file name.")
        if not output.exists():
            return None
    listed = [sample for sample in found.samples if sample.path is not None]
    root = Path(request.photos.removeprefix("folder:")).resolve()
    if listed and root in output.resolve().parents and not output.name.endswith(noise_file.SUFFIX):
        raise UsageError(f"-o {output} is a file among the photos.", hint="Give -o another name.")
    if request.force:
        return None
    hint = "Use -o for another name, or --force to replace it."
    try:
        noise = noise_file.read(output)
    except UexError as error:
        raise UsageError(
            f"{output} exists, and is no noise file that could be kept ({error.message}).", hint=hint
        ) from None
    same_seed = request.seed is None or request.seed == noise.header["seed"]
    if noise.recipe != recipe or noise.eps != eps or not same_seed:
        raise UsageError(f"{output} exists, with another recipe.", hint=hint)
    return noise


def _labels(loaded: samples.Loaded, seed: int) -> tuple[Tensor, str]:
    """The labels, or k-means ids where there are none."""
    if len(loaded.labels):
        return loaded.labels, f"{len(loaded.found.classes)} classes"
    count = min(PSEUDO_CLASSES, max(2, len(loaded.images) // 2))
    ids = clusters.kmeans(clusters.pixel_features(loaded.images), count, seeding.derive(seed, "pseudo-labels"))
    ids = ids.unique(return_inverse=True)[1]
    return ids, f"none; {int(ids.max()) + 1} k-means clusters stand in"


def make_problem(
    setup: Setup, loaded: samples.Loaded, labels: Tensor, seed: int
) -> tuple[BankProblem, dict[str, Tensor]]:
    """Put the data on the device and give every image its row; also what the granularity wants remembered."""
    parts, device = setup.parts, setup.device
    stretched = int(setup.recipe["photo_side"])
    num_classes = int(labels.max()) + 1
    images = loaded.images.to(device)

    def features() -> Tensor:
        return clusters.pixel_features(images)

    rows = parts.granularity.rows(labels, features, seeding.generator(seed, "rows"))
    num_rows = int(rows.max()) + 1
    if (
        rows.shape != labels.shape
        or rows.dtype != torch.int64
        or len(rows.unique()) != num_rows
        or int(rows.min()) != 0
    ):
        raise UexError(f"granularity '{parts.granularity.name}' gave rows that are not dense int64 from 0.")
    memory = parts.granularity.memory(rows, features)
    surrogate = parts.surrogate

    def make() -> torch.nn.Module:
        assert surrogate is not None
        return surrogate.build(num_classes=num_classes, channels=images.shape[1], size=images.shape[2])

    problem = BankProblem(
        images=images,
        labels=labels.to(device),
        rows=rows.to(device),
        keys=loaded.found.keys,
        num_rows=num_rows,
        num_classes=num_classes,
        norm=parts.norm,
        eps=setup.eps,
        seed=seed,
        device=device,
        make_surrogate=make,
        autocast=setup.autocast,
        survival=survival(setup.size, stretched).to(device) if stretched > setup.size else None,
    )
    return problem, memory


def _estimate(method: api.Method, problem: BankProblem) -> tuple[float, float] | None:
    """Time a few passes on this machine and multiply: expected and most seconds; None where no passes are needed."""
    work = method.work(problem)
    if not work.most:
        return None
    model, delta = problem.build(), problem.start(random=False)
    batch = torch.arange(min(256, len(problem.images)), device=problem.device)
    problem.move(model, delta, batch[:32], step=0.0)
    began = time.perf_counter()
    problem.move(model, delta, batch, step=0.0)
    if problem.device.type == "cuda":
        torch.cuda.synchronize()
    each = (time.perf_counter() - began) / len(batch)
    return work.expected * each, work.most * each


def _announce(plan: Plan, listener: Listener) -> None:
    surrogate = f" against {plan.surrogate}" if plan.surrogate else ""
    shape = f"{plan.size} x {plan.size} x {plan.channels}"
    listener.say(f"{plan.images:,} images at {shape}; labels: {plan.labels}")
    listener.say(
        f"{plan.method}{surrogate}, {plan.mode} ({plan.rows:,} noises), {plan.norm} <= {plan.eps}, on {plan.device}"
    )
    if plan.seconds is not None and plan.most_seconds is not None:
        listener.say(f"estimated time: about {duration(plan.seconds)}, at most {duration(plan.most_seconds)}")

"""What a fit is asked for, and everything that is settled before an image is decoded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch

from uexcli import plugin
from uexcli.commands import bounds
from uexcli.commands.fit import default_method
from uexcli.commands.fit import parts as fit_parts
from uexcli.commands.fit.parts import Parts
from uexcli.commands.fit.request import Request
from uexcli.core import seeding
from uexcli.core.fit.patch import Patch
from uexcli.errors import UexError, UsageError
from uexcli.io import atomic, samples
from uexcli.io.images import photo_files
from uexcli.io.noise import noise_file
from uexcli.io.sources import Source, source_of
from uexcli.registry import load
from uexcli.runtime import machine

SMALLEST = 8  # px, which nets can halve three times
SMALL_SIDE = 96  # images up to this side are fitted as they are
MOST_STRETCH = 8  # beyond this, more stretching loses nothing more
SIZE = {"cpu": 64, "cuda": 224, "mps": 224}


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
    compiled: bool = False
    asked: default_method.Asked | None = None  # where the method was chosen for the user


def prepare(request: Request) -> Setup:
    """Settle what a request leaves open; whatever is wrong with it is told here, before long work."""
    registry = load()
    device = machine.pick_device(request.device)
    autocast = machine.pick_precision(request.precision, device)
    machine.settle(device)
    photo_files.limit_pixels(request.max_pixels)
    if request.size is not None and request.size < SMALLEST:
        raise UsageError(f"`size={request.size}`: too small.", hint=f"Use {SMALLEST} or more.")
    if request.limit is not None and request.limit < 2:
        raise UsageError(f"`limit={request.limit}`: at least 2 images are needed.")
    if request.seed is not None and not 0 <= request.seed < 1 << seeding.MOST_BITS:
        raise UsageError(
            f"`seed`: not between 0 and 2^{seeding.MOST_BITS} - 1.",
            hint="Leave it out, and one is drawn that cannot be guessed.",
        )
    source = source_of(registry, request.photos)
    found = find_photos(source, request)
    seen = asked = None
    if request.method is None:
        seen = samples.survey(found, on_error=request.on_error)
        asked = asked_for(request, found, seen, device.type)
    parts = fit_parts.pick(
        registry,
        method=request.method or default_method.usual_method(registry, cast(default_method.Asked, asked)),
        named=request.method is not None,
        norm=request.norm,
        mode=request.mode,
        surrogate=request.surrogate,
        options=request.options,
        preset=request.preset,
        labelled=bool(found.labels),
        device=device.type,
    )
    if request.compiled and parts.surrogate is None:
        raise UsageError(
            f"method '{parts.method.name}' uses no surrogate to compile.", hint="Leave `compile=True` out."
        )
    if request.compiled and parts.method.gives_network:
        raise UsageError(
            f"the nets of method '{parts.method.name}' cannot be compiled.", hint="Leave `compile=True` out."
        )
    patch = None if request.patch is None else check_patch(request.patch, parts)
    if request.eps is not None:
        parts.norm.parse(request.eps)  # a wrong bound is told before anything is read
    seen = seen or samples.survey(found, on_error=request.on_error)
    small = side_of_small(seen)
    size = request.size or (small and max(small, SMALLEST)) or side_of_photos(parts.method, seen.side, device.type)
    if patch is not None and patch.size >= size:
        raise UsageError(
            f"`patch={patch}`: as big as the image, which is fitted at {size} px.", hint="Use a smaller one."
        )
    eps_text = request.eps or fit_parts.usual_eps(parts, seen.channels, size)
    eps = parts.norm.parse(eps_text)
    if request.eps is not None:
        linf = registry.make(plugin.Norm, "norm", "linf")  # type: ignore[type-abstract]
        other = bounds.instead(parts.method, parts.norm, linf, request.eps)
        usual = fit_parts.usual_eps(parts, seen.channels, size)
        bounds.check(parts.norm, request.eps, eps, usual, at=f" at {size} px", hint=other)
    recipe = {
        **parts.recipe(registry),
        "size": size,
        "channels": seen.channels,
        "photo_side": min(seen.side, MOST_STRETCH * size),
        **({} if patch is None else {"patch": str(patch)}),
        "limit": request.limit,
        "labels": "csv" if request.labels else "folders" if found.labels else "k-means",
        "compiled": request.compiled,
        "precision": str(autocast).removeprefix("torch.") if autocast else "float32",
    }
    output = output_of(request)
    existing = check_existing(output, source, found, recipe, eps, request)
    return Setup(
        found=found,
        parts=parts,
        recipe=recipe,
        eps=eps,
        eps_text=eps_text,
        size=size,
        channels=seen.channels,
        output=output,
        existing=existing,
        device=device,
        autocast=autocast,
        compiled=request.compiled,
        asked=asked,
    )


def asked_for(request: Request, found: samples.Labelled, seen: samples.Survey, device: str) -> default_method.Asked:
    """Say what is known where a method is still to be chosen."""
    return default_method.Asked(
        images=len(found.samples),
        labelled=bool(found.labels),
        side=side_of_small(seen) or (seen.side if seen.side <= SMALL_SIDE else None),
        device=device,
        mode=request.mode,
        norm=request.norm,
        surrogate=request.surrogate,
        preset=request.preset,
        compiled=request.compiled,
        patched=request.patch is not None,
        options=request.options,
        size=request.size,
        photo=seen.side,
    )


def side_of_small(seen: samples.Survey) -> int | None:
    """Give the side of images that are all of one, and small; None: they are photos."""
    return seen.common if seen.common is not None and seen.common <= SMALL_SIDE else None


def side_of_photos(method: plugin.Method, side: int, device: str) -> int:
    """Give the side at which a method fits photos whose median has this one, in px.

    Where the side matters to the method, noise is not fitted at more than that and made smaller, which weakens it.
    """
    usual = max(SIZE[device], method.photo_side)
    return max(SMALLEST, min(usual, side)) if method.photo_side else usual


def check_patch(text: str, parts: Parts) -> Patch:
    """Read `--patch`; not every method and norm works on a part of the image."""
    if not parts.method.takes_patches:
        raise UsageError(f"method '{parts.method.name}' makes no patches.", hint="Leave `patch` out.")
    if parts.norm.needs_images:
        raise UsageError(f"norm '{parts.norm.name}' judges whole images, not patches.", hint="Use `norm=linf` or l2.")
    return Patch.parse(text)


def find_photos(source: Source, request: Request) -> samples.Labelled:
    """List the photos of a request; labelled ones must have two classes or more."""
    samples.check_options(request.on_error)
    if request.no_labels and request.labels is not None:
        raise UsageError("`no_labels=True` and `labels` exclude each other.", hint="Give one of them.")
    found = source.samples(labels=request.labels, strict=not request.no_labels)
    if request.no_labels:
        found = found.bare()
    found = samples.limited(found, request.limit, ordered=source.dataset.ordered)
    check_enough(str(request.photos), found)
    return found


def check_enough(photos: str, found: samples.Labelled) -> None:
    """Refuse one image, and one class."""
    if len(found.samples) < 2:
        raise UexError(f"{photos}: only one image.", hint="At least 2 are needed to fit noise.")
    if len(found.classes) == 1:
        raise UexError(
            f"{photos}: all {len(found.samples)} images are of one class, '{found.classes[0]}'.",
            hint="Give the folder above it, `labels=FILE.csv`, or a flat folder to protect without labels.",
        )


def output_of(request: Request) -> Path:
    """Where the noise file goes."""
    return request.output or Path(default_name(str(request.photos)))


def default_name(uri: str) -> str:
    """`photos.noise.safetensors` for ./photos and links:photos, `cifar10.noise.safetensors` for cifar10:ROOT."""
    scheme, colon, _ = uri.partition(":")
    if colon and scheme.isalnum() and len(scheme) > 1 and scheme not in {"folder", "links"} and not Path(uri).exists():
        return scheme + noise_file.SUFFIX
    return (Path(uri.removeprefix("folder:").removeprefix("links:")).resolve().name or "photos") + noise_file.SUFFIX


def check_existing(
    output: Path, source: Source, found: samples.Labelled, recipe: Mapping[str, Any], eps: float, request: Request
) -> noise_file.Noise | None:
    """Give the noise file that is there already, of the same recipe, or None.

    Raises:
        UsageError: something else is there, and no --force.
    """
    with atomic.told(output):
        if output.is_dir():
            raise UsageError(f"{output} is a folder.", hint="Give `output` a file name.")
        if not output.exists():
            return None
    listed = [sample for sample in found.samples if sample.array is None]
    root = source.root.resolve()
    among = root == output.resolve() or root in output.resolve().parents
    if listed and among and not output.name.endswith(noise_file.SUFFIX):
        raise UsageError(f"`output={output}` is a file among the photos.", hint="Give `output` another name.")
    if request.force:
        return None
    hint = "Use `output` for another name, or `force=True` to replace it."
    try:
        noise = noise_file.read(output)
    except UexError as error:
        raise UsageError(
            f"{output} exists, and is no noise file that could be kept ({error.message}).", hint=hint
        ) from None
    same_seed = request.seed is None or request.seed == noise.seed
    if noise.recipe != recipe or noise.eps != eps or not same_seed:
        raise UsageError(f"{output} exists, with another recipe.", hint=hint)
    return noise

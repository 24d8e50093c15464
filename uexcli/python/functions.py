"""fit, apply, evaluate and verify as functions: the commands, with arguments in place of options."""

from __future__ import annotations

import dataclasses
import sys
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from uexcli.commands import apply as applying
from uexcli.commands import evaluate as evaluating
from uexcli.commands import fit as fitting
from uexcli.commands import verify as verifying
from uexcli.errors import UexError, UsageError
from uexcli.io.noise import noise_file
from uexcli.messages import Listener
from uexcli.python.images import source_of_images
from uexcli.python.noise import Noise
from uexcli.runtime import process


class Heard(Listener):
    """Passes warnings on to Python's; `verbose` writes the rest to stderr."""

    def __init__(self, *, verbose: bool) -> None:
        self._verbose = verbose

    def say(self, text: str) -> None:
        """Write it, if that was asked for."""
        if self._verbose:
            sys.stderr.write(f"{text}\n")

    def warn(self, text: str) -> None:
        """Warn."""
        warnings.warn(text, stacklevel=2)


def fit(
    photos: Any,
    labels: Sequence[Any] | str | Path | None = None,
    *,
    output: str | Path | None = None,
    method: str | None = None,
    mode: str | None = None,
    norm: str | None = None,
    eps: float | str | None = None,
    surrogate: str = "auto",
    weights: str | Path | None = None,
    size: int | None = None,
    limit: int | None = None,
    no_labels: bool = False,
    patch: str | None = None,
    preset: str | None = None,
    options: Mapping[str, object] | None = None,
    seed: int | None = None,
    device: str = "auto",
    precision: str = "auto",
    max_pixels: int | None = None,
    on_error: str = "fail",
    compile: bool = False,  # noqa: A002 - as the command has it
    memory: int | str | None = None,
    resume: bool = False,
    force: bool = False,
    verbose: bool = False,
) -> Noise:
    """Fit noise for images.

    `photos` is a folder or a URI (`cifar10:ROOT`), arrays uint8 `(N, H, W, 3)` or `(N, H, W)`, a list of images, or a
    map-style dataset of (image, label). `labels` are one for each image in memory, or the path of a CSV for files.
    `eps` is a number, such as 8 / 255, or text; `options` are those of the method, mode, norm and surrogate. With
    `output` the noise file is kept there, and an interrupted fit can be resumed.

    Raises:
        UexError: see the table of bad inputs in the README; it names the argument.
    """
    in_memory = source_of_images(photos, None if isinstance(labels, (str, Path)) else labels)
    csv = Path(labels) if isinstance(labels, (str, Path)) else None
    if resume and output is None:
        raise UsageError("`resume`: without `output` nothing of a fit is kept.", hint="Give both, from the start.")
    if no_labels and labels is not None:
        raise UsageError("`no_labels` and `labels` exclude each other.", hint="Give one of them.")
    given = {name: _text(value) for name, value in (options or {}).items()}
    given |= {} if weights is None else {"weights": str(weights)}
    with process.kept(), tempfile.TemporaryDirectory() as folder:
        path = Path(output) if output is not None else Path(folder) / f"fit{noise_file.SUFFIX}"
        request = fitting.Request(
            in_memory, path, method=method, mode=mode, norm=norm, eps=None if eps is None else _bound(eps),
            surrogate=surrogate, size=size, limit=limit, labels=csv, no_labels=no_labels, device=device,
            precision=precision, seed=seed, options=given, on_error=on_error, force=force, resume=resume,
            memory=_size(memory), preset=preset, compiled=compile, patch=patch, max_pixels=max_pixels,
        )  # fmt: skip
        fitting.run(request, Heard(verbose=verbose))
        made = Noise(noise_file.read(path))
    made.path = path if output is not None else None
    return made


def load_noise(path: str | Path) -> Noise:
    """Read a noise file.

    Raises:
        UexError: it is none, or damaged.
    """
    with process.kept():
        noise = Noise(noise_file.read(Path(path)))
    noise.path = Path(path)
    return noise


def apply(
    noise: Noise | str | Path,
    photos: str | Path,
    output: str | Path,
    *,
    labels: str | Path | None = None,
    format: str = "png",  # noqa: A002 - as the command has it
    allow_lossy: bool = False,
    jobs: int | None = None,
    limit: int | None = None,
    on_error: str = "fail",
    keep_metadata: bool = False,
    croissant: bool = False,
    usage_info: str | None = None,
    engine: str = "torch",
    weights: str | Path | None = None,
    max_pixels: int | None = None,
    memory: int | str | None = None,
    resume: bool = False,
    force: bool = False,
    verbose: bool = False,
) -> applying.Result:
    """Write the protected copies of files into a release folder; images in memory: see `Noise.apply`.

    Beside the file of the noise, where it has one, lies the private receipt: by it a release is resumed, or found done.

    Raises:
        UexError: see the table of bad inputs in the README; it names the argument.
    """
    with process.kept(), tempfile.TemporaryDirectory() as folder:
        path = _file_of(noise, folder)
        request = applying.Request(
            path, str(photos), Path(output), format, allow_lossy, jobs=jobs, labels=_path(labels), limit=limit,
            on_error=on_error, force=force, resume=resume, engine=engine, weights=_path(weights),
            keep_metadata=keep_metadata, croissant=croissant, usage=usage_info, max_pixels=max_pixels,
            memory=_size(memory),
        )  # fmt: skip
        result = applying.run(request, Heard(verbose=verbose))
    return result if path.exists() else dataclasses.replace(result, receipt=None)


def evaluate(
    photos: Any,
    release: Any,
    labels: Sequence[Any] | str | Path | None = None,
    *,
    test: Any = None,
    test_labels: Sequence[Any] | None = None,
    protocol: str | None = None,
    targets: str | Sequence[str] = (),
    against: str | Sequence[str] = (),
    seeds: int | None = None,
    epochs: int | None = None,
    size: int | None = None,
    folds: int | None = None,
    attacker: str = "blind",
    weights: str = "auto",
    device: str = "auto",
    precision: str = "auto",
    on_error: str = "fail",
    max_learnability: float | None = None,
    max_pixels: int | None = None,
    cells: str | Path | None = None,
    fresh: bool = False,
    report: str | Path | None = None,
    force: bool = False,
    verbose: bool = False,
) -> evaluating.Result:
    """Train on clean and on protected images, and test on clean ones: what is still learnt?

    `photos`, `release` and `test` are folders, URIs, arrays or datasets, as `fit` takes them; a release in memory is
    what `Noise.apply` gave, in the order of the photos.

    Raises:
        UexError: see the table of bad inputs in the README; it names the argument.
    """
    clean = source_of_images(photos, None if isinstance(labels, (str, Path)) else labels)
    csv = Path(labels) if isinstance(labels, (str, Path)) else None
    tested = None if test is None else source_of_images(test, test_labels)
    with process.kept():
        request = evaluating.Request(
            clean, source_of_images(release, None), tested, protocol=protocol, targets=_several(targets),
            against=_several(against), seeds=seeds, epochs=epochs, size=size, folds=folds, attacker=attacker,
            weights=weights, labels=csv, device=device, precision=precision, on_error=on_error,
            max_learnability=max_learnability, max_pixels=max_pixels, cells=_path(cells), fresh=fresh,
            report=_path(report), force=force,
        )  # fmt: skip
        result = evaluating.run(request, Heard(verbose=verbose))
    assert isinstance(result, evaluating.Result)  # without a shard
    return result


def verify(
    release: str | Path,
    source: str | Path | None = None,
    *,
    noise: Noise | str | Path | None = None,
    eps: float | str | None = None,
    norm: str | None = None,
    size: int | None = None,
    weights: str | Path | None = None,
    allow_missing: bool = False,
    fast: bool = False,
    strict: bool = False,
    jobs: int | None = None,
    max_pixels: int | None = None,
    memory: int | str | None = None,
    verbose: bool = False,
) -> verifying.Result:
    """Check a release: bounded, complete, intact. What is wrong is in `.findings`.

    Raises:
        UexError: it cannot be checked.
    """
    with process.kept(), tempfile.TemporaryDirectory() as folder:
        path = None if noise is None else _file_of(noise, folder)
        request = verifying.Request(
            Path(release), None if source is None else str(source), eps=None if eps is None else _bound(eps), norm=norm,
            size=size, noise=path, weights=_path(weights), allow_missing=allow_missing, fast=fast, jobs=jobs,
            max_pixels=max_pixels, strict=strict, memory=_size(memory),
        )  # fmt: skip
        return verifying.run(request, Heard(verbose=verbose))


def _bound(eps: float | str) -> str:
    """Write a bound as people do, 8/255, where it is one of whole levels."""
    if isinstance(eps, str):
        return eps
    levels = 255 * eps
    whole = eps < 1 and abs(levels - round(levels)) < 1e-9 * levels
    return f"{round(levels)}/255" if whole else repr(float(eps))


def _file_of(noise: Noise | str | Path, folder: str) -> Path:
    """Give the file of a noise; one in the folder, where it has none yet."""
    if not isinstance(noise, Noise):
        return Path(noise)
    if noise.path is not None and noise.path.is_file():
        return noise.path
    path = noise.save(Path(folder) / f"fit{noise_file.SUFFIX}")
    noise.path = None  # it goes when this is done
    return path


def _several(names: str | Sequence[str]) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else tuple(names)


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _path(path: str | Path | None) -> Path | None:
    return None if path is None else Path(path)


def _size(memory: int | str | None) -> str | None:
    return None if memory is None else str(memory)


__all__ = ["UexError", "apply", "evaluate", "fit", "load_noise", "verify"]

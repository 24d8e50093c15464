"""Bench: methods against countermeasures on sets of photos, from fit to the table, in one resumable command."""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

from uexcli.commands import apply, evaluate, fit, verify
from uexcli.commands.bench import targets, test_sets
from uexcli.commands.bench.recipes import FIT, TRAININGS, Photos, Question, Recipes, name_of, questions, read
from uexcli.commands.evaluate.report import without_images
from uexcli.errors import UexError, UsageError, unknown
from uexcli.io import atomic, documents, schema
from uexcli.io.claims import claim
from uexcli.io.release.layout import FACTS
from uexcli.io.reports import board, leaderboard
from uexcli.io.sources import source_of
from uexcli.messages import Listener
from uexcli.plugin import Progress
from uexcli.registry import load
from uexcli.wording import pasted

__all__ = ["TRAININGS", "Recipes", "Request", "Result", "Row", "read", "run"]


@dataclass(frozen=True)
class Request:
    """What to compare, and where to work."""

    recipes: Path
    output: Path
    device: str = "auto"
    precision: str = "auto"
    on_error: str = "fail"
    shard: str | None = None


@dataclass(frozen=True)
class Row:
    """One method under one question: how its noise was made, and what was measured."""

    name: str
    method: str
    seconds: float | None  # of the last run of its fit; None: of a release made elsewhere
    bound: str | None
    levels: float | None  # the most any value of a written file differs by
    psnr: float | None
    findings: int | None  # of `verify`; None: nothing states the bound of a release made elsewhere
    evaluation: evaluate.Result
    set: str = ""
    recipe: str = ""  # the name of the row in the recipes, which may ask for several values
    question: Question = field(default_factory=Question)
    published: Mapping[str, float] = field(default_factory=dict)  # percent, by countermeasure
    made_with: Mapping[str, Any] = field(default_factory=dict)
    test_source: str = ""

    @property
    def worst(self) -> float:
        """The highest mean peak accuracy of the protected side, where the clean one is above chance."""
        cells = self.evaluation.cells
        telling = [cell.protected.mean("peak") for cell in cells if cell.tells]
        return max(telling or [cell.protected.mean("peak") for cell in cells])

    @property
    def silent(self) -> bool:
        """Whether the row cannot be ranked, as a clean baseline may be at chance."""
        return board.is_silent(
            {"cells": [{"against": one.against, "tells": one.tells} for one in self.evaluation.cells]}
        )


@dataclass(frozen=True)
class Result:
    """The rows of each set, the one that holds best first, and where the tables are."""

    rows: tuple[Row, ...]
    tables: tuple[Path, ...]
    missing: int  # trainings that other shards have to do
    seconds: float

    @property
    def boards(self) -> dict[str, list[Row]]:
        """The rows that compare, by what they are of."""
        return boards(self.rows)


def boards(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """The rows that compare, by what they are of: one set of photos, with the same classes and test images."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        parts = [text for text in (row.set, row.question.board) if text]
        found.setdefault(", ".join(parts), []).append(row)
    return found


def ranked(rows: Sequence[Row]) -> list[Row]:
    """The rows, the one that holds best first; those that cannot be told stand below."""
    return sorted(rows, key=lambda row: (row.silent, row.worst))


def columns(rows: Sequence[Row]) -> list[tuple[str, str]]:
    """The targets and countermeasures that were measured, plain training first."""
    return board.columns([_plain(row) for row in rows])


def run(request: Request, listener: Listener | None = None) -> Result:
    """Fit, apply, verify and evaluate each row; write the table as Markdown, JSON and HTML.

    What is there already is not done again: fits go on from their state, trainings are kept.

    Raises:
        UsageError: the recipes are invalid.
        UexError: a row cannot be done.
    """
    listener = listener or Listener()
    recipes = read(request.recipes)
    folds = _check(recipes, request)
    with claim(request.output, shared=request.shard is not None):  # shards share out the work within it
        return _run(request, recipes, folds, listener)


def _run(request: Request, recipes: Recipes, folds: int | None, listener: Listener) -> Result:
    began = time.perf_counter()
    atomic.private_folder(request.output)
    if atomic.is_open_to_others(request.output):
        listener.warn(
            f"others may look into {request.output}, where the noise will lie: {pasted('chmod', '700', request.output)}"
        )
    work = [(photos, recipe) for photos in recipes.sets for recipe in recipes.rows if photos in recipes.wanted(recipe)]
    tests = {photos.name: test_sets.find(photos, listener) for photos in dict.fromkeys(one for one, _ in work)}
    for name, test in tests.items():
        if folds not in {None, 1} and test.uri is not None:
            what = f"set '{name}' has" if name else "there are"
            raise UsageError(f"{request.recipes}: folds, but {what} test images: {test.uri}.", hint="Say test = false.")
    sizes: dict[str, int] = {}
    told = set[str]()
    rows: list[Row] = []
    missing = 0
    for number, (photos, recipe) in enumerate(work, 1):
        name, folder = name_of(recipe), request.output / photos.name
        atomic.private_folder(folder)
        shown = f"{photos.name}/{name}" if photos.name else name
        listener.say("")
        listener.say(f"[{number}/{len(work)}] {shown}")
        waited = functools.partial(listener.say, f"another uex is at '{shown}': waiting for it")
        with claim(folder / f".{name}.row", wait=waited):  # not the release, which `apply` claims
            test = tests[photos.name]
            heard = _Quieter(listener, test.beyond, told)
            for made in _Bench(request, recipes, photos, test, heard).rows(recipe, sizes):
                if isinstance(made, evaluate.Partial):
                    missing += made.of - made.done
                    continue
                rows.append(made)
                _comparable(next(row for row in rows if _board(row) == _board(made)), made)
    places = {photos.name: place for place, photos in enumerate(recipes.sets)}
    order = {name: place for place, name in enumerate(boards(rows))}
    rows = sorted(ranked(rows), key=lambda row: (places[row.set], order[_board(row)]))
    tables: tuple[Path, ...] = ()
    if not missing:
        title = f"Protection of {', '.join(photos.name or photos.photos for photos in recipes.sets)}"
        tables = leaderboard.write(request.output, title, [_plain(row) for row in rows])
    return Result(tuple(rows), tables, missing, time.perf_counter() - began)


def _board(row: Row) -> str:
    return next(iter(boards([row])))


def _comparable(first: Row, other: Row) -> None:
    """Refuse to put into one table what was measured on other images.

    Raises:
        UexError: they were.
    """
    for words, what in (("training images", "train_images"), ("test images", "test_images"), ("px", "size")):
        one, two = getattr(first.evaluation, what), getattr(other.evaluation, what)
        if one != two:
            raise UexError(
                f"'{other.name}' was measured on {two} {words}, '{first.name}' on {one}: they do not compare.",
                hint="Give the recipes a size, and releases of the same photos (see limit).",
            )


def _check(recipes: Recipes, request: Request) -> int | None:
    """Find what the recipes name, before the first of them has taken its hours; give the folds that are asked for."""
    registry = load()
    for row in recipes.rows:
        for key, kind in (("method", "method"), ("mode", "granularity"), ("norm", "norm")):
            if key in row:
                registry.find(kind, row[key])
        if "release" in row and not source_of(registry, row["release"]).root.exists():
            raise UsageError(f"{request.recipes}: row '{name_of(row)}': {row['release']}: no such release.")
    asked = targets.check(recipes, request.device)
    for row in recipes.rows:
        for against in row.get("published", {}):
            if against not in asked.against:
                raise unknown(f"countermeasure that is published for row '{name_of(row)}'", against, asked.against)
        for question in questions(row):
            wanted = question.asked
            evaluate.check(evaluate.Request("", "", **targets.judged(recipes), **wanted), asked)
            (merge,) = wanted.get("merges", (None,))
            files = [wanted.get("pairs"), None if merge is None or merge.isdigit() else merge]
            for path in files:
                if path is not None and not Path(path).is_file():
                    raise UsageError(f"{request.recipes}: row '{name_of(row)}': {path}: no such file.")
    return asked.folds


@dataclass(frozen=True)
class _Bench:
    """The work on the rows of one set of photos."""

    request: Request
    recipes: Recipes
    photos: Photos
    test: test_sets.Test
    listener: Listener

    def rows(self, recipe: Mapping[str, Any], sizes: dict[str, int]) -> Iterator[Row | evaluate.Partial]:
        """Make a release and judge it, once for each question; the first evaluation of a set says its size."""
        name, photos = name_of(recipe), self.photos
        release, seconds = self._release(name, recipe)
        checked = self._verified(recipe, release)
        psnr = checked.psnr["median"] if checked and checked.psnr else None
        method = str(recipe.get("method", "")) or ("made elsewhere" if "release" in recipe else "default")
        bound = None if checked is None or checked.eps is None else f"{checked.norm} {checked.eps}"
        levels, findings = (None, None) if checked is None else (checked.most_levels, len(checked.findings))
        for question in questions(recipe):
            made = self._evaluated(release, question, sizes.get(photos.name))
            if isinstance(made, evaluate.Partial):
                yield made
                continue
            sizes.setdefault(photos.name, made.size)
            yield Row(
                f"{name}, {question.key} {question.value}" if question.key else name,
                method, seconds, bound, levels, psnr, findings, without_images(made), photos.name, name, question,
                recipe.get("published", {}), _made_with(recipe), self.test.words(made.test_source),
            )  # fmt: skip

    def _release(self, name: str, recipe: Mapping[str, Any]) -> tuple[Path, float | None]:
        """Fit and apply; of a release made elsewhere, say where it is."""
        if "release" in recipe:
            return Path(recipe["release"]), None
        request, photos, folder = self.request, self.photos, self.request.output / self.photos.name
        noise, release = folder / f"{name}.noise.safetensors", folder / name
        options = {key: _text(value) for key, value in recipe.get("options", {}).items()}
        options |= {key: recipe[key] for key in ("weights",) if key in recipe}
        settings = {key: recipe[key] for key in FIT if key in recipe}
        settings.setdefault("size", self.recipes.judged.get("size"))
        fitted = fit.run(
            fit.Request(
                photos.photos, output=noise, labels=photos.labels, limit=photos.limit, options=options,
                device=request.device, precision=request.precision, on_error=request.on_error, resume=True, **settings,
            ),
            self.listener,
        )  # fmt: skip
        seconds = _kept_seconds(folder / f"{name}.fit.json", fitted.seconds)
        apply.run(
            apply.Request(
                noise, photos.photos, release, labels=photos.labels, limit=photos.limit,
                on_error=request.on_error, resume=True,
            ),
            self.listener,
        )  # fmt: skip
        return release, seconds

    def _verified(self, recipe: Mapping[str, Any], release: Path) -> verify.Result | None:
        given = "release" in recipe
        stated, norm = (recipe.get("eps"), recipe.get("norm")) if given else (None, None)
        if given and stated is None and not (release / FACTS).is_file():
            return None
        asked = verify.Request(release, source=self.photos.photos, eps=stated, norm=norm, allow_missing=True)
        return verify.run(asked, self.listener)

    def _evaluated(self, release: Path, question: Question, size: int | None) -> evaluate.Result | evaluate.Partial:
        request, photos = self.request, self.photos
        judged = targets.judged(self.recipes)
        judged |= question.asked
        return evaluate.run(
            evaluate.Request(
                photos.photos, str(release), test=self.test.uri, labels=photos.labels, device=request.device,
                precision=request.precision, on_error=request.on_error, cells=request.output / TRAININGS,
                shard=request.shard, usual_size=size, **judged,
            ),
            self.listener,
        )  # fmt: skip


class _Quieter(Listener):
    """Passes on what is said, but not twice what a dataset leaves out, nor that a limit keeps photos from a release."""

    def __init__(self, listener: Listener, beyond: str | None, told: set[str]) -> None:
        self._listener, self._beyond, self._told = listener, beyond, told

    def say(self, text: str) -> None:
        if text in self._told:
            return
        if text.startswith("left out, "):
            self._told.add(text)
        self._listener.say(text)

    def warn(self, text: str) -> None:
        if self._beyond is None or not text.startswith(self._beyond):
            self._listener.warn(text)

    def step(self, progress: Progress) -> None:
        self._listener.step(progress)


def _made_with(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """What a row's recipe says of its noise, but not the seed, which the noise can be made again with."""
    shown = {key: recipe[key] for key in (*FIT, "weights") if key in recipe and key not in ("method", "seed")}
    return {**shown, **recipe.get("options", {})}


def _kept_seconds(path: Path, seconds: float) -> float | None:
    """Remember how long a fit took, for the time it has nothing to do; None: not known."""
    if seconds:
        atomic.write(path, json.dumps({"fit_seconds": round(seconds, 2)}).encode())
        return seconds
    try:
        return float(schema.read_json(path.read_bytes(), documents.FITTED)["fit_seconds"])
    except (OSError, schema.Mismatch):
        return None


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _plain(row: Row) -> dict[str, Any]:
    """What the tables show of a row."""
    first, question = row.evaluation, row.question
    return {
        "name": row.name,
        "set": row.set,
        "row": row.recipe,
        "varies": {"key": question.key, "value": question.value, "place": question.place} if question.key else None,
        "question": question.board,
        "scenario": first.scenario,
        "method": row.method,
        "made_with": dict(row.made_with),
        "published": dict(row.published),
        "fit_seconds": row.seconds,
        "bound": row.bound,
        "levels": row.levels,
        "psnr": row.psnr,
        "findings": row.findings,
        "worst_peak": row.worst,
        "told": not row.silent,
        "chance": first.chance,
        "seeds": first.seeds,
        "train_images": first.train_images,
        "test_images": first.test_images,
        "test_source": row.test_source,
        "size": first.size,
        "device": first.device,
        "versions": dict(first.versions),
        "detected": any(probe.flagged for probe in first.detect["protected"]),
        "warnings": list(first.warnings),
        "cells": [_plain_cell(cell) for cell in first.cells],
    }


def _plain_cell(cell: evaluate.Cell) -> dict[str, Any]:
    return {
        "target": cell.target,
        "against": cell.against,
        "clean": _plain_side(cell.clean, cell.intervals["clean"]),
        "protected": _plain_side(cell.protected, cell.intervals["protected"]),
        "learnability_last": cell.learnability_last,
        "learnability_peak": cell.learnability_peak,
        "learnability_interval_last": cell.learnability_interval_last,
        "learnability_interval_peak": cell.learnability_interval_peak,
        "verdict": cell.verdict,
    }


def _plain_side(side: evaluate.Side, interval: float) -> dict[str, Any]:
    runs = side.runs
    return {
        "last": [run.last for run in runs],
        "peak": [run.peak for run in runs],
        "early_stop": [run.early_stop for run in runs],
        "train_accuracy": [run.train_accuracy for run in runs],
        "seconds": [run.seconds for run in runs],
        "curves": [list(run.curve) for run in runs],
        "curve": [fmean(values) for values in zip(*(run.curve for run in runs), strict=False)],
        "interval": interval,
    }

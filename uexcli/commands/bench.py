"""Bench: methods against countermeasures on one set of photos, from fit to the table, in one resumable command."""

from __future__ import annotations

import functools
import json
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from uexcli.commands import apply, eval_protocol, evaluate, fit, verify
from uexcli.commands.eval_protocol import FIELDS as PROTOCOL
from uexcli.commands.eval_runs import jobs_of
from uexcli.commands.listener import Listener
from uexcli.errors import UexError, UsageError, unknown
from uexcli.io import atomic, header_schema, leaderboard, schema
from uexcli.io.claims import claim
from uexcli.io.release import FACTS
from uexcli.registry import load
from uexcli.runtime import machine
from uexcli.wording import pasted

SET = ("photos", "test", "labels", "limit")  # what is measured on
TEXT = schema.text()
FIT: dict[str, schema.Kind] = {
    "method": TEXT, "mode": TEXT, "norm": TEXT, "eps": TEXT, "surrogate": TEXT,
    "size": schema.whole(1, header_schema.SIDE), "seed": schema.whole(0, schema.HUGE - 1), "preset": TEXT,
    "patch": TEXT, "no_labels": schema.flag,
}  # fmt: skip
ROW = {"name": TEXT, "release": TEXT, "options": schema.table(schema.option), **FIT}
WHOLE: dict[str, schema.Kind] = {
    "photos": TEXT, "test": TEXT, "labels": TEXT, "limit": schema.whole(1, header_schema.MANY), "protocol": TEXT,
    "row": schema.listing(schema.table(schema.anything), least=1),
}  # fmt: skip
TRAININGS = "trainings"


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
    """One method: how its noise was made, and what was measured."""

    name: str
    method: str
    seconds: float | None  # of the last run of its fit; None: of a release made elsewhere
    bound: str | None
    levels: float | None  # the most any value of a written file differs by
    psnr: float | None
    findings: int | None  # of `verify`; None: nothing states the bound of a release made elsewhere
    evaluation: evaluate.Result

    @property
    def worst(self) -> float:
        """The highest mean peak accuracy of the protected side, where the clean one is above chance."""
        cells = self.evaluation.cells
        return max(cell.protected.mean("peak") for cell in cells if cell.learnability_peak is not None)


@dataclass(frozen=True)
class Result:
    """The rows, the one that holds best first, and where the tables are."""

    rows: tuple[Row, ...]
    tables: tuple[Path, ...]
    missing: int  # trainings that other shards have to do
    seconds: float

    @property
    def columns(self) -> list[tuple[str, str]]:
        """The targets and countermeasures that were measured, plain training first."""
        return leaderboard.columns([_plain(row) for row in self.rows])


@dataclass(frozen=True)
class Recipes:
    """What a TOML file asks for."""

    photos: str
    test: str | None = None
    labels: Path | None = None
    limit: int | None = None
    judged: Mapping[str, Any] = field(default_factory=dict)  # by `uex eval`
    rows: tuple[Mapping[str, Any], ...] = ()


def read(path: Path) -> Recipes:
    """Read recipes.

    Raises:
        UsageError: there is no such file, or it says what no recipe can say.
        UexError: it is no TOML.
    """
    try:
        found = schema.read_toml(path.read_bytes())
    except FileNotFoundError:
        raise UsageError(f"{path}: no such file.") from None
    except (OSError, schema.Mismatch) as error:
        raise UexError(f"{path}: cannot be read ({error}).") from None
    judged = {"protocol", *PROTOCOL} - {"summary", "options"}
    for key in found:
        if key not in {*SET, *judged, "row"}:
            raise unknown(f"key in {path}", key, {*SET, *judged, "row"})
        _checked(path, WHOLE.get(key, schema.anything), found[key], key)
    eval_protocol.parse({key: found[key] for key in judged & set(found) - {"protocol"}}, str(path))
    rows = found.get("row", [])
    if "photos" not in found or not rows:
        raise UsageError(f'{path}: it needs photos = "..." and one [[row]] or more.')
    _check(path, rows)
    return Recipes(
        found["photos"],
        found.get("test"),
        Path(found["labels"]) if "labels" in found else None,
        found.get("limit"),
        {key: found[key] for key in judged if key in found},
        tuple(rows),
    )


def _check(path: Path, rows: list[dict[str, Any]]) -> None:
    """Refuse rows that say what no row can say, and names that cannot be folders or are there twice."""
    for row in rows:
        for key, value in row.items():
            if key not in ROW:
                raise unknown(f"key of a row in {path}", key, ROW)
            _checked(path, ROW[key], value, key)
    names = [_name(row) for row in rows]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"{path}: two rows are called '{name}'.", hint='Give them a name = "..." each.')
        if not re.fullmatch(r"[\w.+-]{1,80}", name) or name.startswith(".") or name == TRAININGS:
            raise UsageError(f"{path}: '{name}' cannot name a folder.", hint="Use letters, digits, - and _.")


def _checked(path: Path, kind: schema.Kind, value: object, key: str) -> None:
    try:
        kind(value, key)
    except schema.Mismatch as error:
        raise UsageError(f"{path}: {error}.") from None


def _name(row: Mapping[str, Any]) -> str:
    return str(row.get("name") or row.get("method") or "default")


def run(request: Request, listener: Listener | None = None) -> Result:
    """Fit, apply, verify and evaluate each row; write the table as Markdown, JSON and HTML.

    What is there already is not done again: fits go on from their state, trainings are kept.

    Raises:
        UsageError: recipes that say what cannot be meant.
        UexError: a row cannot be done.
    """
    listener = listener or Listener()
    recipes = read(request.recipes)
    _check_names(recipes, request)
    with claim(request.output, shared=request.shard is not None):  # shards share out the work within it
        return _run(request, recipes, listener)


def _run(request: Request, recipes: Recipes, listener: Listener) -> Result:
    began = time.perf_counter()
    atomic.private_folder(request.output)
    if atomic.is_open_to_others(request.output):
        listener.warn(
            f"others may look into {request.output}, where the noise will lie: {pasted('chmod', '700', request.output)}"
        )
    rows, missing = [], 0
    for number, recipe in enumerate(recipes.rows, 1):
        name = _name(recipe)
        listener.say("")
        listener.say(f"[{number}/{len(recipes.rows)}] {name}")
        waited = functools.partial(listener.say, f"another uex is at '{name}': waiting for it")
        with claim(request.output / f".{name}.row", wait=waited):  # not the release, which `apply` claims
            made = _row(name, recipe, recipes, request, listener)
        if isinstance(made, Row):
            rows.append(made)
            _comparable(rows[0], made)
            recipes = replace(recipes, judged={"size": made.evaluation.size, **recipes.judged})
        else:
            missing += made.of - made.done
    rows.sort(key=lambda row: row.worst)
    tables: tuple[Path, ...] = ()
    if not missing:
        title = f"Protection of {recipes.photos}"
        tables = leaderboard.write(request.output, title, [_plain(row) for row in rows])
    return Result(tuple(rows), tables, missing, time.perf_counter() - began)


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


def _check_names(recipes: Recipes, request: Request) -> None:
    """Find what the recipes name, before the first of them has taken its hours."""
    registry = load()
    for row in recipes.rows:
        for key, kind in (("method", "method"), ("mode", "granularity"), ("norm", "norm")):
            if key in row:
                registry.find(kind, row[key])
    asked = evaluate.protocol_of(evaluate.Request("", "", **_judged(recipes)))
    strict = asked.name == ""
    evaluate.check(evaluate.Request("", "", **_judged(recipes)), asked)
    jobs_of(registry, asked, machine.pick_device(request.device), asked.size or 32, strict=strict, listener=Listener())


def _judged(recipes: Recipes) -> dict[str, Any]:
    """What the evaluation of each row is asked for."""
    lists = {key: tuple(recipes.judged[key]) for key in ("targets", "against") if key in recipes.judged}
    return {**recipes.judged, **lists}


def _row(
    name: str, recipe: Mapping[str, Any], recipes: Recipes, request: Request, listener: Listener
) -> Row | evaluate.Partial:
    noise = request.output / f"{name}.noise.safetensors"
    given = recipe.get("release")
    release = Path(given) if given else request.output / name
    seconds = None
    if not given:
        options = {key: _text(value) for key, value in recipe.get("options", {}).items()}
        settings = {key: recipe[key] for key in FIT if key in recipe}
        settings.setdefault("size", recipes.judged.get("size"))
        fitted = fit.run(
            fit.Request(
                recipes.photos, output=noise, labels=recipes.labels, limit=recipes.limit, options=options,
                device=request.device, precision=request.precision, on_error=request.on_error, resume=True, **settings,
            ),
            listener,
        )  # fmt: skip
        seconds = _kept_seconds(request.output / f"{name}.fit.json", fitted.seconds)
        apply.run(
            apply.Request(
                noise, recipes.photos, release, labels=recipes.labels, limit=recipes.limit,
                on_error=request.on_error, resume=True,
            ),
            listener,
        )  # fmt: skip
    stated = recipe.get("eps") if given else None
    checked = None
    if stated is not None or not given or (release / FACTS).is_file():
        norm = recipe.get("norm") if given else None
        asked = verify.Request(release, source=recipes.photos, eps=stated, norm=norm, allow_missing=True)
        checked = verify.run(asked, listener)
    made = evaluate.run(
        evaluate.Request(
            recipes.photos, str(release), test=recipes.test, labels=recipes.labels, device=request.device,
            precision=request.precision, on_error=request.on_error, cells=request.output / TRAININGS,
            shard=request.shard, **_judged(recipes),
        ),
        listener,
    )  # fmt: skip
    if isinstance(made, evaluate.Partial):
        return made
    psnr = checked.psnr["median"] if checked and checked.psnr else None
    method = str(recipe.get("method", "")) or ("made elsewhere" if given else "default")
    bound = None if checked is None or checked.eps is None else f"{checked.norm} {checked.eps}"
    levels, findings = (None, None) if checked is None else (checked.most_levels, len(checked.findings))
    return Row(name, method, seconds, bound, levels, psnr, findings, made)


def _kept_seconds(path: Path, seconds: float) -> float | None:
    """Remember how long a fit took, for the time it has nothing to do; None: not known."""
    if seconds:
        atomic.write(path, json.dumps({"fit_seconds": round(seconds, 2)}).encode())
        return seconds
    try:
        return float(schema.read_json(path.read_bytes(), header_schema.FITTED)["fit_seconds"])
    except (OSError, schema.Mismatch):
        return None


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _plain(row: Row) -> dict[str, Any]:
    """What the tables show of a row."""
    first = row.evaluation
    return {
        "name": row.name,
        "method": row.method,
        "fit_seconds": row.seconds,
        "bound": row.bound,
        "levels": row.levels,
        "psnr": row.psnr,
        "findings": row.findings,
        "worst_peak": row.worst,
        "chance": first.chance,
        "seeds": first.seeds,
        "train_images": first.train_images,
        "test_images": first.test_images,
        "size": first.size,
        "device": first.device,
        "versions": dict(first.versions),
        "detected": any(probe.flagged for probe in first.detect["protected"]),
        "warnings": list(first.warnings),
        "cells": [
            {
                "target": cell.target,
                "against": cell.against,
                **{
                    side: {
                        "last": [run.last for run in runs],
                        "peak": [run.peak for run in runs],
                        "early_stop": [run.early_stop for run in runs],
                        "train_accuracy": [run.train_accuracy for run in runs],
                        "seconds": [run.seconds for run in runs],
                        "curves": [list(run.curve) for run in runs],
                        "curve": [fmean(values) for values in zip(*(run.curve for run in runs), strict=False)],
                        "interval": cell.intervals[side],
                    }
                    for side, runs in (("clean", cell.clean.runs), ("protected", cell.protected.runs))
                },
                "learnability_last": cell.learnability_last,
                "learnability_peak": cell.learnability_peak,
                "verdict": cell.verdict,
            }
            for cell in first.cells
        ],
    }

"""Figures that cannot mislead: chance in whole images, gates that cannot be decided, headlines that say no more."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Ran, bright
from test_report import cell_of, page

from uexcli import plugin
from uexcli.commands import evaluate
from uexcli.commands.evaluate import checks, result
from uexcli.commands.evaluate import verdict as verdicts
from uexcli.core.eval.learnability import chance
from uexcli.core.eval.statistics import learnability_interval_of_accuracies

Uex = Callable[..., Ran]


def side(*accuracies: float) -> evaluate.Side:
    return evaluate.Side(tuple(plugin.Outcome((value,), 1.0, 1.0) for value in accuracies))


def labels_of(largest: int, others: int) -> torch.Tensor:
    return torch.tensor([0] * largest + [1] * others)


@pytest.mark.parametrize("tests", range(2, 400, 7))
def test_a_clean_side_at_chance_has_no_learnability_however_its_accuracy_is_rounded(tests: int) -> None:
    labels = labels_of(-(-tests // 2), tests // 2)
    right = torch.zeros(tests)
    right[: int(labels.bincount().max())] = 1
    rounded = float(right.mean())  # float32, as nets are scored
    for protected in (0.0, chance(labels), 1.0):
        assert result.learnt(side(protected, protected), side(rounded, rounded), "peak", labels) is None


def test_learnability_counts_images() -> None:
    labels = labels_of(100, 200)  # the largest class has 200
    assert result.learnt(side(0.75, 0.85), side(0.9, 0.9), "last", labels) == (225 + 255 - 400) / (270 + 270 - 400)
    assert result.learnt(side(0.5), side(201 / 300), "last", labels) == -50


def cell(peak: float | None, most: float | None = None, **changes: Any) -> evaluate.Cell:
    upper = peak if most is None else most
    sure = None if peak is None or upper is None else (peak, upper)
    worth = verdicts.UNCLEAR if peak is None else verdicts.TOLD
    return evaluate.Cell(
        "small", "none", side(0.9), side(0.5), peak, peak, learnability_interval_peak=sure,
        **{"verdict": worth, **changes},
    )  # fmt: skip


def result_of(*cells: evaluate.Cell, allowed: float | None = 0.5) -> evaluate.Result:
    known: dict[str, Any] = dict.fromkeys(evaluate.Result.__dataclass_fields__)
    return evaluate.Result(**{**known, "cells": cells, "max_learnability": allowed})


@pytest.mark.parametrize(
    ("cells", "passed", "undecided"),
    [
        ([cell(0.1), cell(0.2)], True, False),
        ([cell(0.1), cell(None)], False, True),
        ([cell(0.6), cell(None)], False, False),
        ([cell(0.6)], False, False),
        ([cell(0.4, 0.45)], True, False),
        ([cell(0.4, 0.55)], False, False),  # it may be above
        ([cell(0.1), cell(0.2, verdict=verdicts.UNFIT)], False, True),
        ([cell(None)], False, True),
        ([cell(-3.0, verdict=verdicts.UNCLEAR)], False, True),  # a clean net that learnt nothing passes no gate
    ],
)
def test_a_gate_passes_only_where_every_cell_says_something(
    cells: list[evaluate.Cell], passed: bool, undecided: bool
) -> None:
    result = result_of(*cells)
    assert (result.passed, result.undecided) == (passed, undecided)


def test_without_a_gate_all_passes_and_one_of_1_allows_all() -> None:
    assert result_of(cell(None), cell(0.9), allowed=None).passed
    assert result_of(cell(0.99, 1.2), allowed=1.0).passed


def test_an_undecided_gate_exits_3(uex: Uex) -> None:
    photos = bright(Path("photos"), ("cat", "dog"), 30)
    assert uex("fit", photos, "--method", "random", "-o", "n").code == 0
    assert uex("apply", "n", photos, "-o", "r").code == 0
    learns, does_not = ("--target", "small:width=4,batch=8"), ("--target", "small:lr=1e-9,width=4")
    asked = ("eval", photos, "r", "--epochs", 8, "--folds", 1, *learns, *does_not)
    ran = uex(*asked, "--json")
    assert ran.code == 0, ran.err
    assert [item["learnability_peak"] is None for item in ran.json["cells"]] == [False, True]
    ran = uex(*asked, "--max-learnability", 1)
    assert ran.code == 3, ran.out
    assert "Gate not decided" in ran.out and "the gate cannot be decided" in ran.err
    told = uex(*asked, "--max-learnability", 1, "--json").json
    assert (told["passed"], told["undecided"]) == (False, True)
    assert uex(*asked, "--max-learnability", 0).code == 1


@pytest.mark.parametrize(
    ("clean", "protected", "fitted", "worth"),
    [
        (0.9, 0.5, (1.0, 1.0), verdicts.TOLD),
        (0.9, 0.9, (1.0, 1.0), verdicts.ALIKE),
        (0.53, 0.5, (1.0, 1.0), verdicts.UNCLEAR),
        (0.4, 0.5, (1.0, 1.0), verdicts.UNCLEAR),
        (0.9, 0.5, (1.0, 0.8), verdicts.UNFIT),
        (0.9, 0.5, (0.8, 0.8), verdicts.TOLD),  # both trained as far
        (0.9, 0.5, (0.6, 0.6), verdicts.UNFIT),  # neither was trained
        (0.9, 0.9, (1.0, 0.6), verdicts.ALIKE),  # nothing is kept from it, however little it was trained
    ],
)
def test_what_a_cell_is_worth(clean: float, protected: float, fitted: tuple[float, float], worth: str) -> None:
    found = learnability_interval_of_accuracies([protected] * 2, [clean] * 2, 200, 0.5)
    assert verdicts.verdict(found, found, fitted, hinders=False) == worth


def test_a_net_that_broke_down_tells_nothing_and_passes_no_gate() -> None:
    found = learnability_interval_of_accuracies([0.5] * 2, [0.9] * 2, 200, 0.5)
    dead = evaluate.Side((plugin.Outcome((0.5,), 1.0, 1.0, gradient=0.0),))
    assert checks.broken(side(0.9), dead) and not checks.broken(side(0.9), side(0.5))
    for hinders in (False, True):  # under a countermeasure of batches as well
        assert verdicts.verdict(found, found, (1.0, 0.1), hinders=hinders, broken=True) == verdicts.UNFIT


def test_the_headline_says_no_more_than_the_doubts() -> None:
    def lead(*cells: dict[str, Any]) -> str:
        return page(cells=list(cells)).partition('class="lead">')[2].partition("</p>")[0]

    assert "<strong>all</strong> is still learnt" in lead(cell_of("none", 1.3, verdict="told"))
    unclear = lead(cell_of("none", 1.3, verdict="unclear"))
    assert unclear.startswith("<strong>Nothing can be told</strong>") and "<strong>all" not in unclear
    assert lead(cell_of("none", 1.3, verdict="alike")).startswith("Not told apart: <strong>all</strong> of what")
    wide = {**cell_of("none", 0.3, verdict="alike"), "learnability_interval_peak": [-0.05, 1.4]}
    assert lead(wide).startswith("Not told apart: between 0% and <strong>all</strong> of what")
    others = lead(cell_of("blur", 9.0, verdict="unclear"), cell_of("none", 0.25, verdict="told"))
    assert "up to <strong>25%</strong>" in others and "plain training" in others


def test_the_terminal_and_json_say_what_the_report_says(uex: Uex) -> None:
    photos = bright(Path("photos"), ("cat", "dog"), 12)
    assert uex("fit", photos, "--method", "random", "-o", "n").code == 0
    assert uex("apply", "n", photos, "-o", "r").code == 0
    asked = ("eval", photos, "r", "--epochs", 8, "--folds", 1, "--target", "small:width=4,batch=8")
    ran = uex(*asked, "--json")
    assert ran.code == 0, ran.err
    (found,) = ran.json["cells"]
    shown = uex(*asked, "--report", "r.html").out
    worth = {"alike": "plain, small:width=4,batch=8: not told apart", "unclear": ": nothing can be told, as"}
    text = worth[found["verdict"]]
    assert text in shown
    lead = Path("r.html").read_text().partition('class="lead">')[2].partition("</p>")[0]
    assert lead.startswith({"alike": "Not told apart", "unclear": "<strong>Nothing"}[found["verdict"]])

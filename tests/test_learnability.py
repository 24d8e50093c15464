"""The interval of learnability: how often it holds what is true, and what it says where nothing can be told."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.coverage import CASES, at_chance, covered
from uexcli.core.eval.statistics import learnability_interval, learnability_interval_of_accuracies, student, told_apart


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize(("seeds", "tests"), [(1, 100), (1, 600), (3, 600)])
def test_the_interval_holds_what_is_true_as_often_as_it_says(name: str, seeds: int, tests: int) -> None:
    found = covered(CASES[name], seeds, tests, 300, "last")
    assert found["told"] == 1.0
    assert found["covered"] >= 0.92, found  # 95 %, and 2.4 deviations of 300 draws


@pytest.mark.parametrize(("seeds", "tests"), [(1, 100), (1, 2000), (3, 600)])
def test_a_clean_net_at_chance_passes_no_gate(seeds: int, tests: int) -> None:
    found = at_chance(seeds, tests, 400)
    assert found["told"] <= 0.05 and found["passed"] <= 0.02, found


def rows(*shares: float, images: int = 100) -> np.ndarray:
    return np.stack([np.arange(images) < round(share * images) for share in shares])


def test_it_holds_the_ratio_itself_and_narrows_with_images() -> None:
    few, many = (learnability_interval(rows(0.4, images=n), rows(0.8, images=n), 0.1) for n in (100, 10_000))
    assert few is not None and many is not None
    assert few[0] < many[0] < 3 / 7 < many[1] < few[1]


def test_both_sides_alike_include_1_and_none_is_without_width() -> None:
    found = learnability_interval(rows(1.0), rows(1.0), 0.1)
    assert found is not None and found[0] < 1 < found[1] < 1.05
    lost = learnability_interval(rows(0.0), rows(1.0), 0.1)
    assert lost is not None and lost[0] < lost[1] < 0


@pytest.mark.parametrize("clean", [0.0, 0.1, 0.14])
def test_where_clean_may_be_chance_there_is_none(clean: float) -> None:
    assert learnability_interval(rows(0.1), rows(clean), 0.1) is None
    assert learnability_interval_of_accuracies([0.1], [clean], 100, 0.1) is None


def test_what_the_sides_share_makes_it_narrower() -> None:
    drawn = np.random.default_rng(0)
    clean = drawn.random((1, 500)) < 0.7
    kept = clean & (drawn.random((1, 500)) < 0.9)  # the protected net is right on most of the same images
    apart = kept[:, drawn.permutation(500)]
    same, other = learnability_interval(kept, clean, 0.1), learnability_interval(apart, clean, 0.1)
    assert same is not None and other is not None
    assert same[1] - same[0] < 0.7 * (other[1] - other[0])


def test_without_images_it_is_as_if_the_sides_shared_none() -> None:
    exact = learnability_interval(rows(0.4, images=1000), rows(0.8, images=1000)[:, ::-1], 0.1)
    loose = learnability_interval_of_accuracies([0.4], [0.8], 1000, 0.1)
    assert exact is not None and loose is not None
    assert loose[1] - loose[0] == pytest.approx(exact[1] - exact[0], rel=0.35)


def test_seeds_that_differ_widen_it() -> None:
    same = learnability_interval(rows(0.5, 0.5, 0.5), rows(0.8, 0.8, 0.8), 0.1)
    differ = learnability_interval(rows(0.3, 0.5, 0.7), rows(0.8, 0.8, 0.8), 0.1)
    assert same is not None and differ is not None
    assert differ[1] - differ[0] > 2 * (same[1] - same[0])


def test_student_and_the_planned_difference() -> None:
    assert student(1) == 12.71 and student(200) == student(10) == 2.23
    assert told_apart(600) == pytest.approx(0.0566, abs=1e-3)

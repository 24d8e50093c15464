"""Ten thousand classes take no more than so many times the work of a few."""

from __future__ import annotations

import math
import time
from types import SimpleNamespace
from typing import Any, cast

import torch
from test_methods import hear, normal

from uexcli import plugin
from uexcli.builtin.methods import ar
from uexcli.builtin.methods._passes import majority


def test_ar_draws_kernels_for_many_classes_in_seconds_and_none_is_quiet_to_another() -> None:
    classes, began = 600, time.process_time()
    kernels = ar.Autoregressive()._draw(classes, 1, 32, normal(1), hear)
    assert time.process_time() - began < 20  # 2; one by one it took minutes
    assert kernels.shape == (classes, 1, 3, 3) and len(kernels.flatten(1).unique(dim=0)) == classes
    start = ar._start(normal(2), classes, 1, 32)
    heard = ar.answers(ar.grown(start, kernels)[..., 4:, 4:], kernels)
    own = torch.eye(classes, dtype=torch.bool)
    lengths = ar.grown(start, kernels)[..., 4:, 4:].flatten(1).norm(dim=1)
    assert float(heard[own].max()) < 1e-2 * float(lengths.max())
    assert float((heard[~own] < 3).float().mean()) < 0.01  # of fields that were not looked at


def test_what_is_loud_by_a_few_windows_is_what_is_loud_by_all() -> None:
    kernels = ar.Autoregressive()._draw(40, 3, 32, normal(3), hear)
    fields = ar.grown(ar._start(normal(4), 40, 3, 32), kernels)[..., 4:, 4:]
    known, answers = ar.filters(kernels).flatten(1), ar.answers(fields, kernels)
    seen = set()
    for wanted in (3.0, 10.0, 30.0, 100.0, float(answers.max()) + 1):
        for number, windows in enumerate(ar._windows(fields)):
            others = torch.arange(40) != number
            loud = bool((answers[number, others] >= wanted).all())
            assert ar._is_loud(windows, known[others], wanted) == loud
            seen.add(loud)
    assert seen == {True, False}
    assert ar._is_loud(ar._windows(fields)[0], known[:0], math.inf)


def test_fields_start_from_two_lines_and_columns() -> None:
    """What lies elsewhere is never read, so nothing is drawn for it."""
    kernels = torch.randn(2, 3, 3, 3)
    kernels[..., 2, 2] = 0
    start = torch.randn(2, 3, 12, 12)
    bare = start.clone()
    bare[:, :, 2:, 2:] = 0
    torch.testing.assert_close(ar.grown(bare, kernels), ar.grown(start, kernels))
    drawn = ar._start(normal(5), 2, 3, 8)
    assert drawn.shape == (2, 3, 12, 12) and not bool(drawn[:, :, 2:, 2:].any())
    assert bool((drawn[:, :, :2] != 0).all()) and bool((drawn[:, :, :, :2] != 0).all())


def test_the_majority_of_many_rows_and_classes_takes_no_table_of_both() -> None:
    """20,000 rows by 20,000 classes would be 3.2 GB."""
    draw = torch.Generator().manual_seed(0)
    rows, labels = (torch.randint(20_000, (50_000,), generator=draw) for _ in range(2))
    rows[:20_000] = torch.arange(20_000)
    found = majority(
        cast(plugin.Problem, SimpleNamespace(rows=rows, labels=labels, num_rows=20_000, num_classes=20_000))
    )
    assert found.shape == (20_000,) and found.dtype == torch.int64
    for row in (0, 1, 777, 19_999):
        assert int(found[row]) == int(labels[rows == row].bincount().argmax())
    small: Any = SimpleNamespace(
        rows=torch.tensor([0, 0, 0, 1, 1]), labels=torch.tensor([2, 2, 1, 3, 0]), num_rows=2, num_classes=4
    )
    assert majority(small).tolist() == [2, 0]

"""The folds of a cross-validation as one run: each image was tested once, by the net that had not seen it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import fmean

import numpy as np
import torch

from uexcli import plugin
from uexcli.core.eval.scores import early_stop, packed, unpacked


def pooled(runs: Sequence[plugin.Outcome], tests: Sequence[int], trained: Sequence[int]) -> plugin.Outcome:
    """Put the runs of all folds into one, as if of one long test set: fold by fold, in their order.

    `tests` and `trained` are the numbers of images that each fold was tested and trained on; accuracies are weighted
    by them. Epoch by epoch: the best epoch of the whole is one for all folds.
    """
    if len(runs) == 1:
        return runs[0]
    epochs = min(len(run.curve) for run in runs)
    right = _right(runs, tests, epochs)
    shares = [count / sum(tests) for count in tests]
    curve: tuple[float, ...]
    if right is None:
        curve = tuple(_weighted([run.curve[epoch] for run in runs], shares) for epoch in range(epochs))
    else:
        curve = tuple(right.mean(1).tolist())
    fitted = [count / sum(trained) for count in trained]
    names = set.intersection(*(set(run.parts) for run in runs))
    return plugin.Outcome(
        curve=curve,
        train_accuracy=_weighted([run.train_accuracy for run in runs], fitted),
        seconds=sum(run.seconds for run in runs),
        compile_seconds=sum(run.compile_seconds for run in runs),
        early_stop=None if right is None else early_stop(torch.from_numpy(right)),
        right=_summed([run.right for run in runs]),
        confusion=tuple(map(tuple, np.sum([run.confusion for run in runs], 0).tolist()))
        if all(run.confusion for run in runs)
        else (),
        parts={name: _weighted([run.parts[name] for run in runs], fitted) for name in sorted(names)},
        part_curves={
            name: tuple(fmean(values) for values in zip(*(run.part_curves[name] for run in runs), strict=False))
            for name in sorted(names)
            if all(name in run.part_curves for run in runs)
        },
        right_images=() if right is None else tuple(packed(torch.from_numpy(row)) for row in right),
        gradient=_each(runs, lambda run: run.gradient, min),
        auc=_each(runs, lambda run: run.auc, fmean),
        frozen_auc=_each(runs, lambda run: run.frozen_auc, fmean),
    )


def _right(runs: Sequence[plugin.Outcome], tests: Sequence[int], epochs: int) -> np.ndarray | None:
    """Say which images are right after each epoch, bool `(epochs, N)`; None where a target does not tell."""
    if any(len(run.right_images) < epochs for run in runs):
        return None
    try:
        shown = [
            [unpacked(row, count) for row in run.right_images[:epochs]] for run, count in zip(runs, tests, strict=True)
        ]
    except ValueError:
        return None
    return np.concatenate([np.stack(rows) for rows in shown], 1)


def _weighted(values: Sequence[float], shares: Sequence[float]) -> float:
    return sum(value * share for value, share in zip(values, shares, strict=True))


def _summed(rows: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    return tuple(map(sum, zip(*rows, strict=True))) if all(rows) else ()


def _each(
    runs: Sequence[plugin.Outcome],
    what: Callable[[plugin.Outcome], float | None],
    join: Callable[[Sequence[float]], float],
) -> float | None:
    values = [what(run) for run in runs]
    known = [value for value in values if value is not None]
    return join(known) if len(known) == len(values) else None

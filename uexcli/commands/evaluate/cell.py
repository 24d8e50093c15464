"""One cell of an evaluation: a target under a countermeasure, trained on clean and on protected images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import fmean

import numpy as np

from uexcli import plugin
from uexcli.commands.evaluate.verdict import ALIKE, TOLD
from uexcli.core.eval.scores import unpacked

Interval = tuple[float, float]


@dataclass(frozen=True)
class Side:
    """The runs of one side of a cell, one a seed."""

    runs: tuple[plugin.Outcome, ...]

    def mean(self, what: str) -> float:
        """The mean over seeds of a number that every run has, such as `last`, `peak` or `seconds`."""
        return fmean(getattr(run, what) for run in self.runs)

    def has(self, what: str) -> bool:
        """Whether every run knows this number."""
        return all(getattr(run, what) is not None for run in self.runs)

    def right(self, what: str, tests: int) -> np.ndarray | None:
        """Say which of so many test images are right, bool `(S, N)`, at the `last` epoch or each run's `peak`.

        None where a target does not tell.
        """
        rows = []
        for run in self.runs:
            epoch = len(run.curve) - 1 if what == "last" else run.curve.index(run.peak)
            if len(run.right_images) <= epoch:
                return None
            try:
                rows.append(unpacked(run.right_images[epoch], tests))
            except ValueError:
                return None
        return np.stack(rows)


@dataclass(frozen=True)
class Cell:
    """Clean and protected, trained alike, by one target under one countermeasure.

    Learnability is None where the clean baseline is not above chance, its 95 % intervals where it is not so beyond
    doubt.
    """

    target: str
    against: str
    clean: Side
    protected: Side
    learnability_last: float | None
    learnability_peak: float | None
    learnability_early_stop: float | None = None
    learnability_interval_last: Interval | None = None
    learnability_interval_peak: Interval | None = None
    verdict: str = TOLD  # whether the figures tell anything: `told`, `alike`, `unclear` or `unfit`
    at: str = ""  # the scenario, where there are several
    value: float | None = None  # what it is a step of: the share, or the number of classes
    size: int = 0  # px, at which the images are shown
    chance: float = 0.0
    informed: bool = False  # a countermeasure of who knows how the noise was made
    clean_part: Side | None = None  # trained on the images that are not protected, where some are
    intervals: Mapping[str, float] = field(default_factory=dict)  # half of the 95 % interval of `last`, by side
    groups: Mapping[str, Mapping[str, float]] = field(default_factory=dict)  # of test classes: accuracy by side
    hinders: bool = False  # the countermeasure keeps a net from fitting its training images
    strengths: tuple[tuple[str, float | None], ...] = ()  # of the countermeasures, beside what rivals them

    @property
    def tells(self) -> bool:
        """Whether its figures tell anything."""
        return self.verdict in {TOLD, ALIKE} and self.learnability_peak is not None

    @property
    def most(self) -> float:
        """What of the clean images' learnability the protected ones may have, at most: the interval's upper end."""
        upper = self.learnability_interval_peak
        return (self.learnability_peak or 0.0) if upper is None else upper[1]

"""What an evaluation finds: cells, the figures of each, what they are worth, and the gate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from statistics import fmean
from typing import Any

from torch import Tensor

from uexcli.commands.evaluate.cell import Cell, Interval, Side
from uexcli.commands.evaluate.checks import broken
from uexcli.commands.evaluate.jobs import Job
from uexcli.commands.evaluate.scenario import CLEAN, CLEAN_PART, PROTECTED, Scenario
from uexcli.commands.evaluate.trainings import Done, Ground
from uexcli.commands.evaluate.verdict import verdict
from uexcli.core.eval.detect import Probe
from uexcli.core.eval.learnability import chance, learnability
from uexcli.core.eval.statistics import interval, learnability_interval, learnability_interval_of_accuracies


@dataclass(frozen=True)
class Result:
    """The cells, worst first and those that tell nothing last, and what they were measured with."""

    cells: tuple[Cell, ...]
    protocol: str
    targets: tuple[str, ...]
    seeds: int
    folds: int
    size: int
    view: str
    train_images: int
    test_images: int
    test_source: str
    classes: tuple[str, ...]
    chance: float
    scenario: str  # what of the data is protected, and how it is labelled; "" for all, as it is
    share: float  # of the training images that are protected
    attacker: str
    detect: Mapping[str, tuple[Probe, ...]]  # by side
    device: str
    versions: Mapping[str, object]
    warnings: tuple[str, ...]
    max_learnability: float | None
    seconds: float
    reused: int  # trainings that were done before
    folder: str  # of the trainings
    at: str = ""  # the scenario that classes, chance, pictures and what is detected are of, where there are several

    @property
    def worst(self) -> float | None:
        """The highest mean peak learnability of any cell that tells something; None where none does."""
        return max((cell.learnability_peak or 0.0 for cell in self.cells if cell.tells), default=None)

    @property
    def most(self) -> float | None:
        """The highest upper end of the peak learnability's interval of any cell that tells something."""
        return max((cell.most for cell in self.cells if cell.tells), default=None)

    @property
    def exceeded(self) -> bool:
        """Whether some cell may be above the gate; above 1 counts as 1, which is all there is to learn."""
        return (
            self.max_learnability is not None
            and self.most is not None
            and min(1.0, self.most) > (self.max_learnability)
        )

    @property
    def undecided(self) -> bool:
        """Whether a gate was set and nothing speaks against it, but some cell says nothing at all."""
        silent = any(not cell.tells for cell in self.cells)
        return self.max_learnability is not None and silent and not self.exceeded

    @property
    def passed(self) -> bool:
        """Whether the gate holds; true where none was set."""
        return not self.exceeded and not self.undecided

    def rows(self) -> list[dict[str, Any]]:
        """A row a cell, the worst first: accuracies on clean test images and what is learnable, shares of 1."""
        return [
            {
                "target": cell.target,
                "against": cell.against,
                **({"scenario": cell.at} if cell.at else {}),
                "clean": cell.clean.mean("last"),
                "protected": cell.protected.mean("last"),
                "protected_peak": cell.protected.mean("peak"),
                "learnability": cell.learnability_peak,
                "verdict": cell.verdict,
            }
            for cell in self.cells
        ]

    def to_pandas(self) -> Any:
        """Give the rows as a pandas DataFrame; pandas must be installed."""
        import pandas as pd

        return pd.DataFrame(self.rows())

    def _repr_html_(self) -> str:
        """A table, as notebooks show it."""
        rows = self.rows()
        heads = "".join(f"<th>{escape(name)}</th>" for name in (rows[0] if rows else ()))
        body = "".join(f"<tr>{''.join(f'<td>{_shown(value)}</td>' for value in row.values())}</tr>" for row in rows)
        doubts = "".join(f"<li>{escape(text)}</li>" for text in self.warnings)
        return f"<table><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table><ul>{doubts}</ul>"


def _shown(value: object) -> str:
    return f"{100 * value:.1f} %" if isinstance(value, float) else escape("" if value is None else str(value))


@dataclass(frozen=True)
class Partial:
    """A shard is done, and other shards are not."""

    done: int
    of: int
    folder: str
    seconds: float


def cell_of(job: Job, ground: Ground, done: Done, value: float | None) -> Cell:
    """Put the runs of a job into a cell."""
    scenario, labels = ground.folds[0], ground.test_labels.cpu()
    tests, base = len(labels), chance(labels)
    sides = {name: Side(tuple(done[job, name, seed] for seed in range(job.seeds))) for name in scenario.sides}
    clean, protected = sides[CLEAN], sides[PROTECTED]
    # not by the peak: the best of many epochs is above chance for a net that learnt nothing
    above = learnt(clean, clean, "last", labels)
    figures = {
        what: None if above is None else learnt(protected, clean, what, labels)
        for what in ("last", "peak", "early_stop")
    }
    sure = _interval(protected, clean, "last", tests, base)
    ranges = {
        what: None if sure is None or figures[what] is None else _interval(protected, clean, what, tests, base)
        for what in ("last", "peak")
    }
    hinders = job.against.on_batches or not job.target.batches
    return Cell(
        target=job.name,
        against=job.against.spec,
        clean=clean,
        protected=protected,
        learnability_last=figures["last"],
        learnability_peak=figures["peak"],
        learnability_early_stop=figures["early_stop"],
        learnability_interval_last=ranges["last"],
        learnability_interval_peak=ranges["peak"],
        verdict=verdict(
            sure,
            ranges["peak"],
            (clean.mean("train_accuracy"), protected.mean("train_accuracy")),
            hinders=hinders,
            broken=broken(clean, protected),
        ),
        at=job.at,
        value=value,
        size=job.size,
        chance=base,
        informed=job.informed,
        clean_part=sides.get(CLEAN_PART),
        intervals={name: interval([run.last for run in side.runs], tests) for name, side in sides.items()},
        groups=_groups(scenario, labels, sides),
        hinders=hinders,
        strengths=tuple((part.rivals or part.name, part.strength) for part in job.against.parts),
    )


def learnt(protected: Side, clean: Side, what: str, labels: Tensor) -> float | None:
    """Count the test images that are right, over all seeds; chance is to name the largest class."""
    if not (clean.has(what) and protected.has(what)):
        return None
    right = [sum(round(getattr(run, what) * len(labels)) for run in side.runs) for side in (protected, clean)]
    return learnability(right[0], right[1], len(clean.runs) * int(labels.bincount().max()))


def _interval(protected: Side, clean: Side, what: str, tests: int, base: float) -> Interval | None:
    rows = protected.right(what, tests), clean.right(what, tests)
    if rows[0] is not None and rows[1] is not None:
        return learnability_interval(rows[0], rows[1], base)
    means = [[getattr(run, what) for run in side.runs] for side in (protected, clean)]
    return learnability_interval_of_accuracies(means[0], means[1], tests, base)


def _groups(scenario: Scenario, labels: Tensor, sides: Mapping[str, Side]) -> dict[str, dict[str, float]]:
    """Give the accuracy on the protected classes and on the others, where not all are protected."""
    if not scenario.protected_classes:
        return {}
    counts = labels.bincount(minlength=len(scenario.classes)).tolist()
    mine = {scenario.classes.index(name) for name in scenario.protected_classes}
    numbers = {"protected classes": mine, "other classes": set(range(len(scenario.classes))) - mine}
    return {
        group: {
            name: fmean(sum(run.right[number] for number in chosen) / total for run in side.runs)
            for name, side in sides.items()
            if all(run.right for run in side.runs)
        }
        for group, chosen in numbers.items()
        if (total := sum(counts[number] for number in chosen))
    }

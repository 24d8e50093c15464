"""What of the data is protected, and how it is labelled: the question an evaluation asks."""

from __future__ import annotations

import csv
import dataclasses
import fnmatch
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from uexcli.commands.evaluate.data import Data
from uexcli.errors import UexError, UsageError
from uexcli.io.images import crops

CLEAN, PROTECTED, CLEAN_PART = "clean", "protected", "clean part"


@dataclass(frozen=True)
class Wanted:
    """What is asked for."""

    share: float = 1.0  # of the training images are protected
    classes: tuple[str, ...] = ()  # only these are: names, patterns, or one share such as 50%; (): all
    merge: str | None = None  # a number of classes, or a CSV file with the header class,group


@dataclass(frozen=True)
class Side:
    """Images that are trained on."""

    images: Tensor  # uint8 (N, C, S, S)
    labels: Tensor  # int64 (N,)
    parts: Tensor | None = None  # bool (N,): those that are protected, where some are
    views: crops.Views | None = None


@dataclass(frozen=True)
class Scenario:
    """What is trained on, and tested on."""

    sides: Mapping[str, Side]
    test: Tensor
    test_labels: Tensor
    classes: tuple[str, ...]
    protected_classes: tuple[str, ...]  # where not all are
    share: float  # of the training images that are protected
    words: str  # description of the scenario, "" if none


def check(wanted: Wanted) -> None:
    """Refuse what cannot be asked.

    Raises:
        UsageError: a share outside (0, 1], or a merge into fewer than 2 classes.
    """
    if not 0 < wanted.share <= 1:
        raise UsageError(f"`shares={wanted.share:g}`: not above 0 and at most 1.")
    if wanted.merge is not None and _is_number(wanted.merge) and int(wanted.merge) < 2:
        raise UsageError(f"`merges={wanted.merge}`: learnability needs two classes or more.")


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit()


def stage_all(folds: Sequence[Data], wanted: Wanted) -> tuple[Scenario, ...]:
    """Make the sides of each fold: those that all of them have.

    Raises:
        UexError: as `stage` does.
    """
    made = [stage(data, wanted) for data in folds]
    common = [name for name in made[0].sides if all(name in one.sides for one in made)]
    return tuple(dataclasses.replace(one, sides={name: one.sides[name] for name in common}) for one in made)


def stage(data: Data, wanted: Wanted) -> Scenario:
    """Make the sides.

    Raises:
        UsageError: a class that is not there.
        UexError: nothing is protected, or the file of groups does not fit.
    """
    words = []
    if wanted.merge is not None:
        data = _merged(data, wanted.merge)
        words.append(f"classes merged into {len(data.classes)}")
    chosen = _classes(data, wanted.classes)
    mask = torch.zeros(len(data.labels), dtype=torch.bool)
    for number in chosen:
        mask |= data.labels.cpu() == number
    if data.stays is not None:
        mask &= ~data.stays.cpu()
        words.append(f"{int((~data.stays).sum()):,} images among {int(data.stays.sum()):,} of another set")
    if wanted.share < 1:
        mask &= _share(data, wanted.share)
        words.append(f"{wanted.share:.0%} of the images protected")
    if not bool(mask.any()):
        raise UexError("no training image would be protected.", hint="Protect a larger share.")
    within = {int(number) for number in data.labels.cpu()[mask].unique()}
    limited = (wanted.classes or data.stays is not None) and len(within) < len(data.classes)
    named = tuple(data.classes[number] for number in sorted(within)) if limited else ()
    if named:
        shown = ", ".join(named[:5]) + (f" and {len(named) - 5} more" if len(named) > 5 else "")
        words.append(f"protected classes: {shown}")
    some = not bool(mask.all())
    where = mask.to(data.clean.device)
    mixed = torch.where(where.view(-1, 1, 1, 1), data.protected, data.clean) if some else data.protected
    drawn = None
    if data.protected_views is not None and data.clean_views is not None:
        pairs = zip(data.clean_views.samples, data.protected_views.samples, mask.tolist(), strict=True)
        drawn = dataclasses.replace(data.protected_views, samples=[two if it else one for one, two, it in pairs])
    sides = {
        CLEAN: Side(data.clean, data.labels, None, data.clean_views),
        PROTECTED: Side(mixed, data.labels, mask if some else None, drawn),
    }
    left_out = set(data.labels.cpu().tolist()) - set(data.labels.cpu()[~mask].tolist())
    if some and not left_out:  # of a class without clean images nothing could be learnt
        left = None
        if data.clean_views is not None:
            kept = [sample for sample, it in zip(data.clean_views.samples, mask.tolist(), strict=True) if not it]
            left = dataclasses.replace(data.clean_views, samples=kept)
        sides[CLEAN_PART] = Side(data.clean[~where], data.labels[~where], None, left)
    share = float(mask.float().mean())
    return Scenario(sides, data.test, data.test_labels, data.classes, named, share, "; ".join(words))


def _classes(data: Data, wanted: Sequence[str]) -> list[int]:
    """The numbers of the classes that are protected."""
    if not wanted:
        return list(range(len(data.classes)))
    share = re.fullmatch(r"(\d+(?:\.\d+)?)%", wanted[0])
    if len(wanted) == 1 and share:
        count = round(float(share[1]) / 100 * len(data.classes))
        order = sorted(range(len(data.classes)), key=lambda number: _hash(data.classes[number]))
        if not 0 < count <= len(data.classes):
            raise UsageError(f"`protect_classes={wanted[0]}`: that is {count} of {len(data.classes)} classes.")
        return sorted(order[:count])
    found: set[int] = set()
    for pattern in wanted:
        matched = {n for n, name in enumerate(data.classes) if name == pattern or fnmatch.fnmatchcase(name, pattern)}
        if not matched:
            known = ", ".join(data.classes[:8])
            raise UsageError(f"`protect_classes={pattern}`: no such class.", hint=f"There are {known}.")
        found |= matched
    return sorted(found)


def _share(data: Data, share: float) -> Tensor:
    """Pick a share of each class, by a hash of the key: smaller shares lie inside larger ones. Bool `(N,)`.

    Images of a host set, which stay clean, do not count.
    """
    chosen = torch.zeros(len(data.labels), dtype=torch.bool)
    ours = torch.ones_like(data.labels, dtype=torch.bool) if data.stays is None else ~data.stays
    for number in range(len(data.classes)):
        mine = ((data.labels == number) & ours).nonzero().flatten().tolist()
        mine.sort(key=lambda position: _hash(data.keys[position]))
        chosen[mine[: round(share * len(mine))]] = True
    return chosen


def _hash(name: str) -> bytes:
    return hashlib.sha256(f"protected {name}".encode("utf-8", "surrogateescape")).digest()


def _merged(data: Data, merge: str) -> Data:
    """Give images the labels of groups of classes: by turns into so many, or as a file says."""
    if _is_number(merge):
        count = int(merge)
        if count >= len(data.classes):
            raise UsageError(f"`merges={merge}`: there are only {len(data.classes)} classes.")
        numbers = [number % count for number in range(len(data.classes))]
        names = ["+".join(data.classes[number::count][:3]) for number in range(count)]
    else:
        groups = _groups(Path(merge))
        lacking = [name for name in data.classes if name not in groups]
        if lacking:
            raise UexError(f"`merges={merge}`: says no group for class {lacking[0]}.")
        names = sorted({groups[name] for name in data.classes})
        numbers = [names.index(groups[name]) for name in data.classes]
        if len(names) < 2:
            raise UexError(f"`merges={merge}`: all classes are in one group.")
    table = torch.tensor(numbers, device=data.labels.device)
    return dataclasses.replace(
        data, labels=table[data.labels], test_labels=table[data.test_labels], classes=tuple(names)
    )


def _groups(path: Path) -> dict[str, str]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except FileNotFoundError:
        raise UsageError(f"`merges={path}`: neither a number nor a file.") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UexError(f"`merges={path}`: cannot be read ({error}).") from None
    if not rows or not {"class", "group"} <= set(rows[0]):
        raise UexError(f"`merges={path}`: no CSV with the header class,group.")
    groups: dict[str, str] = {}
    for row in rows:
        name, group = str(row["class"]), str(row["group"])
        if groups.setdefault(name, group) != group:
            raise UexError(f"`merges={path}`: class {name} is in '{groups[name]}' and in '{group}'.")
    return groups

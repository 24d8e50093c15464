"""What lies in a dataset and is not read, in words; and folders that are splits where classes are expected."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from uexcli.errors import UexError
from uexcli.plugin import NO_IMAGE, Sample, Unread, split_folder

SHOWN = 3


def words(unread: Iterable[Unread]) -> list[str]:
    """Say what is left out, a sentence a reason: how much, and what it is called."""
    by_reason: dict[str, list[str]] = {}
    for item in unread:
        by_reason.setdefault(item.reason, []).append(item.path)
    found = []
    for reason, paths in by_reason.items():
        named = listed(paths)
        if reason != NO_IMAGE:
            found.append(f"left out, {reason}: {len(paths):,} ({named})")
        elif len(paths) == 1:
            found.append(f"1 file is no image, and is ignored: {named}")
        else:
            found.append(f"{len(paths):,} files are no images, and are ignored: {named}")
    return found


def listed(names: Sequence[str]) -> str:
    """Name the first few, and count the others."""
    more = f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def splits(samples: Sequence[Sample]) -> list[str]:
    """The folders that are taken for classes and are called as splits of a dataset are; none where they may be both.

    They count as splits where all are called so, or one is for training and one for testing.
    """
    labelled = [sample for sample in samples if sample.label]
    tops = {sample.key.partition("/")[0] for sample in labelled}
    if any("/" not in sample.key or sample.label != sample.key.partition("/")[0] for sample in labelled):
        return []  # something else says the classes
    kinds = {top: split_folder(top) for top in tops}
    found = [top for top in sorted(kinds) if kinds[top]]
    both = "train" in kinds.values() and bool(set(kinds.values()) & {"test", "validation"})
    return found if both or len(found) == len(tops) else []


def check_splits(uri: str, root: Path, samples: Sequence[Sample], split: str) -> None:
    """Refuse splits as classes.

    Raises:
        UexError: names them, and says which one may be meant.
    """
    found = splits(samples)
    if not found:
        return
    order = ("train", "") if split == "train" else ("test", "validation")
    meant = next((top for kind in order for top in found if split_folder(top) == kind), found[0])
    names = " and ".join(found[:SHOWN]) + (" and more" if len(found) > SHOWN else "")
    inner = f"Give the folder that is meant: {uri.rstrip('/')}/{meant}. " if (root / meant).is_dir() else ""
    what = "is a split of a dataset, not a class" if len(found) == 1 else "are splits of a dataset, not classes"
    raise UexError(
        f"{uri}: {names} {what}.", hint=f"{inner}If the classes are called so, say them with `labels=FILE.csv`."
    )

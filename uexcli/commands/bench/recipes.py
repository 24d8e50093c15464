"""The recipes of a bench: which sets of photos, how they are judged, and the rows; read from a TOML file."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from uexcli.commands.evaluate import protocol
from uexcli.commands.evaluate.protocol import FIELDS as PROTOCOL
from uexcli.errors import UexError, UsageError, unknown
from uexcli.io import documents, schema

TRAININGS = "trainings"  # the folder of the trainings, which no row is called
TEXT = schema.text()
PERCENT = schema.number(0, 100)
SET: dict[str, schema.Kind] = {  # what is measured on
    "photos": TEXT, "test": schema.either(schema.one_of(False), TEXT), "labels": TEXT,
    "limit": schema.whole(1, documents.MANY),
}  # fmt: skip
FIT: dict[str, schema.Kind] = {
    "method": TEXT, "mode": TEXT, "norm": TEXT, "eps": TEXT, "surrogate": TEXT,
    "size": schema.whole(1, documents.SIDE), "seed": schema.whole(0, schema.HUGE - 1), "preset": TEXT,
    "patch": TEXT, "no_labels": schema.flag,
}  # fmt: skip
VARIED: dict[str, schema.Kind] = {  # what a scenario asks; a list asks for each of its values
    "share": schema.one_or_more(schema.number(0, 1)),
    "protect_class": schema.one_or_more(schema.one_or_more(TEXT)),
    "merge": schema.one_or_more(schema.either(schema.whole(2, documents.MANY), TEXT)),
    "into": schema.one_or_more(TEXT),
    "pairs": schema.one_or_more(TEXT),
}
FIXED: dict[str, schema.Kind] = {"into_test": TEXT, "pairs_middle": schema.number(0, 1)}
ROW: dict[str, schema.Kind] = {
    "name": TEXT, "release": TEXT, "set": schema.one_or_more(TEXT), "options": schema.table(schema.option),
    "weights": TEXT, "published": schema.table(PERCENT), **FIT, **VARIED, **FIXED,
}  # fmt: skip
SOME = schema.listing(schema.table(schema.anything), least=1)
WHOLE: dict[str, schema.Kind] = {**SET, "protocol": TEXT, "row": SOME, "set": SOME}
JUDGED = ("protocol", *(key for key in PROTOCOL if key != "summary"))


@dataclass(frozen=True)
class Photos:
    """A set of photos, and what is tested on: a dataset, False for some that are held out, None for what is usual."""

    name: str  # "" for the only one
    photos: str
    test: str | bool | None = None
    labels: Path | None = None
    limit: int | None = None


@dataclass(frozen=True)
class Question:
    """What of a set is protected, and how it is labelled: what `uex eval` is asked for."""

    asked: Mapping[str, Any] = field(default_factory=dict)
    key: str = ""  # of the list that this is one value of; "" for none
    value: str = ""
    place: int = 0  # in that list

    @property
    def board(self) -> str:
        """What makes figures incomparable with those of the plain question: other classes, or other test images."""
        (merge,), into = self.asked.get("merges", (None,)), self.asked.get("into")
        words = (
            [] if merge is None else [f"merged into {merge} classes" if merge.isdigit() else f"merged as in {merge}"]
        )
        return ", ".join([*words, *([] if into is None else [f"put into {into}"])])


@dataclass(frozen=True)
class Recipes:
    """What a TOML file asks for."""

    sets: tuple[Photos, ...]
    judged: Mapping[str, Any] = field(default_factory=dict)  # by `uex eval`
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # of targets, by name
    rows: tuple[Mapping[str, Any], ...] = ()

    def wanted(self, row: Mapping[str, Any]) -> tuple[Photos, ...]:
        """The sets that a row is for."""
        names = _list(row.get("set", [photos.name for photos in self.sets]))
        return tuple(photos for photos in self.sets if photos.name in names)


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
    _check(path, found, {**WHOLE, **dict.fromkeys(JUDGED, schema.anything), "protocol": TEXT}, "key in")
    judged = {key: found[key] for key in JUDGED if key in found}
    protocol.parse({key: value for key, value in judged.items() if key != "protocol"}, str(path))
    options = judged.pop("options", {})
    rows = found.get("row", [])
    if not rows or not ("photos" in found or "set" in found):
        raise UsageError(f'{path}: it needs photos = "..." (or a [[set]] or more) and one [[row]] or more.')
    sets = _sets(path, found)
    for row in rows:
        _check(path, row, ROW, "key of a row in")
        _check_row(path, row, sets)
    _check_names(path, [name_of(row) for row in rows], "row")
    return Recipes(sets, judged, options, tuple(rows))


def name_of(row: Mapping[str, Any]) -> str:
    """What a row is called."""
    return str(row.get("name") or row.get("method") or "default")


def _check(path: Path, table: Mapping[str, Any], known: Mapping[str, schema.Kind], what: str) -> None:
    """Refuse keys that are not known, and values that are not of their kind."""
    for key, value in table.items():
        if key not in known:
            raise unknown(f"{what} {path}", key, known)
        try:
            known[key](value, key)
        except schema.Mismatch as error:
            raise UsageError(f"{path}: {error}.") from None


def _check_names(path: Path, names: Sequence[str], what: str) -> None:
    """Refuse names that cannot be folders or are there twice."""
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"{path}: two {what}s are called '{name}'.", hint='Give them a name = "..." each.')
        if not re.fullmatch(r"[\w.+-]{1,80}", name) or name.startswith(".") or name == TRAININGS:
            raise UsageError(f"{path}: '{name}' cannot name a folder.", hint="Use letters, digits, - and _.")


def _sets(path: Path, found: Mapping[str, Any]) -> tuple[Photos, ...]:
    if "set" not in found:
        return (_photos("", found),)
    alone = next((key for key in SET if key in found), None)
    if alone is not None:
        raise UsageError(f"{path}: {alone} stands beside [[set]].", hint=f"Say {alone} in each [[set]].")
    for photos in found["set"]:
        _check(path, photos, {"name": TEXT, **SET}, "key of a set in")
        if not {"name", "photos"} <= set(photos):
            raise UsageError(f'{path}: a [[set]] needs name = "..." and photos = "...".')
    _check_names(path, [photos["name"] for photos in found["set"]], "set")
    return tuple(_photos(photos["name"], photos) for photos in found["set"])


def _photos(name: str, found: Mapping[str, Any]) -> Photos:
    labels = Path(found["labels"]) if "labels" in found else None
    return Photos(name, found["photos"], found.get("test"), labels, found.get("limit"))


def _check_row(path: Path, row: Mapping[str, Any], sets: Sequence[Photos]) -> None:
    """Refuse what does not go together in a row."""
    name, known = name_of(row), [photos.name for photos in sets if photos.name]
    for wanted in _list(row.get("set", [])):
        if wanted not in known:
            raise unknown(f"set of row '{name}' in {path}", wanted, known or ["[[set]] with a name"])
    lists = [key for key in VARIED if isinstance(row.get(key), list)]
    if len(lists) > 1:
        raise UsageError(
            f"{path}: row '{name}' has lists of {lists[0]} and of {lists[1]}.", hint="One list a row: write two rows."
        )
    if any(row[key].count(value) > 1 for key in lists for value in row[key]):
        raise UsageError(f"{path}: row '{name}' has a value of {lists[0]} twice.")
    if "weights" in row.get("options", {}) and "weights" in row:
        raise UsageError(f"{path}: row '{name}' has weights twice.", hint="Leave them out of its options.")
    if "release" in row:
        if "weights" in row:
            raise UsageError(f"{path}: row '{name}' has weights, but its release is not fitted here.")
        if len(_list(row.get("set", known))) > 1:
            raise UsageError(f"{path}: row '{name}' has one release for several sets.", hint='Say set = "...".')


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def questions(row: Mapping[str, Any]) -> list[Question]:
    """What a row asks of its release: once for each value of its list, where it has one."""
    fixed = {key: row[key] for key in FIXED if key in row}
    key = next((key for key in VARIED if isinstance(row.get(key), list)), "")
    fixed |= {_FIELDS[one]: _asked(one, row[one]) for one in VARIED if one in row and one != key}
    if not key:
        return [Question(fixed)]
    return [
        Question({**fixed, _FIELDS[key]: _asked(key, value)}, key, _words(value), place)
        for place, value in enumerate(row[key])
    ]


# of an evaluation's request
_FIELDS = {
    **{key: key for key in VARIED}, "protect_class": "protect_classes", "share": "shares", "merge": "merges",
}  # fmt: skip


def _asked(key: str, value: Any) -> Any:
    """A value of a recipe as an evaluation is asked for it."""
    if key == "protect_class":
        return tuple(_list(value))
    if key == "pairs":
        return Path(value)
    if key == "merge":
        return (str(value),)
    return (value,) if key == "share" else value


def _words(value: Any) -> str:
    return ", ".join(map(str, _list(value)))

"""What a document may hold: kinds of values, checked once, where a file is read, so that what follows can rely on it.

A kind is a function of a value and its place in the document; it raises `Mismatch` where the value is none. Keys that a
kind does not know are let through, as a newer uex may have written them, but nothing nested deeply is.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable, Collection, Mapping
from typing import Any

Kind = Callable[[object, str], None]
DEEP = 32  # lists and tables within each other
LONG = 2**16  # characters
HUGE = 2**256  # whole numbers, such as seeds
SHOWN = 40  # characters of a stranger's key that a message has


class Mismatch(ValueError):
    """A document is not what it should be; says where and why, in one line and without an end."""


def read_json(data: str | bytes, kind: Kind) -> Any:
    """Read a JSON document of a kind.

    Raises:
        Mismatch: it is no JSON, or of another kind.
    """
    found = _parsed(data)
    kind(found, "")
    return found


def read_toml(data: bytes) -> dict[str, Any]:
    """Read a TOML document.

    Raises:
        Mismatch: it is none.
    """
    try:
        return tomllib.loads(data.decode())
    except RecursionError:
        raise Mismatch("it is nested too deeply") from None
    except UnicodeDecodeError:
        raise Mismatch("no TOML: it is not UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        raise Mismatch(f"no TOML: {error}") from None
    except ValueError:
        raise Mismatch("it holds a number of thousands of digits") from None


def _parsed(data: str | bytes) -> object:
    try:
        found: object = json.loads(data if isinstance(data, str) else data.decode())
    except RecursionError:
        raise Mismatch("it is nested too deeply") from None
    except json.JSONDecodeError as error:
        raise Mismatch(f"no JSON: {error.msg.lower()} at line {error.lineno}") from None
    except UnicodeDecodeError:
        raise Mismatch("no JSON: it is not UTF-8") from None
    except ValueError:  # Python reads whole numbers up to a length only
        raise Mismatch("it holds a number of thousands of digits") from None
    return found


def anything(value: object, where: str) -> None:
    """Take what JSON can hold, if it is not nested deeply and holds no number of hundreds of digits."""
    level = [value]
    for _ in range(DEEP):
        below: list[object] = []
        for item in level:
            if isinstance(item, int) and abs(item) > HUGE:
                raise _other(where, item, "a number that anything could be of")
            below += item.values() if isinstance(item, dict) else item if isinstance(item, list) else ()
        if not below:
            return
        level = below
    raise Mismatch(f"{_at(where)} is nested too deeply")


def text(most: int = LONG, pattern: str | None = None, *, plain: bool = False) -> Kind:
    """Take a text of at most so many characters; `plain` ones have no control characters, and are not empty."""
    wanted = None if pattern is None else re.compile(pattern)

    def kind(value: object, where: str) -> None:
        if not isinstance(value, str):
            raise _other(where, value, "a text")
        if len(value) > most:
            raise Mismatch(f"{_at(where)} is a text of {len(value):,} characters, more than {most:,}")
        if (wanted is not None and not wanted.fullmatch(value)) or (plain and not (value and value.isprintable())):
            raise Mismatch(f"{_at(where)} is a text that does not belong there")

    return kind


def whole(least: int, most: int) -> Kind:
    """Take a whole number within bounds."""

    def kind(value: object, where: str) -> None:
        if type(value) is not int or not least <= value <= most:
            raise _other(where, value, f"a whole number from {_short(least)} to {_short(most)}")

    return kind


def number(least: float, most: float) -> Kind:
    """Take a number within bounds, which is finite."""

    def kind(value: object, where: str) -> None:
        if type(value) not in (int, float) or not least <= value <= most:  # type: ignore[operator]
            raise _other(where, value, f"a number from {least:g} to {most:g}")

    return kind


def real(value: object, where: str) -> None:
    """Take any number, also what is none and what has no end."""
    if isinstance(value, float):
        return
    whole(-HUGE, HUGE)(value, where)


def flag(value: object, where: str) -> None:
    """Take true or false."""
    if not isinstance(value, bool):
        raise _other(where, value, "true or false")


def option(value: object, where: str) -> None:
    """Take what an option of a plugin can be: null, true or false, a number, a text, or a list of these."""
    for item in value if isinstance(value, list) else [value]:
        if isinstance(item, (list, dict)):
            raise _other(where, item, "a number or a text")
        (text() if isinstance(item, str) else anything)(item, where)


def one_of(*known: object) -> Kind:
    """Take one of a few values."""

    def kind(value: object, where: str) -> None:
        if not any(type(value) is type(one) and value == one for one in known):
            raise _other(where, value, " or ".join(map(str, known)))

    return kind


def maybe(inner: Kind) -> Kind:
    """Take null, too."""

    def kind(value: object, where: str) -> None:
        if value is not None:
            inner(value, where)

    return kind


def either(first: Kind, other: Kind) -> Kind:
    """Take what is of one of two kinds; of what is of neither, it is said what the second one wants."""

    def kind(value: object, where: str) -> None:
        try:
            first(value, where)
        except Mismatch:
            other(value, where)

    return kind


def one_or_more(inner: Kind) -> Kind:
    """Take one of a kind, or a list of at least one."""

    def kind(value: object, where: str) -> None:
        (listing(inner, least=1) if isinstance(value, list) else inner)(value, where)

    return kind


def listing(inner: Kind, *, least: int = 0, unique: bool = False) -> Kind:
    """Take a list of a kind; with `unique`, of texts that all differ."""

    def kind(value: object, where: str) -> None:
        if not isinstance(value, (list, tuple)):
            raise _other(where, value, "a list")
        for item in value:
            inner(item, where)
        if len(value) < least:
            raise Mismatch(f"{_at(where)} is a list of {len(value)}, of at least {least}")
        if unique and len(set(value)) != len(value):
            raise Mismatch(f"{_at(where)} has an entry twice")

    return kind


def table(inner: Kind) -> Kind:
    """Take a table of any keys, whose values are of a kind."""

    def kind(value: object, where: str) -> None:
        for key, item in _entries(value, where).items():
            inner(item, _below(where, key))

    return kind


def record(needed: Mapping[str, Kind], others: Mapping[str, Kind] | None = None) -> Kind:
    """Take a table that has the needed keys, and perhaps the others, each of its kind; what else it has is let be."""
    known = {**needed, **(others or {})}

    def kind(value: object, where: str) -> None:
        entries = _entries(value, where)
        _has(entries, needed, where)
        for key, item in entries.items():
            known.get(key, anything)(item, _below(where, key))

    return kind


def _entries(value: object, where: str) -> dict[str, object]:
    if not isinstance(value, dict):
        raise _other(where, value, "a table")
    return value


def _has(entries: Collection[str], needed: Collection[str], where: str) -> None:
    for key in needed:
        if key not in entries:
            raise Mismatch(f"{_at(where)} lacks '{key}'")


def _below(where: str, key: str) -> str:
    shown = key if len(key) <= SHOWN and key.isprintable() else f"{ascii(key[:SHOWN])[1:-1]}..."
    return f"{where}.{shown}" if where else shown


def _at(where: str) -> str:
    return f"'{where}'" if where else "it"


def _other(where: str, value: object, wanted: str) -> Mismatch:
    return Mismatch(f"{_at(where)} is {_named(value)}, not {wanted}")


def _named(value: object) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, (int, float)):
        return f"the number {_short(value)}"
    names: dict[type, str] = {str: "a text", list: "a list", dict: "a table"}
    return names.get(type(value), f"a {type(value).__name__}")


def _short(value: float) -> str:
    if isinstance(value, int) and abs(value) >= 10**15:
        return f"{'-' if value < 0 else ''}2^{abs(value).bit_length() - (abs(value).bit_count() == 1)}"
    return f"{value:g}" if isinstance(value, float) else str(value)

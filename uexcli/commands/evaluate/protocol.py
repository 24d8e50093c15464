"""Protocols: which targets, countermeasures and seeds an evaluation tries; TOML files to copy and change."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from uexcli.errors import UexError, UsageError, unknown
from uexcli.io import schema
from uexcli.io.documents import SIDE

PLAIN = "none"
SUFFIX = ".toml"
NAMES = schema.listing(schema.text(), least=1)
FIELDS: dict[str, schema.Kind] = {
    "summary": schema.text(),
    "targets": NAMES,
    "against": NAMES,
    "pretrained": NAMES,
    "seeds": schema.whole(0, 2**20),
    "folds": schema.whole(0, 2**20),
    "epochs": schema.whole(0, 2**40),
    "size": schema.whole(0, SIDE),
    "view": schema.text(),
    "options": schema.table(schema.table(schema.option)),
}


@dataclass(frozen=True)
class Protocol:
    """What an evaluation tries; the command line overrides it."""

    name: str = ""
    summary: str = ""
    targets: tuple[str, ...] = ("auto",)
    against: tuple[str, ...] = (PLAIN,)
    pretrained: tuple[str, ...] = ()  # targets in plain training alone, where their weights are at hand
    large_only: bool = False  # these are for photos that are larger than others see them
    seeds: int = 1
    folds: int | None = None  # of a cross-validation; None: several where there are few photos
    epochs: int | None = None
    size: int | None = None
    view: str = "squash"
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # of targets, by name


def names() -> list[str]:
    """The protocols that come with uex."""
    folder = resources.files("uexcli") / "protocols"
    return sorted(item.name.removesuffix(SUFFIX) for item in folder.iterdir() if item.name.endswith(SUFFIX))


def text(name: str) -> str:
    """Give the TOML of a protocol, by its name or its file.

    Raises:
        UsageError: there is none.
        UexError: it cannot be read.
    """
    if name in names():
        return (resources.files("uexcli") / "protocols" / f"{name}{SUFFIX}").read_text("utf-8")
    if not name.endswith(SUFFIX):
        raise unknown("protocol", name, [*names(), "FILE.toml"])
    try:
        return Path(name).read_text("utf-8")
    except FileNotFoundError:
        raise UsageError(f"`protocol={name}`: no such file.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UexError(f"`protocol={name}`: cannot be read ({error}).") from None


def read(name: str) -> Protocol:
    """Read a protocol, by its name or its file.

    Raises:
        UsageError: there is none, or it says what no protocol can say.
        UexError: it cannot be read.
    """
    try:
        found = schema.read_toml(text(name).encode())
    except schema.Mismatch as error:
        raise UexError(f"`protocol={name}`: {error}.") from None
    return parse(found, name)


def parse(found: Mapping[str, Any], name: str) -> Protocol:
    """Make a protocol of what a TOML file says.

    Raises:
        UsageError: a key or a value that no protocol has.
    """
    for key, value in found.items():
        if key not in FIELDS:
            raise unknown(f"key in protocol {name}", key, FIELDS)
        try:
            FIELDS[key](value, key)
        except schema.Mismatch as error:
            raise UsageError(f"`protocol={name}`: {error}.") from None
    lists = {key: tuple(found[key]) for key in ("targets", "against", "pretrained") if key in found}
    return Protocol(**{**found, **lists, "name": name})

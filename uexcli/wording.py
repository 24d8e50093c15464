"""How names that others gave, and commands to paste, are put into words."""

from __future__ import annotations

import re
import shlex
from pathlib import PurePath


def visible(text: str) -> str:
    """Make control characters, undecodable bytes and what turns the direction of text visible, on one line.

    Every character that is not printable is written as Python writes it, a line break as `\\n`.
    """
    shown = text.encode("utf-8", "backslashreplace").decode()
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in shown)


def pasted(*words: str | PurePath) -> str:
    """Put a command so that a shell which gets it pasted reads these very words; a `PurePath` never as an option."""
    return " ".join(_quoted(here(word) if isinstance(word, PurePath) else word) for word in words)


def here(path: str | PurePath) -> str:
    """Put a path, or what may be one, so that no command takes it for an option."""
    text = str(path)
    return f"./{text}" if text.startswith("-") else text


def _quoted(word: str) -> str:
    if visible(word) == word:
        return shlex.quote(word)
    units = (char if char.isprintable() else _bytes(char) for char in word)
    return "$'" + "".join({"\\": "\\\\", "'": "\\'"}.get(unit, unit) for unit in units) + "'"


def _bytes(char: str) -> str:
    """One character as the bytes it has in a file name, for bash, zsh and ksh."""
    half = 0xD800 <= ord(char) <= 0xDFFF and not 0xDC80 <= ord(char) <= 0xDCFF  # of a character, and of no file name
    data = char.encode("utf-8", "surrogatepass" if half else "surrogateescape")
    return "".join(f"\\x{byte:02x}" for byte in data)


RENAMED = {"output": "-o", "options": "-O options", "targets": "--target", "shares": "--share", "merges": "--merge"}
RENAMED |= {"protect_classes": "--protect-class"}
ARGUMENTS = frozenset(
    [
        "against",
        "allow_lossy",
        "allow_missing",
        "attacker",
        "cells",
        "compile",
        "croissant",
        "device",
        "engine",
        "epochs",
        "eps",
        "fast",
        "folds",
        "force",
        "format",
        "fresh",
        "into",
        "into_test",
        "jobs",
        "junit",
        "keep_metadata",
        "labels",
        "limit",
        "max_learnability",
        "max_pixels",
        "memory",
        "method",
        "mode",
        "near",
        "no_labels",
        "noise",
        "norm",
        "on_error",
        "pairs",
        "pairs_middle",
        "patch",
        "png_level",
        "precision",
        "preset",
        "protocol",
        "receipt",
        "report",
        "resume",
        "seed",
        "seeds",
        "shard",
        "size",
        "source",
        "split",
        "strict",
        "surrogate",
        "test",
        "usage_info",
        "view",
        "weights",
    ]
)  # named as their options are
ARGUMENT = re.compile(rf"`({'|'.join(sorted({*ARGUMENTS, *RENAMED}))})(?:\[(\w+)\])?(?:=([^`]*))?`")


def as_flags(text: str) -> str:
    """Write the arguments that a message names, such as `` `mode=samplewise` ``, as options of the command line."""

    def flag(found: re.Match[str]) -> str:
        name, key, value = found.groups()
        if key is not None:
            return f"-O {key}" if value is None else f"-O {key}={value}"
        option = RENAMED.get(name, "--" + name.replace("_", "-"))
        return option if value in (None, "True") else f"{option} {value}"

    return ARGUMENT.sub(flag, text)


def plainly(against: str) -> str:
    """Name what a training is under: a countermeasure, or none."""
    return "plain training" if against == "none" else f"'{against}'"

"""The options that several commands share, and completion of plugin names."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from uexcli.errors import UexError, UsageError
from uexcli.wording import visible


def names_of(kind: str) -> Callable[[str], list[tuple[str, str]]]:
    """Make a completion callback that offers the registered names of a kind."""

    def complete(incomplete: str) -> list[tuple[str, str]]:
        from uexcli.registry import load

        try:
            entries = load().entries[kind]
        except UexError:  # a broken plugin must not break the shell; the command itself will say
            return []
        return [
            (name, visible(entry.cls.summary)) for name, entry in sorted(entries.items()) if name.startswith(incomplete)
        ]

    return complete


def parse_pairs(pairs: list[str]) -> dict[str, str]:
    """Read `key=value` options.

    Raises:
        UsageError: one has no `=`.
    """
    found = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise UsageError(f"-O {pair}: not of the form key=value.", hint="For example -O rounds=10.")
        found[key] = value
    return found


def parse_size(text: str) -> int | None:
    """Read `--size`: a number of pixels, or None for `auto`.

    Raises:
        UsageError: it is neither.
    """
    if text == "auto":
        return None
    if not text.isascii() or not text.isdigit():
        raise UsageError(f"--size {text}: not a number of pixels.", hint="Write 64, or auto.")
    return int(text)


PhotosArg = Annotated[
    str,
    typer.Argument(
        metavar="PHOTOS", help="Folder of images (class folders or flat), or a dataset such as cifar10:ROOT."
    ),
]
NoiseArg = Annotated[Path, typer.Argument(metavar="NOISE", help="Noise file that `uex fit` wrote.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print errors and the result only.")]
Force = Annotated[bool, typer.Option("--force", "-f", help="Replace an existing output.")]
DryRun = Annotated[bool, typer.Option("--dry-run", "-n", help="Say what would be done, and do nothing.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.")]
Precision = Annotated[str, typer.Option(help="What nets run in: auto, float32, bfloat16 or float16.")]
Labels = Annotated[Path | None, typer.Option(metavar="FILE.csv", help="CSV with the header path,label.")]
Weights = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Weights of the pretrained net.", show_default=False),
]
OnError = Annotated[str, typer.Option(metavar="fail|skip", help="What to do with an image that cannot be used.")]
Size = Annotated[str, typer.Option(help="Side in pixels that images are resized to, or auto.")]
Jobs = Annotated[
    int | None,
    typer.Option(help="Images at a time.  \\[default: all cores, if memory allows]", show_default=False),
]
Memory = Annotated[
    str | None,
    typer.Option(
        metavar="SIZE",
        help="Use at most this much, such as 4GiB: fewer images at a time.  \\[default: what is free]",
        show_default=False,
    ),
]
MaxPixels = Annotated[
    int | None,
    typer.Option(
        help="Reject images with more pixels (protects against decompression bombs).  \\[default: 89478485]",
        show_default=False,
    ),
]

"""What `merge` takes from the parts of a release, and what it finds out by itself: a part names no other place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from uexcli.commands.apply.assemble import LeftOut
from uexcli.commands.protect.protector import Written
from uexcli.errors import UexError
from uexcli.io.images import photo_files
from uexcli.io.noise import noise_file
from uexcli.io.release import layout, receipt

AGAIN = "Apply that shard again, or copy its part again."


def receipt_of(output: Path, job: Mapping[str, Any]) -> Path | None:
    """Where the receipt of the parts' noise lies: beside that noise file, which is looked for here and by the release.

    The file is told by its checksum, which the parts hold; None where it is not there.
    """
    wanted = job.get("noise")
    for folder in dict.fromkeys((output.parent, Path.cwd())):
        try:
            candidates = sorted(
                folder.iterdir(), key=lambda path: (not path.name.endswith(noise_file.SUFFIX), path.name)
            )
        except OSError:
            continue
        for path in candidates:
            try:
                if _may_be_noise(path) and layout.digest_file(path) == wanted:
                    return receipt.path_for(path.absolute())
            except (UexError, OSError):  # of somebody else
                continue
    return None


def _may_be_noise(path: Path) -> bool:
    """Whether a file begins as safetensors do, so that few others are read to their end."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(9)[5:] == b"\0\0\0{"


def check_names(header: Mapping[str, Any], written: Sequence[tuple[Written, Path]], others: Sequence[LeftOut]) -> None:
    """Refuse files that are not called as `apply` calls them: they could take the place of something else.

    Raises:
        UexError: one is not.
        TypeError: the parts do not say how they are called.
    """
    suffix = header["facts"]["suffix"]
    if suffix not in photo_files.SUFFIXES.values():
        raise TypeError(f"files that end in {suffix!r}")
    keys = [item.key for item, _ in written] + [item.key for item in others]
    if not all(isinstance(key, str) and layout.inside(key) for key in keys) or len(set(keys)) < len(keys):
        raise TypeError("an image that has no name of its own")
    named = layout.names(keys, suffix)
    for item, folder in written:
        if item.name != named[item.key]:
            raise UexError(f"{folder / item.name} is not the file that was written.", hint=AGAIN)

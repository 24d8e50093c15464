"""`verify --strict`: every released file, and every source, decoded by a second decoder, too."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from uexcli import plugin
from uexcli.commands.protect import memory
from uexcli.commands.verify.pair import Finding
from uexcli.errors import UexError
from uexcli.io.images import photo_files
from uexcli.io.images.second import decoder
from uexcli.io.pool import parallel
from uexcli.messages import Listener

CODE = "decoders-differ"


@dataclass(frozen=True)
class Alone:
    """A file that one decoder alone reads, and why the other does not."""

    path: str
    reason: str


@dataclass(frozen=True)
class Outcome:
    """How many files two decoders read alike, those of which they differ, and those that one alone reads."""

    alike: int = 0
    findings: tuple[Finding, ...] = ()
    alone: tuple[Alone, ...] = ()
    in_memory: int = 0  # images of a dataset that are no files

    @property
    def text(self) -> str:
        """All of it in words."""
        files = self.alike + len(self.findings) + len(self.alone)
        said = f"{self.alike:,} of {files:,} files are read alike by two decoders"
        if self.alone:
            some = ", ".join(sorted({one.reason for one in self.alone})[:3])
            said += f"; {len(self.alone):,} by one only ({some})"
        if self.in_memory:
            said += f"; {self.in_memory:,} sources are no files of their own"
        return said


def check(
    root: Path,
    pictures: Sequence[str],
    sources: Sequence[plugin.Sample],
    room: memory.Plan,
    listener: Listener,
) -> Outcome:
    """Decode released files and sources by both decoders, within the memory that was planned for comparing them.

    What the first cannot read is said elsewhere.

    Raises:
        UexError: there was not enough memory.
    """
    work = [(plugin.Sample(name, None, path=root / name), True) for name in pictures]
    work += [(sample, False) for sample in sources if sample.array is None]
    alike, findings, alone = 0, list[Finding](), list[Alone]()
    results = parallel(_one, work, room.jobs, processes=True, apart=room.apart)
    for done, ((sample, released), found) in enumerate(zip(work, results, strict=True), 1):
        listener.step(plugin.Progress(done, len(work), stage="second decoder"))
        if isinstance(found, str):
            alone.append(Alone(sample.key, found))
        elif found is not None and found > 0:
            where = "another picture" if found == float("inf") else f"{found:.0f} levels apart"
            what = "one picture by both decoders" if released else "one picture of the source by both decoders"
            findings.append(Finding(CODE, sample.key, what, where))
        elif found is not None:
            alike += 1
    return Outcome(alike, tuple(findings), tuple(alone), sum(sample.array is not None for sample in sources))


def _one(item: tuple[plugin.Sample, bool]) -> float | str | None:
    """How far two readings are apart; in words why there is one only; None where there is none.

    Raises:
        UexError: there was not enough memory.
    """
    sample, released = item
    with memory.enough(sample.key):
        return _apart(sample, released=released)


def _apart(sample: plugin.Sample, *, released: bool) -> float | str | None:
    try:
        data = sample.encoded()
        photo = photo_files.open_photo(sample, whole=True)
    except UexError:
        return None
    alpha = photo.own_alpha
    values = photo.values if alpha is None else np.concatenate([photo.values, alpha[:, :, None]], 2)
    try:
        return decoder.apart(values, data, released=released)
    except decoder.NoDecoder as error:
        return str(error)

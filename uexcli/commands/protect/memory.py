"""How much memory work on whole photos takes, and how many may be worked on at a time."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch

from uexcli import plugin
from uexcli.commands.fit.memory import SHARE, parse, told
from uexcli.errors import UexError
from uexcli.io import samples
from uexcli.io.images.header import Shape, shape_of
from uexcli.messages import Listener
from uexcli.runtime import machine

EACH = 64 * 2**20  # bytes of a job besides its photo's: stripes, and what a forked process does not share
HEAVY = 256 * 2**20  # bytes of a photo from which on it is left to a process of its own, which the system may kill
MOST = 0.95  # of the memory that is free: one photo that takes more is refused
Cost = Callable[[Shape], float]  # bytes that a photo of this shape takes at the most


@dataclass(frozen=True)
class Plan:
    """How many photos at a time, and the memory of that: bytes, at the most, of all processes together."""

    jobs: int
    bytes: int
    largest: int = 0  # of one photo
    refused: Mapping[str, UexError] = field(default_factory=dict)  # by key

    @property
    def apart(self) -> bool:
        """Whether work is to be left to processes of its own, so that this one can say if they are killed."""
        return self.largest >= HEAVY


def plan(
    shapes: Mapping[str, Shape], cost: Cost, count: int, *, jobs: int | None, memory: str | None, skip: bool | None
) -> Plan:
    """Choose for `count` photos, of which `shapes` are known, so that the largest ones fit in at once.

    `memory` is what `--memory` says; `skip`, whether a photo that does not fit by itself is only left out; None: that
    cannot be asked for.

    Raises:
        UsageError: `--memory` is no size.
        UexError: a photo does not fit, and is not to be left out.
    """
    limit = None if memory is None else parse(memory)
    base = machine.resident()
    costs = {key: round(cost(shape)) for key, shape in shapes.items()}
    if limit is None:
        free = machine.free_memory(torch.device("cpu"))
        most, budget = (None, None) if free is None else (base + MOST * free, base + SHARE * free)
    else:
        most = budget = None if limit == 0 else limit
    refused: dict[str, UexError] = {}
    for key, bytes_ in costs.items():
        if most is not None and base + EACH + bytes_ > most:
            refused[key] = _too_large(key, shapes[key], base + EACH + bytes_, most, memory, skip)
    if refused and not skip:
        raise max(refused.items(), key=lambda item: costs[item[0]])[1]
    heaviest = sorted((bytes_ for key, bytes_ in costs.items() if key not in refused), reverse=True)
    wanted = 1 if limit == 0 else max(1, min(jobs or os.cpu_count() or 1, count))
    taken, chosen = base, 0
    for job in range(wanted):
        one = EACH + (heaviest[job] if job < len(heaviest) else 0)
        if job and budget is not None and taken + one > budget:
            break
        taken, chosen = taken + one, job + 1
    return Plan(chosen, taken, heaviest[0] if heaviest else 0, refused)


def _too_large(key: str, shape: Shape, needed: float, most: float, memory: str | None, skip: bool | None) -> UexError:
    leave = "" if skip is None else " Or leave out what is too large with `on_error=skip`."
    size = f"{key}: {shape.width}x{shape.height} px take about {told(needed)} of memory"
    if memory is None:
        hint = f"Free some, or go on all the same with `memory={_option(needed)}`.{leave}"
        return UexError(f"{size}, and {told(most)} can be had here.", hint=hint)
    hint = f"Give `memory={_option(needed)}`, or 0 for one photo at a time whatever it takes.{leave}"
    return UexError(f"{size}, and `memory` is {memory}.", hint=hint)


def _option(size: float) -> str:
    """A size that is enough, as `--memory` takes it."""
    return f"{-(-int(size) // 2**20) + 16}MiB"


def check_options(jobs: int | None, memory: str | None) -> None:
    """Refuse values that `--jobs` and `--memory` cannot have.

    Raises:
        UsageError: one has such a value.
    """
    samples.check_options("fail", jobs)
    if memory is not None:
        parse(memory)


def shapes_of(photos: Sequence[plugin.Sample]) -> dict[str, Shape]:
    """Read the shapes of photos from their headers; what is no image is left out, and said when it is decoded."""
    found = {}
    for sample in photos:
        with contextlib.suppress(UexError):
            found[sample.key] = shape_of(sample)
    return found


def say(plan_: Plan, count: int, what: str, wanted: int | None, listener: Listener, *, always: bool) -> None:
    """Say before how much memory it takes, where that is much or there are fewer photos at a time than could be."""
    reduced = plan_.jobs < min(wanted or os.cpu_count() or 1, count)
    if always or reduced or plan_.apart:
        fewer = ", for want of memory" if reduced else ""
        listener.say(f"{count:,} {what}, {plan_.jobs} at a time{fewer}; at most {told(plan_.bytes)} of memory.")


@contextlib.contextmanager
def enough(key: str) -> Iterator[None]:
    """Turn an allocation that fails in work on a photo into an error that names it.

    Raises:
        UexError: there was not enough memory.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and "allocate memory" not in str(error):
            raise
        raise UexError(
            f"{key}: there was not enough memory for it.", hint="Use fewer `jobs`, or a machine with more memory."
        ) from None

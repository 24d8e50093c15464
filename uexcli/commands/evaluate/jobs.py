"""What an evaluation trains: targets under countermeasures, and at which size each of them sees the photos."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from uexcli import plugin
from uexcli.commands.evaluate.clean_images import CleanImages
from uexcli.commands.evaluate.data import LARGEST
from uexcli.commands.evaluate.protocol import PLAIN, Protocol
from uexcli.core.eval.against import Against
from uexcli.errors import UexError, UsageError
from uexcli.io.images import crops
from uexcli.messages import Listener
from uexcli.registry import Registry, build, convert, options_of

NARROW = "airbench:width=16"  # what a CPU carries of it
ROOM = 0.25  # of the free memory that the photos may take which a pretrained net is shown unasked


@dataclass(frozen=True)
class Job:
    """A target under countermeasures, for each side, seed and fold."""

    name: str
    target: plugin.Target
    against: Against
    seeds: int
    size: int  # px, of the images
    at: str = ""  # the scenario, where there are several
    informed: bool = False  # a countermeasure of who knows how the noise was made


def against_of(registry: Registry, spec: str, clean: CleanImages | None = None) -> Against:
    """Read `none`, `jpeg:10`, or `jpeg:10+cutmix`.

    Raises:
        UsageError: there is no such countermeasure, or not with these values.
        UexError: it lacks what it needs.
    """
    if spec == PLAIN:
        return Against(PLAIN)
    parts = tuple(registry.make(plugin.Countermeasure, "countermeasure", part) for part in spec.split("+"))
    for part in parts:
        if (lacking := part.missing_requirement()) is not None:
            raise lacking
    return Against(spec, parts, clean or CleanImages(registry))


def jobs_of(
    registry: Registry,
    protocol: Protocol,
    device: torch.device,
    size: int,
    *,
    strict: bool,
    listener: Listener,
    side: int = 0,
    sized: bool = True,
    weights: str = "auto",
    informed: Sequence[str] = (),
) -> list[Job]:
    """Make all of them, for images of this size; what does not go together is refused if `strict`, else left out.

    `side` is that of the photos as they are: nets that are trained on larger ones than `size` see them at their own
    size, unless `sized` says that the user has chosen one. `weights` are of the pretrained nets; `informed` are
    countermeasures of who knows how the noise was made.

    Raises:
        UsageError: unknown names, options a target does not have, or nothing that goes together.
        UexError: a target lacks what it needs.
    """
    found = []
    clean = CleanImages(registry)
    measures = [against_of(registry, spec, clean) for spec in dict.fromkeys(protocol.against)]
    known = [against_of(registry, spec, clean) for spec in dict.fromkeys(informed) if spec not in protocol.against]
    large = side > LARGEST and not sized
    for spec in dict.fromkeys(protocol.targets):
        name = _default(device, size, protocol.view) if spec == "auto" else spec
        target = _target(registry, name, protocol, weights)
        if (lacking := target.missing_requirement() or lacks_weights(registry, target)) is not None:
            raise lacking
        if protocol.view != crops.SQUASH and not target.crops:
            listener.warn(f"target '{name}' sees the middles of the photos, not crops of them")
        shown = (native_of(registry, target) or size) if large else size
        for against in (*measures, *known):
            if against.on_batches and not target.batches:
                text = f"'{against.spec}' changes the batches of a training, and target '{name}' trains on none."
                if strict and against in measures:
                    raise UsageError(text, hint="Use another target for it.")
                listener.warn(f"left out: {text}")
                continue
            found.append(Job(name, target, against, protocol.seeds, shown, informed=against in known))
    if not found:
        raise UsageError("none of these countermeasures goes with these targets.")
    for name in protocol.options:
        registry.find("target", name)
    found += _pretrained(registry, protocol, size, large=large, weights=weights, listener=listener)
    return list(dict.fromkeys(found))


def _pretrained(
    registry: Registry, protocol: Protocol, size: int, *, large: bool, weights: str, listener: Listener
) -> list[Job]:
    """Make the jobs of nets that know the world already, in plain training; say which are not at hand.

    Raises:
        UexError: the weights that are named cannot be had.
    """
    if not protocol.pretrained or (protocol.large_only and not large):
        return []
    found, lacking = [], {}
    for spec in dict.fromkeys(protocol.pretrained):
        target = _target(registry, spec, protocol, weights)
        if (why := lacks_weights(registry, target)) is None:
            shown = (native_of(registry, target) or size) if large else size
            found.append(Job(spec, target, Against(PLAIN), protocol.seeds, shown))
        elif weights != "auto":
            raise why
        else:
            lacking[spec] = why
    if found:
        for spec, why in lacking.items():
            listener.warn(f"target '{spec}' was not tried: {why.message}")
    else:
        listener.warn(
            "the main threat was not tried: whoever trains today starts from a pretrained net, and none is at hand. "
            f"{next(iter(lacking.values())).hint} Or give `weights=FILE`"
        )
    return found


def _surrogate_of(registry: Registry, target: plugin.Target) -> plugin.Surrogate | None:
    """Make the pretrained net that a target builds on, without its weights; None where it builds on none."""
    named = getattr(target, "surrogate", None)
    return surrogate(registry, named, getattr(target, "weights", "auto")) if isinstance(named, str) else None


def surrogate(registry: Registry, name: str, weights: str) -> plugin.Surrogate:
    """Make a surrogate, by its name and the file of its weights, or `auto`; not its net.

    Raises:
        UsageError: there is none, or it takes no weights.
    """
    cls = registry.find("surrogate", name).cls
    given = {"weights": weights} if "weights" in options_of(cls) and weights != "auto" else {}
    if weights != "auto" and not given:
        raise UsageError(f"surrogate '{name}' takes no weights.")
    made = build(cls, given, f"surrogate '{name}'")
    assert isinstance(made, plugin.Surrogate)
    return made


def native_of(registry: Registry, target: plugin.Target) -> int | None:
    """Give the side in px that a target's pretrained net is used to; None where it has none, or any will do."""
    made = _surrogate_of(registry, target)
    return None if made is None else made.native


def lacks_weights(registry: Registry, target: plugin.Target) -> UexError | None:
    """Say what a target's pretrained net lacks."""
    made = _surrogate_of(registry, target)
    return None if made is None else made.missing_requirement()


def fits(count: int, size: int, channels: int, free: int | None) -> bool:
    """Whether so many photos, clean and protected, take no more than a part of so many bytes that are free."""
    return free is None or 2 * count * channels * size**2 <= ROOM * free


def as_text(value: object) -> str:
    """Write a value of TOML as the command line has it."""
    if isinstance(value, list):
        return ",".join(map(as_text, value))
    return str(value).lower() if isinstance(value, bool) else str(value)


def _default(device: torch.device, size: int, view: str) -> str:
    fast = size <= LARGEST and view == crops.SQUASH  # `airbench` draws no crops of the photos
    if device.type == "cpu":
        return NARROW if fast else "small"
    return "airbench" if device.type == "cuda" and fast else "resnet18"


def _target(registry: Registry, spec: str, protocol: Protocol, weights: str) -> plugin.Target:
    """Make a target with the options that the protocol has for it, and those written in its name."""
    cls, _ = registry.read("target", spec)
    fields, options = options_of(cls), {}
    for key, value in protocol.options.get(cls.name, {}).items():
        if key not in fields:
            raise UsageError(f"protocol {protocol.name}: target '{cls.name}' has no option '{key}'.")
        options[key] = convert(as_text(value), fields[key], f"protocol {protocol.name}, [options.{cls.name}]")
    if weights != "auto" and "weights" in fields:
        options["weights"] = weights
    return registry.make(plugin.Target, "target", spec, options)  # type: ignore[type-abstract]

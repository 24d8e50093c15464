"""The method of photos for which none was named: what holds best by measurement, of what can run here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import cast

from uexcli import plugin
from uexcli.commands.protect.features import AUTO
from uexcli.errors import UexError
from uexcli.registry import Registry, configure, options_of

USUAL_METHOD = "em"  # where nothing else fits what was asked for
LEAST = 32  # px: of images below it nothing was measured that is not for all sizes
PRETRAINED = "efficientnet_lite0"  # needs no download


@dataclass(frozen=True)
class Asked:
    """What is known before a method is chosen."""

    images: int
    labelled: bool
    side: int | None  # of small images, in px; None: they are photos
    device: str
    mode: str | None = None
    norm: str | None = None
    surrogate: str = AUTO
    preset: str | None = None
    compiled: bool = False
    patched: bool = False
    options: Mapping[str, str] | None = None
    size: int | None = None  # that was asked for, in px
    photo: int = 224  # side of the median photo, in px

    @property
    def kind(self) -> str:
        """As `Method.usual_for` has it."""
        images = "photos" if self.side is None else "small images" if self.side >= LEAST else "tiny images"
        return images + ("" if self.labelled else " without labels")


def usual_method(registry: Registry, asked: Asked) -> str:
    """Give the name of the method that holds best on such photos, of those that can do what was asked for."""
    for cls in _best_first(registry, asked):
        if _carries(cls, asked) and _knows(registry, cls, asked) and not any(_missing(registry, cls, asked)):
            return cls.name
    return USUAL_METHOD


def told_of_method(registry: Registry, asked: Asked, method: plugin.Method) -> str:
    """Say in a sentence what the choice is for, and what stood in the way of another."""
    text = f"{asked.kind if asked.labelled else 'no labels'}: {method.name}, {method.summary}"
    if method.name != USUAL_METHOD:
        text += f" (`method={USUAL_METHOD}` for the one of Huang et al.)"
    for cls in _best_first(registry, asked):
        if cls.name == method.name:
            break
        if not _carries(cls, asked):
            text += f"; `method={cls.name}` holds better, and takes long for so many on a CPU"
        elif missing := next(_missing(registry, cls, asked), None):
            text += f"; `method={cls.name}` holds better: {missing.hint or missing.message}"
    return text


def _best_first(registry: Registry, asked: Asked) -> list[type[plugin.Method]]:
    """Give the methods that are for such photos, and can do what was asked for beside it."""
    known = [cast(type[plugin.Method], entry.cls) for entry in registry.entries["method"].values()]
    fitting = [cls for cls in known if asked.kind in cls.usual_for and _takes(registry, cls, asked)]
    return sorted(fitting, key=lambda cls: (-cls.usual_for[asked.kind], cls.name))


def _carries(cls: type[plugin.Method], asked: Asked) -> bool:
    return asked.device != "cpu" or not cls.usual_most or asked.images <= cls.usual_most


def _takes(registry: Registry, cls: type[plugin.Method], asked: Asked) -> bool:
    """Whether a method can do what was asked for beside it."""
    modes = cls.usual_modes or cls.modes
    if asked.mode is not None and modes and registry.find("granularity", asked.mode).cls.name not in modes:
        return False
    if asked.size is not None and asked.size < min(cls.photo_side, asked.photo):
        return False
    known = cls.norms or (cls.default_norm,)  # under another one nothing was measured, nor of patches
    if asked.norm is not None and registry.find("norm", asked.norm).cls.name not in known:
        return False
    if asked.preset is not None and asked.preset not in cls.presets:
        return False
    if asked.patched:
        return False
    if asked.compiled and (not cls.needs_surrogate or cls.gives_network):
        return False
    if asked.surrogate != AUTO:
        net = cast(type[plugin.Surrogate], registry.find("surrogate", asked.surrogate).cls)
        if not cls.needs_surrogate or not net.has_gradient or (cls.needs_pretrained and not net.pretrained):
            return False
    return True


def _knows(registry: Registry, cls: type[plugin.Method], asked: Asked) -> bool:
    """Whether no option was given that is the usual method's, and not this one's.

    Only with labels: `-O rounds=6` always meant the usual method there, and without them never.
    """
    if not asked.labelled:
        return True
    usual = options_of(registry.find("method", USUAL_METHOD).cls)
    return not any(name in usual and name not in options_of(cls) for name in asked.options or ())


def _missing(registry: Registry, cls: type[plugin.Method], asked: Asked) -> Iterator[UexError]:
    """Say which nets of a method are not here; those that the user named speak for themselves."""
    if not cls.needs_pretrained:
        return
    options = asked.options or {}
    own = {name: text for name, text in options.items() if name in options_of(cls)}
    (method,) = cast(tuple[plugin.Method], tuple(configure([cls], own)))
    usual = [PRETRAINED] if asked.surrogate == AUTO and "weights" not in options else []
    for spec in (*usual, *method.ensemble):
        net: plugin.Surrogate = registry.make(plugin.Surrogate, "surrogate", spec)  # type: ignore[type-abstract]
        missing = net.missing_requirement()
        if missing is not None:
            yield missing

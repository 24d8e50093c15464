"""The plugins of a fit: found, checked against each other, configured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from uexcli import api
from uexcli.errors import UsageError, unknown
from uexcli.registry import Registry, configure, describe

FLAT_MODE = "clusterwise"  # for photos without labels, where a plugin brings it


@dataclass(frozen=True)
class Parts:
    """The plugins of a fit, configured."""

    method: api.Method
    norm: api.Norm
    granularity: api.Granularity
    surrogate: api.Surrogate | None
    preset_eps: str | None = None

    def recipe(self, registry: Registry) -> dict[str, Any]:
        """Name, options and provenance of each, for the noise file."""
        return {
            kind: None if part is None else describe(part, registry.find(kind, part.name))
            for kind, part in vars(self).items()
            if kind != "preset_eps"
        }


def pick(
    registry: Registry,
    *,
    method: str,
    norm: str | None,
    mode: str | None,
    surrogate: str,
    options: Mapping[str, str],
    preset: str | None,
    labelled: bool,
    device: str,
) -> Parts:
    """Find and configure the plugins; pairs that cannot work together are refused here, before any work."""
    method_class = cast(type[api.Method], registry.find("method", method).cls)
    if preset is not None and preset not in method_class.presets:
        raise unknown(f"preset of method '{method_class.name}'", preset, method_class.presets)
    norm_class = cast(type[api.Norm], registry.find("norm", norm or method_class.default_norm).cls)
    flat = FLAT_MODE if FLAT_MODE in registry.names("granularity") else "samplewise"
    mode_entry = registry.find("granularity", mode or ("samplewise" if labelled else flat))
    mode_class = cast(type[api.Granularity], mode_entry.cls)
    if norm_class.needs_images and not mode_class.own:
        raise UsageError(
            f"norm '{norm_class.name}' needs the image each noise is added to; {mode_class.name} noise serves several.",
            hint="Use --mode samplewise.",
        )
    if not method_class.needs_surrogate and surrogate != "auto":
        raise UsageError(f"method '{method_class.name}' uses no surrogate.", hint="Leave --surrogate out.")
    fixed = None if preset is None else method_class.preset(preset, own=mode_class.own)
    classes: list[type[api.Plugin]] = [method_class, norm_class, mode_class]
    if method_class.needs_surrogate:
        usual = "small" if device == "cpu" else "resnet18"
        usual = (fixed and fixed.surrogate) or usual
        classes.append(registry.find("surrogate", usual if surrogate == "auto" else surrogate).cls)
    given = {key: str(value) for key, value in fixed.options.items()} if fixed is not None else {}
    made = configure(classes, {**given, **options})
    return Parts(
        cast(api.Method, made[0]),
        cast(api.Norm, made[1]),
        cast(api.Granularity, made[2]),
        cast(api.Surrogate, made[3]) if method_class.needs_surrogate else None,
        (fixed and fixed.eps) or None,
    )


def usual_eps(parts: Parts, channels: int, size: int) -> str:
    """The method's published bound under its own norm, else what is usual for the norm."""
    if parts.preset_eps is not None and parts.norm.name == parts.method.default_norm:
        return parts.preset_eps
    own = parts.method.default_eps if parts.norm.name == parts.method.default_norm else None
    return own or parts.norm.usual(channels, size)

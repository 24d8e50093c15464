"""The plugins of a fit: found, checked against each other, configured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from uexcli import api
from uexcli.errors import UsageError
from uexcli.registry import Registry, configure, describe

FLAT_MODE = "clusterwise"  # for photos without labels, where a plugin brings it


@dataclass(frozen=True)
class Parts:
    """The plugins of a fit, configured."""

    method: api.Method
    norm: api.Norm
    granularity: api.Granularity
    surrogate: api.Surrogate | None

    def recipe(self, registry: Registry) -> dict[str, Any]:
        """Name, options and provenance of each, for the noise file."""
        return {
            kind: None if part is None else describe(part, registry.find(kind, part.name))
            for kind, part in vars(self).items()
        }


def pick(
    registry: Registry,
    *,
    method: str,
    norm: str | None,
    mode: str | None,
    surrogate: str,
    options: Mapping[str, str],
    labelled: bool,
    device: str,
) -> Parts:
    """Find and configure the plugins; pairs that cannot work together are refused here, before any work."""
    method_class = cast(type[api.Method], registry.find("method", method).cls)
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
    classes: list[type[api.Plugin]] = [method_class, norm_class, mode_class]
    if method_class.needs_surrogate:
        usual = "small" if device == "cpu" else "resnet18"
        classes.append(registry.find("surrogate", usual if surrogate == "auto" else surrogate).cls)
    made = configure(classes, options)
    return Parts(
        cast(api.Method, made[0]),
        cast(api.Norm, made[1]),
        cast(api.Granularity, made[2]),
        cast(api.Surrogate, made[3]) if method_class.needs_surrogate else None,
    )


def usual_eps(parts: Parts, channels: int, size: int) -> str:
    """The method's published bound under its own norm, else what is usual for the norm."""
    own = parts.method.default_eps if parts.norm.name == parts.method.default_norm else None
    return own or parts.norm.usual(channels, size)

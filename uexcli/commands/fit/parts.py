"""The plugins of a fit: found, checked against each other, configured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from uexcli import plugin
from uexcli.commands.fit.default_method import PRETRAINED, USUAL_METHOD
from uexcli.commands.protect.features import AUTO, PIXELS
from uexcli.errors import UsageError, unknown
from uexcli.registry import Registry, configure, describe, options_of


@dataclass(frozen=True)
class Parts:
    """The plugins of a fit, configured."""

    method: plugin.Method
    norm: plugin.Norm
    granularity: plugin.Granularity
    surrogate: plugin.Surrogate | None
    encoder: plugin.Surrogate | None = None  # whose features tell images that are alike; None: thumbnails
    preset_eps: str | None = None
    ensemble: tuple[plugin.Surrogate, ...] = ()  # more nets that the method asks for

    @property
    def grouper(self) -> plugin.Surrogate | None:
        """The net whose groups stand for classes where there are no labels; None: thumbnails tell."""
        knows = self.surrogate is not None and self.surrogate.pretrained
        return self.encoder or (self.surrogate if knows else None)

    def recipe(self, registry: Registry) -> dict[str, Any]:
        """Name, options and provenance of each, for the noise file."""
        kinds = {"method": self.method, "norm": self.norm, "granularity": self.granularity, "surrogate": self.surrogate}
        made: dict[str, Any] = {
            kind: None if part is None else describe(part, registry.find(kind, part.name))
            for kind, part in kinds.items()
        }
        if self.encoder is not None:
            made["encoder"] = describe(self.encoder, registry.find("surrogate", self.encoder.name))
        if self.ensemble:
            made["ensemble"] = [describe(net, registry.find("surrogate", net.name)) for net in self.ensemble]
        return made


def pick(
    registry: Registry,
    *,
    method: str,
    named: bool,
    norm: str | None,
    mode: str | None,
    surrogate: str,
    options: Mapping[str, str],
    preset: str | None,
    labelled: bool,
    device: str,
) -> Parts:
    """Find and configure the plugins; pairs that cannot work together are refused here, before any work.

    `named` says whether the user named the method.
    """
    method_class = cast(type[plugin.Method], registry.find("method", method).cls)
    if preset is not None and preset not in method_class.presets:
        raise unknown(f"preset of method '{method_class.name}'", preset, method_class.presets)
    norm_class = cast(type[plugin.Norm], registry.find("norm", norm or method_class.default_norm).cls)
    mode_class = _mode(registry, method_class, mode, labelled=labelled)
    _check_norm(method_class, norm_class)
    if norm_class.needs_images and not mode_class.per_sample and not method_class.gives_network:
        raise UsageError(
            f"norm '{norm_class.name}' needs the image each noise is added to; {mode_class.name} noise serves several.",
            hint="Use `mode=samplewise`.",
        )
    if not method_class.needs_surrogate and surrogate != "auto":
        raise UsageError(f"method '{method_class.name}' uses no surrogate.", hint="Leave `surrogate` out.")
    fixed = None if preset is None else method_class.preset(preset, per_sample=mode_class.per_sample)
    classes: list[type[plugin.Plugin]] = [method_class, norm_class, mode_class]
    if method_class.needs_surrogate:
        wanted = PRETRAINED if method_class.needs_pretrained else "small" if device == "cpu" else "resnet18"
        wanted = (fixed and fixed.surrogate) or wanted
        classes.append(_surrogate(registry, method_class, wanted if surrogate == AUTO else surrogate))
    given = {key: str(value) for key, value in fixed.options.items()} if fixed is not None else {}
    if "weights" in options and not any("weights" in options_of(cls) for cls in classes):
        raise UsageError("`weights`: no net of this fit takes any.", hint="Name one: `surrogate=efficientnet_lite0`")
    try:
        made = configure(classes, {**given, **options})
    except UsageError as error:
        if named or method == USUAL_METHOD:
            raise
        hint = f"{error.hint or ''} Without `method` the method is {method}; `method={USUAL_METHOD}` for another."
        raise UsageError(error.message, hint=hint.strip()) from None
    for part in made:
        missing = part.missing_requirement()
        if missing is not None:
            raise missing
    granularity = cast(plugin.Granularity, made[2])
    taken = cast(plugin.Surrogate, made[3]) if method_class.needs_surrogate else None
    chosen = cast(plugin.Method, made[0])
    return Parts(
        chosen,
        cast(plugin.Norm, made[1]),
        granularity,
        taken,
        _encoder(registry, granularity.encoder, taken),
        (fixed and fixed.eps) or None,
        _ensemble(registry, chosen, taken),
    )


def _surrogate(registry: Registry, method: type[plugin.Method], name: str) -> type[plugin.Surrogate]:
    """Find a surrogate that a method can fit its noise against."""
    cls = cast(type[plugin.Surrogate], registry.find("surrogate", name).cls)
    all_known = cast(list[type[plugin.Surrogate]], [entry.cls for entry in registry.entries["surrogate"].values()])
    known = [each for each in all_known if each.has_gradient and (each.pretrained or not method.needs_pretrained)]
    if cls in known:
        return cls
    why = "has no gradient to fit noise by" if not cls.has_gradient else "is not pretrained"
    hint = f"Use one of {', '.join(sorted(each.name for each in known))}."
    if not cls.has_gradient:
        hint += f" To group images by it: `mode=clusterwise` `options[encoder]={cls.name}:FILE`"
    raise UsageError(f"method '{method.name}': the surrogate '{cls.name}' {why}.", hint=hint)


def _ensemble(
    registry: Registry, method: plugin.Method, surrogate: plugin.Surrogate | None
) -> tuple[plugin.Surrogate, ...]:
    """Find the further nets of a method; not the surrogate again."""
    found = []
    for spec in method.ensemble:
        _surrogate(registry, type(method), spec.partition(":")[0])
        net: plugin.Surrogate = registry.make(plugin.Surrogate, "surrogate", spec)  # type: ignore[type-abstract]
        if net == surrogate:
            continue
        missing = net.missing_requirement()
        if missing is not None:
            raise missing
        found.append(net)
    return tuple(found)


def _encoder(registry: Registry, spec: str, surrogate: plugin.Surrogate | None) -> plugin.Surrogate | None:
    """Give the net whose features tell images that are alike; None: none is needed, or none is here."""
    if spec == PIXELS:
        return None
    if spec == AUTO:
        if surrogate is not None and surrogate.pretrained:
            return surrogate
        usual = cast(plugin.Surrogate, registry.find("surrogate", PRETRAINED).cls())
        return usual if usual.missing_requirement() is None else None
    made: plugin.Surrogate = registry.make(plugin.Surrogate, "surrogate", spec)  # type: ignore[type-abstract]
    if not made.pretrained:
        known = [name for name, entry in sorted(registry.entries["surrogate"].items()) if _pretrained(entry.cls)]
        raise UsageError(
            f"`options[encoder]={spec}`: '{made.name}' is not pretrained.",
            hint=f"Use {PIXELS}, or one of {', '.join(known)}.",
        )
    missing = made.missing_requirement()
    if missing is not None:
        raise missing
    return made


def _pretrained(cls: type[plugin.Plugin]) -> bool:
    return issubclass(cls, plugin.Surrogate) and cls.pretrained


def _mode(
    registry: Registry, method: type[plugin.Method], mode: str | None, *, labelled: bool
) -> type[plugin.Granularity]:
    """Find the granularity that was asked for, or the usual one; a method may know some only."""
    known = [name for name in method.modes if name in registry.names("granularity")]
    if mode is None:
        mode = "samplewise" if labelled else _mode_without_labels(registry)
        if method.modes and mode not in known:
            mode = (known or method.modes)[0]
    cls = cast(type[plugin.Granularity], registry.find("granularity", mode).cls)
    if method.modes and cls.name not in method.modes:
        raise UsageError(
            f"method '{method.name}' makes no {cls.name} noise.", hint=f"Use `mode={' or '.join(method.modes)}`."
        )
    return cls


def _mode_without_labels(registry: Registry) -> str:
    every = {name: cast(type[plugin.Granularity], entry.cls) for name, entry in registry.entries["granularity"].items()}
    return next((name for name, cls in sorted(every.items()) if cls.default_without_labels), "samplewise")


def _check_norm(method: type[plugin.Method], norm: type[plugin.Norm]) -> None:
    """Refuse norms that a method does not know, and none at all where a method fits within one."""
    if method.norms and norm.name not in method.norms:
        raise UsageError(
            f"method '{method.name}' does not work under norm '{norm.name}'.",
            hint=f"Use `norm={' or '.join(method.norms)}`.",
        )
    if not norm.bounded and norm.name not in (method.default_norm, *method.norms):
        raise UsageError(
            f"norm '{norm.name}' sets no bound, and method '{method.name}' fits its noise within one.",
            hint=f"Use `norm={method.default_norm}`.",
        )


def usual_eps(parts: Parts, channels: int, size: int) -> str:
    """The method's published bound under its own norm, else what is usual for the norm."""
    if parts.preset_eps is not None and parts.norm.name == parts.method.default_norm:
        return parts.preset_eps
    own = parts.method.usual_eps(channels, size) if parts.norm.name == parts.method.default_norm else None
    return own or parts.norm.usual(channels, size)

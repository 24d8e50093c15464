"""What is registered: loads plugins through the hooks, finds by name, knows who brought what, reads options."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import os
import pkgutil
import types
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, TypeVar, cast

import pluggy

from uexcli import __version__, hookspecs
from uexcli import plugin as api
from uexcli.errors import Terminated, UexError, UsageError, unknown

KINDS: dict[str, type[api.Plugin]] = {
    "method": api.Method,
    "norm": api.Norm,
    "granularity": api.Granularity,
    "surrogate": api.Surrogate,
    "dataset": api.Dataset,
    "countermeasure": api.Countermeasure,
    "target": api.Target,
}
PLURALS = {kind: "granularities" if kind == "granularity" else f"{kind}s" for kind in KINDS}
ENTRY_POINTS = "uex"
P = TypeVar("P", bound=api.Plugin)


@dataclass(frozen=True)
class Entry:
    """One registered class and who brought it."""

    kind: str
    cls: type[api.Plugin]
    plugin: str
    version: str

    @property
    def provenance(self) -> str:
        """The plugin and its version, as written in noise files."""
        return f"{self.plugin} {self.version}"


@dataclass(frozen=True)
class Broken:
    """A plugin that could not be loaded, and why."""

    plugin: str
    reason: str


@dataclass
class Registry:
    """All registered classes, by kind and name."""

    entries: dict[str, dict[str, Entry]] = field(default_factory=lambda: {kind: {} for kind in KINDS})
    aliases: dict[str, dict[str, str]] = field(default_factory=lambda: {kind: {} for kind in KINDS})
    broken: list[Broken] = field(default_factory=list)

    def add(self, module: object, plugin: str, version: str) -> None:
        """Register everything a plugin module's hooks return.

        Raises:
            UexError: a hook no one knows, a class that is none of the kind's, or a name that is taken.
        """
        manager = pluggy.PluginManager(hookspecs.PROJECT)
        manager.add_hookspecs(hookspecs)
        manager.register(module, name=plugin)
        try:
            manager.check_pending()
        except pluggy.PluginValidationError as error:
            known = ", ".join(f"uex_{plural}" for plural in PLURALS.values())
            raise UexError(f"plugin '{plugin}': {error}.", hint=f"The hooks are {known}.") from None
        for kind, plural in PLURALS.items():
            for classes in getattr(manager.hook, f"uex_{plural}")():
                for cls in classes:
                    self._add(Entry(kind, cls, plugin, version))

    def _add(self, entry: Entry) -> None:
        self._check(entry.kind, entry.cls, entry.plugin)
        kind, cls = entry.kind, entry.cls
        for name in (cls.name, *cls.aliases):
            if (other := self._entry(kind, name)) is not None:
                raise UexError(
                    f"two plugins bring a {kind} called '{name}': '{other.plugin}' and '{entry.plugin}'.",
                    hint="Uninstall one, or hide it with UEX_PLUGINS.",
                )
        self.entries[kind][cls.name] = entry
        self.aliases[kind].update(dict.fromkeys(cls.aliases, cls.name))

    @staticmethod
    def _check(kind: str, cls: Any, plugin: str) -> None:
        """Refuse what a hook should not have returned."""
        if not (inspect.isclass(cls) and issubclass(cls, KINDS[kind])) or inspect.isabstract(cls):
            raise UexError(f"plugin '{plugin}': {cls!r} is no complete uexcli.plugin.{KINDS[kind].__name__}.")
        if not cls.name or not cls.summary or not dataclasses.is_dataclass(cls):
            raise UexError(f"plugin '{plugin}': {cls.__name__} must be a frozen dataclass with name and summary.")

    def _entry(self, kind: str, name: str) -> Entry | None:
        return self.entries[kind].get(self.aliases[kind].get(name, name))

    def note(self, broken: Broken) -> None:
        """Remember a broken plugin, once."""
        if broken not in self.broken:
            self.broken.append(broken)

    def names(self, kind: str) -> list[str]:
        """The names of a kind, aliases left out, sorted."""
        return sorted(self.entries[kind])

    def find(self, kind: str, name: str) -> Entry:
        """Find a class by name or alias.

        Raises:
            UsageError: there is none; says the known ones and the nearest.
        """
        entry = self._entry(kind, name)
        if entry is None:
            raise unknown(kind, name, [*self.entries[kind], *self.aliases[kind]])
        return entry

    def make(self, base: type[P], kind: str, spec: str, given: Mapping[str, Any] | None = None) -> P:
        """Make an instance from `name` or `name:value,key=value`; see `read`. `given` are options it goes before."""
        cls, written = self.read(kind, spec)
        return cast(P, build(cls, {**(given or {}), **written}, f"{kind} '{spec}'"))

    def read(self, kind: str, spec: str) -> tuple[type[api.Plugin], dict[str, Any]]:
        """Read `name` or `name:value,value,key=value`: values in the order of its options, then options by name.

        Raises:
            UsageError: there is no such thing, or it has no such option.
        """
        name, _, arguments = spec.partition(":")
        cls = self.find(kind, name).cls
        fields = options_of(cls)
        values = arguments.split(",") if arguments else []
        where = f"{kind} '{spec}'"
        if len(values) > len(fields):
            raise UsageError(f"{where}: it takes {len(fields)} value(s): {', '.join(fields) or 'none'}.")
        given: dict[str, Any] = {}
        for key, value in zip(fields, values, strict=False):
            named, equals, rest = value.partition("=")
            if equals and named in fields:
                if named in given:
                    raise UsageError(f"{where}: {named} is there twice.")
                given[named] = convert(rest, fields[named], where)
            elif any("=" in before and before.partition("=")[0] in fields for before in values[: len(given)]):
                raise UsageError(f"{where}: '{value}' comes after options by name.", hint="Name all that follow, too.")
            else:
                given[key] = convert(value, fields[key], where)
        return cls, given


def options_of(cls: type[api.Plugin]) -> dict[str, dataclasses.Field[Any]]:
    """The options of a plugin class: its dataclass fields."""
    return {item.name: item for item in dataclasses.fields(cls)}  # type: ignore[arg-type]


def convert(text: str, item: dataclasses.Field[Any], where: str) -> Any:
    """Read an option's text as the type its field declares.

    Raises:
        UsageError: it is no such value.
    """
    kind = (item.type if isinstance(item.type, str) else getattr(item.type, "__name__", str(item.type))).replace(
        " ", ""
    )
    if kind.endswith("|None") and text.lower() in {"none", "auto"}:
        return None
    try:
        match kind.removesuffix("|None"):
            case "bool":
                return {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}[text.lower()]
            case "int":
                return int(text)
            case "float":
                return float(text)
            case "str":
                return text
    except (ValueError, KeyError):
        pass
    raise UsageError(f"{where}: {item.name}={text} is no {kind}.", hint=item.metadata.get("help", ""))


def build(cls: type[api.Plugin], options: Mapping[str, Any], where: str) -> api.Plugin:
    """Make an instance; a plugin says in `__post_init__`, by ValueError, which values it cannot take."""
    try:
        return cls(**options)
    except ValueError as error:
        raise UsageError(f"{where}: {error}") from None


def remake(cls: type[api.Plugin], options: Mapping[str, Any]) -> api.Plugin:
    """Make an instance again, from the options that a file says it had.

    Raises:
        ValueError: it has no such option, or the option no such value.
    """
    fields = options_of(cls)
    for key, value in options.items():
        if key not in fields or not _is_of(value, fields[key]):
            raise ValueError(f"{cls.name} takes no {key} of this kind")
    try:
        return cls(**options)
    except (TypeError, ArithmeticError) as error:  # an option is missing; a number is too large to reckon with
        raise ValueError(str(error)) from None


def _is_of(value: object, item: dataclasses.Field[Any]) -> bool:
    """Whether a value is of the type that its field declares, as `convert` reads it."""
    kind = str(getattr(item.type, "__name__", item.type) if not isinstance(item.type, str) else item.type)
    if value is None:
        return item.default is None or "None" in kind
    known = {"bool": (bool,), "int": (int,), "float": (int, float), "str": (str,)}.get(kind.partition(" ")[0])
    return known is None or (isinstance(value, known) and isinstance(value, bool) == (known == (bool,)))


def configure(parts: Iterable[type[api.Plugin]], given: Mapping[str, str]) -> list[api.Plugin]:
    """Make one instance of each class, sharing out `-O key=value` options by field name.

    Raises:
        UsageError: a key that no part has; lists those there are.
    """
    parts = list(parts)
    known = {key: item for cls in parts for key, item in options_of(cls).items()}
    for key in given:
        if key not in known:
            raise unknown("option", key, known)
    instances = []
    for cls in parts:
        values = {k: convert(given[k], item, f"`options[{k}]`") for k, item in options_of(cls).items() if k in given}
        instances.append(build(cls, values, f"{cls.name}"))
    return instances


def describe(plugin: api.Plugin, entry: Entry) -> dict[str, Any]:
    """What a recipe keeps of a part: name, options, and the plugin and version it came from."""
    return {
        "name": plugin.name,
        "options": {key: getattr(plugin, key) for key in options_of(type(plugin))},
        "from": entry.provenance,
    }


def builtin_modules() -> list[types.ModuleType]:
    """Import every module of `uexcli.builtin`, found by scanning; modules with a leading underscore are helpers."""
    from uexcli import builtin

    found = pkgutil.walk_packages(builtin.__path__, f"{builtin.__name__}.")
    names = [item.name for item in found if not item.ispkg and not item.name.rpartition(".")[2].startswith("_")]
    return [importlib.import_module(name) for name in names]


@cache
def load() -> Registry:
    """Load the built-ins, then every plugin with an entry point of the group `uex`.

    `UEX_PLUGINS` limits which plugins are loaded: a comma-separated list of names, empty for none.
    """
    from importlib.metadata import entry_points

    registry = Registry()
    for module in builtin_modules():
        registry.add(module, "uexcli", __version__)
    allowed = os.environ.get("UEX_PLUGINS")
    for point in sorted(entry_points(group=ENTRY_POINTS), key=lambda point: point.name):
        if allowed is not None and point.name not in allowed.replace(" ", "").split(","):
            continue
        dist = point.dist
        name = point.name if dist is None or dist.name == "uexcli" else dist.name
        try:
            registry.add(point.load(), name, dist.version if dist is not None else "unknown")
        except (UexError, KeyboardInterrupt, Terminated):
            raise
        except BaseException as error:  # a stranger's code may fail in any way, and must not take uex with it
            registry.broken.append(Broken(point.name, f"{type(error).__name__}: {error}"))
    return registry

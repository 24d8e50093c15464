"""Plugins: clashes, misspelt hooks, broken modules, options."""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import ClassVar

import pytest
from conftest import Ran

from uexcli import plugin as api
from uexcli import registry
from uexcli.errors import UexError, UsageError

LINF = registry.load().find("norm", "linf").cls


@dataclasses.dataclass(frozen=True)
class Other(LINF):  # type: ignore[misc, valid-type]
    name: ClassVar[str] = "other"
    aliases: ClassVar[tuple[str, ...]] = ("another",)

    factor: float = api.option(2.0, "a number")
    times: int | None = api.option(None, "a count")
    loud: bool = api.option(False, "a switch")


def plugin(**hooks: list[type]) -> types.ModuleType:
    """A module whose hooks return these classes."""
    module = types.ModuleType("stranger")
    for name, classes in hooks.items():

        def implementation(classes: list[type] = classes) -> list[type]:
            return classes

        implementation.__name__ = name
        module.__dict__[name] = api.hookimpl(lambda classes=classes: classes)
    return module


def test_what_a_plugin_brings_is_found_by_name_and_alias() -> None:
    fresh = registry.Registry()
    fresh.add(plugin(uex_norms=[Other]), "stranger", "9")
    assert fresh.find("norm", "other").cls is Other
    assert fresh.find("norm", "another").provenance == "stranger 9"


@pytest.mark.parametrize("taken", ["other", "another"])
def test_a_name_clash_names_both_plugins(taken: str) -> None:
    clash = dataclasses.dataclass(frozen=True)(type("Clash", (LINF,), {"name": taken, "aliases": ()}))
    fresh = registry.Registry()
    fresh.add(plugin(uex_norms=[Other]), "first", "1")
    with pytest.raises(UexError, match=f"'{taken}': 'first' and 'second'"):
        fresh.add(plugin(uex_norms=[clash]), "second", "1")


def test_a_misspelt_hook_is_an_error_that_lists_the_hooks() -> None:
    with pytest.raises(UexError, match=r"uex_norm.*uex_norms, uex_granularities"):
        registry.Registry().add(plugin(uex_norm=[Other]), "stranger", "1")


@pytest.mark.parametrize(
    "wrong",
    [
        Other(),
        registry.load().find("method", "em").cls,
        dataclasses.dataclass(frozen=True)(type("NoName", (LINF,), {"name": ""})),
        api.Norm,
    ],
    ids=["an instance", "of another kind", "without a name", "abstract"],
)
def test_what_is_no_plugin_class_is_refused(wrong: type) -> None:
    with pytest.raises(UexError, match="plugin 'stranger'"):
        registry.Registry().add(plugin(uex_norms=[wrong]), "stranger", "1")


def test_a_plugin_that_fails_to_import_is_shown_as_broken_and_the_rest_works(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, uex: Callable[..., Ran], photos: Path
) -> None:
    (tmp_path / "uex_rotten.py").write_text("import does_not_exist\n")
    monkeypatch.syspath_prepend(tmp_path)
    rotten = EntryPoint("rotten", "uex_rotten", "uex")
    monkeypatch.setattr("importlib.metadata.entry_points", lambda **_: [rotten])
    registry.load.cache_clear()
    try:
        listed = uex("plugins")
        assert listed.code == 1
        assert "plugin 'rotten' is broken: ModuleNotFoundError" in listed.err
        assert "linf" in listed.out
        assert uex("plugins", "--json").json["broken"][0]["plugin"] == "rotten"
        assert uex("fit", photos, "--method", "random").code == 0
    finally:
        registry.load.cache_clear()


def test_options_are_read_as_the_types_their_fields_declare() -> None:
    (made,) = registry.configure([Other], {"factor": "0.5", "times": "3", "loud": "yes"})
    assert made == Other(factor=0.5, times=3, loud=True)
    assert registry.configure([Other], {"times": "auto"}) == [Other()]


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"factr": "1"}, "unknown option 'factr'.*Did you mean 'factor'"),
        ({"times": "1.5"}, "times=1.5 is no int"),
        ({"loud": "maybe"}, "loud=maybe is no bool"),
    ],
)
def test_wrong_options_are_told(given: dict[str, str], complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        registry.configure([Other], given)


def test_a_spec_gives_options_in_order() -> None:
    jpeg = registry.load().make(api.Countermeasure, "countermeasure", "jpeg:35")  # type: ignore[type-abstract]
    assert dataclasses.asdict(jpeg) == {"quality": 35}  # type: ignore[call-overload]
    for spec, complaint in (("jpeg:0", "not within 1 to 95"), ("jpeg:10,2", "takes 1 value"), ("jpeg:x", "no int")):
        with pytest.raises(UsageError, match=complaint):
            registry.load().make(api.Countermeasure, "countermeasure", spec)  # type: ignore[type-abstract]

"""`uex plugins`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from uexcli.cli import options as opt
from uexcli.cli.grid import Grid, Styled
from uexcli.cli.screen import Screen, command
from uexcli.errors import Exit, unknown

if TYPE_CHECKING:
    from uexcli.plugin import Granularity, Method, Plugin

IMAGES = 50_000
SHARED = 10  # noises, for methods that know no others


@command
def plugins(
    kind: Annotated[
        str | None, typer.Option(help="Only this kind: method, norm, granularity, ...", show_default=False)
    ] = None,
    json: opt.Json = False,
) -> None:
    """List everything that is registered, with its options and where it came from; methods side by side."""
    from uexcli.registry import KINDS, load, options_of

    if kind is not None and kind not in KINDS:
        raise unknown("kind", kind, KINDS)
    registry = load()
    kinds = [kind] if kind else list(KINDS)
    listed: list[dict[str, Any]] = [
        {
            "kind": each,
            "name": name,
            "aliases": list(entry.cls.aliases),
            "summary": entry.cls.summary,
            "paper": entry.cls.paper,
            "plugin": entry.plugin,
            "version": entry.version,
            **_traits(entry.cls),
            "options": [
                {"name": key, "type": str(item.type), "default": item.default, "help": item.metadata.get("help", "")}
                for key, item in options_of(entry.cls).items()
            ],
        }
        for each in kinds
        for name, entry in sorted(registry.entries[each].items())
    ]
    broken = [{"plugin": item.plugin, "reason": item.reason} for item in registry.broken]
    screen = Screen(as_json=json)
    if json:
        screen.result("uex.plugins/1", {"plugins": listed, "broken": broken})
    else:
        shown = _methods(listed) if kind == "method" else _everything(kinds, listed)
        screen.result("uex.plugins/1", {}, shown)
    if broken:
        raise typer.Exit(Exit.FAILED)


def _everything(kinds: Sequence[str], listed: Sequence[dict[str, Any]]) -> Grid:
    """All plugins, with summary, options and where they came from."""
    from uexcli.registry import PLURALS

    shown = Grid(head=False, collapse=True)
    shown.column(wrap=False)
    shown.column(ratio=1)
    shown.column(wrap=False, style="dim")
    for each in kinds:
        shown.row(Styled(PLURALS[each], "bold"))
        for row in (row for row in listed if row["kind"] == each):
            shown.row(f"  {row['name']}", _words(row), f"{row['plugin']} {row['version']}")
    return shown


def _methods(listed: Sequence[dict[str, Any]]) -> Grid:
    """The methods side by side."""
    shown = Grid(
        caption=[
            "new images: yes, or if images share a noise (--mode classwise, clusterwise). "
            "cost: passes through the surrogate for 50,000 images, those of em = 1; no surrogate: seconds, or minutes.",
            "Options: uex plugins.",
        ]
    )
    for name in ("method", "norm", "surrogate", "new images"):
        shown.column(name, wrap=False)
    shown.column("cost", wrap=False, justify="right")
    shown.column("what, and by whom", ratio=1)
    for row in listed:
        names = [row["name"], *(Styled(alias, "dim") for alias in row["aliases"])]
        surrogate = "yes" if row["needs_surrogate"] else "no"
        words = [row["summary"], Styled(row["paper"], "dim")]
        shown.row(names, row["norm"], surrogate, row["new_images"], _cost(row["cost"]), words)
    return shown


def _cost(cost: float | None) -> str:
    return "seconds" if cost is None else f"{cost:.2g}" if cost < 10 else f"{cost:,.0f}"


def _traits(cls: type[Plugin]) -> dict[str, Any]:
    """What else there is to say of a method, or of a granularity."""
    from uexcli.plugin import Granularity, Method

    if issubclass(cls, Granularity):
        return {"undone_by": list(cls.undone_by)}
    if not issubclass(cls, Method):
        return {}
    always = bool(cls.modes) and _shares_without_labels(cls.modes[0])
    never = bool(cls.modes) and not any(_can_assign(mode) for mode in cls.modes)
    return {
        "norm": cls.default_norm,
        "needs_surrogate": cls.needs_surrogate,
        "new_images": "yes" if always else "no" if never else "if shared",
        "presets": list(cls.presets),
        "undone_by": list(cls.undone_by),
        "cost": _relative_cost(cls) if cls.needs_surrogate else None,
    }


def _shares_without_labels(mode: str) -> bool:
    """Whether a mode gives noise to photos that come later, whatever they show."""
    found = _can_assign(mode)
    return found is not None and not found.needs_labels


def _can_assign(mode: str) -> type[Granularity] | None:
    """Give the granularity of this name, if it gives noise to photos that come later."""
    from uexcli.plugin import Granularity
    from uexcli.registry import load

    entry = load().entries["granularity"].get(mode)
    cls = None if entry is None else entry.cls
    return cls if cls is not None and issubclass(cls, Granularity) and cls.can_assign else None


def _relative_cost(cls: type[Method]) -> float:
    """Passes of a fit of 50,000 images, sample-wise where it can be, over those of em."""
    from uexcli.registry import load

    em = load().find("method", "em").cls()
    own = not cls.modes or "samplewise" in cls.modes
    pairs = ((cls(), IMAGES if own else SHARED), (em, IMAGES))
    work = [method.work(IMAGES, rows=rows).expected for method, rows in pairs]  # type: ignore[attr-defined]
    return float(work[0] / work[1])


def _words(row: dict[str, Any]) -> list[str | Styled]:
    """The summary, other names and options of a plugin."""
    lines: list[str | Styled] = [row["summary"]]
    if row["aliases"]:
        lines.append(Styled(f"also called {', '.join(row['aliases'])}", "dim"))
    if row.get("undone_by"):
        lines.append(Styled(f"who knows of it undoes it by {', '.join(row['undone_by'])}", "dim"))
    if row["options"]:
        lines.append(Styled(f"-O {' '.join(option['name'] for option in row['options'])}", "dim"))
    return lines

"""`uex plugins`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from uexcli.cli import options as opt
from uexcli.cli.screen import Screen, command
from uexcli.errors import Exit, unknown


@command
def plugins(
    kind: Annotated[
        str | None, typer.Option(help="Only this kind: method, norm, granularity, ...", show_default=False)
    ] = None,
    json: opt.Json = False,
) -> None:
    """List everything that is registered, with its options and where it came from."""
    from uexcli.registry import KINDS, PLURALS, load, options_of

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
        from rich.table import Table

        shown = Table(box=None, pad_edge=False, show_header=False, collapse_padding=True)
        shown.add_column(no_wrap=True)
        shown.add_column(ratio=1)
        shown.add_column(no_wrap=True, style="dim")
        for each in kinds:
            shown.add_row(f"[bold]{PLURALS[each]}[/bold]")
            for row in (row for row in listed if row["kind"] == each):
                shown.add_row(f"  {row['name']}", _words(row), f"{row['plugin']} {row['version']}")
        screen.result("uex.plugins/1", {}, shown)
    if broken:
        raise typer.Exit(Exit.FAILED)


def _words(row: dict[str, Any]) -> str:
    """The summary, other names and options of a plugin."""
    lines = [row["summary"]]
    if row["aliases"]:
        lines.append(f"[dim]also called {', '.join(row['aliases'])}[/dim]")
    if row["options"]:
        lines.append(f"[dim]-O {' '.join(option['name'] for option in row['options'])}[/dim]")
    return "\n".join(lines)

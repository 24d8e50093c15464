"""`uex plugins`."""

from __future__ import annotations

from typing import Annotated

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
    listed = [
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

        shown = Table(box=None, pad_edge=False)
        for column in ("kind", "name", "what it is", "options", "from"):
            shown.add_column(column, overflow="fold")
        for row in listed:
            names = " ".join(str(item["name"]) for item in row["options"])  # type: ignore[index]
            aliases = f" ({', '.join(row['aliases'])})" if row["aliases"] else ""  # type: ignore[arg-type]
            shown.add_row(
                str(row["kind"]),
                f"{row['name']}{aliases}",
                str(row["summary"]),
                names,
                f"{row['plugin']} {row['version']}",
            )
        screen.result("uex.plugins/1", {}, shown, f"Hooks: {', '.join('uex_' + plural for plural in PLURALS.values())}")
    if broken:
        raise typer.Exit(Exit.FAILED)

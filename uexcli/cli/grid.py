"""Tables for people: whatever stands in a cell is text, never markup, and every line of it is shown on one line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from uexcli.wording import visible

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text


class Styled(NamedTuple):
    """A line of a cell in a style of rich, such as `dim`."""

    text: str
    style: str


Cell = str | Styled | Sequence[str | Styled]  # a line, or several below each other


class Grid:
    """A table that is filled row by row; `lines`: what is drawn, `title` and `caption`: lines above and below it."""

    def __init__(
        self,
        *,
        title: str = "",
        caption: Sequence[str] = (),
        lines: Literal["none", "head", "all"] = "none",
        head: bool = True,
        collapse: bool = False,
    ) -> None:
        self._title = title
        self._caption = caption
        self._lines = lines
        self._head = head
        self._collapse = collapse
        self._columns: list[tuple[str, dict[str, Any]]] = []
        self._rows: list[tuple[tuple[Cell, ...], bool]] = []

    def column(
        self,
        name: str = "",
        *,
        justify: Literal["left", "right"] = "left",
        style: str | None = None,
        wrap: bool = True,
        ratio: int | None = None,
    ) -> None:
        """Add a column; without `wrap` its cells stay on one line."""
        self._columns.append((name, {"justify": justify, "style": style, "no_wrap": not wrap, "ratio": ratio}))

    def row(self, *cells: Cell, ends: bool = False) -> None:
        """Add a row, a cell for each of its columns from the left; `ends`: a line follows it."""
        self._rows.append((cells, ends))

    def rendered(self) -> Table:
        """What rich prints."""
        from rich import box
        from rich.table import Table

        table = Table(
            title=_text([self._title]) if self._title else None,
            title_justify="left",
            caption=_text(self._caption) if self._caption else None,
            caption_justify="left",
            box={"none": None, "head": box.SIMPLE_HEAD, "all": box.HEAVY_HEAD}[self._lines],
            pad_edge=self._lines == "all" or not (self._head or self._collapse),
            show_header=self._head,
            collapse_padding=self._collapse,
        )
        for name, shape in self._columns:
            table.add_column(_text([name]), overflow="fold", **shape)
        for cells, ends in self._rows:
            table.add_row(*map(_text, cells), end_section=ends)
        return table


def _text(cell: Cell) -> Text:
    from rich.text import Text

    lines = [cell] if isinstance(cell, (str, Styled)) else list(cell)
    shown = [
        Text(visible(line.text), line.style) if isinstance(line, Styled) else Text(visible(line)) for line in lines
    ]
    return Text("\n").join(shown)

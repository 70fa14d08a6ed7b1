"""Tables that leave out columns on a narrow terminal, the least important first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.segment import Segment
from rich.style import Style, StyleType
from rich.table import Table
from rich.text import Text

Cells = Sequence[str | Text]

FEW_WORDS = 16
"""Characters in which a cell that may be folded or cut can still be read."""
GAP = 2
"""Spaces between columns."""
NARROW = 100
"""Columns of a terminal from which on nothing is left out: cells fold or are cut instead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column; `rank` 0 is never left out, the highest goes first."""

    name: str
    rank: int = 0
    right: bool = False
    whole: bool = True
    """Its cells stay on one line, uncut, as figures and states must to be read."""
    cut: bool = False
    """Its cells, where they are not whole, are cut to one line and not folded."""


@dataclass(frozen=True, slots=True)
class FittedTable:
    """Rows under columns, as many of them as there is room for."""

    columns: Sequence[Column]
    rows: Sequence[Cells]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The widest table that keeps its columns readable."""
        longest = [self._longest(number) for number in range(len(self.columns))]
        least = [
            most if column.whole else min(most, max(FEW_WORDS, cell_len(column.name)))
            for column, most in zip(self.columns, longest, strict=True)
        ]
        shown = list(range(len(self.columns)))
        room = options.max_width
        while room < NARROW and _taken(shown, least) > room:
            last = max(shown, key=lambda n: (self.columns[n].rank, n))
            if self.columns[last].rank == 0:
                break
            shown.remove(last)
        widths = dict(zip(shown, (least[n] for n in shown), strict=True))
        spare = room - _taken(shown, least)
        for number in shown:
            more = max(min(spare, longest[number] - widths[number]), 0)
            widths[number] += more
            spare -= more
        if _taken(shown, least) > room:
            yield self._table(widths, self.rows)  # Rich makes of it what it can
            return
        yield from self._lines(console, widths)

    def _lines(self, console: Console, widths: Mapping[int, int]) -> RenderResult:
        """Header and rows, each in one line where its cells fit: Rich takes 0.3 ms for a row."""
        styles: dict[StyleType, Style] = {}
        head = [Text(column.name, style="dim") for column in self.columns]
        for row in (head, *self.rows):
            cells = [Text(cell) if isinstance(cell, str) else cell for cell in row]
            if not all(self._fits(n, cells[n].plain, width) for n, width in widths.items()):
                yield self._table(widths, [row], header=False)
                continue
            for place, (number, width) in enumerate(widths.items()):
                if place:
                    yield Segment(" " * GAP)
                yield from self._cell(console, cells[number], number, width, styles)
            yield Segment.line()

    def _fits(self, number: int, plain: str, width: int) -> bool:
        column = self.columns[number]
        return "\n" not in plain and (column.cut or cell_len(plain) <= width)

    def _cell(
        self,
        console: Console,
        text: Text,
        number: int,
        width: int,
        styles: dict[StyleType, Style],
    ) -> RenderResult:
        spare = width - cell_len(text.plain)
        if spare < 0:
            text = text.copy()
            text.truncate(width, overflow="ellipsis")
            spare = width - cell_len(text.plain)
        right = self.columns[number].right
        if right and spare:
            yield Segment(" " * spare)
        if text.spans:
            yield from text.render(console)
        elif text.plain:
            if text.style not in styles:
                styles[text.style] = console.get_style(text.style)
            yield Segment(text.plain, styles[text.style])
        if not right and spare:
            yield Segment(" " * spare)

    def _longest(self, number: int) -> int:
        cells = (cell_len(str(row[number])) for row in self.rows)
        return max(cell_len(self.columns[number].name), max(cells, default=0))

    def _table(
        self, widths: Mapping[int, int], rows: Sequence[Cells], *, header: bool = True
    ) -> Table:
        table = Table(box=None, header_style="dim", pad_edge=False, show_header=header)
        for number, width in widths.items():
            column = self.columns[number]
            table.add_column(
                column.name,
                justify="right" if column.right else "left",
                no_wrap=column.whole or column.cut,
                overflow="ellipsis" if column.cut else "fold",
                width=width,
            )
        for row in rows:
            table.add_row(*(row[number] for number in widths))
        return table


def _taken(shown: Sequence[int], widths: Sequence[int]) -> int:
    return sum(widths[number] + GAP for number in shown) - GAP

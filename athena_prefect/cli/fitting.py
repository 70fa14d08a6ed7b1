"""Tables that leave out columns on a narrow terminal, the least important first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

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
    rows: Sequence[Sequence[str | Text]]

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
        yield self._table(widths)

    def _longest(self, number: int) -> int:
        cells = (cell_len(str(row[number])) for row in self.rows)
        return max(cell_len(self.columns[number].name), max(cells, default=0))

    def _table(self, widths: Mapping[int, int]) -> Table:
        table = Table(box=None, header_style="dim", pad_edge=False)
        for number, width in widths.items():
            column = self.columns[number]
            table.add_column(
                column.name,
                justify="right" if column.right else "left",
                no_wrap=column.whole or column.cut,
                overflow="ellipsis" if column.cut else "fold",
                width=width,
            )
        for row in self.rows:
            table.add_row(*(row[number] for number in widths))
        return table


def _taken(shown: Sequence[int], widths: Sequence[int]) -> int:
    return sum(widths[number] + GAP for number in shown) - GAP

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
        plain = [[_plain(cell) for cell in row] for row in self.rows]
        lengths = [[cell_len(text) for text in row] for row in plain]
        longest = [
            max(cell_len(column.name), max((row[n] for row in lengths), default=0))
            for n, column in enumerate(self.columns)
        ]
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
        yield from self._lines(console, widths, plain, lengths)

    def _lines(
        self,
        console: Console,
        widths: Mapping[int, int],
        plain: Sequence[Sequence[str]],
        lengths: Sequence[Sequence[int]],
    ) -> RenderResult:
        """Header and rows, each in one line where its cells fit: Rich takes 0.3 ms for a row."""
        line = _Line(console)
        names = [column.name for column in self.columns]
        head = [Text(name, style="dim") for name in names]
        said, sizes = [names, *plain], [[cell_len(name) for name in names], *lengths]
        for row, texts, taken in zip((head, *self.rows), said, sizes, strict=True):
            if not all(self._fits(n, texts[n], taken[n], width) for n, width in widths.items()):
                yield self._table(widths, [row], header=False)
                continue
            for number, width in widths.items():
                line.add(
                    row[number], texts[number], width - taken[number],
                    right=self.columns[number].right,
                )  # fmt: skip
            yield from line.ended()

    def _fits(self, number: int, plain: str, length: int, width: int) -> bool:
        return "\n" not in plain and (length <= width or self.columns[number].cut)

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
            cells = (row[number] for number in widths)
            table.add_row(*(Text(cell) if isinstance(cell, str) else cell for cell in cells))
        return table


class _Line:
    """A line of a table being written: what has no style is one piece with what is beside it."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.colours = console.color_system is not None
        self.styles: dict[StyleType, Style] = {}
        self.pieces: list[Segment] = []
        self.text = ""
        """What is to come without a style."""
        self.begun = False

    def add(self, cell: str | Text, plain: str, spare: int, *, right: bool) -> None:
        """A cell with `spare` columns to fill; where they are less than 0, so many are cut."""
        if self.begun:
            self.text += " " * GAP
        self.begun = True
        if spare < 0:
            cell = Text(plain) if isinstance(cell, str) else cell.copy()
            width = cell_len(plain) + spare
            cell.truncate(width, overflow="ellipsis")
            plain = cell.plain
            spare = width - cell_len(plain)
        if right:
            self.text += " " * spare
        if isinstance(cell, str) or not self.colours:
            self.text += plain
        elif cell.spans:
            self._write()
            self.pieces += cell.render(self.console)
        else:
            self._styled(plain, cell.style)
        if not right:
            self.text += " " * spare

    def _styled(self, plain: str, named: StyleType) -> None:
        if named not in self.styles:
            self.styles[named] = self.console.get_style(named)
        style = self.styles[named]
        if style and plain:
            self._write()
            self.pieces.append(Segment(plain, style))
        else:
            self.text += plain

    def _write(self) -> None:
        if self.text:
            self.pieces.append(Segment(self.text))
            self.text = ""

    def ended(self) -> Sequence[Segment]:
        """The line."""
        self.text += "\n"
        self._write()
        pieces, self.pieces, self.begun = self.pieces, [], False
        return pieces


def _plain(cell: str | Text) -> str:
    return cell if isinstance(cell, str) else cell.plain


def _taken(shown: Sequence[int], widths: Sequence[int]) -> int:
    return sum(widths[number] + GAP for number in shown) - GAP

"""Tables on terminals of every width."""

from __future__ import annotations

import io

import pytest
from rich.console import Console
from rich.text import Text

from athena_prefect.cli.fitting import Column, FittedTable

TABLE = FittedTable(
    (
        Column(name="task", whole=False),
        Column(name="took", right=True),
        Column(name="finish", right=True, rank=1),
        Column(name="after", whole=False, cut=True, rank=2),
    ),
    [
        (Text("extract"), "1.5s", "2.5s", ""),
        (Text("a_task_with_a_rather_long_name"), "12m 30s", "1h", "extract, " * 10),
    ],
)


def lines(width: int) -> list[str]:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(TABLE)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


@pytest.mark.parametrize("width", [30, 40, 60, 80, 100, 140, 200])
def test_what_matters_most_is_whole_at_every_width(width: int) -> None:
    found = lines(width)
    assert found[0].split()[:2] == ["task", "took"]
    assert "extract" in found[1]
    assert "12m 30s" in found[2] and "1.5s" in found[1]
    assert all(len(line) <= width for line in found)


def test_columns_go_by_rank() -> None:
    assert "after" not in lines(40)[0] and "finish" in lines(40)[0]
    assert "finish" not in lines(27)[0]
    assert "after" in lines(60)[0]


def test_a_wide_terminal_shows_all_uncut() -> None:
    assert len(lines(200)) == 3
    assert "a_task_with_a_rather_long_name" in lines(200)[2]
    assert "…" not in lines(200)[2]


@pytest.mark.parametrize("width", [30, 60, 80, 140])
def test_a_row_in_one_line_is_what_rich_makes_of_it(width: int) -> None:
    columns = (
        Column(name="task", whole=False),
        Column(name="took", right=True),
        Column(name="after", whole=False, cut=True, rank=2),
        Column(name="notes", whole=False),
    )
    rows = [
        (Text("naïve_日本", style="bold"), f"{10**k} s", "extract, " * k, "a word, " * (k % 3))
        for k in range(6)
    ]
    rows.append((Text("two"), "1 s", "", "lines\nin one"))
    table = FittedTable(columns, rows)
    console = Console(width=width, color_system=None)
    with console.capture() as fast:
        console.print(table)
    with console.capture() as slow, pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            FittedTable, "_lines", lambda self, _, widths, *__: [self._table(widths, rows)]
        )
        console.print(table)
    assert fast.get() == slow.get()


def test_text_is_no_markup_whatever_the_row() -> None:
    columns = (Column(name="task", whole=False), Column(name="notes", whole=False))
    rows = [("[bold]a[/bold]", "[x]"), ("[red]" + "long " * 30, "two\n[lines]")]
    console = Console(width=60, color_system="truecolor", force_terminal=True)
    with console.capture() as captured:
        console.print(FittedTable(columns, rows))
    assert all(word in captured.get() for word in ("[bold]a[/bold]", "[x]", "[red]", "[lines]"))

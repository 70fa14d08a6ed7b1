"""The line of what could start: order, what is new in it, how much of a task is under way."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from athena_prefect.journal.state import Item
from athena_prefect.runtime.line import Line

NOW = datetime(2026, 1, 5, 8, tzinfo=UTC)
RANK = {"late": (9.0, 0), "soon": (1.0, 1), "mapped": (1.0, 2)}


def test_the_most_critical_is_first_and_items_of_a_task_in_their_order() -> None:
    line = Line(RANK.__getitem__)
    drawn: list[Item] = [("mapped", 1), ("late", None), ("mapped", 0), ("soon", None)]
    for item in drawn:
        line.join(item, NOW)
    assert list(line) == [("soon", None), ("mapped", 0), ("mapped", 1), ("late", None)]
    assert line.of("mapped") == [("mapped", 1), ("mapped", 0)]
    for item in line:  # what leaves meanwhile disturbs nothing
        assert line.leave(item) == NOW
    assert not list(line) and not line.ready and not line.busy("mapped")


def test_what_waits_is_new_once_and_again_when_it_comes_back() -> None:
    line = Line(RANK.__getitem__)
    line.join(("soon", None), NOW)
    assert line.new() == [(("soon", None), NOW)]
    assert line.new() == []
    line.leave(("soon", None))
    again = NOW + timedelta(seconds=5)
    line.join(("soon", None), again)
    assert line.new() == [(("soon", None), again)] and line.under_way["soon"] == 1

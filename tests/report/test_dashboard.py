"""What a dashboard says: the figures that were read, what is late first, escaped, of any size."""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID
from xml.etree import ElementTree

import pytest

from athena_prefect.journal.state import ExecutionState, Status
from athena_prefect.monitor.deviation import PlanDeviation
from athena_prefect.plan.model import Plan
from athena_prefect.report.dashboard import (
    MOST_FOCUS,
    MOST_LATE,
    clock,
    done_and_total,
    focused,
    gantt_markdown,
    headline,
    late_rows,
    percent,
    progress_of,
    status_markdown,
    task_table,
)
from athena_prefect.report.view import RunView
from tests.report.runs import RUN, START, half_run, plan_of, view_of
from tests.report.test_report import deviation


@dataclass(frozen=True, kw_only=True)
class Shown:
    """A run's figures, made up."""

    plan: Plan
    view: RunView
    state: ExecutionState
    as_of: datetime
    deviation: PlanDeviation | None = None
    plan_run: UUID = RUN
    word: str = "running"


def shown(count: int, **more: Any) -> Shown:
    plan = plan_of(count)
    state, now = half_run(plan)
    found = deviation(
        deadline=START + timedelta(minutes=30),
        estimated_completion=START + timedelta(minutes=20),
        baseline_finish=START + timedelta(minutes=18),
        quantiles={"p10": START + timedelta(minutes=19), "p90": START + timedelta(minutes=24)},
        basis="from 12 runs, 480 records",
    )
    return replace(
        Shown(plan=plan, view=view_of(count), state=state, as_of=now, deviation=found), **more
    )


def pictures(markdown: str) -> list[ElementTree.Element]:
    found = re.findall(r"data:image/svg\+xml;base64,([A-Za-z0-9+/=]+)", markdown)
    return [ElementTree.fromstring(base64.b64decode(text)) for text in found]


def test_the_status_tells_the_figures_that_were_read() -> None:
    figures = shown(10)
    text = status_markdown(figures, {"Flow run": "/v2/runs/flow-run/1"})
    assert text.startswith(
        "## Running, forecast to finish 2026-03-02 04:20:00 UTC, deadline met with 82 %"
    )
    assert "between 04:19:00 and 04:24:00 in 8 of 10 simulated runs" in text
    assert "| Forecast rests on | 12 runs, 480 records |" in text
    assert "**3 of 10 tasks** (30 %)" in text
    assert "2026-03-02 04:18:00 UTC, 9s late (+15 %)" in text
    assert "| Severity | **medium** |" in text
    assert "[Flow run](/v2/runs/flow-run/1)" in text
    assert str(RUN) in text


def test_without_a_forecast_it_says_why_and_gives_no_number() -> None:
    found = deviation(deadline_probability=None, reason="no duration is known of a")
    text = status_markdown(shown(4, deviation=found))
    assert "Running, no forecast" in text
    assert "unknown: no duration is known of a" in text
    assert "deadline met" not in text
    assert "no forecast" in headline(shown(4, deviation=None))


def test_progress_counts_tasks_once_and_leaves_skipped_ones_out() -> None:
    figures = shown(8, deviation=None)
    rows = (replace(figures.view.rows[0], status=Status.SKIPPED), *figures.view.rows[1:])
    some = replace(figures, view=replace(figures.view, rows=rows))
    good = sum(r.status.good for r in rows)
    assert done_and_total(some) == (good, 7)
    assert progress_of(some) == round(100 * good / 7, 1)
    nothing = replace(figures, view=replace(figures.view, rows=()))
    assert progress_of(nothing) == 0.0


def test_what_failed_is_listed_first_and_no_more_than_can_be_read() -> None:
    figures = shown(60)
    rows = list(figures.view.rows)
    rows[40] = replace(rows[40], status=Status.FAILURE, detail="a | b <script>\nc")
    rows[50] = replace(rows[50], status=Status.BLOCKED)
    figures = replace(figures, view=replace(figures.view, rows=tuple(rows)))
    found = late_rows(figures)
    assert [r.task_id for r in found[:2]] == [rows[40].task_id, rows[50].task_id]
    late = [r.forecast[1] - r.planned[1] for r in found[2:] if r.forecast and r.planned]
    assert late == sorted(late, reverse=True)
    text = status_markdown(figures)
    # One line, in its cell: a table is not broken by what an error says.
    assert "a \\| b &lt;script> c" in text
    listed = [line for line in text.splitlines() if line.startswith("| `step_")]
    assert len(listed) == MOST_LATE
    assert f"… and {len(found) - MOST_LATE} more" in text


def test_the_table_has_every_task_with_its_times() -> None:
    figures = shown(12)
    table = task_table(figures)
    assert [r["task"] for r in table] == [r.task_id for r in figures.view.rows]
    assert len({frozenset(r) for r in table}) == 1, "rows have different columns"
    first = table[0]
    assert first["planned start"] == "04:00:00"
    assert first["status"] == "success"
    assert first["finish"]
    assert all(isinstance(v, str) for r in table for v in r.values())


def test_a_time_of_another_day_has_its_date() -> None:
    """A run that begins before midnight: who reads 00:10 knows which."""
    begun = datetime(2026, 3, 1, 23, 50, tzinfo=UTC)
    assert clock(begun + timedelta(minutes=5), begun) == "23:55:00"
    assert clock(begun + timedelta(minutes=20), begun) == "2026-03-02 00:10:00"
    figures = shown(12)
    midnight = datetime(2026, 3, 1, 23, 59, 59, tzinfo=UTC)
    late = replace(figures, view=replace(figures.view, started=midnight))
    dated = [r for r in task_table(late) if r["planned finish"].startswith("2026-03-02 ")]
    assert dated and task_table(late)[0]["planned start"] == "23:59:59"


@pytest.mark.parametrize("count", [1, 10, 500])
def test_the_picture_is_sound_at_any_size_and_large_plans_get_a_focus(count: int) -> None:
    figures = shown(count)
    text = gantt_markdown(figures, {"Status": "/v2/artifacts/artifact/1"})
    drawn = pictures(text)
    assert len(drawn) == (3 if count > 60 else 1)
    assert len(text) < 2_000_000, "an artifact that a browser has to fetch again and again"
    if count > 60:
        kept = focused(figures.view).rows
        assert len(kept) == MOST_FOCUS
        running = {r.task_id for r in figures.view.rows if r.status is Status.RUNNING}
        assert running <= {r.task_id for r in kept}


@pytest.mark.parametrize(
    ("chance", "samples", "text"),
    [(0.004, 1000, "<1 %"), (0.996, 1000, ">99 %"), (1.0, 1, "100 %"), (0.825, 500, "82 %")],
)
def test_certainty_is_claimed_only_where_nothing_was_left_to_chance(
    chance: float, samples: int, text: str
) -> None:
    assert percent(chance, samples) == text

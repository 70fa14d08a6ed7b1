"""The three ways to watch a run."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from rich.console import Console

from athena_prefect.cli import render
from athena_prefect.cli.live import JsonLines, LiveView, PlainLines
from athena_prefect.journal.events import RunEvent, RunEventKind
from athena_prefect.journal.state import ExecutionState, Status
from athena_prefect.report.view import Stretch
from athena_prefect.service.plans import show
from athena_prefect.service.results import RunStatus
from tests.report.runs import RUN, half_run, plan_of, view_of
from tests.report.test_report import deviation

BASIS = "from the plan's estimates; no finished run yet"
T0 = datetime(2026, 5, 4, 8, tzinfo=UTC)


def standing(count: int = 10, **more: object) -> RunStatus:
    """A run of `count` tasks that is half done."""
    plan = plan_of(count, width=3)
    state, now = half_run(plan)
    status = RunStatus(
        plan=plan,
        plan_run=RUN,
        state=state,
        view=view_of(count, width=3),
        deviation=deviation(basis=BASIS),
        as_of=now,
    )
    return replace(status, **more)  # type: ignore[arg-type]


def terminal() -> Console:
    return Console(file=io.StringIO(), force_terminal=True, width=100, height=40, color_system=None)


def text(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def drawn(view: LiveView) -> str:
    console = Console(file=io.StringIO(), width=100, color_system=None)
    console.print(view._picture())
    return text(console)


def test_the_live_view_says_what_it_waits_for_then_shows_the_run() -> None:
    console = terminal()
    with LiveView(console) as view:
        view.planned(show(plan_of(4)))
        view.waiting("starting a Prefect server")
        assert "starting a Prefect server …" in drawn(view)
        view.stands(standing())
        picture = drawn(view)
        view.happened(())
        view.cancelling()
        assert "cancelling" in drawn(view)
    for part in (
        "5 of 10 tasks done",
        "finishes in",
        f"forecast {BASIS}",
        "met with 82 %",
        "step_005_extract",
        "planned",
    ):
        assert part in picture
    assert "critical path" in text(console)


def test_the_live_view_of_many_tasks_fits_a_screen() -> None:
    status = standing(500)
    rows = tuple(replace(r, status=Status.RUNNING) for r in status.view.rows)
    view = LiveView(terminal())
    view.stands(replace(status, view=replace(status.view, rows=rows)))
    assert len(drawn(view).splitlines()) < 20
    assert "and 490 more" in drawn(view)


def test_failed_tasks_are_shown_with_their_reason() -> None:
    status = standing()
    rows = (
        replace(status.view.rows[0], status=Status.FAILURE, detail="it broke"),
        *status.view.rows[1:],
    )
    view = LiveView(terminal())
    view.stands(replace(status, view=replace(status.view, rows=rows)))
    assert "✗ step_000_load failure: it broke" in drawn(view)


def test_plain_lines_say_each_change_once() -> None:
    console = Console(file=io.StringIO(), width=100, color_system=None)
    with PlainLines(console) as lines:
        lines.planned(show(plan_of(4)))
        lines.waiting("starting the flow")
        lines.happened(())
        lines.stands(standing())
        lines.stands(standing())
        lines.cancelling()
    told = text(console)
    assert told.count("step_000_load success") == 1
    assert told.count("step_005_extract running") == 1
    assert told.count("finishes in") == 1
    assert told.replace("\n", " ").count(f"· forecast {BASIS}") == 1
    assert "step_009" not in told.split("starting the flow")[1]


def test_plain_lines_say_a_failure_that_became_a_new_attempt_once() -> None:
    status = standing()
    first, *others = status.view.rows

    def seen(*stretches: Stretch) -> RunStatus:
        row = replace(first, actual=stretches, status=stretches[-1].status)
        return replace(status, view=replace(status.view, rows=(row, *others)))

    bad = Stretch(start=0.0, finish=2.0, status=Status.FAILURE)
    again = Stretch(start=2.5, finish=4.0, status=Status.RUNNING)
    for looks in (
        (seen(replace(again, start=0.0)), seen(bad, again), seen(bad, again)),
        (seen(bad), seen(bad, again), seen(bad, again)),
    ):
        console = Console(file=io.StringIO(), width=100, color_system=None)
        lines = PlainLines(console)
        for look in looks:
            lines.stands(look)
        told = text(console)
        name = first.task_id
        assert told.count(f"{name} failure after 2s") == 1, told
        # Never seen to fail, it was seen to run twice.
        assert told.count(f"{name} running") == (2 if "tried again" in told else 1), told


def test_json_lines_are_json_and_repeat_nothing() -> None:
    stream = io.StringIO()
    with JsonLines(stream) as lines:
        lines.planned(show(plan_of(2)))
        lines.waiting("x")
        lines.stands(standing())
        lines.stands(standing())
        lines.stands(standing(deviation=None))
        lines.cancelling()
    kinds = [json.loads(line)["line"] for line in stream.getvalue().splitlines()]
    assert kinds == ["plan", "waiting", "deviation", "cancelling"]


def test_the_forecast_in_words() -> None:
    status = standing()
    assert render.forecast_line(status).startswith("finishes in 33s (30s to 37s) · deadline 1m 11s")
    over = replace(status, view=replace(status.view, ended=12.0))
    assert render.forecast_line(over) == "took 12s"
    unknown = replace(
        status, view=replace(status.view, finish=None), deviation=deviation(reason="no estimate")
    )
    assert render.forecast_line(unknown) == "no forecast: no estimate"


@pytest.mark.parametrize(
    ("chance", "samples", "words"),
    [
        (0, 1000, "<1 %"), (0.004, 1000, "<1 %"), (0.5, 1000, "50 %"), (1, 1000, ">99 %"),
        (0, 1, "0 %"), (1, 1, "100 %"),
    ],
)  # fmt: skip
def test_samples_never_make_certainty(chance: float, samples: int, words: str) -> None:
    assert render.percent(chance, samples) == words


def test_words_for_where_a_run_stands() -> None:
    status = standing()
    assert status.word == "running"
    assert replace(status, state=replace(status.state, paused=True)).word == "paused"
    assert replace(status, state=ExecutionState()).word == "not started"
    for end, code in (("cancelled", 3), ("aborted", 3), ("failed", 1), ("superseded", 0)):
        ended = replace(status, state=replace(status.state, end_status=end))
        assert (ended.word, ended.exit_code) == (end, code)
    late = replace(
        status,
        state=replace(status.state, end_status="completed", ended=status.as_of + timedelta(1)),
        view=replace(status.view, ended=1000.0, deadline=1.0),
    )
    assert late.exit_code == 3


def test_the_ending_of_a_large_run_lists_what_went_wrong_first() -> None:
    status = standing(500)
    rows = (*status.view.rows[:-1], replace(status.view.rows[-1], status=Status.FAILURE))
    console = Console(file=io.StringIO(), width=100, color_system=None)
    console.print(render.status_table(replace(status, view=replace(status.view, rows=rows)), 60))
    lines = text(console).splitlines()
    assert len(lines) < 80
    assert rows[-1].task_id in next(line for line in lines if "failure" in line)
    assert "lists them all" in text(console)
    assert len(render.brief("x" * 1000)) == 160


def revised(kind: RunEventKind = RunEventKind.REVISED, **data: object) -> RunEvent:
    return RunEvent(plan_run=RUN, kind=kind, at=T0 + timedelta(seconds=5), source="2", data=data)


@pytest.mark.parametrize(
    ("event", "words"),
    [
        (
            revised(revision=2, strategy="full", changes=["load is done again in mode snapshot"]),
            "replanned, revision 2 (full): load is done again in mode snapshot",
        ),
        (revised(revision=3, strategy="local", changes=[]), "(local): only times change"),
        (
            revised(revision=4, by_hand=True, author="ada", reason="skip x"),
            "revision 4 by ada: skip x",
        ),
        (
            revised(RunEventKind.PROPOSED, strategy="abort", reason="no way on"),
            "ABORT: no way on",
        ),
        (revised(RunEventKind.NOT_REPLANNED, reason="too late"), "not replanned: too late"),
    ],
)
def test_decisions_about_the_plan_are_told(event: RunEvent, words: str) -> None:
    console = terminal()
    lines = PlainLines(console)
    lines.happened((revised(RunEventKind.STARTED), event))
    assert words in " ".join(text(console).split())
    view = LiveView(terminal())
    view.happened((event,))
    view.stands(standing())
    assert words in " ".join(drawn(view).split())

"""Which starts run: a table of overlapping and missed ones, on paper."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from athena_prefect.plan.model import Plan
from athena_prefect.runtime.admission import Admission, Earlier, Start, Verdict, admission

FOUR = datetime(2026, 11, 24, 4, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def plan(overlap: str, catch_up: bool = False) -> Plan:
    tasks = [{"id": "only", "call": "steps:work"}]
    return Plan.model_validate(
        {"name": "orders", "overlap": overlap, "catch_up": catch_up, "tasks": tasks}
    )


def at(minutes: float, number: int = 0, **more: Any) -> Start:
    return Start(flow_run_id=UUID(int=number), due=FOUR + minutes * MINUTE, **more)


def ran(start: float, end: float | None, *, works: bool = False) -> Earlier:
    ended = None if end is None else FOUR + end * MINUTE
    return Earlier(flow_run_id=uuid4(), started=FOUR + start * MINUTE, ended=ended, works=works)


def asked(
    overlap: str, *, catch_up: bool = False, scheduled: bool = True, **more: Any
) -> Admission:
    fields: dict[str, Any] = {"later": [], "runs": [], **more}
    return admission(plan(overlap, catch_up), at(0), scheduled=scheduled, **fields)


@pytest.mark.parametrize("overlap", ["skip", "queue", "cancel_running"])
def test_alone_it_runs(overlap: str) -> None:
    assert asked(overlap) == Admission(verdict=Verdict.RUN, due=FOUR)
    over = asked(overlap, runs=[ran(-60, -50)])
    assert over.verdict is Verdict.RUN


@pytest.mark.parametrize(
    ("overlap", "verdict"),
    [("skip", Verdict.SKIP), ("queue", Verdict.WAIT), ("cancel_running", Verdict.CANCEL)],
)
def test_while_an_earlier_run_works(overlap: str, verdict: Verdict) -> None:
    assert asked(overlap, runs=[ran(-10, None, works=True)]).verdict is verdict
    # Also one that somebody starts by hand, and one that only begins.
    assert asked(overlap, scheduled=False, runs=[ran(-10, None, works=True)]).verdict is verdict
    assert asked(overlap, runs=[ran(1, None, works=True)]).verdict is verdict


@pytest.mark.parametrize("overlap", ["skip", "queue", "cancel_running"])
def test_a_run_that_will_never_go_on_keeps_nobody_from_starting(overlap: str) -> None:
    assert asked(overlap, runs=[ran(-10, None, works=False)]).verdict is Verdict.RUN


def test_skip_holds_also_when_the_earlier_run_has_ended_since() -> None:
    found = asked("skip", runs=[ran(-10, 5)])
    assert found.verdict is Verdict.SKIP
    assert "when it was due" in found.reason
    assert asked("skip", catch_up=True, runs=[ran(-10, 5)]).verdict is Verdict.SKIP
    assert asked("queue", runs=[ran(-10, 5)]).verdict is Verdict.RUN


@pytest.mark.parametrize("overlap", ["skip", "queue"])
def test_of_starts_that_were_missed_one_runs_for_the_newest(overlap: str) -> None:
    later = [at(60, 1), at(120, 2), at(180, 3, waits=False)]
    found = asked(overlap, later=later)
    assert found.verdict is Verdict.RUN
    assert found.due == FOUR + 180 * MINUTE
    # Prefect has cancelled the third already, for the slot that this run has.
    assert found.gives_up == (UUID(int=1), UUID(int=2))


@pytest.mark.parametrize("overlap", ["skip", "queue"])
def test_with_catch_up_each_runs_for_its_own_date(overlap: str) -> None:
    found = asked(overlap, catch_up=True, later=[at(60, 1), at(120, 2)])
    assert found == Admission(verdict=Verdict.RUN, due=FOUR)


def test_a_start_by_hand_stands_for_no_other() -> None:
    found = asked("queue", scheduled=False, later=[at(60, 1)])
    assert (found.due, found.gives_up) == (FOUR, ())


def test_what_waits_in_the_queue_was_not_missed() -> None:
    # The run of 3:50 to 6:30 kept the starts of 4, 5 and 6 waiting: they run in turn.
    found = asked("queue", later=[at(60, 1), at(120, 2)], runs=[ran(-10, 150)])
    assert found == Admission(verdict=Verdict.RUN, due=FOUR)
    mixed = asked("queue", later=[at(60, 1), at(120, 2)], runs=[ran(50, 70)])
    assert (mixed.due, mixed.gives_up) == (FOUR + 120 * MINUTE, (UUID(int=2),))


def test_the_newest_start_replaces_those_before() -> None:
    found = asked("cancel_running", later=[at(60, 1)])
    assert found.verdict is Verdict.SKIP
    assert "05:00:00 UTC is due" in found.reason


def test_only_what_would_never_run_is_taken_back_while_it_waits() -> None:
    assert asked("skip", runs=[ran(-10, 5)]).for_good
    # The run that works may be gone, and one that began later may have ended.
    assert not asked("skip", runs=[ran(-10, None, works=True)]).for_good
    assert not asked("skip", runs=[ran(1, None, works=True)]).for_good
    assert asked("cancel_running", later=[at(60, 1)]).for_good
    assert not asked("queue", runs=[ran(-10, 5)], later=[at(60, 1)]).for_good
    assert not asked("skip", later=[at(60, 1)]).for_good, "one of them is to run"

"""Deadlines of the clock, over changes of the clock, weekends, late and missed starts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from athena_prefect.journal.events import RunEventKind
from athena_prefect.journal.state import fold
from athena_prefect.monitor.breaches import assess, changes, not_started
from athena_prefect.monitor.context import ExecutionContext, VirtualClock
from athena_prefect.monitor.deadlines import missed_starts, next_deadline, start_outlook
from athena_prefect.monitor.monitor import ExecutionMonitor
from athena_prefect.plan.model import Deadline, Plan, Schedule
from tests.monitor.test_monitor import RUN, T0, Run

BERLIN = ZoneInfo("Europe/Berlin")


def berlin(text: str, fold: int = 0) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=BERLIN, fold=fold)


# at, days, scheduled, started, deadline: by the clock of Berlin. 2026-03-29 has no 02:00 to
# 03:00, 2026-10-25 has it twice; both are Sundays. 2026-11-27 is a Friday.
CASES: list[tuple[str, str, datetime | None, datetime, datetime]] = [
    # an ordinary night, in summer and in winter
    ("06:00", "daily", None, berlin("2026-07-01T04:00"), berlin("2026-07-01T06:00")),
    ("06:00", "daily", None, berlin("2026-11-24T04:00"), berlin("2026-11-24T06:00")),
    ("06:00", "daily", None, berlin("2026-11-24T06:00"), berlin("2026-11-25T06:00")),
    # the night that lacks an hour, and the one that has one more
    ("06:00", "daily", None, berlin("2026-03-29T01:00"), berlin("2026-03-29T06:00")),
    ("02:30", "daily", None, berlin("2026-03-29T01:00"), berlin("2026-03-29T03:30")),
    ("02:30", "daily", None, berlin("2026-03-29T03:10"), berlin("2026-03-29T03:30")),
    ("02:30", "daily", None, berlin("2026-03-29T03:40"), berlin("2026-03-30T02:30")),
    ("06:00", "daily", None, berlin("2026-10-25T01:00"), berlin("2026-10-25T06:00")),
    ("02:30", "daily", None, berlin("2026-10-25T01:00"), berlin("2026-10-25T02:30")),
    ("02:30", "daily", None, berlin("2026-10-25T02:40"), berlin("2026-10-25T02:30", 1)),
    ("02:30", "daily", None, berlin("2026-10-25T02:40", 1), berlin("2026-10-26T02:30")),
    # working days
    ("06:00", "working", None, berlin("2026-11-27T04:00"), berlin("2026-11-27T06:00")),
    ("06:00", "working", None, berlin("2026-11-27T22:00"), berlin("2026-11-30T06:00")),
    ("06:00", "working", None, berlin("2026-11-28T04:00"), berlin("2026-11-30T06:00")),
    ("06:00", "working", None, berlin("2026-03-27T22:00"), berlin("2026-03-30T06:00")),
    ("06:00", "working", None, berlin("2026-10-24T04:00"), berlin("2026-10-26T06:00")),
    # late starts: the deadline is that of the scheduled start
    ("06:00", "daily", berlin("2026-11-24T04:00"), berlin("2026-11-24T05:50"),
     berlin("2026-11-24T06:00")),
    ("06:00", "daily", berlin("2026-11-24T04:00"), berlin("2026-11-24T06:30"),
     berlin("2026-11-24T06:00")),
    ("06:00", "working", berlin("2026-11-27T04:00"), berlin("2026-11-28T09:00"),
     berlin("2026-11-27T06:00")),
    ("02:30", "daily", berlin("2026-10-25T02:10"), berlin("2026-10-25T02:20", 1),
     berlin("2026-10-25T02:30")),
    # started a moment before its schedule
    ("06:00", "daily", berlin("2026-11-24T06:00"), berlin("2026-11-24T05:59"),
     berlin("2026-11-24T06:00")),
]  # fmt: skip


@pytest.mark.parametrize(("at", "days", "scheduled", "started", "wanted"), CASES)
def test_a_deadline_of_the_clock(
    at: str, days: Any, scheduled: datetime | None, started: datetime, wanted: datetime
) -> None:
    deadline = Deadline(at=at, timezone="Europe/Berlin", days=days)
    found = next_deadline(deadline, started, scheduled=scheduled)
    assert found == wanted.astimezone(UTC)


def test_a_duration_counts_from_the_actual_start() -> None:
    found = next_deadline(Deadline(after="10m"), T0, scheduled=T0 - timedelta(hours=1))
    assert found == T0 + timedelta(minutes=10)
    assert next_deadline(None, T0) is None


@pytest.mark.parametrize(
    ("schedule", "after", "wanted"),
    [
        ({"cron": "0 4 * * 1-5"}, "2026-10-24T12:00", ["2026-10-26T04:00", "2026-10-27T04:00"]),
        ({"cron": "0 4 * * *"}, "2026-03-28T12:00", ["2026-03-29T04:00", "2026-03-30T04:00"]),
        ({"interval": "12h"}, "2026-03-28T12:00", ["2026-03-29T00:00", "2026-03-29T13:00"]),
        (
            {"rrule": "FREQ=DAILY;BYHOUR=4;BYMINUTE=0;BYSECOND=0"},
            "2026-10-24T12:00",
            ["2026-10-25T04:00", "2026-10-26T04:00"],
        ),
    ],
)
def test_when_a_schedule_fires(schedule: Any, after: str, wanted: list[str]) -> None:
    plan = Schedule(**schedule, timezone="Europe/Berlin")
    anchor = berlin("2026-03-28T00:00").astimezone(UTC)
    times = plan.times(berlin(after).astimezone(UTC), anchor)
    assert list(islice(times, 2)) == [berlin(w).astimezone(UTC) for w in wanted]


def test_missed_starts_are_those_without_a_run() -> None:
    times = tuple(T0 + timedelta(hours=h) for h in range(3))
    assert missed_starts(times, (times[0], times[2] + timedelta(milliseconds=3))) == (times[1],)


PLAN = Plan.model_validate(
    {
        "name": "nightly",
        "deadline": {"at": "10:00"},
        "tasks": [{"id": "a", "duration": "30m"}, {"id": "b", "duration": "30m"}],
        "runner": {"max_workers": 1},
    }
)


@pytest.mark.parametrize(
    ("minutes", "late", "p"), [(0, False, 1.0), (59, False, 1.0), (61, True, 0.0)]
)
def test_a_run_that_has_not_started_must_start_by(minutes: int, late: bool, p: float) -> None:
    # Two tasks of half an hour, due at 10:00, scheduled for 08:00: it must start by 09:00.
    now = T0 + timedelta(minutes=minutes)
    outlook = start_outlook(PLAN, T0, now)
    assert outlook.must_start == T0 + timedelta(hours=1)
    assert (outlook.late(now), outlook.p_deadline) == (late, p)
    finding = not_started(PLAN, outlook, now, what="not started")
    assert (finding.level is not None) is late
    assert "must start by 2026-01-05 09:00:00 UTC" in finding.reason


def test_without_a_deadline_the_tolerated_slip_stands_in() -> None:
    plan = PLAN.model_copy(update={"deadline": None})
    outlook = start_outlook(plan, T0, T0 + timedelta(minutes=5))
    assert outlook.must_start == T0 + timedelta(minutes=6)
    assert not outlook.late(T0 + timedelta(minutes=5))


def watched(run: Run, monitor: ExecutionMonitor) -> list[tuple[str, str]]:
    """One pass of a watcher: what it wrote."""
    monitor.refresh()
    now = run.clock()
    events = list(changes(assess(monitor, now), monitor.state, RUN, now))
    recorded = run.journal.append(*events)
    monitor.refresh()
    return [
        (str(e.kind), e.source)
        for e, r in zip(events, recorded, strict=True)
        if r.value == "stored"
    ]


def document(**more: Any) -> dict[str, Any]:
    tasks = [{"id": "a", "duration": "2h"}, {"id": "b", "duration": "2h", "depends_on": ["a"]}]
    return {"tasks": tasks, "deadline": "5h", **more}


def test_a_breach_is_raised_once_and_ends() -> None:
    run = Run(document())
    run.start("a", 0)
    one, other = run.again(), run.again()
    run.clock.advance(timedelta(hours=2))
    assert watched(run, one) == []
    run.clock.move_to(T0 + timedelta(hours=3, minutes=1))
    # a has run for 3 h 1 min: b cannot end before 5 h 1 min.
    first = watched(run, one)
    assert ("breached", "deadline:1") in first
    assert ("breached", "finish-late|a:1") in first
    assert watched(run, other) == []
    assert [watched(run, m) for m in (one, other, one)] == [[], [], []]
    run.end("a", 3.1)
    assert ("eased", "finish-late|a:1") in watched(run, one)
    assert one.state.breaches["deadline"].open
    # It took less than was thought after all.
    run.start("b", 3.1)
    run.end("b", 4)
    eased = watched(run, other)
    assert ("eased", "deadline:1") in eased
    assert not [b for b in other.state.breaches.values() if b.open]


def test_two_watchers_that_find_the_same_at_once_write_it_once() -> None:
    run = Run(document())
    run.start("a", 0)
    one, other = run.again(), run.again()
    run.clock.move_to(T0 + timedelta(hours=4))
    now = run.clock()
    both = [list(changes(assess(m, now), m.state, RUN, now)) for m in (one, other)]
    assert both[0] == both[1] != []
    told = [[r.value for r in run.journal.append(*events)] for events in both]
    assert set(told[0]) == {"stored"}
    assert set(told[1]) == {"known"}


def test_a_breach_that_worsens_is_raised_again_and_one_that_returns_is_a_new_one() -> None:
    run = Run(document(deadline=None))
    run.start("a", 0)
    monitor = run.again()
    run.clock.move_to(T0 + timedelta(hours=2.5))
    assert ("breached", "deviation:1") in watched(run, monitor)
    assert monitor.state.breaches["deviation"].level == "medium"
    run.clock.move_to(T0 + timedelta(hours=3.2))
    assert ("breached", "deviation:1:high") in watched(run, monitor)
    breach = monitor.state.breaches["deviation"]
    assert (breach.level, breach.since) == ("high", T0 + timedelta(hours=2.5))
    run.clock.move_to(T0 + timedelta(hours=4.1))
    assert ("breached", "deviation:1:critical") in watched(run, monitor)
    # Folding what is known changes nothing.
    events = [e.event for e in run.journal.read(RUN)]
    assert fold(events, fold(events)).breaches == fold(events).breaches


def test_a_task_that_must_start_by_now_warns_before_the_deadline() -> None:
    run = Run(document())
    monitor = run.again()
    run.clock.move_to(T0 + timedelta(hours=1, minutes=1))
    found = {f.name: f for f in assess(monitor, run.clock())}
    assert found["start-late|a"].level is not None
    assert found["start-late|a"].figures["latest_start"] == (T0 + timedelta(hours=1)).isoformat()
    assert found["start-late|b"].level is None


def test_a_tasks_own_deadline() -> None:
    tasks = [{"id": "a", "duration": "1h", "deadline": "30m"}, {"id": "b", "duration": "9h"}]
    run = Run({"tasks": tasks, "deadline": "20h"})
    run.start("a", 0)
    found = {f.name: f for f in assess(run.again(), run.clock())}
    assert found["finish-late|a"].level is not None
    assert found["deadline"].level is None


def test_hovering_at_the_threshold_is_one_alert() -> None:
    run = Run(document(deadline=None))
    run.start("a", 0)
    monitor = run.again()
    run.clock.move_to(T0 + timedelta(hours=2.41))
    assert ("breached", "deviation:1") in watched(run, monitor)
    run.end("a", 2.41)
    run.start("b", 2.35)  # the plan is 0.0875 late: below the threshold, not yet over
    quiet = {name for _, name in watched(run, monitor)}
    assert "deviation:1" not in quiet
    assert monitor.state.breaches["deviation"].open


def test_the_monitor_knows_the_scheduled_start() -> None:
    from athena_prefect.journal.events import RunEvent
    from athena_prefect.journal.journal import MemoryJournal

    journal, clock = MemoryJournal(), VirtualClock(T0)
    scheduled = T0 - timedelta(hours=3)
    journal.append(
        RunEvent(
            plan_run=RUN, kind=RunEventKind.STARTED, at=T0,
            data={"scheduled_for": scheduled.isoformat()},
        )
    )  # fmt: skip
    plan = PLAN.model_copy(update={"deadline": Deadline(at="06:00")})
    context = ExecutionContext(plan_run=RUN, clock=clock, started_at=T0, journal=journal)
    monitor = ExecutionMonitor(plan, context)
    assert monitor.deadline == datetime(2026, 1, 5, 6, tzinfo=UTC)
    assert monitor.get_plan_deviation().deadline_probability == 0.0


def test_a_blocked_plan_is_late_whatever_the_clock_says() -> None:
    from athena_prefect.journal.events import TaskOutcome

    run = Run(document())
    run.start("a", 0)
    run.end("a", 1, TaskOutcome.FAILURE)
    monitor = run.again()
    found = {f.name: f for f in assess(monitor, run.clock())}
    assert found["deviation"].level == found["deadline"].level == "critical"
    assert "blocked" in found["deviation"].reason
    assert "blocked" in found["deadline"].reason
    run.clock.move_to(T0 + timedelta(hours=6))
    found = {f.name: f for f in assess(monitor, run.clock())}
    assert "has passed" in found["deadline"].reason


def test_without_durations_only_the_deadline_itself_counts() -> None:
    tasks = [{"id": "a"}]
    run = Run({"tasks": tasks, "deadline": "1h"})
    monitor = run.again()
    early = {f.name: f for f in assess(monitor, run.clock())}
    assert (early["deadline"].level, early["deadline"].keep) == (None, True)
    run.clock.move_to(T0 + timedelta(hours=2))
    late = {f.name: f for f in assess(monitor, run.clock())}
    assert late["deadline"].level == "critical"
    assert late["deadline"].figures["p_deadline"] is None
    plan = Plan.model_validate({"name": "p", "deadline": {"at": "10:00"}, "tasks": tasks})
    before = start_outlook(plan, T0, T0 + timedelta(hours=1))
    assert before.must_start is None
    assert not before.late(T0 + timedelta(hours=1))
    after = start_outlook(plan, T0, T0 + timedelta(hours=3))
    finding = not_started(plan, after, T0 + timedelta(hours=3), what="not started")
    assert finding.level == "medium"
    assert finding.reason == "not started"


def test_a_late_start_is_over_once_the_run_has_started() -> None:
    outlook = start_outlook(PLAN, T0, T0 + timedelta(minutes=90))
    now = T0 + timedelta(minutes=90)
    run = Run(document())
    run.journal.append(*changes([not_started(PLAN, outlook, now, what="x")], fold([]), RUN, now))
    monitor = run.again()
    assert monitor.state.breaches["start"].open
    assert ("eased", "start:1") in watched(run, monitor)

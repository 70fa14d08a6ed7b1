"""When checks are due: by the clock with spread and back-off, and at moments of the run."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from athena_prefect.assumptions.schedule import BACK_OFF_MOST, Milestones, ScheduledChecks, back_off
from athena_prefect.errors import NaiveDatetimeError
from athena_prefect.journal.events import (
    CheckEvent,
    Event,
    RunEvent,
    RunEventKind,
    TaskEvent,
    TaskEventKind,
    TaskOutcome,
)
from athena_prefect.journal.state import fold
from athena_prefect.plan.model import Plan

RUN = UUID(int=1)
T0 = datetime(2026, 1, 5, 8, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def plan(*assumptions: dict[str, Any]) -> Plan:
    return Plan.model_validate(
        {
            "name": "p",
            "tasks": [{"id": "a"}, {"id": "b", "depends_on": ["a"]}],
            "assumptions": assumptions,
        }
    )


def checked(name: str, at: datetime, verdict: str = "holds") -> CheckEvent:
    return CheckEvent(
        plan_run=RUN, assumption_id=name, check_id=at.isoformat(), at=at, verdict=verdict
    )


SENSOR = {"id": "s", "validation_frequency": "10m", "check": {"kind": "memory"}}
PERSON = {"id": "m", "validation_frequency": "10m", "validation_method": "manual"}


def test_it_is_a_mapping_of_intervals_with_milestones_apart() -> None:
    found = ScheduledChecks(plan(SENSOR, {"id": "x", "milestones": [{"at": "start"}]}))
    assert dict(found) == {"s": 10 * MINUTE}
    assert list(found.milestones) == ["x"]
    assert found.due(T0) == ("s",), "never checked, and nothing says since when"


def test_a_sensor_is_read_at_the_start_and_a_person_has_time() -> None:
    found = ScheduledChecks(plan(SENSOR, PERSON), started=T0)
    assert found.manual == {"m"}
    first = found.next("s"), found.next("m")
    assert first[0] is not None and T0 <= first[0] <= T0 + MINUTE
    assert first[1] is not None and T0 + 10 * MINUTE <= first[1] <= T0 + 11 * MINUTE
    assert found.due(T0 + 2 * MINUTE) == ("s",)


def test_what_is_checked_once_a_day_is_first_checked_within_a_minute() -> None:
    daily = plan(*({**SENSOR, "id": f"s{k}", "validation_frequency": "24h"} for k in range(50)))
    found = ScheduledChecks(daily, started=T0)
    assert len(found.due(T0 + MINUTE)) == 50
    assert found.first_after(T0 + MINUTE) is None, "all that are due are due already"


def test_a_schedule_made_from_the_one_before_it_is_the_same() -> None:
    checks = {"s": (checked("s", T0),)}
    before = ScheduledChecks(plan(SENSOR, PERSON), started=T0, checks=checks)
    for newer in (checks, {"s": (*checks["s"], checked("s", T0 + MINUTE, "unknown"))}):
        anew = ScheduledChecks(plan(SENSOR, PERSON), started=T0, checks=newer)
        after = ScheduledChecks(plan(SENSOR, PERSON), started=T0, checks=newer, before=before)
        assert [after.next(a) for a in after] == [anew.next(a) for a in anew]
        assert after.first_after(T0) == min(m for a in anew if (m := anew.next(a)))


def test_due_one_interval_after_the_last_check() -> None:
    checks = {"s": (checked("s", T0),)}
    found = ScheduledChecks(plan(SENSOR), started=T0, checks=checks)
    at = found.next("s")
    assert at is not None and T0 + 10 * MINUTE <= at <= T0 + 11 * MINUTE
    assert found.due(T0 + 9 * MINUTE) == () and found.due(T0 + 11 * MINUTE) == ("s",)


def test_checks_of_one_interval_are_spread() -> None:
    many = plan(*({**SENSOR, "id": f"s{k}"} for k in range(200)))
    moments = {ScheduledChecks(many, started=T0).next(f"s{k}") for k in range(200)}
    assert len(moments) > 190
    due = len(ScheduledChecks(many, started=T0).due(T0 + MINUTE / 2))
    assert 70 < due < 130, "about half of them in half of the spread"


def test_what_cannot_be_checked_is_asked_less_often() -> None:
    assert [back_off(n) for n in range(9)] == [1, 1, 1, 2, 4, 8, 16, 16, 16]
    unknown = tuple(checked("s", T0 + k * MINUTE, "unknown") for k in range(5))
    found = ScheduledChecks(plan(SENSOR), started=T0, checks={"s": unknown})
    at = found.next("s")
    assert at is not None and at >= T0 + 4 * MINUTE + 10 * MINUTE * back_off(5)
    mended = (*unknown, checked("s", T0 + 6 * MINUTE))
    found = ScheduledChecks(plan(SENSOR), started=T0, checks={"s": mended})
    again = found.next("s")
    assert again is not None and again <= T0 + 17 * MINUTE
    assert back_off(1000) == BACK_OFF_MOST


def test_a_naive_now_is_refused() -> None:
    with pytest.raises(NaiveDatetimeError):
        ScheduledChecks(plan(SENSOR)).due(datetime(2026, 1, 1))


def ended(task: str, source: str = "1") -> list[Event]:
    def event(kind: TaskEventKind, **more: Any) -> TaskEvent:
        return TaskEvent(plan_run=RUN, task_id=task, kind=kind, at=T0, source=source, **more)

    good = TaskOutcome.SUCCESS
    return [event(TaskEventKind.STARTED), event(TaskEventKind.ENDED, outcome=good)]


def test_milestones_are_reached_once() -> None:
    found = Milestones.of(
        plan({"id": "x", "milestones": [{"at": "start"}, {"after": "a"}, {"before": "b"}]})
    )
    state = fold([RunEvent(plan_run=RUN, kind=RunEventKind.STARTED, at=T0)])
    assert [m.key for m in found.reached(state, {})] == ["at:start"]
    done = {"x": frozenset({"at:start"})}
    assert found.reached(state, done) == []
    state = fold(ended("a"), state)
    assert [m.key for m in found.reached(state, done)] == ["after:a"]
    assert found.before("b") == ("x",) and found.before("a") == ()
    done = {"x": frozenset({"at:start", "after:a"})}
    again = TaskEvent(
        plan_run=RUN, task_id="a", kind=TaskEventKind.INVALIDATED, at=T0, source="again"
    )
    state = fold([again, *ended("a", "2")], state)
    assert [(m.key, m.milestone.after) for m in found.reached(state, done)] == [("after:a:2", "a")]


def test_a_task_that_failed_has_ended_too_and_one_that_was_skipped_has_not() -> None:
    found = Milestones.of(plan({"id": "x", "milestones": [{"after": "a"}]}))
    failed = TaskEvent(
        plan_run=RUN, task_id="a", kind=TaskEventKind.ENDED, at=T0, source="1",
        outcome=TaskOutcome.FAILURE,
    )  # fmt: skip
    assert [m.key for m in found.reached(fold([failed]), {})] == ["after:a"]
    skipped = TaskEvent(plan_run=RUN, task_id="a", kind=TaskEventKind.SKIPPED, at=T0, source="1")
    assert found.reached(fold([skipped]), {}) == []

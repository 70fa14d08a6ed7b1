"""What a run's loop checks and what it leaves to schedules; in virtual time, without a server."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID

from athena_prefect.journal.events import CheckEvent, Event, RunEvent, RunEventKind
from athena_prefect.journal.state import ExecutionState, evolve
from athena_prefect.plan.model import Plan
from athena_prefect.runtime.checking import Checking
from athena_prefect.runtime.due_checks import SCHEDULE_GRACE

RUN = UUID(int=5)
START = datetime(2026, 3, 2, 4, 0, tzinfo=UTC)
MEMORY = {"check": {"kind": "memory", "unit": "B"}, "expected_value": 1}
PLAN = Plan.model_validate(
    {
        "name": "left",
        "tasks": [{"id": "load", "duration": 60}],
        "assumptions": [
            {"id": "scheduled", "validation_frequency": "2m", **MEMORY},
            {"id": "own", "validation_frequency": "2m", **MEMORY},
        ],
    }
)


class Loop:
    """A run's checks whose clock is turned by hand."""

    def __init__(self) -> None:
        self.now, self.state = START, ExecutionState()
        self.record(RunEvent(plan_run=RUN, kind=RunEventKind.STARTED, at=START, source=""))
        facts: Any = SimpleNamespace(
            plan=PLAN, plan_run=RUN, token=None, root=Path(), started_at=START,
            look_up=lambda _: None, recorder=self, recording=SimpleNamespace(database_url=""),
        )  # fmt: skip
        self.checking = Checking(facts, lambda: self.now, frozenset({"scheduled"}))
        self.checking._state = lambda: self.state

    def record(self, event: Event, token: int | None = None) -> None:
        self.state = evolve(self.state, event)

    def look(self, after: timedelta) -> dict[str, list[str]]:
        """What there is after a look of the loop, so long after the last one."""
        self.now += after
        for _ in PLAN.assumptions:
            self.checking._not_before = 0.0
            self.checking._begin_what_is_due()
        return {name: [c.verdict for c in found] for name, found in self.state.checks.items()}

    def by_schedule(self) -> None:
        self.record(
            CheckEvent(
                plan_run=RUN, assumption_id="scheduled", check_id=f"scheduled|{self.now}",
                at=self.now, verdict="holds",
            )
        )  # fmt: skip


def test_the_first_check_is_the_run_s_and_the_others_are_the_schedule_s() -> None:
    loop = Loop()
    assert loop.look(timedelta(minutes=1)) == {"scheduled": ["holds"], "own": ["holds"]}
    found = loop.look(timedelta(minutes=2.5))
    assert found == {"scheduled": ["holds"], "own": ["holds"] * 2}, "not by both"
    loop.by_schedule()
    found = loop.look(timedelta(minutes=2.5))
    assert found == {"scheduled": ["holds"] * 2, "own": ["holds"] * 3}


def test_a_schedule_that_makes_no_check_is_found_out() -> None:
    loop = Loop()
    loop.look(timedelta(minutes=1))
    late = timedelta(minutes=2) * 1.1 + timedelta(minutes=2) + SCHEDULE_GRACE
    assert loop.look(late - timedelta(minutes=1))["scheduled"] == ["holds"]
    assert loop.look(timedelta(minutes=1.1))["scheduled"] == ["holds", "unknown"]
    (_, unknown) = loop.state.checks["scheduled"]
    assert unknown.data["error"] == "its schedule has made no check since 2026-03-02 04:01:00 UTC"
    assert loop.look(timedelta(seconds=30))["scheduled"] == ["holds", "unknown"], "said once"
    loop.by_schedule()
    assert loop.look(timedelta(minutes=1))["scheduled"] == ["holds", "unknown", "holds"]

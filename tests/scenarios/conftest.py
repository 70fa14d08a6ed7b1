"""A plan run in virtual time: no Prefect, no waiting, every moment chosen by the test."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from athena_prefect.journal.events import TaskOutcome
from athena_prefect.journal.journal import MemoryJournal
from athena_prefect.monitor.context import ExecutionContext, VirtualClock
from athena_prefect.monitor.monitor import ExecutionMonitor
from athena_prefect.plan.model import Plan

T0 = datetime(2026, 1, 5, 8, tzinfo=UTC)


class Drive:
    """Runs tasks of a plan by the hour; `monitor` is what the test looks at."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self.plan = Plan.model_validate(document)
        self.clock = VirtualClock(T0)
        self.journal = MemoryJournal()
        self.context = ExecutionContext(
            plan_run=UUID(int=1), clock=self.clock, started_at=T0, journal=self.journal
        )
        self.monitor = ExecutionMonitor(self.plan, self.context)

    @staticmethod
    def at(hours: float) -> datetime:
        """The moment so many hours after the start."""
        return T0 + timedelta(hours=hours)

    def hours(self, moment: datetime | None) -> float:
        """A moment as hours from the start."""
        assert moment is not None
        return (moment - T0) / timedelta(hours=1)

    def start(self, task_id: str, at: float) -> None:
        """`task_id` starts at hour `at`, with what was planned for it."""
        self.clock.move_to(self.at(at))
        resources = dict(self.plan.get_task(task_id).resources)
        self.monitor.record_task_start(task_id, self.at(at), resources)

    def end(
        self,
        task_id: str,
        at: float,
        outcome: TaskOutcome = TaskOutcome.SUCCESS,
        used: Mapping[str, float] | None = None,
    ) -> None:
        """`task_id`, which runs, ends at hour `at`; by default it used what was planned."""
        self.clock.move_to(self.at(at))
        started = self.monitor.state.task(task_id).attempts[-1].started
        assert started is not None
        self.monitor.record_task_completion(
            task_id,
            self.at(at),
            self.at(at) - started,
            dict(self.plan.get_task(task_id).resources if used is None else used),
            outcome,
        )

    def chain(self, *steps: tuple[str, float], since: float = 0.0) -> float:
        """One task after the other, each (task, hours); the hour at which the last one ends."""
        at = since
        for task_id, hours in steps:
            self.start(task_id, at)
            at += hours
            self.end(task_id, at)
        return at


@pytest.fixture
def drive() -> Callable[[Mapping[str, Any]], Drive]:
    """Makes a run of a plan document."""
    return Drive

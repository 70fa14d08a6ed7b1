"""A stand-in for the runtime: it writes to the journal what a run would have written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

from athena_prefect.errors import AthenaError
from athena_prefect.journal.events import (
    RunEvent,
    RunEventKind,
    TaskEvent,
    TaskEventKind,
    TaskOutcome,
)
from athena_prefect.monitor.context import ExecutionContext
from athena_prefect.monitor.monitor import ExecutionMonitor
from athena_prefect.plan.model import Plan
from athena_prefect.settings import AthenaSettings
from athena_prefect.storage.db import Database
from athena_prefect.storage.plans import PlanStore
from athena_prefect.storage.sql_journal import SqlJournal

PLAN = """
name: made-up
description: Three steps
deadline: 1h
resources: {cpu: {capacity: 2}}
parameters:
  folder: {type: string, default: data}
  limit: {type: integer, required: true}
tasks:
  - {id: get, call: "json:dumps", duration: 10s, resources: {cpu: 1}}
  - id: clean
    call: "json:dumps"
    depends_on: [get]
    duration: {optimistic: 5s, likely: 8s, pessimistic: 20s}
  - {id: put, call: "json:dumps", depends_on: [clean], duration: 4s}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """What the runtime would answer."""

    status: str = "completed"
    reason: str = ""
    exit_code: int = 0
    flow_run_id: str | None = None
    error: AthenaError | None = None


@dataclass(slots=True, kw_only=True)
class StandIn:
    """Runs a plan on paper: every task succeeds at its planned pace, but for `fails`."""

    fails: str | None = None
    lasts: float = 5.0
    """Seconds a task."""
    stops_after: int | None = None
    """Tasks after which the process is as if killed."""
    flow_run_id: str | None = None
    """Prefect's, where the run is to look like one of a dispatcher's."""
    refuses: AthenaError | None = None
    seen: list[dict[str, Any]] = field(default_factory=list)

    def __call__(
        self,
        plan: Plan,
        *,
        settings: AthenaSettings,
        plan_run: UUID,
        parameters: Mapping[str, Any],
        logical_date: datetime | None = None,
        source: Path | None = None,
    ) -> Ended:
        """Write the run's events; how it ended."""
        self.seen.append(
            {"parameters": dict(parameters), "plan_run": plan_run, "date": logical_date}
        )
        if self.refuses is not None:
            return Ended(status="failed", reason="refused", exit_code=1, error=self.refuses)
        database = Database.open(settings)
        journal, store = SqlJournal(database), PlanStore(database)
        total = timedelta(seconds=self.lasts * len(plan.tasks))
        at = start = datetime.now(UTC) - total - timedelta(seconds=1)
        store.open_run(plan_run, plan, started=start, namespace=settings.namespace)
        data = {"revision": 1, "flow_run_id": self.flow_run_id}
        journal.append(RunEvent(plan_run=plan_run, kind=RunEventKind.STARTED, at=start, data=data))
        context = ExecutionContext(
            plan_run=plan_run, clock=lambda: start, started_at=start, journal=journal
        )
        ExecutionMonitor(plan, context)
        for number, task in enumerate(plan.tasks):
            if number == self.stops_after:
                return Ended(status="failed", reason="killed", exit_code=1)
            outcome = TaskOutcome.FAILURE if task.id == self.fails else TaskOutcome.SUCCESS
            begun, at = at, at + timedelta(seconds=self.lasts)
            self._task(journal, plan_run, task.id, begun, at, outcome)
            if outcome is TaskOutcome.FAILURE:
                return self._end(store, journal, plan_run, at, "failed", f"{task.id} failed")
        if self.stops_after == len(plan.tasks):
            return Ended(status="failed", reason="killed", exit_code=1)
        return self._end(store, journal, plan_run, at, "completed", "")

    def _task(
        self,
        journal: SqlJournal,
        plan_run: UUID,
        task_id: str,
        begun: datetime,
        ended: datetime,
        outcome: TaskOutcome,
    ) -> None:
        data = {"allocated": {"cpu": 1.0}}
        why = {"error": "it broke"} if outcome is TaskOutcome.FAILURE else {}
        journal.append(
            TaskEvent(
                plan_run=plan_run, task_id=task_id, kind=TaskEventKind.STARTED, at=begun,
                source=f"run-{task_id}", data=data,
            ),
            TaskEvent(
                plan_run=plan_run, task_id=task_id, kind=TaskEventKind.ENDED, at=ended,
                source=f"run-{task_id}", outcome=outcome, data=why,
            ),
        )  # fmt: skip

    def _end(
        self,
        store: PlanStore,
        journal: SqlJournal,
        plan_run: UUID,
        at: datetime,
        status: str,
        why: str,
    ) -> Ended:
        data = {"status": status, "reason": why}
        journal.append(RunEvent(plan_run=plan_run, kind=RunEventKind.ENDED, at=at, data=data))
        store.set_run_status(plan_run, status, reason=why, ended=at)
        return Ended(status=status, reason=why, exit_code=0 if status == "completed" else 1)

"""Events for the tests of the journal."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from athena_prefect.journal.events import (
    Reporter,
    RunEvent,
    RunEventKind,
    TaskEvent,
    TaskEventKind,
    TaskOutcome,
)

NOW = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)
RUN = UUID("5f2b1d0e-0000-4000-8000-000000000001")


def ended(
    task: str = "a",
    *,
    run: UUID = RUN,
    source: str = "s",
    state: str = "Completed",
    after: float = 0.0,
    reporter: Reporter = Reporter.HOOK,
    data: Mapping[str, Any] | None = None,
) -> TaskEvent:
    return TaskEvent(
        plan_run=run,
        task_id=task,
        kind=TaskEventKind.ENDED,
        at=NOW + timedelta(seconds=after),
        source=source,
        state_type="COMPLETED",
        state_name=state,
        outcome=TaskOutcome.SUCCESS,
        reported_by=reporter,
        data=data or {},
    )


def started(run: UUID = RUN) -> RunEvent:
    return RunEvent(plan_run=run, kind=RunEventKind.STARTED, at=NOW, data={"revision": 1})


def new_run() -> UUID:
    return uuid4()

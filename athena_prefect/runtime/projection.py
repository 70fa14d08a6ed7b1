"""The journal's attempts as rows of the specification's `execution_records`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from athena_prefect.journal.state import ExecutionState
from athena_prefect.monitor.records import TaskExecutionRecord, attempts_of, record_of
from athena_prefect.plan.model import Plan
from athena_prefect.storage.db import Database
from athena_prefect.storage.records import ExecutionRecords


def execution_records(
    plan: Plan, state: ExecutionState, planned_starts: Mapping[str, datetime] | None = None
) -> Iterator[TaskExecutionRecord]:
    """The record of every attempt at every task and item."""
    starts = planned_starts or {}
    for task in plan.tasks:
        for index, own, number in attempts_of(state, task.id):
            yield record_of(task, own, number, map_index=index, planned_start=starts.get(task.id))


def write_records(database: Database, plan: Plan, plan_run: UUID, state: ExecutionState) -> int:
    """Bring the rows of a plan run up to its journal; how many there are. Idempotent."""
    records: list[Any] = list(execution_records(plan, state))
    ExecutionRecords(database).write(plan_run, records)
    return len(records)

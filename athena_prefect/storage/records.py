"""Attempts as rows of `execution_records`: what the journal says, for SQL and for learning."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Select, desc, select
from sqlalchemy.dialects.postgresql import insert as postgres_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from athena_prefect.errors import UnknownRunError
from athena_prefect.storage.db import Database
from athena_prefect.storage.decisions import select_runs
from athena_prefect.storage.tables import ExecutionRecordRow, PlanRow, PlanRunRow


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionRecord:
    """One attempt at a task (or item); what is not known is None.

    `deviation` is (actual - planned) / planned duration, a fraction; amounts of
    resources are in the plan's units. `plan_id` is the decision in force when the
    record was first written.
    """

    plan_id: int
    plan_run: UUID
    revision: int
    task_id: str
    map_index: int | None
    attempt: int
    task_run_id: str | None
    planned_start: datetime | None
    actual_start: datetime | None
    planned_duration: timedelta | None
    actual_duration: timedelta | None
    outcome: str | None
    resources_planned: Mapping[str, float] | None
    resources_allocated: Mapping[str, float] | None
    resources_used: Mapping[str, float] | None
    deviation: float | None
    mode: str | None = None
    queue_time: timedelta | None = None
    cached: bool | None = None
    abandoned: bool | None = None


_COLUMNS = tuple(f.name for f in fields(ExecutionRecord))
_KEY = ("plan_run", "task_id", "map_index", "attempt")
_FROM_RUN = ("plan_id", "plan_run", "revision")
_OTHER_NAMES = {"task_run_id": "source"}
"""Names under which the monitor's records have what a column holds."""


class ExecutionRecords:
    """The execution records in `database`. Every method may raise StorageUnavailableError."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def write(self, plan_run: UUID, records: Iterable[Any]) -> int:
        """Bring the rows of a run up to `records`; how many there were.

        A record is a mapping or an object with the columns' names, as the
        monitor's `TaskExecutionRecord` is; one row for each task, map index and
        attempt, however often it is written. Raises UnknownRunError.
        """
        insert = sqlite_insert if self._database.sqlite else postgres_insert
        with self._database.writing() as connection:
            found = connection.execute(select_runs().where(PlanRunRow.id == plan_run)).one_or_none()
            if found is None:
                raise UnknownRunError(f"no plan run {plan_run}", run=str(plan_run))
            own = {
                "plan_id": found.decision_id,
                "plan_run": plan_run,
                "revision": found.revision,
            }
            rows = [own | _row(record) for record in records]
            if rows:
                statement = insert(ExecutionRecordRow)
                changed = {
                    name: statement.excluded[name]
                    for name in _COLUMNS
                    if name not in (*_KEY, *_FROM_RUN)
                }
                connection.execute(
                    statement.on_conflict_do_update(index_elements=_KEY, set_=changed), rows
                )
            return len(rows)

    def read(self, plan_run: UUID) -> Sequence[ExecutionRecord]:
        """The records of a run, in the order in which the attempts started."""
        query = _select().where(ExecutionRecordRow.plan_run == plan_run)
        return self._all(query.order_by(ExecutionRecordRow.actual_start, ExecutionRecordRow.id))

    def history(
        self, plan: str, *, namespace: str = "default", limit: int = 10_000
    ) -> Sequence[ExecutionRecord]:
        """The records of a plan over all its runs, the newest first."""
        query = (
            _select()
            .join(PlanRunRow, PlanRunRow.id == ExecutionRecordRow.plan_run)
            .join(PlanRow, PlanRow.id == PlanRunRow.plan_id)
            .where(PlanRow.name == plan, PlanRow.namespace == namespace)
        )
        return self._all(query.order_by(desc(ExecutionRecordRow.id)).limit(limit))

    def _all(self, query: Select[Any]) -> Sequence[ExecutionRecord]:
        with self._database.reading() as connection:
            return tuple(ExecutionRecord(**row._mapping) for row in connection.execute(query))


def _select() -> Select[Any]:
    return select(*(getattr(ExecutionRecordRow, name) for name in _COLUMNS))


def _row(record: Any) -> dict[str, Any]:
    return {name: _value(record, name) for name in _COLUMNS if name not in _FROM_RUN}


def _value(record: Any, name: str) -> Any:
    for known in (name, _OTHER_NAMES.get(name, name)):
        if isinstance(record, Mapping):
            if known in record:
                return _plain(record[known])
        elif hasattr(record, known):
            return _plain(getattr(record, known))
    return None


def _plain(value: Any) -> Any:
    return dict(value) if isinstance(value, Mapping) else value

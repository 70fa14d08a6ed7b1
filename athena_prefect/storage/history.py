"""Finished runs as the columns that learning reckons on: one query a table, no object a row."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import numpy as np
from sqlalchemy import (
    ColumnElement,
    Connection,
    Float,
    Select,
    String,
    Text,
    cast,
    desc,
    extract,
    func,
    select,
    type_coerce,
)

from athena_prefect.journal.events import TaskOutcome
from athena_prefect.learning.frame import History, encode, zones_of
from athena_prefect.learning.records import CheckRecord, ForecastRecord, RunRecord, TaskRecord
from athena_prefect.monitor.recorded import KEYS
from athena_prefect.plan.model import DEFAULT_MODE, Plan
from athena_prefect.storage.columns import Columns, blocks
from athena_prefect.storage.db import Database
from athena_prefect.storage.plans import BASELINE, LIVE
from athena_prefect.storage.tables import (
    AssumptionValidationRow,
    DecisionRow,
    DocumentRow,
    EventRow,
    ExecutionRecordRow,
    PlanRow,
    PlanRunRow,
    RevisionRow,
)

RECENT = 20
"""Runs that are replayed: what was longer ago says less of how the plan runs now."""
_ATTEMPT = (
    "task_id", "map_index", "attempt", "outcome", "planned_start", "actual_start",
    "planned_duration", "actual_duration", "queue_time", "cached", "abandoned", "mode",
    "resources_planned", "resources_allocated", "resources_used",
)  # fmt: skip
PROFILES = 20
"""Newest runs among which one that sampled a task is looked for: older code is other code."""
STARTED = "run||started"
"""Key of the event that says what a run began with."""


class StoredHistory:
    """The history of the runs in `database`, of one namespace. A `HistorySource`.

    Runs that live are left out unless `live`; what still runs in them is censored.
    Every method may raise StorageUnavailableError.
    """

    def __init__(
        self, database: Database, *, namespace: str = "default", live: bool = False
    ) -> None:
        self._database = database
        self._namespace = namespace
        self._live = live
        self._documents: dict[str, Plan] = {}

    def history(self, plan: str | None = None, *, runs: int | None = None) -> History:
        """The newest `runs` runs of a plan, or of every plan, the oldest first."""
        with self._database.reading() as connection:
            wanted = self._wanted(plan, runs)
            found = self._runs(connection, wanted)
            sqlite = self._database.sqlite
            place = {UUID(r.run).hex: number for number, r in enumerate(found)}
            rows = blocks(connection.execute(_records(wanted, sqlite)), sqlite=sqlite)
            columns = Columns(rows, place, sqlite)
        return _history(found, columns)

    def recent(self, plan: str | None = None, *, runs: int = RECENT) -> tuple[RunRecord, ...]:
        """The newest `runs` runs with their attempts, planned starts too, the oldest first."""
        with self._database.reading() as connection:
            wanted = self._wanted(plan, runs)
            found = self._runs(connection, wanted)
            query = (
                select(*(getattr(ExecutionRecordRow, name) for name in ("plan_run", *_ATTEMPT)))
                .where(ExecutionRecordRow.plan_run.in_(wanted))
                .order_by(ExecutionRecordRow.id)
            )
            rows = connection.execute(query).all()
        groups = {(r.run, t.id): t.group for r in found if r.plan is not None for t in r.plan.tasks}
        tasks: dict[str, list[TaskRecord]] = {}
        for row in rows:
            values = {name: getattr(row, name) for name in _ATTEMPT}
            run = str(row.plan_run)
            tasks.setdefault(run, []).append(_attempt(values, run, groups))
        return tuple(
            replace(r, tasks=tuple(replace(t, plan=r.plan_name) for t in tasks.get(r.run, ())))
            for r in found
        )

    def began_with(self, plan: str, *, runs: int | None = None) -> dict[str, dict[str, Any]]:
        """Run → what it began with: `commit`, `host`, and files that were `uncommitted`.

        What a run did not say is None.
        """
        data, names = EventRow.document["data"], ("commit", "host", "uncommitted")
        with self._database.reading() as connection:
            query = select(EventRow.plan_run, *(data[name] for name in names)).where(
                EventRow.plan_run.in_(self._wanted(plan, runs)),
                EventRow.key == STARTED,
                EventRow.conflict.is_(False),
            )
            found = connection.execute(query).all()
        return {str(run): dict(zip(names, said, strict=True)) for run, *said in found}

    def sampled_tasks(
        self, plan: str, *, runs: int = PROFILES
    ) -> dict[str, tuple[datetime, list[dict[str, Any]]]]:
        """Task → when it was sampled last, and where its time went, in the newest runs."""
        profile = EventRow.document["data"]["profile"]
        with self._database.reading() as connection:
            query = (
                select(EventRow.document["task_id"], EventRow.at, profile)
                .where(
                    EventRow.plan_run.in_(self._wanted(plan, runs)),
                    EventRow.key.startswith("task|"),
                    EventRow.key.endswith("|ended"),
                    profile.as_string().is_not(None),
                )
                .order_by(EventRow.at)
            )
            return {task: (at, list(p)) for task, at, p in connection.execute(query) if p}

    def _wanted(self, plan: str | None, runs: int | None) -> Select[Any]:
        query = (
            select(PlanRunRow.id)
            .join(PlanRow, PlanRow.id == PlanRunRow.plan_id)
            .where(PlanRow.namespace == self._namespace)
        )
        if plan is not None:
            query = query.where(PlanRow.name == plan)
        if not self._live:
            query = query.where(PlanRunRow.status.not_in(LIVE))
        if runs is not None:
            query = query.order_by(desc(PlanRunRow.started_at), desc(PlanRunRow.id)).limit(runs)
        return query

    def _runs(self, connection: Connection, wanted: Select[Any]) -> list[RunRecord]:
        decisions = self._decisions(connection, wanted)
        checks = _checks(connection, wanted)
        query = (
            select(
                PlanRunRow.id,
                PlanRow.name,
                PlanRunRow.started_at,
                PlanRunRow.ended_at,
                PlanRunRow.status,
            )
            .join(PlanRow, PlanRow.id == PlanRunRow.plan_id)
            .where(PlanRunRow.id.in_(wanted))
            .order_by(PlanRunRow.started_at, PlanRunRow.id)
        )
        listed = connection.execute(query).all()
        forecasts = _forecasts(connection, wanted, {r.id: r.started_at for r in listed}, decisions)
        return [
            RunRecord(
                run=str(row.id),
                plan_name=row.name,
                started=row.started_at,
                ended=row.ended_at,
                status=row.status,
                plan=self._documents.get(decisions[row.id][-1][1]) if row.id in decisions else None,
                checks=tuple(checks.get(row.id, ())),
                forecasts=tuple(forecasts.get(row.id, ())),
            )
            for row in listed
        ]

    def _decisions(
        self, connection: Connection, wanted: Select[Any]
    ) -> dict[UUID, list[tuple[datetime, str, Mapping[str, Any] | None]]]:
        """Run → when each of its revisions was stored, its document, what was promised with it."""
        query = (
            select(
                RevisionRow.plan_run, RevisionRow.created_at, DecisionRow.document,
                RevisionRow.figures,
            )
            .join(DecisionRow, DecisionRow.id == RevisionRow.decision_id)
            .where(RevisionRow.plan_run.in_(wanted))
            .order_by(RevisionRow.plan_run, RevisionRow.number)
        )  # fmt: skip
        found: dict[UUID, list[tuple[datetime, str, Mapping[str, Any] | None]]] = {}
        for run, at, document, figures in connection.execute(query):
            found.setdefault(run, []).append((at, document, figures))
        # What a plan is at the end of its runs is what is learned about.
        self._read_documents(connection, {revisions[-1][1] for revisions in found.values()})
        return found

    def _read_documents(self, connection: Connection, keys: Iterable[str]) -> None:
        missing = [key for key in keys if key not in self._documents]
        query = select(DocumentRow.hash, DocumentRow.content).where(DocumentRow.hash.in_(missing))
        for key, content in connection.execute(query):
            self._documents[key] = Plan.model_validate(content)


def _attempt(values: dict[str, Any], run: str, groups: Mapping[tuple[str, str], str]) -> TaskRecord:
    """A row of `execution_records` as an attempt."""
    task = values["task_id"]
    amounts_ = ("resources_planned", "resources_allocated", "resources_used")
    read: dict[str, Any] = {
        **values,
        **{name: values[name] or {} for name in amounts_},
        "outcome": None if values["outcome"] is None else TaskOutcome(values["outcome"]),
        "mode": values["mode"] or DEFAULT_MODE,
        "cached": bool(values["cached"]),
        "abandoned": bool(values["abandoned"]),
    }
    return TaskRecord(**read, run=run, category=groups.get((run, task), ""))


def _checks(connection: Connection, wanted: Select[Any]) -> dict[UUID, list[CheckRecord]]:
    row = AssumptionValidationRow
    query = (
        select(
            row.plan_run, PlanRow.name, row.assumption_id, row.validation_time, row.valid,
            row.validation_data,
        )
        .join(PlanRunRow, PlanRunRow.id == row.plan_run)
        .join(PlanRow, PlanRow.id == PlanRunRow.plan_id)
        .where(row.plan_run.in_(wanted))
        .order_by(row.id)
    )  # fmt: skip
    found: dict[UUID, list[CheckRecord]] = {}
    for run, plan, assumption, at, valid, data in connection.execute(query):
        check = CheckRecord(
            assumption_id=assumption,
            at=at,
            holds=valid,
            observed=(data or {}).get("value"),
            run=str(run),
            plan=plan,
        )
        found.setdefault(run, []).append(check)
    return found


def _forecasts(
    connection: Connection,
    wanted: Select[Any],
    started: Mapping[UUID, datetime],
    decisions: Mapping[UUID, Sequence[tuple[datetime, str, Mapping[str, Any] | None]]],
) -> dict[UUID, list[ForecastRecord]]:
    """What was forecast when a run started, while it ran, and when a revision was accepted."""
    data = EventRow.document["data"]
    # The baseline's data is large: of it only what is needed is read.
    query = (
        select(
            EventRow.plan_run, EventRow.at, data["quantiles"], data["share_done"],
            data["from_history"], data["history"]["basis"],
        )
        .where(EventRow.plan_run.in_(wanted), EventRow.key.in_([BASELINE, *KEYS]))
        .where(EventRow.conflict.is_(False))
        .order_by(EventRow.plan_run, EventRow.position)
    )  # fmt: skip
    found: dict[UUID, list[ForecastRecord]] = {}
    for run, at, seconds, share, from_history, basis in connection.execute(query):
        named = {float(name[1:]) / 100: value for name, value in (seconds or {}).items()}
        _note(
            found, run, at, named, started,
            share_done=0.0 if share is None else float(share),
            from_history=bool(from_history or basis),
        )  # fmt: skip
    for run, revisions in decisions.items():
        for at, _, figures in revisions[1:]:
            promised = figures or {}
            named = {0.5: promised.get("p50")}
            _note(found, run, at, named, started)
    return found


def _note(
    found: dict[UUID, list[ForecastRecord]],
    run: UUID,
    at: datetime,
    seconds: Mapping[float, float | None],
    started: Mapping[UUID, datetime],
    *,
    share_done: float | None = None,
    from_history: bool = False,
) -> None:
    begun = started.get(run)
    if begun is None:
        return
    known = {q: begun + timedelta(seconds=s) for q, s in seconds.items() if s is not None}
    if known:
        told = ForecastRecord(
            run=str(run), at=at, quantiles=known, share_done=share_done, from_history=from_history
        )
        found.setdefault(run, []).append(told)


def _records(wanted: Select[Any], sqlite: bool) -> Select[Any]:
    """The attempts' columns as the database has them: nothing is decoded row by row."""
    row = ExecutionRecordRow

    def moment(column: Any) -> ColumnElement[Any]:
        return type_coerce(column, String) if sqlite else cast(extract("epoch", column), Float)

    def span(column: Any) -> ColumnElement[Any]:
        return type_coerce(column, Float) if sqlite else cast(extract("epoch", column), Float)

    def plain(column: Any) -> ColumnElement[Any]:
        return type_coerce(column, String) if sqlite else cast(column, Text)

    run = (
        type_coerce(row.plan_run, String)
        if sqlite
        else func.replace(cast(row.plan_run, Text), "-", "")
    )
    return (
        select(
            run,
            row.task_id,
            type_coerce(row.map_index, Float),
            row.attempt,
            row.outcome,
            moment(row.actual_start),
            span(row.actual_duration),
            span(row.planned_duration),
            span(row.queue_time),
            func.coalesce(row.cached, False) | func.coalesce(row.abandoned, False),
            plain(row.resources_planned),
            plain(row.resources_used),
        )
        .where(row.plan_run.in_(wanted))
        .order_by(row.id)
    )


def _history(runs: Sequence[RunRecord], columns: Columns) -> History:
    run_plan, plans = encode([r.plan_name for r in runs])
    run, ids = columns.of["run"], tuple(columns.ids)
    pair = (run_plan[run] if len(run) else run).astype(np.int64) * max(len(ids), 1)
    known, task = np.unique(pair + columns.of["name"], return_inverse=True)
    task_plan = (known // max(len(ids), 1)).astype(np.int32)
    tasks = tuple(ids[i] for i in (known % max(len(ids), 1)).tolist())
    documents = {r.plan_name: r.plan for r in runs if r.plan is not None}
    groups = {(plan, t.id): t.group for plan, document in documents.items() for t in document.tasks}
    labels = [groups.get((plans[p], t), t) for p, t in zip(task_plan.tolist(), tasks, strict=True)]
    task_category, categories = encode(labels)
    rows = {name: column for name, column in columns.of.items() if name != "name"}
    return History(
        runs=tuple(runs),
        plans=plans,
        categories=categories,
        tasks=tasks,
        task_plan=task_plan,
        task_category=task_category,
        run_plan=run_plan,
        task=task.astype(np.int32),
        ended=rows["started"] + rows["duration"],
        resources_planned=columns.resources_planned,
        resources_used=columns.resources_used,
        zones=zones_of(runs),
        **rows,
    )

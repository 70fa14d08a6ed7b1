"""Planning decisions, plan documents and runs as rows: reading and writing them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row, Select, desc, func, insert, literal, select
from sqlalchemy.dialects.postgresql import insert as postgres_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from athena_prefect.plan.model import Plan
from athena_prefect.storage.tables import (
    Base,
    DecisionRow,
    DocumentRow,
    PlanRow,
    PlanRunRow,
    RevisionRow,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """A planning decision; `id` is the `plan_id` of the specification's tables and tools.

    `revision` counts the plan's revisions, or with a `plan_run` the run's.
    `document` is the key of the plan document.
    """

    id: int
    plan_id: int
    plan: str
    namespace: str
    plan_run: UUID | None
    revision: int
    document: str
    author: str
    reason: str
    validation_status: str
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRow:
    """A plan run: what it runs, since when, where it stands, at which revision."""

    plan_run: UUID
    plan_id: int
    plan: str
    namespace: str
    decision_id: int
    """Of the revision in force."""
    revision: int
    """The one in force."""
    flow_run_id: UUID | None
    parameters: Mapping[str, Any]
    logical_date: datetime | None
    source: Path | None
    """The plan's file, where it came from one."""
    status: str
    reason: str
    started_at: datetime
    ended_at: datetime | None


def insert_once(connection: Connection, table: type[Base], row: Mapping[str, Any]) -> bool:
    """Insert `row` unless its key is there; whether it was inserted."""
    insert_ = sqlite_insert if connection.dialect.name == "sqlite" else postgres_insert
    statement = insert_(table).values(**row).on_conflict_do_nothing()
    return connection.execute(statement.returning(literal(1))).first() is not None


def store_document(connection: Connection, document: Mapping[str, Any]) -> str:
    """Keep the document once; its key."""
    text = json.dumps(document, sort_keys=True, separators=(",", ":"))
    key = hashlib.sha256(text.encode()).hexdigest()
    insert_once(connection, DocumentRow, {"hash": key, "content": document})
    return key


def read_document(connection: Connection, key: str, source: str | None = None) -> Plan:
    """The plan of a stored document."""
    query = select(DocumentRow.content).where(DocumentRow.hash == key)
    plan = Plan.model_validate(connection.execute(query).scalar_one())
    if source is not None:
        plan._source = Path(source)
    return plan


def plan_id_of(connection: Connection, namespace: str, name: str) -> int:
    """The plan's row, made where there is none; locked, so that revisions are counted in turn."""
    insert_once(connection, PlanRow, {"namespace": namespace, "name": name})
    query = select(PlanRow.id).where(PlanRow.namespace == namespace, PlanRow.name == name)
    return connection.execute(query.with_for_update()).scalar_one()


def add_decision(connection: Connection, **row: Any) -> Decision:
    """Write a decision. Raises IntegrityError where its revision is there."""
    statement = insert(DecisionRow).values(**row).returning(DecisionRow.id)
    found = read_decision(connection, connection.execute(statement).scalar_one())
    assert found is not None
    return found


def select_decisions() -> Select[Any]:
    """Decisions with their plans."""
    return select(
        DecisionRow.id,
        DecisionRow.plan_id,
        PlanRow.name.label("plan"),
        PlanRow.namespace,
        DecisionRow.plan_run,
        DecisionRow.revision,
        DecisionRow.document,
        DecisionRow.author,
        DecisionRow.reason,
        DecisionRow.validation_status,
        DecisionRow.created_at,
    ).join(PlanRow, PlanRow.id == DecisionRow.plan_id)


def to_decision(row: Row[Any]) -> Decision:
    """The decision of a row of `select_decisions`."""
    return Decision(**row._mapping)


def read_decision(connection: Connection, decision_id: int) -> Decision | None:
    """The decision of that id."""
    row = connection.execute(select_decisions().where(DecisionRow.id == decision_id)).one_or_none()
    return None if row is None else to_decision(row)


def newest_plan_revision(connection: Connection, plan_id: int) -> Decision | None:
    """The newest decision about a plan as a whole."""
    row = connection.execute(
        select_decisions()
        .where(DecisionRow.plan_id == plan_id, DecisionRow.plan_run.is_(None))
        .order_by(desc(DecisionRow.revision))
        .limit(1)
    ).one_or_none()
    return None if row is None else to_decision(row)


def select_runs() -> Select[Any]:
    """Runs with their plans and their revisions in force."""
    newest = (
        select(func.max(RevisionRow.number))
        .where(RevisionRow.plan_run == PlanRunRow.id)
        .correlate(PlanRunRow)
        .scalar_subquery()
    )
    return (
        select(
            PlanRunRow.id.label("plan_run"),
            PlanRunRow.plan_id,
            PlanRow.name.label("plan"),
            PlanRow.namespace,
            RevisionRow.decision_id,
            RevisionRow.number.label("revision"),
            PlanRunRow.flow_run_id,
            PlanRunRow.parameters,
            PlanRunRow.logical_date,
            PlanRunRow.source,
            PlanRunRow.status,
            PlanRunRow.reason,
            PlanRunRow.started_at,
            PlanRunRow.ended_at,
        )
        .join(PlanRow, PlanRow.id == PlanRunRow.plan_id)
        .join(RevisionRow, (RevisionRow.plan_run == PlanRunRow.id) & (RevisionRow.number == newest))
    )


def to_run(row: Row[Any]) -> RunRow:
    """The run of a row of `select_runs`."""
    values = dict(row._mapping)
    source = values.pop("source")
    return RunRow(**values, source=None if source is None else Path(source))

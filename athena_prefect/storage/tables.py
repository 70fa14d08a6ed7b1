"""The tables: the specification's four, the plans and their runs, the journal.

None of them is Prefect's. A *planning decision* is one document that somebody
(or a replan) decided on: a plan revision where `plan_run` is null, a run
revision where it is not. Its id is what the specification calls `plan_id`.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, ClassVar
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    ForeignKey,
    Index,
    MetaData,
    String,
    Text,
    UniqueConstraint,
    Uuid,
    func,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from athena_prefect.storage.types import Duration, Json, MapIndex, RowId, UtcDateTime

VERSION_TABLE = "athena_alembic_version"
"""Our own, so that a database may be shared with others that use Alembic."""

NAMES = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}
"""Constraint names; a nameless constraint could not be altered by a migration."""


class Base(DeclarativeBase):
    """Base of all tables."""

    metadata = MetaData(naming_convention=NAMES)
    type_annotation_map: ClassVar[dict[Any, Any]] = {
        datetime: UtcDateTime(),
        timedelta: Duration(),
        Mapping[str, Any]: Json,
        UUID: Uuid(),
        str: Text(),
    }


def _created() -> Mapped[datetime]:
    return mapped_column(UtcDateTime(), server_default=func.now())


def _decision() -> Mapped[int]:
    return mapped_column(ForeignKey("planning_decisions.id"))


class PlanRow(Base):
    """A plan by its name, within a namespace (dev, stage, prod)."""

    __tablename__ = "plans"
    __table_args__ = (UniqueConstraint("namespace", "name"),)

    id: Mapped[int] = mapped_column(RowId, primary_key=True)
    namespace: Mapped[str] = mapped_column(String(255))
    name: Mapped[str] = mapped_column(String(255))
    created_at: Mapped[datetime] = _created()


class DocumentRow(Base):
    """A plan document, kept once however many decisions rest on it."""

    __tablename__ = "plan_documents"

    hash: Mapped[str] = mapped_column(String(64), primary_key=True)
    """SHA-256 of the canonical JSON text."""
    content: Mapped[Mapping[str, Any]] = mapped_column(Json)
    created_at: Mapped[datetime] = _created()


_PLAN_LEVEL = text("plan_run IS NULL")


class DecisionRow(Base):
    """A planning decision: a plan revision, or one of a plan run."""

    __tablename__ = "planning_decisions"
    __table_args__ = (
        UniqueConstraint("plan_run", "revision"),
        Index(
            "uq_planning_decisions_plan_id_revision",
            "plan_id",
            "revision",
            unique=True,
            sqlite_where=_PLAN_LEVEL,
            postgresql_where=_PLAN_LEVEL,
        ),
    )

    id: Mapped[int] = mapped_column(RowId, primary_key=True)
    plan_id: Mapped[int] = mapped_column(ForeignKey("plans.id"))
    plan_run: Mapped[UUID | None] = mapped_column(ForeignKey("plan_runs.id"))
    revision: Mapped[int]
    """Of the plan, or of the plan run where there is one; counted from 1."""
    document: Mapped[str] = mapped_column(ForeignKey("plan_documents.hash"))
    author: Mapped[str]
    reason: Mapped[str]
    validation_status: Mapped[str] = mapped_column(String(50))
    created_at: Mapped[datetime] = _created()


class PlanRunRow(Base):
    """One execution of a plan."""

    __tablename__ = "plan_runs"
    __table_args__ = (Index(None, "plan_id", "started_at"), Index(None, "flow_run_id"))

    id: Mapped[UUID] = mapped_column(primary_key=True)
    plan_id: Mapped[int] = mapped_column(ForeignKey("plans.id"))
    flow_run_id: Mapped[UUID | None]
    parameters: Mapped[Mapping[str, Any]] = mapped_column(Json)
    """Never secrets."""
    logical_date: Mapped[datetime | None]
    source: Mapped[str | None]
    """The plan document's file, from which the project root is found on resuming."""
    status: Mapped[str] = mapped_column(String(50))
    reason: Mapped[str]
    started_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]
    created_at: Mapped[datetime] = _created()


class RevisionRow(Base):
    """A revision of a plan run, with what was promised when it was accepted."""

    __tablename__ = "revisions"

    plan_run: Mapped[UUID] = mapped_column(ForeignKey("plan_runs.id"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    decision_id: Mapped[int] = _decision()
    figures: Mapped[Mapping[str, Any] | None] = mapped_column(Json)
    created_at: Mapped[datetime] = _created()


class EventRow(Base):
    """An entry of the journal at its place in its plan run."""

    __tablename__ = "events"
    __table_args__ = (
        UniqueConstraint("plan_run", "key", "content_hash"),
        # The rows in the order in which they are read, without a second tree.
        {"sqlite_with_rowid": False},
    )

    plan_run: Mapped[UUID] = mapped_column(primary_key=True)
    position: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    key: Mapped[str]
    content_hash: Mapped[str] = mapped_column(String(32))
    conflict: Mapped[bool]
    """The same key had been written before with another content."""
    at: Mapped[datetime]
    document: Mapped[Mapping[str, Any]] = mapped_column(Json)


class LeaseRow(Base):
    """Who may dispatch a plan run, and where its journal ends.

    One row, so that one lock orders appends, checks the token and grants leases.
    """

    __tablename__ = "leases"

    plan_run: Mapped[UUID] = mapped_column(primary_key=True)
    token: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    """Grows by one with each acquisition and is never reset."""
    holder: Mapped[str | None]
    process: Mapped[str | None]
    """Identity of the holder's process (`storage.process.Process`), to see whether it lives."""
    expires_at: Mapped[datetime | None]
    last_position: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    """On PostgreSQL, whose lock it shares; on SQLite the events themselves say it."""


class ExecutionRecordRow(Base):
    """What one attempt of a task (or item) was to be and was: a projection of the journal."""

    __tablename__ = "execution_records"
    __table_args__ = (
        UniqueConstraint("plan_run", "task_id", "map_index", "attempt"),
        Index(None, "plan_id"),
    )

    id: Mapped[int] = mapped_column(RowId, primary_key=True)
    plan_id: Mapped[int] = _decision()
    plan_run: Mapped[UUID] = mapped_column(ForeignKey("plan_runs.id"))
    revision: Mapped[int]
    task_id: Mapped[str] = mapped_column(String(255))
    map_index: Mapped[int | None] = mapped_column(MapIndex(), nullable=False)
    """-1 in the table: the task itself."""
    attempt: Mapped[int]
    task_run_id: Mapped[str | None]
    planned_start: Mapped[datetime | None]
    actual_start: Mapped[datetime | None]
    planned_duration: Mapped[timedelta | None]
    actual_duration: Mapped[timedelta | None]
    outcome: Mapped[str | None] = mapped_column(String(50))
    resources_planned: Mapped[Mapping[str, Any] | None] = mapped_column(Json)
    resources_allocated: Mapped[Mapping[str, Any] | None] = mapped_column(Json)
    resources_used: Mapped[Mapping[str, Any] | None] = mapped_column(Json)
    deviation: Mapped[float | None]
    """(actual - planned) / planned duration, a fraction."""
    mode: Mapped[str | None] = mapped_column(String(255))
    queue_time: Mapped[timedelta | None]
    """Between being ready and starting; of first attempts."""
    cached: Mapped[bool | None]
    """Nothing ran: an earlier result was taken."""
    abandoned: Mapped[bool | None]
    created_at: Mapped[datetime] = _created()


class AssumptionValidationRow(Base):
    """One check of an assumption; `valid` is null where it could not be made."""

    __tablename__ = "assumption_validations"
    __table_args__ = (
        UniqueConstraint("plan_run", "assumption_id", "check_id"),
        Index(None, "plan_id"),
    )

    id: Mapped[int] = mapped_column(RowId, primary_key=True)
    plan_id: Mapped[int] = _decision()
    plan_run: Mapped[UUID | None] = mapped_column(ForeignKey("plan_runs.id"))
    check_id: Mapped[str] = mapped_column(String(255))
    assumption_id: Mapped[str] = mapped_column(String(255))
    validation_time: Mapped[datetime | None]
    verdict: Mapped[str] = mapped_column(String(50))
    valid: Mapped[bool | None]
    confidence: Mapped[float | None]
    validation_data: Mapped[Mapping[str, Any] | None] = mapped_column(Json)
    created_at: Mapped[datetime] = _created()


class ExecutionPatternRow(Base):
    """Something that recurs over runs: durations, resources or dependencies."""

    __tablename__ = "execution_patterns"
    __table_args__ = (Index(None, "plan_id"),)

    id: Mapped[int] = mapped_column(RowId, primary_key=True)
    plan_id: Mapped[int | None] = mapped_column(ForeignKey("planning_decisions.id"))
    pattern_type: Mapped[str] = mapped_column(String(50))
    description: Mapped[str]
    frequency: Mapped[int]
    confidence: Mapped[float | None]
    actionable: Mapped[bool]
    created_at: Mapped[datetime] = _created()


class ReplanningEventRow(Base):
    """A decision about the rest of a run; ABORT and declined proposals have no new plan."""

    __tablename__ = "replanning_events"
    __table_args__ = (Index(None, "original_plan_id"),)

    id: Mapped[int] = mapped_column(RowId, primary_key=True)
    original_plan_id: Mapped[int] = _decision()
    new_plan_id: Mapped[int | None] = mapped_column(ForeignKey("planning_decisions.id"))
    trigger_reason: Mapped[str]
    strategy: Mapped[str] = mapped_column(String(50))
    outcome: Mapped[str] = mapped_column(String(50))
    created_at: Mapped[datetime] = _created()


class LessonRow(Base):
    """What runs taught, for the next plan."""

    __tablename__ = "lessons"
    __table_args__ = (UniqueConstraint("namespace", "plan_name", "kind", "subject"),)

    id: Mapped[int] = mapped_column(RowId, primary_key=True)
    namespace: Mapped[str] = mapped_column(String(255))
    plan_name: Mapped[str] = mapped_column(String(255), server_default="")
    """Empty: it holds for every plan of the namespace."""
    kind: Mapped[str] = mapped_column(String(50))
    subject: Mapped[str] = mapped_column(String(255))
    statement: Mapped[str]
    data: Mapped[Mapping[str, Any]] = mapped_column(Json)
    samples: Mapped[int]
    confidence: Mapped[float | None]
    created_at: Mapped[datetime] = _created()
    updated_at: Mapped[datetime] = _created()

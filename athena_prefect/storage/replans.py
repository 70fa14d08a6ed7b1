"""Decisions about the rest of a run as rows of `replanning_events`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, desc, insert, select

from athena_prefect.storage.db import Database
from athena_prefect.storage.tables import ReplanningEventRow

MOST = 255
"""Characters of a reason: the specification's column is that wide."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplanningEvent:
    """One decision about the rest of a run. ABORT and declined proposals have no new plan."""

    id: int
    original_plan_id: int
    new_plan_id: int | None
    trigger_reason: str
    strategy: str
    outcome: str
    """proposed, adopted, declined, failed, aborted."""
    created_at: datetime


def add_replanning_event(
    database: Database,
    *,
    original_plan_id: int,
    new_plan_id: int | None,
    trigger_reason: str,
    strategy: str,
    outcome: str,
) -> int:
    """Write a decision down; its id. Raises StorageError."""
    with database.writing() as connection:
        return insert_replanning_event(
            connection,
            original_plan_id=original_plan_id,
            new_plan_id=new_plan_id,
            trigger_reason=trigger_reason,
            strategy=strategy,
            outcome=outcome,
        )


def insert_replanning_event(
    connection: Connection,
    *,
    original_plan_id: int,
    new_plan_id: int | None,
    trigger_reason: str,
    strategy: str,
    outcome: str,
) -> int:
    """Write a decision down in a transaction that is open; its id."""
    row = {
        "original_plan_id": original_plan_id,
        "new_plan_id": new_plan_id,
        "trigger_reason": trigger_reason[:MOST],
        "strategy": strategy,
        "outcome": outcome,
    }
    statement = insert(ReplanningEventRow).values(**row).returning(ReplanningEventRow.id)
    return int(connection.execute(statement).scalar_one())


def replanning_events(
    database: Database, decision_ids: Sequence[int], *, limit: int = 1000
) -> tuple[ReplanningEvent, ...]:
    """The events that began from, or led to, these decisions, the newest first."""
    wanted = list(decision_ids)
    query = (
        select(
            ReplanningEventRow.id,
            ReplanningEventRow.original_plan_id,
            ReplanningEventRow.new_plan_id,
            ReplanningEventRow.trigger_reason,
            ReplanningEventRow.strategy,
            ReplanningEventRow.outcome,
            ReplanningEventRow.created_at,
        )
        .where(
            ReplanningEventRow.original_plan_id.in_(wanted)
            | ReplanningEventRow.new_plan_id.in_(wanted)
        )
        .order_by(desc(ReplanningEventRow.id))
        .limit(limit)
    )
    with database.reading() as connection:
        return tuple(ReplanningEvent(**row._mapping) for row in connection.execute(query))

"""Lessons and outcomes as rows: what learning remembers from run to run. A `MemoryLayer`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, delete, insert, select, update
from sqlalchemy.dialects.postgresql import insert as postgres_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from athena_prefect.learning.memory import (
    ConsolidationEngine,
    Evidence,
    Lesson,
    MemoryPolicy,
    Outcome,
    consolidated,
)
from athena_prefect.storage.db import Database
from athena_prefect.storage.decisions import plan_id_of
from athena_prefect.storage.tables import DecisionRow, ExecutionPatternRow, LessonRow

OUTCOME = "outcome"
"""`pattern_type` of the row that says how a decision was carried out."""
HELD, MISSED = "held", "missed"
"""`validation_status` of a decision whose run kept what was promised with it, or did not."""


class StoredLessons:
    """The lessons in `database`, of one namespace. May raise StorageUnavailableError."""

    def __init__(
        self,
        database: Database,
        *,
        namespace: str = "default",
        policy: MemoryPolicy | None = None,
    ) -> None:
        self._database = database
        self._namespace = namespace
        self._policy = policy or MemoryPolicy()

    def lessons(self) -> Sequence[Lesson]:
        """All lessons of the namespace, the newest first."""
        with self._database.reading() as connection:
            found = _read(connection, self._namespace)
        return sorted(found.values(), key=lambda lesson: (lesson.last, lesson.key), reverse=True)

    def learn(self, said: Iterable[Evidence], engine: ConsolidationEngine) -> Sequence[Lesson]:
        """Bring what runs said into the lessons, all or none; those that changed.

        Two that learn at once take turns, plan by plan, so that no run is lost or counted twice.
        """
        given = list(said)
        if not given:
            return ()
        with self._database.writing() as connection:
            # The plans' rows are the lock, in one order, so that nobody waits in a ring.
            for plan in sorted({f.plan for f in given if f.plan}):
                plan_id_of(connection, self._namespace, plan)
            known = _read(connection, self._namespace, {f.plan for f in given})
            changed = consolidated(known, given, engine)
            for lesson in changed:
                self._write(connection, lesson)
        return changed

    def _write(self, connection: Connection, lesson: Lesson) -> None:
        make = sqlite_insert if self._database.sqlite else postgres_insert
        plan, kind, subject = lesson.key
        row = {
            "statement": lesson.statement,
            "data": lesson.as_dict(),
            "samples": lesson.samples,
            # As of its newest run; with time it fades, which readers reckon.
            "confidence": lesson.confidence(lesson.last, self._policy),
            "updated_at": lesson.last,
        }
        key = {
            "namespace": self._namespace, "plan_name": plan, "kind": kind, "subject": subject,
        }  # fmt: skip
        statement = make(LessonRow).values(**key, **row)
        connection.execute(statement.on_conflict_do_update(index_elements=list(key), set_=row))

    def forget(self, plan: str, kind: str, subject: str) -> bool:
        """Take a lesson out; whether it was there."""
        with self._database.writing() as connection:
            gone = connection.execute(
                delete(LessonRow).where(
                    LessonRow.namespace == self._namespace,
                    LessonRow.plan_name == plan,
                    LessonRow.kind == kind,
                    LessonRow.subject == subject,
                )
            )
            return bool(gone.rowcount)

    def store_outcome(self, outcome: Outcome) -> int:
        """Keep how a decision was carried out and what recurred; the outcome's row id.

        Where there is an outcome of that decision it is replaced. The decision's
        validation status says whether it kept its promise.
        """
        with self._database.writing() as connection:
            made = _pattern(
                connection, outcome.plan_id, type=OUTCOME, description=outcome.summary,
                frequency=1, confidence=None, actionable=False,
            )  # fmt: skip
            for pattern in outcome.patterns:
                _pattern(connection, outcome.plan_id, **pattern)
            if outcome.held is not None:
                connection.execute(
                    update(DecisionRow)
                    .where(DecisionRow.id == outcome.plan_id)
                    .values(validation_status=HELD if outcome.held else MISSED)
                )
        return made


def _pattern(connection: Connection, plan_id: int, **pattern: Any) -> int:
    """Write a pattern of a decision, over the one of the same kind and words; its row id."""
    row = ExecutionPatternRow
    kind, words = pattern.pop("type"), pattern.pop("description")
    same = [row.plan_id == plan_id, row.pattern_type == kind]
    if kind != OUTCOME:
        same.append(row.description == words)
    found = connection.execute(select(row.id).where(*same)).scalars().first()
    values = {"description": words, **pattern}
    if found is not None:
        connection.execute(update(row).where(row.id == found).values(**values))
        return found
    statement = insert(row).values(plan_id=plan_id, pattern_type=kind, **values).returning(row.id)
    return connection.execute(statement).scalar_one()


def _read(
    connection: Connection, namespace: str, plans: Iterable[str] | None = None
) -> Mapping[tuple[str, str, str], Lesson]:
    query = select(LessonRow.data).where(LessonRow.namespace == namespace)
    if plans is not None:
        query = query.where(LessonRow.plan_name.in_(list(plans)))
    found = [Lesson.from_dict(data) for data in connection.execute(query).scalars()]
    return {lesson.key: lesson for lesson in found}


def outcomes(database: Database, plan_id: int) -> tuple[str, datetime] | None:
    """How a decision was carried out, in words, and when that was written; None if it was not."""
    row = ExecutionPatternRow
    query = select(row.description, row.created_at).where(
        row.plan_id == plan_id, row.pattern_type == OUTCOME
    )
    with database.reading() as connection:
        found = connection.execute(query).first()
    return None if found is None else (found.description, found.created_at)

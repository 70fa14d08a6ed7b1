"""What is remembered of finished runs: brought in, listed, recalled for a plan."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

from athena_prefect.learning.memory import Lesson, MemoryPolicy, Recalled, recall
from athena_prefect.plan.model import Plan
from athena_prefect.service.addressing import plan_and_file
from athena_prefect.service.following import Clock, utc_now
from athena_prefect.service.results import _Answer
from athena_prefect.storage.db import Database

if TYPE_CHECKING:
    from athena_prefect.learning.code import Slowdown
    from athena_prefect.learning.records import RunRecord
    from athena_prefect.learning.results import ExecutionPattern
    from athena_prefect.settings import AthenaSettings
    from athena_prefect.storage.decisions import RunRow
    from athena_prefect.storage.lessons import StoredLessons
    from athena_prefect.storage.plans import PlanStore


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownLesson(_Answer):
    """A lesson as it stands now."""

    lesson: Lesson
    confidence: float | None
    faded: bool
    tasks: tuple[str, ...] = ()
    """Of the plan that was asked for, those that it concerns."""
    because: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownLessons(_Answer):
    """What is remembered, of every plan or for one."""

    plan: str | None
    lessons: tuple[KnownLesson, ...]


def lessons(
    plan: str | Path | None = None,
    *,
    settings: AthenaSettings,
    every: bool = False,
    clock: Clock = utc_now,
) -> KnownLessons:
    """What is remembered, the newest first; with a plan what concerns it, the surest first.

    `every`: faded ones too. Raises StorageError.
    """
    document = None if plan is None else plan_and_file(plan, settings)[0]
    found = known_lessons(document, settings=settings, now=clock(), every=every)
    return KnownLessons(plan=None if document is None else document.name, lessons=found)


def known_lessons(
    plan: Plan | None, *, settings: AthenaSettings, now: datetime, every: bool = False
) -> tuple[KnownLesson, ...]:
    """Those that concern `plan`, the surest first; without one all, the newest first."""
    from athena_prefect.storage.lessons import StoredLessons

    kept = StoredLessons(Database.open(settings), namespace=settings.namespace).lessons()
    if plan is not None:
        return tuple(_known(r.lesson, now, r) for r in recall(kept, plan, now=now))
    known = (_known(lesson, now) for lesson in kept)
    return tuple(k for k in known if every or not k.faded)


def recalled(plan: Plan, *, settings: AthenaSettings, now: datetime) -> tuple[Recalled, ...]:
    """The lessons for a plan that is to be made; none where no database has any yet."""
    from athena_prefect.storage.lessons import StoredLessons

    database = Database.open(settings)
    if not database.current():
        return ()
    kept = StoredLessons(database, namespace=settings.namespace).lessons()
    return recall(kept, plan, now=now)


def remembered(
    plan: Plan,
    runs: Sequence[RunRecord],
    slow: Iterable[Slowdown],
    patterns: Sequence[ExecutionPattern],
    settings: AthenaSettings,
    now: datetime,
) -> tuple[KnownLesson, ...]:
    """What the runs say brought into the lessons, each run once; the plan's own afterwards."""
    from athena_prefect.learning.evidence import code_evidence
    from athena_prefect.learning.memory import Consolidation
    from athena_prefect.learning.remembering import remember
    from athena_prefect.storage.lessons import StoredLessons
    from athena_prefect.storage.plans import PlanStore

    database = Database.open(settings)
    memory, engine = StoredLessons(database, namespace=settings.namespace), Consolidation()
    store = PlanStore(database)
    for run in runs:
        row = store.run(UUID(run.run))
        newest = run is runs[-1]
        said = (
            code_evidence(slow, memory.lessons(), run, decision=row.decision_id) if newest else ()
        )
        remember(
            memory, engine, plan_id=row.decision_id, runs=[run], lessons=said,
            patterns=patterns if newest else (),
            held=_held(run, store.figures(row.plan_run, row.revision)),
        )  # fmt: skip
        if row.revision > 1:
            _judge_replaced(memory, store, row, run)
    return tuple(_known(lesson, now) for lesson in memory.lessons() if lesson.plan == plan.name)


def _judge_replaced(memory: StoredLessons, store: PlanStore, row: RunRow, run: RunRecord) -> None:
    """Say of the revisions that were replaced in a run whether what they promised was missed.

    That one was kept cannot be told of them: the run was over by another one.
    """
    from athena_prefect.learning.memory import Outcome

    for decision in store.decisions(plan_run=row.plan_run):
        if decision.revision < row.revision:
            kept = _held(run, store.figures(row.plan_run, decision.revision))
            missed = run.status == "completed" and kept is False
            words = f"replaced in the run; revision {row.revision} was in force at its end"
            memory.store_outcome(
                Outcome(plan_id=decision.id, summary=words, held=False if missed else None)
            )


def _held(run: RunRecord, figures: Mapping[str, Any] | None) -> bool | None:
    """Whether a run was over by the finish that was promised; None where nothing was."""
    if run.ended is None or run.started is None:
        return None
    if run.status != "completed":
        return False
    promised = (figures or {}).get("accepted")
    if promised is not None:
        return (run.ended - run.started).total_seconds() <= float(promised)
    first = next(iter(run.forecasts), None)
    at = None if first is None else first.quantiles.get(0.9)
    return None if at is None else run.ended <= at


def _known(lesson: Lesson, now: datetime, found: Recalled | None = None) -> KnownLesson:
    policy = MemoryPolicy()
    return KnownLesson(
        lesson=lesson,
        confidence=lesson.confidence(now, policy),
        faded=lesson.faded(now, policy),
        tasks=() if found is None else found.tasks,
        because="" if found is None else found.because,
    )

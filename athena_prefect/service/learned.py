"""What finished runs teach, by `plan_id`: of its plan, or of all that the namespace has."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from athena_prefect.learning.learner import ExecutionLearner
from athena_prefect.learning.policy import LearningPolicy
from athena_prefect.learning.results import EstimationMetrics, ExecutionPattern, Recommendation
from athena_prefect.service.addressing import decision_of, store_of
from athena_prefect.service.following import Clock, utc_now
from athena_prefect.service.remembering import KnownLesson, known_lessons
from athena_prefect.service.taught import RUNS

if TYPE_CHECKING:
    from athena_prefect.settings import AthenaSettings
    from athena_prefect.storage.history import StoredHistory


@dataclass(frozen=True, slots=True, kw_only=True)
class Basis:
    """The history that an answer rests on."""

    plan: str | None
    """None: every plan of the namespace."""
    runs: int
    """Finished ones."""
    attempts: int
    learner: ExecutionLearner
    source: StoredHistory


def history_of(plan_id: int | None, *, settings: AthenaSettings) -> Basis:
    """The finished runs of the plan that a `plan_id` means, or of all plans.

    Raises UnknownNameError, StorageError.
    """
    from athena_prefect.storage.db import Database
    from athena_prefect.storage.history import StoredHistory

    plan = None if plan_id is None else decision_of(plan_id, settings).plan
    source = StoredHistory(Database.open(settings), namespace=settings.namespace)
    history = source.history(plan, runs=RUNS)
    learner = ExecutionLearner()
    learner.history(history)
    return Basis(plan=plan, runs=len(history.runs), attempts=len(history), learner=learner,
        source=source)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Accuracy:
    """How accurate estimates were, and over what."""

    basis: Basis
    metrics: EstimationMetrics


def accuracy_of(plan_id: int | None = None, *, settings: AthenaSettings) -> Accuracy:
    """How accurate estimates were. Raises UnknownNameError, StorageError."""
    basis = history_of(plan_id, settings=settings)
    return Accuracy(basis=basis, metrics=basis.learner.compute_estimation_accuracy())


@dataclass(frozen=True, slots=True, kw_only=True)
class Recurring:
    """What recurs from run to run, and over what."""

    basis: Basis
    patterns: tuple[ExecutionPattern, ...]
    least_runs: int
    """From which an effect is told from chance."""


def patterns_of(plan_id: int, *, settings: AthenaSettings) -> Recurring:
    """What recurs in the runs of a plan. Raises UnknownNameError, StorageError."""
    basis = history_of(plan_id, settings=settings)
    return Recurring(
        basis=basis,
        patterns=tuple(basis.learner.extract_execution_patterns()),
        least_runs=LearningPolicy().least_runs,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """What to change in the next plan, what is remembered, and over what that is known."""

    basis: Basis
    recommendations: tuple[Recommendation, ...]
    lessons: tuple[KnownLesson, ...]
    """For the plan those that concern it, the surest first; of all plans the newest first."""
    now: datetime
    """As of when the lessons stand so."""
    least_runs: int
    """From which an effect is told from chance."""


def recommendations_of(
    plan_id: int | None = None, *, settings: AthenaSettings, clock: Clock = utc_now
) -> Advice:
    """What to change in the next plan, and the lessons for it; nothing is learned anew.

    Raises UnknownNameError, StorageError.
    """
    from athena_prefect.learning.recommendations import recommendations

    now = clock()
    basis = history_of(plan_id, settings=settings)
    # Replays need what columns do not have, such as planned starts: the runs as they were.
    patterns = basis.learner.extract_execution_patterns()
    found = recommendations(basis.source.recent(basis.plan), patterns=patterns)
    return Advice(
        basis=basis,
        recommendations=found,
        lessons=_lessons(basis.plan, settings, now),
        now=now,
        least_runs=LearningPolicy().least_runs,
    )


def _lessons(plan: str | None, settings: AthenaSettings, now: datetime) -> tuple[KnownLesson, ...]:
    store = store_of(settings)
    document = None if plan is None else store.plan(plan, namespace=settings.namespace)
    return known_lessons(document, settings=settings, now=now)

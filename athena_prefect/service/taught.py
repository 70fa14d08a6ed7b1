"""What is told of finished runs: how good estimates were, what recurs, a report's part of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from athena_prefect.learning.results import EstimationMetrics, ExecutionPattern
from athena_prefect.plan.model import Plan
from athena_prefect.service.addressing import plan_and_file
from athena_prefect.service.results import _Answer
from athena_prefect.service.slowdowns import sampled_tasks
from athena_prefect.storage.db import Database

if TYPE_CHECKING:
    from athena_prefect.learning.frame import History
    from athena_prefect.service.learning import Learned
    from athena_prefect.settings import AthenaSettings

RUNS = 200
"""Newest runs of a plan that are looked at: patterns need dozens, and half a year of nights is
more than a pipeline stays what it is."""
MOST_RUNS = 1000
"""Newest runs of a namespace among which plans to learn from are looked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanAccuracy(_Answer):
    """How good a plan's estimates were, and our own forecasts."""

    plan: str | None
    runs: int
    accuracy: EstimationMetrics


@dataclass(frozen=True, slots=True, kw_only=True)
class Taught:
    """What a plan's runs taught, for a report."""

    runs: int
    accuracy: EstimationMetrics
    errors: tuple[tuple[datetime, float], ...]
    """(start of a run, mean size of its estimates' errors), the oldest first."""
    lessons: tuple[str, ...]
    sampled: tuple[str, ...] = ()
    """Where the time of tasks went, in words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownPatterns(_Answer):
    """What recurs over the runs of a plan, or of all."""

    plan: str | None
    runs: int
    patterns: tuple[ExecutionPattern, ...]


def accuracy(
    plan: str | Path | None = None, *, settings: AthenaSettings, runs: int | None = None
) -> PlanAccuracy:
    """How good the estimates of a plan were, or of all plans. Raises StorageError."""
    from athena_prefect.learning.learner import ExecutionLearner

    name, history = _history(plan, settings, runs)
    found = ExecutionLearner().compute_estimation_accuracy(history)
    return PlanAccuracy(plan=name, runs=len(history.runs), accuracy=found)


def patterns(
    plan: str | Path | None = None, *, settings: AthenaSettings, runs: int | None = None
) -> KnownPatterns:
    """What recurs over the runs of a plan, or of all plans. Raises StorageError."""
    from athena_prefect.learning.learner import ExecutionLearner

    name, history = _history(plan, settings, runs)
    found = ExecutionLearner().extract_execution_patterns(history)
    return KnownPatterns(plan=name, runs=len(history.runs), patterns=tuple(found))


def taught(plan: Plan, *, settings: AthenaSettings) -> Taught:
    """What the runs of a plan taught, for a report. Raises StorageError."""
    from athena_prefect.learning.learner import ExecutionLearner
    from athena_prefect.storage.history import StoredHistory
    from athena_prefect.storage.lessons import StoredLessons

    _, history = _history(None, settings, RUNS, name=plan.name)
    database = Database.open(settings)
    kept = StoredLessons(database, namespace=settings.namespace).lessons()
    source = StoredHistory(database, namespace=settings.namespace)
    return Taught(
        runs=len(history.runs),
        accuracy=ExecutionLearner().compute_estimation_accuracy(history),
        errors=errors_of(history),
        lessons=tuple(k.statement for k in kept if k.plan == plan.name),
        sampled=tuple(str(s) for s in sampled_tasks(plan, source)),
    )


def errors_of(history: History) -> tuple[tuple[datetime, float], ...]:
    """Mean of |actual − planned| / planned by run, of runs that have any."""
    rows = np.flatnonzero(history.succeeded & (history.planned > 0))
    error = np.abs(history.duration[rows] / history.planned[rows] - 1.0)
    count = np.bincount(history.run[rows], minlength=len(history.runs))
    total = np.bincount(history.run[rows], weights=error, minlength=len(history.runs))
    return tuple(
        (run.started, float(total[i] / count[i]))
        for i, run in enumerate(history.runs)
        if count[i] and run.started is not None
    )


def publish_learned(found: Learned, *, settings: AthenaSettings) -> str:
    """Keep what was learned as a Prefect artifact of the running flow; its key."""
    from prefect.artifacts import create_markdown_artifact

    from athena_prefect.report.learning import learned_markdown
    from athena_prefect.runtime.dashboard import artifact_key

    key = artifact_key(found.plan, "learned", settings.namespace)
    text = learned_markdown(
        found.plan, found.runs, found.accuracy,
        bottlenecks=found.bottlenecks, recommendations=found.recommendations,
        lessons=[(k.lesson.statement, k.confidence, k.lesson.samples) for k in found.lessons],
        errors=found.errors, slowdowns=[str(s) for s in found.slowdowns],
        sampled=[str(s) for s in found.sampled],
    )  # fmt: skip
    create_markdown_artifact(key=key, markdown=text, description=f"What runs of {found.plan} teach")
    return key


def plans_that_ran(*, settings: AthenaSettings) -> tuple[str, ...]:
    """The plans of the namespace that have a run. Raises StorageError."""
    from athena_prefect.storage.plans import PlanStore

    rows = PlanStore(Database.open(settings)).runs(settings.namespace, limit=MOST_RUNS)
    return tuple(dict.fromkeys(r.plan for r in rows))


def _history(
    plan: str | Path | None,
    settings: AthenaSettings,
    runs: int | None,
    *,
    name: str | None = None,
) -> tuple[str | None, History]:
    from athena_prefect.storage.history import StoredHistory

    name = name if plan is None else plan_and_file(plan, settings)[0].name
    source = StoredHistory(Database.open(settings), namespace=settings.namespace)
    return name, source.history(name, runs=runs)

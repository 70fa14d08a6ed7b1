"""What finished runs teach: learned, remembered, and written into the plan."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from athena_prefect.errors import InputError
from athena_prefect.learning.code import Slowdown
from athena_prefect.learning.results import (
    Bottleneck,
    EstimationMetrics,
    ExecutionPattern,
    Recommendation,
)
from athena_prefect.plan.model import Plan
from athena_prefect.service.addressing import plan_and_file
from athena_prefect.service.applying import chosen_of, known_only, with_patch
from athena_prefect.service.following import Clock, utc_now
from athena_prefect.service.remembering import KnownLesson, remembered
from athena_prefect.service.results import _Answer
from athena_prefect.service.slowdowns import Sampled, sampled_tasks, slowdowns
from athena_prefect.service.taught import RUNS, errors_of
from athena_prefect.storage.db import Database

if TYPE_CHECKING:
    from athena_prefect.settings import AthenaSettings

Told = Callable[[str], None]
"""What is told of the step that is begun, where answers take long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Learned(_Answer):
    """What the newest runs of a plan teach."""

    plan: str
    runs: int
    tasks: int
    """Attempts that were looked at."""
    accuracy: EstimationMetrics
    errors: tuple[tuple[datetime, float], ...] = ()
    """(start of a run, mean size of its estimates' errors), the oldest first."""
    patterns: tuple[ExecutionPattern, ...] = ()
    bottlenecks: tuple[Bottleneck, ...] = ()
    recommendations: tuple[Recommendation, ...] = ()
    slowdowns: tuple[Slowdown, ...] = ()
    sampled: tuple[Sampled, ...] = ()
    """Where the time of tasks went, of those that a run has sampled lately."""
    lessons: tuple[KnownLesson, ...] = ()
    """The plan's own, as they are after these runs."""
    diff: str = ""
    """What the plan document would become, or became."""
    proposed: tuple[str, ...] = ()
    """Ids of the recommendations that the diff is made of."""
    applied: bool = False
    plan_id: int | None = None
    """Of the plan revision that was stored."""
    reason: str = ""
    """Why nothing could be learned, or nothing is proposed."""


def learn(
    plan: str | Path,
    *,
    settings: AthenaSettings,
    apply: bool = False,
    only: Sequence[str] = (),
    runs: int = RUNS,
    clock: Clock = utc_now,
    told: Told = lambda _: None,
    before: Told = lambda _: None,
) -> Learned:
    """What the newest runs of a plan teach; remembered, and with `apply` written into the plan.

    `plan` is a document, or the name of a plan whose runs are known. `only`: ids of
    the recommendations to take; without it those with a confidence of `USABLE` and
    more that need nothing from outside. `before` is given the diff before anything
    is written. The document changes as a whole or not at all, and becomes the plan's
    newest revision. Raises PlanDocumentError,
    UnknownNameError, InputError, StorageError.
    """
    document, file = plan_and_file(plan, settings)
    if apply and file is None:
        raise InputError(
            f"--apply changes a plan document; give the file of {document.name!r}, not its name"
        )
    told("reading finished runs")
    found = _look(document, settings, runs, told, clock())
    if not found.runs:
        known_only(only, found.recommendations)
        return found
    chosen = chosen_of(document, found.recommendations, only)
    told("writing the plan" if apply else "comparing with the plan")
    return with_patch(found, document, file, chosen, apply=apply, settings=settings, before=before)


def _look(
    document: Plan, settings: AthenaSettings, runs: int, told: Told, now: datetime
) -> Learned:
    from athena_prefect.learning.learner import ExecutionLearner
    from athena_prefect.storage.history import StoredHistory

    source = StoredHistory(Database.open(settings), namespace=settings.namespace)
    history = source.history(document.name, runs=runs)
    learner = ExecutionLearner(source=source, plan=document)
    accuracy = learner.compute_estimation_accuracy(history)
    if not history.runs:
        return Learned(
            plan=document.name, runs=0, tasks=0, accuracy=accuracy,
            reason="no run of this plan has finished yet; start one with `athena run PLAN`",
        )  # fmt: skip
    told(f"looking for patterns in {len(history):,} attempts")
    patterns = learner.extract_execution_patterns(history)
    recent = source.recent(document.name)
    told(f"replaying {len(recent)} runs")
    from athena_prefect.learning.blame import blame
    from athena_prefect.learning.bottlenecks import of_blames
    from athena_prefect.learning.past import past
    from athena_prefect.learning.recommendations import recommendations

    blames = [blame(p) for r in recent if (p := past(r)) is not None]
    sampled = sampled_tasks(document, source)
    slow = slowdowns(document, history, source, sampled, told=told)
    return Learned(
        plan=document.name,
        runs=len(history.runs),
        tasks=len(history),
        accuracy=accuracy,
        errors=errors_of(history),
        patterns=tuple(patterns),
        bottlenecks=of_blames(blames),
        recommendations=recommendations(recent, blames=blames, patterns=patterns),
        slowdowns=slow,
        sampled=sampled,
        lessons=remembered(document, recent, slow, patterns, settings, now),
    )

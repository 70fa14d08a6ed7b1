"""What is asked about the rest of a run: its options, and why it is late."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from athena_prefect.errors import InputError
from athena_prefect.plan.model import Plan
from athena_prefect.replanning.account import course_spans, spans_by_task
from athena_prefect.replanning.evaluation import AdaptiveReplanning, ReplanningEvaluation
from athena_prefect.replanning.options import ReplanningOption
from athena_prefect.replanning.why import Why
from athena_prefect.service.following import Clock, FollowedRun, utc_now
from athena_prefect.service.reading import open_run
from athena_prefect.service.results import RunStatus

if TYPE_CHECKING:
    from athena_prefect.learning.memory import Recalled
    from athena_prefect.monitor.monitor import ExecutionMonitor
    from athena_prefect.replanning.engine import AdaptiveReplanningEngine
    from athena_prefect.settings import AthenaSettings

Span = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Replanned:
    """What could be done about the rest of a run; nothing of it is adopted."""

    plan_run: UUID
    plan: Plan
    started: datetime
    evaluation: ReplanningEvaluation
    strategy: AdaptiveReplanning
    """What the options stay within: what is called for, or what was asked for."""
    options: tuple[ReplanningOption, ...]
    recommended: int | None
    before: dict[str, Span] = field(default_factory=dict)
    """Task → start and finish when nothing is changed, in seconds from the start of the run."""
    after: dict[str, Span] = field(default_factory=dict)
    """By the recommended option."""
    now: float = 0.0
    deadline: float | None = None
    revision: int = 1
    """In force when they were solved."""
    hurried: str = ""
    """What the time for options did not suffice for; empty where it did."""

    @property
    def lessons(self) -> tuple[str, ...]:
        """What earlier runs taught and the options rest on."""
        return tuple(dict.fromkeys(lesson for o in self.options for lesson in o.lessons))

    def as_dict(self) -> dict[str, Any]:
        """As JSON-able data."""
        from athena_prefect.monitor.records import plain

        found = self.evaluation
        names = [n for n in found.__dataclass_fields__ if n != "reasons"]
        return {
            "plan_run": str(self.plan_run),
            "plan": self.plan.name,
            "revision": self.revision,
            "strategy": str(self.strategy),
            "evaluation": {n: plain(getattr(found, n)) for n in names}
            | {"reasons": [{"rule": str(r.rule), "strategy": str(r.strategy), "text": r.text}
                           for r in found.reasons]},
            "options": [o.as_dict() for o in self.options],
            "recommended_option": self.recommended,
            "hurried": self.hurried,
            "lessons": list(self.lessons),
            "before": {t: list(s) for t, s in self.before.items()},
            "after": {t: list(s) for t, s in self.after.items()},
        }  # fmt: skip


def _monitor_of(followed: FollowedRun) -> ExecutionMonitor:
    monitor = followed._monitored()
    if monitor is None:
        raise InputError(
            f"plan run {str(followed.plan_run)[:8]} has not begun: there is nothing to replan yet"
        )
    monitor.refresh()
    return monitor


def engine_for(
    monitor: ExecutionMonitor, settings: AthenaSettings | None = None
) -> AdaptiveReplanningEngine:
    """The replanning engine of a monitored run.

    With `settings` its revisions use what earlier runs taught. Raises StorageError.
    """
    from athena_prefect.orchestrator import engine_of

    lessons = () if settings is None else recalled_for(monitor, settings)
    return engine_of(monitor, clock=time.perf_counter, lessons=lessons)


def recalled_for(monitor: ExecutionMonitor, settings: AthenaSettings) -> tuple[Recalled, ...]:
    """What earlier runs taught that concerns the plan of a run. Raises StorageError."""
    from athena_prefect.service.simulating import lessons_for

    return lessons_for(monitor.plan, monitor.brought_up(None)[0], settings)


def replan(
    run: str | None,
    *,
    settings: AthenaSettings,
    strategy: str | None = None,
    clock: Clock = utc_now,
) -> Replanned:
    """Evaluate the rest of a run and solve its options; nothing is stored or adopted.

    Raises UnknownRunError, StorageError, and InputError for a strategy that there is
    not, and for a run that has not begun or is over.
    """
    asked = _strategy(strategy)
    followed = open_run(run, settings=settings, clock=clock)
    monitor = _monitor_of(followed)
    if monitor.finished or monitor.state.end_status in ("completed", "cancelled", "aborted"):
        raise InputError(_why_nothing_is_left(followed.status()))
    engine = engine_for(monitor, settings)
    violations = engine.validator.get_violated_assumptions()
    now = clock()
    deviation = monitor.get_plan_deviation(now=now)
    found = engine.evaluate_replanning_need(deviation, violations, now=now)
    wanted = asked or found.strategy
    options = engine.get_replanning_options(
        deviation,
        violations,
        now=now,
        strategy=None if wanted is AdaptiveReplanning.NONE else wanted,
    )
    recommended = engine.recommended_option(
        AdaptiveReplanning.FULL if asked and found.strategy is AdaptiveReplanning.NONE else wanted
    )
    chosen = None if recommended is None else options[recommended]
    spans = spans_by_task(chosen.proposal.spans) if chosen and chosen.proposal else {}
    moment, progress = monitor.brought_up(now)
    return Replanned(
        plan_run=followed.plan_run,
        plan=monitor.plan,
        started=monitor.started,
        evaluation=found,
        strategy=wanted,
        options=tuple(options),
        recommended=recommended,
        before=course_spans(progress),
        after=spans,
        now=progress.seconds(moment),
        revision=monitor.state.revision,
        deadline=None if monitor.deadline is None else progress.seconds(monitor.deadline),
        hurried=engine.hurried,
    )


def _why_nothing_is_left(status: RunStatus) -> str:
    """In the words of `athena status`, for a run whose end nobody has written, too."""
    name = f"plan run {str(status.plan_run)[:8]}"
    if status.over:
        return f"{name} is over ({status.word}): nothing of it is left"
    if status.interrupted:
        return f"{name} is interrupted: {status.gone}"
    return f"{name} is about to end: nothing of it is left to be done"


def _strategy(name: str | None) -> AdaptiveReplanning | None:
    if name is None:
        return None
    try:
        return AdaptiveReplanning(name.lower())
    except ValueError:
        known = ", ".join(s.value for s in AdaptiveReplanning)
        raise InputError(f"no strategy {name!r}; there are {known}") from None


def why_late(run: str | None, *, settings: AthenaSettings, clock: Clock = utc_now) -> Why:
    """Why a run ends when it does. Raises UnknownRunError, StorageError, InputError."""
    from athena_prefect.assumptions.validator import AssumptionValidator
    from athena_prefect.replanning.why import why

    followed = open_run(run, settings=settings, clock=clock)
    monitor = _monitor_of(followed)
    violations = AssumptionValidator(monitor.plan, monitor).get_violated_assumptions()
    return why(monitor, violations, now=clock())

"""What is asked about the rest of a run: its options, revisions, and why it is late."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

from athena_prefect.errors import InputError, UnknownNameError
from athena_prefect.monitor.learned import ESTIMATES
from athena_prefect.plan.model import Plan
from athena_prefect.replanning.account import course_spans, spans_by_task
from athena_prefect.replanning.evaluation import AdaptiveReplanning, ReplanningEvaluation
from athena_prefect.replanning.options import ReplanningOption
from athena_prefect.replanning.why import Why
from athena_prefect.service.following import Clock, FollowedRun, utc_now
from athena_prefect.service.reading import open_run
from athena_prefect.service.results import RunStatus, _Answer

if TYPE_CHECKING:
    from athena_prefect.learning.memory import Recalled
    from athena_prefect.monitor.monitor import ExecutionMonitor
    from athena_prefect.orchestrator import PlanOrchestrator
    from athena_prefect.replanning.engine import AdaptiveReplanningEngine
    from athena_prefect.replanning.results import ReplanResult
    from athena_prefect.settings import AthenaSettings
    from athena_prefect.storage.decisions import Decision
    from athena_prefect.storage.plans import PlanStore

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


def planner(plan: Plan, lessons: tuple[Recalled, ...] = ()) -> PlanOrchestrator:
    """The orchestrator of this process, by its own clock, with what is recalled for the plan."""
    from athena_prefect.orchestrator import PlanOrchestrator

    return PlanOrchestrator(clock=time.perf_counter, policy=plan.replanning.policy, lessons=lessons)


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


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptRevision(_Answer):
    """A revision of a plan, or of one of its runs."""

    plan_id: int
    plan_run: UUID | None
    revision: int
    author: str
    reason: str
    validation_status: str
    created: datetime
    changes: tuple[str, ...] = ()
    """What it does differently from the one before, in words."""
    strategy: str | None = None
    outcome: str | None = None
    promised: timedelta | None = None
    """The accepted finish, from the start of the run; None where nothing was promised."""
    p_deadline: float | None = None
    """P(deadline) as it was stated when the revision was accepted."""
    kept: bool | None = None
    """Whether the run was over, and well, by what was promised; None while it goes on, where
    another revision took its place, and where nothing was promised."""
    details: tuple[Mapping[str, Any], ...] = ()
    """The changes as data: kind, subject, before, after, and the words."""
    stability: float | None = None
    """How much of the plan before is kept, 1 all; None where nobody measured it."""
    work_lost: timedelta | None = None
    """Work that was done and does not count any more; None where nobody measured it."""


def replanning_accuracy(found: Sequence[KeptRevision]) -> tuple[int, int]:
    """Of revisions that replanning made and that were in force at the end: (kept, judged)."""
    judged = [r.kept for r in found if r.kept is not None and r.revision > 1]
    return sum(judged), len(judged)


def revisions(plan: str, *, settings: AthenaSettings, limit: int = 50) -> tuple[KeptRevision, ...]:
    """The revisions of a plan and of its runs, the newest first.

    `plan` is its name, its document, or a plan run's id. Raises StorageError,
    UnknownNameError.
    """
    from athena_prefect.storage.db import Database
    from athena_prefect.storage.plans import PlanStore
    from athena_prefect.storage.replans import replanning_events

    database = Database.open(settings)
    store = PlanStore(database)
    name, plan_run = _subject(store, plan, settings)
    found = store.decisions(name, plan_run=plan_run, namespace=settings.namespace, limit=limit)
    events = {e.new_plan_id: e for e in replanning_events(database, [d.id for d in found])}
    kept = []
    for decision in found:
        event = events.get(decision.id)
        figures = _figures(store, decision)
        promised, chance, held = _promise(store, decision, figures)
        changed = _changed(store, decision, figures)
        lost = figures.get("work_lost")
        kept.append(
            KeptRevision(
                plan_id=decision.id,
                plan_run=decision.plan_run,
                revision=decision.revision,
                author=decision.author,
                reason=decision.reason,
                validation_status=decision.validation_status,
                created=decision.created_at,
                changes=tuple(str(c["words"]) for c in changed),
                details=changed,
                stability=figures.get("stability"),
                work_lost=None if lost is None else timedelta(seconds=float(lost)),
                strategy=None if event is None else event.strategy,
                outcome=None if event is None else event.outcome,
                promised=promised,
                p_deadline=chance,
                kept=held,
            )
        )
    return tuple(kept)


def _promise(
    store: PlanStore, decision: Decision, figures: Mapping[str, Any]
) -> tuple[timedelta | None, float | None, bool | None]:
    """What a run's revision promised, how sure its deadline was, and whether it was kept."""
    if decision.plan_run is None:
        return None, None, None
    seconds, chance = figures.get("accepted"), figures.get("p_deadline")
    if seconds is None:
        return None, chance, None
    promised, run = timedelta(seconds=float(seconds)), store.run(decision.plan_run)
    if run.ended_at is None or run.revision != decision.revision:
        return promised, chance, None
    in_time = run.ended_at - run.started_at <= promised
    return promised, chance, run.status == "completed" and in_time


def _subject(store: Any, plan: str, settings: AthenaSettings) -> tuple[str | None, UUID | None]:
    if Path(plan).suffix in (".yaml", ".yml", ".json"):
        return Plan.load(Path(plan)).name, None
    if store.decisions(plan, namespace=settings.namespace, limit=1):
        return plan, None
    try:
        return None, store.run(plan).plan_run
    except InputError:
        raise UnknownNameError("registered plan or plan run", plan) from None


def _figures(store: PlanStore, decision: Decision) -> Mapping[str, Any]:
    """What is kept of a run's revision beside its document."""
    if decision.plan_run is None:
        return {}
    return store.figures(decision.plan_run, decision.revision) or {}


def _changed(
    store: PlanStore, decision: Decision, after: Mapping[str, Any]
) -> tuple[Mapping[str, Any], ...]:
    """What a run's revision changed from the one before, as data with words.

    By what was kept with it; where it was made by hand, or long ago, by its document.
    """
    from athena_prefect.plan.revision import changes_between

    if decision.plan_run is None or decision.revision < 2:
        return ()
    if "details" in after:
        return tuple(after["details"])
    old = store.revision(decision.plan_run, decision.revision - 1)
    new = store.revision(decision.plan_run, decision.revision)
    before = store.figures(decision.plan_run, decision.revision - 1) or {}
    changes = changes_between(
        old, new, old_modes=before.get("modes") or {}, new_modes=after.get("modes") or {}
    )
    return tuple(c.as_dict() for c in changes)


def keep_revision(
    plan_run: UUID,
    result: ReplanResult,
    *,
    settings: AthenaSettings,
    author: str = "",
    outcome: str = "proposed",
) -> KeptRevision:
    """Store a run's next revision, and what led to it.

    Raises StorageError where another replan took its number, InputError where it is
    not verified.
    """
    from athena_prefect.storage.db import Database
    from athena_prefect.storage.plans import PlanStore
    from athena_prefect.storage.replans import add_replanning_event

    if not result.verification_passed:
        raise InputError(f"this revision cannot be carried out: {result.why_not}")
    database = Database.open(settings)
    store = PlanStore(database)
    original = store.run(plan_run).decision_id
    stored = store.save_run_revision(
        plan_run,
        result.revision,
        result.new_plan,
        author=author,
        reason=result.reason,
        figures={**result.acceptance, "modes": dict(result.modes)},
    )
    add_replanning_event(
        database,
        original_plan_id=original,
        new_plan_id=stored.id,
        trigger_reason=result.reason,
        strategy=str(result.strategy),
        outcome=outcome,
    )
    return KeptRevision(
        plan_id=stored.id,
        plan_run=plan_run,
        revision=stored.revision,
        author=author,
        reason=result.reason,
        validation_status=stored.validation_status,
        created=stored.created_at,
        changes=result.changes,
        strategy=str(result.strategy),
        outcome=outcome,
        details=tuple(c.as_dict() for c in result.details),
        stability=None if result.stability is None else result.stability.value,
        work_lost=result.work_lost,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class PromotedRevision(_Answer):
    """A run's revision that is the plan's from now on."""

    plan: str
    plan_run: UUID
    run_revision: int
    plan_id: int
    """The decision that keeps it."""
    revision: int
    """Of the plan."""
    file: Path | None
    """The plan's file, which says the same now; None where there is none."""
    former: Path | None
    """Where the file's former content is."""
    changes: tuple[str, ...]


def keep(run: str, *, settings: AthenaSettings) -> PromotedRevision:
    """Make a run's revision in force the plan's: every new run begins with it.

    Runs begin with the plan's file, so the file is written anew; its former content
    stays beside it. Raises UnknownRunError, StorageError, and InputError where there is
    nothing to keep, or the file has changed since the run began.
    """
    from athena_prefect.plan.document import as_dict, digest, dump
    from athena_prefect.plan.revision import changes_between, in_modes
    from athena_prefect.service.by_hand import author
    from athena_prefect.storage.db import Database
    from athena_prefect.storage.plans import PlanStore

    store = PlanStore(Database.open(settings))
    row = store.run(run)
    short = str(row.plan_run)[:8]
    first, newest = store.revision(row.plan_run, 1), store.revision(row.plan_run)
    modes = (store.figures(row.plan_run, row.revision) or {}).get("modes") or {}
    kept = Plan.model_validate(as_dict(in_modes(newest, modes)))
    if digest(kept) == digest(first):
        raise InputError(f"run {short} goes by its plan as it is: there is nothing to keep")
    file, former = row.source, None
    if file is not None and file.exists():
        if digest(Plan.load(file)) != digest(first):
            raise InputError(
                f"{file} has changed since run {short} began; run its present content first, or "
                "put in by hand what `athena revisions " + short + "` says"
            )
        former = file.with_name(f"{file.stem}.before-{short}{file.suffix}")
        file.replace(former)
        dump(kept, file)
    stored = store.register(
        kept,
        author=author(),
        reason=f"kept from revision {row.revision} of run {short}",
        namespace=settings.namespace,
    )
    return PromotedRevision(
        plan=row.plan,
        plan_run=row.plan_run,
        run_revision=row.revision,
        plan_id=stored.id,
        revision=stored.revision,
        file=file if former is not None else None,
        former=former,
        changes=tuple(str(c) for c in changes_between(first, kept)),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Hurt(_Answer):
    """What an assumption that does not hold would do to a plan that has not begun."""

    assumption_id: str
    finish: timedelta | None
    """By how much the P50 finish would move; None where that cannot be told."""
    p_deadline: float | None
    reason: str = ""
    """Why there is no figure."""
    blocks: bool = False
    """Whether the goals would not be reached at all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedPlan(_Answer):
    """A plan run in simulation; seconds from the start."""

    name: str
    tasks: int
    deadline: float | None
    p_deadline: float | None
    quantiles: dict[str, float]
    accepted: float | None
    samples: int
    scenarios: dict[str, float]
    """Finish in the named scenarios: best, nominal, worst, edge, recovery."""
    criticality: dict[str, float]
    """Task → share of the scenarios in which it is on a longest path."""
    assumptions: tuple[Hurt, ...] = ()
    """What hurts most first."""
    reason: str = ""
    """Why there are no figures."""
    basis: str = ESTIMATES
    """What the quantiles rest on: so many finished runs and records, or the plan's estimates."""
    lessons: tuple[str, ...] = ()
    """What was learned from earlier runs, also of other plans, and changed estimates."""


def simulate_plan(
    file: Path | Plan,
    *,
    now: datetime | None = None,
    seed: int = 0,
    settings: AthenaSettings | None = None,
) -> SimulatedPlan:
    """Simulate a plan before it runs. Raises PlanDocumentError, StorageError.

    With `settings` from its finished runs, where their database has enough of them.
    """
    from athena_prefect.service.simulating import finished, lessons_for, simulated

    plan = file if isinstance(file, Plan) else Plan.load(file)
    moment = now or utc_now()
    history = None if settings is None else finished(plan, moment, settings)
    lessons = () if settings is None else lessons_for(plan, moment, settings)
    return simulated(plan, now=moment, seed=seed, history=history, lessons=lessons)

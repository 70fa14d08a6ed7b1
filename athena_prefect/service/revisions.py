"""The revisions of a plan and of its runs: what each changed, promised, and whether it held."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

from athena_prefect.errors import InputError, UnknownNameError
from athena_prefect.plan.model import Plan
from athena_prefect.service.results import _Answer

if TYPE_CHECKING:
    from athena_prefect.replanning.results import ReplanResult
    from athena_prefect.settings import AthenaSettings
    from athena_prefect.storage.decisions import Decision
    from athena_prefect.storage.plans import PlanStore


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
    """The accepted finish, from the start of the run; None where nothing was promised. What a
    run's first revision promises is its baseline's."""
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
    return _accuracy(r for r in found if r.revision > 1)


def first_accuracy(found: Sequence[KeptRevision]) -> tuple[int, int]:
    """Of promises made when runs began, and never replaced: (kept, judged)."""
    return _accuracy(r for r in found if r.revision == 1)


def _accuracy(found: Iterable[KeptRevision]) -> tuple[int, int]:
    judged = [r.kept for r in found if r.kept is not None]
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

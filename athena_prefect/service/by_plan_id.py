"""What is asked and done about a run by its `plan_id`, as tools for agents do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

from athena_prefect.assumptions.checks.base import Observation
from athena_prefect.assumptions.checks.making import Made, as_data
from athena_prefect.assumptions.results import AssumptionValidationResult, AssumptionViolation
from athena_prefect.assumptions.validator import (
    AssumptionValidator,
    check_event,
    field_of_check,
    method_of,
)
from athena_prefect.errors import InputError, StaleRevisionError
from athena_prefect.journal.events import Reporter, RunEvent, RunEventKind
from athena_prefect.journal.journal import Entry
from athena_prefect.journal.state import ExecutionState, fold_entries
from athena_prefect.replanning.evaluation import AdaptiveReplanning
from athena_prefect.replanning.options import Kind, ReplanningOption
from athena_prefect.replanning.why import Why
from athena_prefect.service.addressing import decision_of, run_of, store_of
from athena_prefect.service.following import Clock, FollowedRun, utc_now
from athena_prefect.service.outside import Writing, end, is_outside, writing
from athena_prefect.service.reading import open_run
from athena_prefect.service.replanning import (
    KeptRevision,
    Replanned,
    engine_for,
    keep_revision,
    replan,
    revisions,
    why_late,
)
from athena_prefect.service.results import RunStatus, _Answer

if TYPE_CHECKING:
    from athena_prefect.settings import AthenaSettings
    from athena_prefect.storage.decisions import RunRow


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Where the run stands that a `plan_id` means."""

    plan_id: int
    """Of the revision in force."""
    status: RunStatus
    outside: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Validated(_Answer):
    """A validation that is in the run's journal, and what is violated after it."""

    plan_id: int
    plan: str
    plan_run: UUID
    revision: int
    result: AssumptionValidationResult
    violations: tuple[AssumptionViolation, ...]
    known: bool
    """Whether the same had been told before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What could be done about the rest of a run."""

    plan_id: int
    revision: int
    found: Replanned


@dataclass(frozen=True, slots=True, kw_only=True)
class Executed(_Answer):
    """An option that was chosen, and what became of it."""

    plan_id: int
    """Of the revision in force now."""
    plan: str
    plan_run: UUID
    revision: int
    """In force now; None of it changed by an abort."""
    option: str
    strategy: str
    author: str
    changes: tuple[str, ...]
    known: bool
    """Whether this very choice had been carried out before."""
    answered: bool = True
    """Whether the run's own process has answered already."""
    ended: str | None = None


def standing(plan_id: int | None, *, settings: AthenaSettings, clock: Clock = utc_now) -> Standing:
    """Where a run stands. Raises UnknownNameError, UnknownRunError, StorageError."""
    row = run_of(plan_id, settings)
    status = _followed(row, settings, clock).status()
    return Standing(plan_id=row.decision_id, status=status, outside=is_outside(status.state))


def replanning_options(
    plan_id: int,
    *,
    strategy: str | None = None,
    settings: AthenaSettings,
    clock: Clock = utc_now,
) -> Options:
    """Evaluate the rest of a run and solve its options; nothing is stored.

    Raises UnknownNameError, UnknownRunError, InputError, StorageError.
    """
    row = run_of(plan_id, settings)
    found = replan(str(row.plan_run), settings=settings, strategy=strategy, clock=clock)
    return Options(plan_id=row.decision_id, revision=row.revision, found=found)


def preview(
    plan_id: int,
    strategy: str,
    option_id: int,
    *,
    revision: int,
    key: str,
    title: str | None = None,
    settings: AthenaSettings,
    clock: Clock = utc_now,
) -> ReplanningOption | None:
    """The option that `execute` would carry out, to be shown first; None where it has been.

    Raises what `execute` raises for a choice that cannot be made, and changes nothing.
    """
    from athena_prefect.service.by_hand import adopted_before

    row = run_of(plan_id, settings)
    entries = _followed(row, settings, clock).journal.read(row.plan_run)
    if _chosen_in(entries, key) is not None or adopted_before(entries, key) is not None:
        return None
    _refuse_stale(row, fold_entries(entries), revision)
    found = replan(str(row.plan_run), settings=settings, strategy=strategy, clock=clock)
    return _named(list(found.options), option_id, title)


def why_it_is_late(plan_id: int | None, *, settings: AthenaSettings, clock: Clock = utc_now) -> Why:
    """Why a run ends when it does. Raises UnknownRunError, InputError, StorageError."""
    row = run_of(plan_id, settings)
    return why_late(str(row.plan_run), settings=settings, clock=clock)


def revisions_of(plan_id: int, *, settings: AthenaSettings) -> tuple[KeptRevision, ...]:
    """The revisions of the run that a `plan_id` means, the newest first."""
    row = run_of(plan_id, settings)
    return revisions(str(row.plan_run), settings=settings)


@dataclass(frozen=True, slots=True, kw_only=True)
class NumberedRun(_Answer):
    """A line of the list of runs, with the id that tools take."""

    plan_id: int
    plan: str
    plan_run: UUID
    revision: int
    status: str
    started: datetime
    ended: datetime | None


def numbered_runs(*, settings: AthenaSettings, limit: int = 50) -> tuple[NumberedRun, ...]:
    """The newest runs of the namespace by the `plan_id` of their revision in force."""
    return tuple(
        NumberedRun(
            plan_id=r.decision_id,
            plan=r.plan,
            plan_run=r.plan_run,
            revision=r.revision,
            status=r.status,
            started=r.started_at,
            ended=r.ended_at,
        )
        for r in store_of(settings).runs(settings.namespace, limit=limit)
    )


def document_of(plan_id: int, *, settings: AthenaSettings) -> dict[str, Any]:
    """The plan document that a `plan_id` means: of a run its revision in force.

    Raises UnknownNameError, StorageError.
    """
    from athena_prefect.plan.document import as_dict

    decision_of(plan_id, settings)
    return as_dict(store_of(settings).plan(plan_id, namespace=settings.namespace))


def report_of(plan_id: int, *, settings: AthenaSettings, clock: Clock = utc_now) -> str:
    """The HTML report of the run that a `plan_id` means. Raises as `standing` does."""
    from athena_prefect.service.reading import report_page

    followed = _followed(run_of(plan_id, settings), settings, clock)
    followed.poll()
    return report_page(followed, followed.status())


def _followed(row: RunRow, settings: AthenaSettings, clock: Clock) -> FollowedRun:
    return open_run(str(row.plan_run), settings=settings, clock=clock)


# -- assumptions --------------------------------------------------------------------------------


def validate_assumption(
    plan_id: int,
    assumption_id: str,
    data: Mapping[str, Any] | None = None,
    method: str = "auto",
    *,
    key: str | None = None,
    author: str = "",
    settings: AthenaSettings,
    clock: Clock = utc_now,
) -> Validated:
    """Judge `data` against what a run's plan expects, or make the plan's own check without it.

    What is found is written to the run and acts there at once. The same `key` is
    the same validation. Raises UnknownNameError, UnknownRunError, InputError.
    """
    row = run_of(plan_id, settings)
    followed = _followed(row, settings, clock)
    plan, now = followed.plan, clock()
    assumption = plan.get_assumption(assumption_id)
    how = method_of(assumption, method)
    if data is not None and not data:
        raise InputError(
            "validation_data is empty; give the observed value under any one name, or leave it "
            "out to have the plan's own check made",
            field="validation_data",
        )
    if data is None and assumption.check is None:
        raise InputError(
            f"assumption {assumption_id!r} has no check of its own: somebody has to say what is "
            "observed; give validation_data",
            field="validation_data",
        )
    state = fold_entries(followed.journal.read(row.plan_run))
    if state.end_status is not None:
        raise InputError(
            f"run {row.plan_run} is {state.end_status}; what is observed now says nothing about it",
            field="plan_id",
        )
    check_id = f"asked|{key or uuid4()}"
    told = [c for c in state.checks.get(assumption_id, ()) if c.check_id == check_id]
    if told:
        event = told[0]
    else:
        from athena_prefect.service.checking import _made, _write

        if data is None:
            made, field = _made(plan, assumption, row, now, settings), field_of_check(assumption)
        else:
            made = Made(observation=Observation(value=as_data(data)))
            field = None if len(data) == 1 else field_of_check(assumption)
        event = check_event(
            assumption, made, plan_run=row.plan_run, now=now, check_id=check_id,
            method=how, author=author, field=field,
        )  # fmt: skip
        _write(event, row, settings)
    followed.status()
    monitor = followed.monitored()
    return Validated(
        plan_id=row.decision_id,
        plan=row.plan,
        plan_run=row.plan_run,
        revision=row.revision,
        result=AssumptionValidationResult.of(event),
        violations=()
        if monitor is None
        else tuple(AssumptionValidator(plan, monitor).get_violated_assumptions(now=clock())),
        known=bool(told),
    )


# -- adopting -----------------------------------------------------------------------------------


def execute(
    plan_id: int,
    strategy: str,
    option_id: int,
    *,
    revision: int,
    key: str,
    title: str | None = None,
    author: str = "",
    settings: AthenaSettings,
    clock: Clock = utc_now,
) -> Executed:
    """Have a run go on by one of its options, chosen when `revision` was in force.

    A run of Prefect's is told through its journal, as `athena replan RUN --option`
    does; one outside Prefect adopts it here. `title` is compared with that of the
    option: the list is solved again, for time has passed. The same `key` is the same
    choice. Raises StaleRevisionError where another was faster, InputError, RunError
    where the run refuses, UnknownNameError, UnknownRunError, StorageError.
    """
    row = run_of(plan_id, settings)
    entries = _followed(row, settings, clock).journal.read(row.plan_run)
    if not is_outside(fold_entries(entries)):
        return _by_its_process(
            row, entries, strategy, option_id, revision, key, title, author, settings, clock
        )
    with writing(row, settings, clock) as run:
        known = _chosen_before(run, key, strategy, option_id)
        if known is not None:
            return _executed(run, known, known=True)
        _refuse_stale(run.row, run.state, revision)
        return _adopt(run, AdaptiveReplanning(strategy), option_id, key, title, author, settings,
                      clock())  # fmt: skip


def _refuse_stale(row: RunRow, state: ExecutionState, revision: int) -> None:
    if state.end_status is not None:
        raise InputError(
            f"run {row.plan_run} is {state.end_status}: nothing of it is left", field="plan_id"
        )
    if state.revision == revision:
        return
    promised = state.acceptance
    who, what = promised.get("author"), promised.get("option") or promised.get("reason")
    told = f", chosen by {who or 'nobody who said so'}: {what}" if what else ""
    raise StaleRevisionError(
        f"revision {state.revision} of run {str(row.plan_run)[:8]} is in force{told}; the option "
        f"was chosen for revision {revision}: look at the options again",
        field="revision",
        revision=revision,
        in_force=state.revision,
    )


def _chosen_before(
    run: Writing, key: str, strategy: str, option_id: int
) -> Mapping[str, Any] | None:
    """What was chosen under that key. Raises InputError where it was something else."""
    found = _chosen_in(run.journal.read(run.row.plan_run), key)
    if found is None:
        return None
    asked = (found.get("strategy"), found.get("option_id"))
    if asked != (strategy, option_id):
        raise InputError(
            f"idempotency_key {key!r} was used for option {asked[1]} of strategy {asked[0]}; "
            "another choice needs another key",
            field="idempotency_key",
        )
    return found


def _chosen_in(entries: Sequence[Entry], key: str) -> Mapping[str, Any] | None:
    for entry in entries:
        event = entry.event
        if not isinstance(event, RunEvent) or event.kind is not RunEventKind.CHOSEN:
            continue
        if event.source == key:
            return event.data
    return None


def _executed(run: Writing, chosen: Mapping[str, Any], *, known: bool) -> Executed:
    run.monitor.refresh()
    return Executed(
        plan_id=int(chosen["plan_id"]),
        plan=run.row.plan,
        plan_run=run.row.plan_run,
        revision=int(chosen["revision"]),
        option=str(chosen["option"]),
        strategy=str(chosen["strategy"]),
        author=str(chosen["author"]),
        changes=tuple(chosen["changes"]),
        known=known,
        ended=run.state.end_status,
    )


def _named(options: list[ReplanningOption], option_id: int, title: str | None) -> ReplanningOption:
    there = ", ".join(f"{o.option_id}: {o.title}" for o in options) or "none"
    option = next((o for o in options if o.option_id == option_id), None)
    if option is None:
        raise InputError(f"there is no option {option_id}; there are {there}", field="option_id")
    if title is not None and option.title != title:
        raise InputError(
            f"option {option_id} is {option.title!r} now, not {title!r}; there are {there}",
            field="title",
        )
    return option


def _adopt(
    run: Writing,
    strategy: AdaptiveReplanning,
    option_id: int,
    key: str,
    title: str | None,
    author: str,
    settings: AthenaSettings,
    now: datetime,
) -> Executed:
    engine = engine_for(run.monitor)
    violations = engine.validator.get_violated_assumptions()
    deviation = run.monitor.get_plan_deviation(now=now)
    evaluation = engine.evaluate_replanning_need(deviation, violations, now=now)
    options = engine.get_replanning_options(deviation, violations, now=now, strategy=strategy)
    option = _named(options, option_id, title)
    chosen: dict[str, Any] = {
        "option": option.title, "option_id": option_id, "strategy": str(strategy),
        "author": author, "plan_id": run.row.decision_id, "revision": run.state.revision,
        "changes": [],
    }  # fmt: skip
    if option.kind is Kind.ABORT:
        why = f"by {author or 'a caller'}: {evaluation.rationale}"
        _tell(run, RunEventKind.CHOSEN, key, now, chosen)
        end(run, "aborted", why, now, settings)
        _keep_abort(run, why, settings)
        return _executed(run, chosen, known=False)
    result = engine.adopt(option, strategy)
    kept = keep_revision(
        run.row.plan_run, result, settings=settings, author=author, outcome="adopted"
    )
    chosen |= {"plan_id": kept.plan_id, "revision": kept.revision, "changes": list(kept.changes)}
    revised = {
        **result.acceptance,
        "modes": dict(result.modes),
        "strategy": str(strategy),
        "author": author,
        "reason": evaluation.rationale,
        "option": option.title,
        "changes": list(result.changes),
    }
    _tell(run, RunEventKind.REVISED, str(kept.revision), now, revised)
    _tell(run, RunEventKind.CHOSEN, key, now, chosen)
    return _executed(run, chosen, known=False)


def _tell(
    run: Writing, kind: RunEventKind, source: str, now: datetime, data: Mapping[str, Any]
) -> None:
    run.journal.append(
        RunEvent(
            plan_run=run.row.plan_run, kind=kind, at=now, source=source,
            reported_by=Reporter.CALLER, data=data,
        )
    )  # fmt: skip


def _keep_abort(run: Writing, reason: str, settings: AthenaSettings) -> None:
    from athena_prefect.storage.db import Database
    from athena_prefect.storage.replans import add_replanning_event

    add_replanning_event(
        Database.open(settings),
        original_plan_id=run.row.decision_id,
        new_plan_id=None,
        trigger_reason=reason,
        strategy="abort",
        outcome="aborted",
    )


def _by_its_process(
    row: RunRow,
    entries: Sequence[Entry],
    strategy: str,
    option_id: int,
    revision: int,
    key: str,
    title: str | None,
    author: str,
    settings: AthenaSettings,
    clock: Clock,
) -> Executed:
    """Ask the process that runs it, as the command line does."""
    from athena_prefect.service.by_hand import adopt, adopted_before

    asked = adopted_before(entries, key)
    answered = asked is not None
    if asked is None:
        _refuse_stale(row, fold_entries(entries), revision)
        found = replan(str(row.plan_run), settings=settings, strategy=strategy, clock=clock)
        option = _named(list(found.options), option_id, title)
        changed = adopt(
            str(row.plan_run), found, option.option_id, settings=settings, revision=revision,
            key=key, by=author,
        )  # fmt: skip
        what, answered = option.title, changed.answered
    else:
        if (asked.data.get("strategy"), asked.data.get("option_id")) != (strategy, option_id):
            raise InputError(
                f"idempotency_key {key!r} was used for option {asked.data.get('option_id')} of "
                f"strategy {asked.data.get('strategy')}; another choice needs another key",
                field="idempotency_key",
            )
        what = str(asked.data.get("title"))
    after = store_of(settings).run(row.plan_run)
    now = _followed(row, settings, clock).status().state
    return Executed(
        plan_id=after.decision_id,
        plan=row.plan,
        plan_run=row.plan_run,
        revision=now.revision,
        option=what,
        strategy=strategy,
        author=author,
        changes=tuple(now.acceptance.get("changes") or ()) if now.revision != revision else (),
        known=asked is not None,
        answered=answered,
        ended=now.end_status,
    )

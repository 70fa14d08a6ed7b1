"""One of a run's options is chosen, by its `plan_id`: looked at first, then carried out once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from athena_prefect.errors import InputError, RunError, StaleRevisionError
from athena_prefect.journal.events import Reporter, RunEvent, RunEventKind
from athena_prefect.journal.journal import Entry
from athena_prefect.journal.state import ExecutionState, fold_entries
from athena_prefect.replanning.account import told
from athena_prefect.replanning.evaluation import AdaptiveReplanning
from athena_prefect.replanning.options import Kind, ReplanningOption
from athena_prefect.replanning.wishes import Wish, wish_from
from athena_prefect.service.addressing import run_of, store_of
from athena_prefect.service.following import Clock, utc_now
from athena_prefect.service.outside import Writing, end, is_outside, journal_of, writing
from athena_prefect.service.replanning import engine_for, replan
from athena_prefect.service.results import _Answer
from athena_prefect.service.revisions import keep_revision
from athena_prefect.service.showing import wish_for

if TYPE_CHECKING:
    from athena_prefect.settings import AthenaSettings
    from athena_prefect.storage.decisions import RunRow


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """An option, and for what it was chosen."""

    strategy: str
    option_id: int
    revision: int
    """The one in force when it was chosen."""
    key: str
    """The same key is the same choice, carried out once."""
    title: str | None = None
    """Of the option, as it was shown: it decides where the list that was shown is not known."""
    author: str = ""

    def same_as(self, strategy: object, option_id: object) -> None:
        """Raises InputError where the key was used for another choice."""
        if (strategy, option_id) != (self.strategy, self.option_id):
            raise InputError(
                f"idempotency_key {self.key!r} was used for option {option_id} of strategy "
                f"{strategy}; another choice needs another key",
                field="idempotency_key",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Executed(_Answer):
    """An option that was chosen, and what became of it."""

    plan_id: int
    """Of the revision in force now."""
    plan: str
    plan_run: UUID
    revision: int
    """In force now."""
    option: str
    strategy: str
    author: str
    changes: tuple[str, ...]
    known: bool
    """Whether this very choice had been carried out before."""
    answered: bool = True
    """Whether the run's own process has answered already."""
    ended: str | None = None


def preview(
    plan_id: int, choice: Choice, *, settings: AthenaSettings, clock: Clock = utc_now
) -> ReplanningOption | None:
    """The option that `execute` would carry out, to be shown first; None where it has been.

    Raises what `execute` raises for a choice that cannot be made, and changes nothing.
    """
    from athena_prefect.service.by_hand import adopted_before

    row = run_of(plan_id, settings)
    entries = journal_of(settings).read(row.plan_run)
    if _chosen_in(entries, choice.key) is not None:
        return None
    if adopted_before(entries, choice.key) is not None:
        return None
    _refuse_stale(row, fold_entries(entries), choice.revision)
    found = replan(str(row.plan_run), settings=settings, strategy=choice.strategy, clock=clock)
    wish = _wished(row, choice, settings)
    same = None if wish is None else next((o for o in found.options if wish.means(o)), None)
    return same or _named(found.options, choice)


def execute(
    plan_id: int, choice: Choice, *, settings: AthenaSettings, clock: Clock = utc_now
) -> Executed:
    """Have a run go on by the option that was chosen.

    A run of Prefect's is told through its journal, as `athena replan RUN --option`
    does; one outside Prefect adopts it here. Raises StaleRevisionError where another
    was faster, InputError, RunError where the run refuses, UnknownNameError,
    UnknownRunError, StorageError.
    """
    row = run_of(plan_id, settings)
    entries = journal_of(settings).read(row.plan_run)
    if not is_outside(fold_entries(entries)):
        return _by_its_process(row, entries, choice, settings, clock)
    with writing(row, settings, clock) as run:
        known = _chosen_in(run.journal.read(row.plan_run), choice.key)
        if known is not None:
            choice.same_as(known.get("strategy"), known.get("option_id"))
            return _executed(run, known, known=True)
        _refuse_stale(run.row, run.state, choice.revision)
        return _adopt(run, choice, settings, clock())


def _refuse_stale(row: RunRow, state: ExecutionState, revision: int) -> None:
    if state.revision != revision:
        promised = state.acceptance
        who, what = promised.get("author"), promised.get("option") or promised.get("reason")
        told = f", chosen by {who or 'nobody who said so'}: {what}" if what else ""
        raise StaleRevisionError(
            f"revision {state.revision} of run {str(row.plan_run)[:8]} is in force{told}, and the "
            f"option was chosen for revision {revision}; look at the options again",
            field="revision",
            revision=revision,
            in_force=state.revision,
        )
    if state.end_status is not None:
        raise InputError(
            f"run {row.plan_run} is {state.end_status}: nothing of it is left", field="plan_id"
        )


def _chosen_in(entries: Sequence[Entry], key: str) -> Mapping[str, Any] | None:
    """What was chosen outside Prefect under that key."""
    for entry in entries:
        event = entry.event
        if not isinstance(event, RunEvent) or event.kind is not RunEventKind.CHOSEN:
            continue
        if event.source == key:
            return event.data
    return None


def _named(options: Sequence[ReplanningOption], choice: Choice) -> ReplanningOption:
    number, title = choice.option_id, choice.title
    there = ", ".join(f"{o.option_id}: {o.title}" for o in options) or "none"
    option = next((o for o in options if o.option_id == number), None)
    if option is not None and title in (None, option.title):
        return option
    if title is None:
        raise InputError(f"there is no option {number}; there are {there}", field="option_id")
    # Another number, the same option: what the person saw is its title.
    same = next((o for o in options if o.title == title), None)
    if same is not None:
        return same
    raise InputError(
        f"option {number}, {title!r}, is no longer among the options; there are {there}",
        field="title",
    )


# -- outside Prefect ----------------------------------------------------------------------------


def _adopt(run: Writing, choice: Choice, settings: AthenaSettings, now: datetime) -> Executed:
    engine, strategy = engine_for(run.monitor, settings), AdaptiveReplanning(choice.strategy)
    violations = engine.validator.get_violated_assumptions()
    deviation = run.monitor.get_plan_deviation(now=now)
    evaluation = engine.evaluate_replanning_need(deviation, violations, now=now)
    wish = _wished(run.row, choice, settings)
    like = None if wish is None else engine.option_like(wish, deviation, violations, now=now)
    options = engine.get_replanning_options(deviation, violations, now=now, strategy=strategy)
    option = like or _named(options, choice)
    chosen: dict[str, Any] = {
        "option": option.title, "option_id": choice.option_id, "strategy": choice.strategy,
        "author": choice.author, "plan_id": run.row.decision_id, "revision": run.state.revision,
        "changes": [],
    }  # fmt: skip
    if option.kind is Kind.ABORT:
        why = f"by {choice.author or 'a caller'}: {evaluation.rationale}"
        _tell(run, RunEventKind.CHOSEN, choice.key, now, chosen)
        end(run, "aborted", why, now, settings)
        _keep_abort(run, why, settings)
        return _executed(run, chosen, known=False)
    result = engine.adopt(option, strategy)
    kept = keep_revision(
        run.row.plan_run, result, settings=settings, author=choice.author, outcome="adopted"
    )
    chosen |= {"plan_id": kept.plan_id, "revision": kept.revision, "changes": list(kept.changes)}
    revised = {
        **result.acceptance,
        "modes": dict(result.modes),
        "strategy": choice.strategy,
        "author": choice.author,
        "reason": evaluation.rationale,
        "option": option.title,
        "changes": list(result.changes),
    }
    _tell(run, RunEventKind.REVISED, str(kept.revision), now, revised)
    _tell(run, RunEventKind.CHOSEN, choice.key, now, chosen)
    return _executed(run, chosen, known=False)


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


# -- by the process that runs it ----------------------------------------------------------------


def _by_its_process(
    row: RunRow, entries: Sequence[Entry], choice: Choice, settings: AthenaSettings, clock: Clock
) -> Executed:
    """Ask the process that runs it, as the command line does."""
    from athena_prefect.service.by_hand import adopted_before

    asked = adopted_before(entries, choice.key)
    if asked is not None:
        choice.same_as(asked.data.get("strategy"), asked.data.get("option_id"))
        what, answered = str(asked.data.get("title")), True
    else:
        _refuse_stale(row, fold_entries(entries), choice.revision)
        try:
            what, answered = _asked(row, choice, settings, clock)
        except (InputError, RunError):
            # Where another choice came in between, that is the reason, whatever it led to.
            now = fold_entries(journal_of(settings).read(row.plan_run))
            if now.revision != choice.revision:
                _refuse_stale(row, now, choice.revision)
            raise
    after = store_of(settings).run(row.plan_run)
    state = fold_entries(journal_of(settings).read(row.plan_run))
    revised = state.revision != choice.revision
    return Executed(
        plan_id=after.decision_id,
        plan=row.plan,
        plan_run=row.plan_run,
        revision=state.revision,
        option=what,
        strategy=choice.strategy,
        author=choice.author,
        changes=tuple(state.acceptance.get("changes") or ()) if revised else (),
        known=asked is not None,
        answered=answered,
        ended=state.end_status,
    )


def _asked(row: RunRow, choice: Choice, settings: AthenaSettings, clock: Clock) -> tuple[str, bool]:
    """Title of the option, and whether the run has answered. Raises InputError, RunError."""
    from athena_prefect.service.by_hand import adopt

    run, wish = str(row.plan_run), _wished(row, choice, settings)
    if wish is None:
        found = replan(run, settings=settings, strategy=choice.strategy, clock=clock)
        option = told(_named(found.options, choice))
        wish = wish_from({**option, "strategy": choice.strategy})
    wish = replace(wish, option_id=choice.option_id, strategy=choice.strategy)
    changed = adopt(
        run, wish, settings=settings, revision=choice.revision, key=choice.key, by=choice.author
    )
    return wish.title, changed.answered


def _wished(row: RunRow, choice: Choice, settings: AthenaSettings) -> Wish | None:
    """The option in the list that was shown; None where that is not known."""
    return wish_for(
        row.plan_run, choice.option_id, choice.title, settings=settings, revision=choice.revision
    )

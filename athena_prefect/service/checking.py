"""Assumptions from outside a run: what is known of each, a check made now, a person's answer."""

from __future__ import annotations

import getpass
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

from athena_prefect.assumptions.checks.base import CheckContext, Observation
from athena_prefect.assumptions.checks.making import Made
from athena_prefect.assumptions.results import AssumptionValidationResult
from athena_prefect.assumptions.rules import check_findings
from athena_prefect.assumptions.schedule import ScheduledChecks
from athena_prefect.assumptions.unseen import unknown_in_a_row
from athena_prefect.assumptions.validator import (
    AssumptionValidator,
    check_event,
    field_of_check,
    method_of,
)
from athena_prefect.errors import AthenaError, CheckError, InputError, UnknownRunError
from athena_prefect.journal.events import CheckEvent
from athena_prefect.journal.state import ExecutionState, fold_entries
from athena_prefect.monitor.effects import in_order, violation_of
from athena_prefect.plan.document import load
from athena_prefect.plan.model import Assumption, Plan
from athena_prefect.plan.references import project_root
from athena_prefect.plan.templates import Template
from athena_prefect.plan.units import format_duration
from athena_prefect.service.following import Clock, FollowedRun, utc_now
from athena_prefect.service.results import _Answer

if TYPE_CHECKING:
    from athena_prefect.settings import AthenaSettings
    from athena_prefect.storage.decisions import RunRow


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownAssumption(_Answer):
    """An assumption and what the checks of a run found; None where nothing is known."""

    assumption_id: str
    description: str
    criticality: str
    kind: str
    """Kind of its check; empty where a person answers."""
    method: str
    affects: tuple[str, ...]
    frequency: str
    """How often it is checked, as a plan writes it; empty where only at milestones."""
    checks: int = 0
    last: datetime | None = None
    verdict: str | None = None
    """The newest."""
    unknown_in_a_row: int = 0
    """Checks up to now that could not be made."""
    violated_since: datetime | None = None
    value: Any = None
    unit: str = ""
    reason: str = ""
    next: datetime | None = None
    """When it is due; in the past where nobody makes checks."""
    probability: float | None = None
    """That it does not hold when it is next needed."""
    prediction: str = ""
    severity: str | None = None
    """Of the violation in force."""
    impact: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownAssumptions(_Answer):
    """The assumptions of a plan, as one run of it has them, or none."""

    plan: str
    plan_run: UUID | None
    live: bool
    assumptions: tuple[KnownAssumption, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedNow(_Answer):
    """One check, and where it was written."""

    plan: str
    result: AssumptionValidationResult
    plan_run: UUID | None
    """The run in whose journal it stands; None where it was not written."""
    details: str = ""
    needed: bool = True
    """False where a schedule asked for it and no run wants it."""

    @property
    def exit_code(self) -> int:
        """0 where it holds; 1 where it does not, or could not be seen."""
        return 0 if self.result.valid else 1


def checks(
    file: Path, *, run: str | None = None, settings: AthenaSettings, clock: Clock = utc_now
) -> KnownAssumptions:
    """Every assumption of a plan: when it was checked last, what was found, what is next.

    Of `run`, else of the plan's newest one. Raises PlanDocumentError, UnknownRunError,
    StorageError.
    """
    plan = load(file, rules=(check_findings,))
    known = _newest(plan, run, settings)
    if known is None:
        rows = tuple(_known(a, None, None) for a in plan.assumptions)
        rows = _also_without_run(plan, rows, settings)
        return KnownAssumptions(plan=plan.name, plan_run=None, live=False, assumptions=rows)
    followed = _followed(known.plan_run, settings, clock)
    validator = _validator(followed)
    if validator is None:
        rows = tuple(_known(a, None, None) for a in plan.assumptions)
    else:
        state = validator.monitor.state
        due = ScheduledChecks(validator.plan, started=state.started, checks=state.checks)
        rows = tuple(_known(a, validator, due) for a in validator.plan.assumptions)
    live = known.ended_at is None
    rows = rows if live else _also_without_run(plan, rows, settings)
    return KnownAssumptions(plan=plan.name, plan_run=known.plan_run, live=live, assumptions=rows)


def _also_without_run(
    plan: Plan, rows: tuple[KnownAssumption, ...], settings: AthenaSettings
) -> tuple[KnownAssumption, ...]:
    """With what schedules have found since the last run ended, of what is checked always."""
    from athena_prefect.storage.db import Database
    from athena_prefect.storage.validations import Validations

    kept, found = Validations(Database.open(settings)), []
    for row in rows:
        newest = None
        if plan.get_assumption(row.assumption_id).active == "always":
            newest = kept.newest_without_run(
                plan.name, row.assumption_id, namespace=settings.namespace
            )
        if newest is not None and (row.last is None or newest[1] > row.last):
            why = "by its schedule, while no run lives"
            row = replace(row, verdict=newest[0], last=newest[1], reason=why)
        found.append(row)
    return tuple(found)


def _known(
    assumption: Assumption, validator: AssumptionValidator | None, due: ScheduledChecks | None
) -> KnownAssumption:
    checks: tuple[CheckEvent, ...] = ()
    said: dict[str, Any] = {}
    if validator is not None and due is not None:
        checks = tuple(in_order(validator.monitor.state.checks.get(assumption.id, ())))
        probability, why = validator.predict_assumption_failure(assumption.id)
        over = validator.monitor.state.ended is not None
        said = {"next": None if over else due.next(assumption.id)}
        if checks and not over:
            said |= {"probability": probability, "prediction": why}
    if checks:
        result, began = AssumptionValidationResult.of(checks[-1]), violation_of(checks)
        said |= {
            "checks": len(checks), "last": result.validation_time,
            "unknown_in_a_row": len(unknown_in_a_row(checks)),
            "verdict": str(result.verdict), "value": result.actual_value, "unit": result.unit,
            "reason": result.notes,
        }  # fmt: skip
        if began is not None and validator is not None:
            found = next(
                v for v in validator.get_violated_assumptions() if v.assumption_id == assumption.id
            )
            said |= {
                "violated_since": began.at, "severity": str(found.severity),
                "impact": found.impact,
            }  # fmt: skip
    frequency = assumption.validation_frequency
    return KnownAssumption(
        assumption_id=assumption.id,
        description=assumption.description,
        criticality=str(assumption.criticality),
        kind=assumption.check.kind if assumption.check else "",
        method=str(method_of(assumption)),
        affects=assumption.affects,
        frequency="" if frequency is None else format_duration(frequency),
        **said,
    )


def check(
    file: Path,
    assumption_id: str,
    *,
    value: str | None = None,
    dry_run: bool = False,
    run: str | None = None,
    author: str | None = None,
    settings: AthenaSettings,
    clock: Clock = utc_now,
) -> CheckedNow:
    """Check one assumption now, or take `value` (JSON, else text) as a person's answer.

    What was found is written to the plan's live run, and acts there at once; not
    with `dry_run`, nor where no run lives. Raises PlanDocumentError,
    UnknownNameError, UnknownRunError, InputError where an answer has no run or
    several live.
    """
    plan = load(file, rules=(check_findings,))
    assumption = plan.get_assumption(assumption_id)
    if value is None and assumption.check is None:
        raise InputError(
            f"assumption {assumption_id!r} has no check: a person answers it; "
            f"give --value, e.g. --value true"
        )
    row = None if dry_run and run is None else _live(plan, run, settings, needed=value is not None)
    if dry_run and value is not None and run is None:
        row = None
    now = clock()
    if value is not None:
        made = Made(observation=Observation(value=_said(value)))
    else:
        made = _made(plan, assumption, row, now, settings)
    event = check_event(
        assumption,
        made,
        plan_run=row.plan_run if row is not None else UUID(int=0),
        now=now,
        check_id=f"asked|{uuid4()}",
        method=method_of(assumption, "manual") if value is not None else None,
        author=(author or _user()) if value is not None else "",
        field=field_of_check(assumption) if value is None else None,
    )
    kept = None
    if row is not None and not dry_run:
        _write(event, row, settings)
        kept = row.plan_run
    details = made.observation.details if made.observation else ""
    result = AssumptionValidationResult.of(event)
    return CheckedNow(plan=plan.name, result=result, plan_run=kept, details=details)


OVERDUE = 0.5
"""Share of a frequency by which a live run may be late with a check before a schedule makes it."""
TWICE = 0.5
"""Share of a frequency within which a check is not made again: a worker that was away starts what
it missed at once."""


def check_scheduled(
    file: Path, assumption_id: str, *, settings: AthenaSettings, clock: Clock = utc_now
) -> CheckedNow:
    """What a schedule asks for: the check of each live run that leaves it to the schedule.

    A run that makes its own (not deployed, or begun before there was a schedule) is
    only helped where it is overdue. While no run lives, what is checked always is a
    row of its own, and Prefect is told: violated and recovered once each; the rest is
    not needed. Raises PlanDocumentError, UnknownNameError, InputError, StorageError.
    """
    from athena_prefect.storage.db import Database
    from athena_prefect.storage.plans import PlanStore

    plan = load(file, rules=(check_findings,))
    assumption, now = plan.get_assumption(assumption_id), clock()
    frequency = assumption.validation_frequency
    if assumption.check is None or frequency is None:
        raise InputError(f"assumption {assumption_id!r} is not checked by the clock")
    live = PlanStore(Database.open(settings)).live_runs(plan, namespace=settings.namespace)
    known = [(row, _state_of(row, settings, clock)) for row in live]
    ours = [(r, s) for r, s in known if assumption_id in _handed_over(s)]
    patience = TWICE if ours else 1 + OVERDUE
    found: CheckedNow | None = None
    for row, state in ours or known:
        newest = max(state.checks.get(assumption_id, ()), key=lambda c: c.at, default=None)
        if newest is not None and now - newest.at < frequency * patience:
            found = _checked(plan, newest, row.plan_run)
            continue
        made = _made(plan, assumption, row, now, settings)
        event = check_event(
            assumption, made, plan_run=row.plan_run, now=now,
            check_id=f"scheduled|{now.isoformat()}",
        )  # fmt: skip
        _write(event, row, settings)
        found = _checked(plan, event, row.plan_run)
        if not ours:
            break
    if found is not None:
        return found
    if assumption.active == "always":
        made = _made(plan, assumption, None, now, settings)
        event = check_event(
            assumption, made, plan_run=UUID(int=0), now=now,
            check_id=f"scheduled|{now.isoformat()}",
        )  # fmt: skip
        _write_without_run(plan, event, settings)
        return _checked(plan, event, None)
    made = Made(error="no run of the plan lives that leaves it to its schedule")
    event = check_event(assumption, made, plan_run=UUID(int=0), now=now, check_id="unneeded")
    return _checked(plan, event, None, needed=False)


def pause_unneeded(file: Path, *, settings: AthenaSettings) -> int:
    """Pause the plan's schedules of checks that no live run needs; how many were changed.

    Raises PlanDocumentError, StorageError, and what Prefect's client raises.
    """
    from athena_prefect.runtime.deployment.check_schedules import needed, settle
    from athena_prefect.runtime.watching import connected
    from athena_prefect.storage.db import Database

    plan, database = load(file), Database.open(settings)
    with connected() as api:
        if api is None:
            return 0
        return settle(
            api.client,
            settings.namespace,
            lambda: needed(database, plan.name, settings.namespace),
            plan.name,
        )


def _state_of(row: RunRow, settings: AthenaSettings, clock: Clock) -> ExecutionState:
    followed = _followed(row.plan_run, settings, clock)
    return fold_entries(followed.journal.read(row.plan_run))


def _handed_over(state: ExecutionState) -> tuple[str, ...]:
    from athena_prefect.runtime.deployment.check_schedules import SCHEDULED_CHECKS

    return tuple(state.run_data.get(SCHEDULED_CHECKS) or ())


def _checked(plan: Plan, event: CheckEvent, run: UUID | None, *, needed: bool = True) -> CheckedNow:
    result = AssumptionValidationResult.of(event)
    return CheckedNow(plan=plan.name, result=result, plan_run=run, needed=needed)


def _write_without_run(plan: Plan, event: CheckEvent, settings: AthenaSettings) -> None:
    from athena_prefect.runtime.events import emit
    from athena_prefect.storage.db import Database
    from athena_prefect.storage.plans import PlanStore
    from athena_prefect.storage.validations import Validations

    database = Database.open(settings)
    decision = PlanStore(database).register(plan, namespace=settings.namespace)
    kept = Validations(database)
    before = kept.newest_without_run(plan.name, event.assumption_id, namespace=settings.namespace)
    kept.write_without_run(decision.id, event)
    was = before[0] if before is not None else None
    word = "checked"
    if event.verdict == "violated" and was != "violated":
        word = "violated"
    elif event.verdict == "holds" and was == "violated":
        word = "recovered"
    figures = {k: event.data[k] for k in ("value", "unit", "reason", "error") if k in event.data}
    emit(
        f"athena.assumption.{word}",
        plan.name,
        key=event.key,
        at=event.at,
        namespace=settings.namespace,
        figures={**figures, "assumption_id": event.assumption_id, "verdict": event.verdict},
    )


def _said(value: str) -> Any:
    try:
        return json.loads(value)
    except ValueError:
        return value


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        return ""


def _made(
    plan: Plan,
    assumption: Assumption,
    row: RunRow | None,
    now: datetime,
    settings: AthenaSettings,
) -> Made:
    from athena_prefect.assumptions.checks.children import Children
    from athena_prefect.runtime.calls import variable
    from athena_prefect.runtime.check_making import checked

    given: Mapping[str, Any] = row.parameters if row is not None else {}

    def look_up(template: Template) -> Any:
        if template.namespace == "parameters":
            known = plan.parameters[template.name]
            if template.name not in given and known.required and known.default is None:
                raise CheckError(f"parameter {template.name!r} has a value only in a run")
            return given.get(template.name, known.default)
        if template.namespace == "variable":
            return variable(template.name)
        if row is None and template.name != "plan":
            raise CheckError(f"{template} has a value only in a run")
        assert row is not None or template.name == "plan"
        return plan.name if template.name == "plan" else _of_run(row, template.name)

    children = Children()
    try:
        context = CheckContext(
            now=now,
            root=project_root(plan.source) if plan.source else Path.cwd(),
            plan=plan,
            plan_run=row.plan_run if row is not None else None,
            started=row.started_at if row is not None else None,
            environment={"ATHENA_DATABASE_URL": settings.database_url},
        )
        return checked(assumption, look_up, context, children)
    finally:
        children.close()


def _of_run(row: RunRow | None, name: str) -> Any:
    assert row is not None
    return {
        "id": str(row.plan_run),
        "started_at": row.started_at.isoformat(),
        "logical_date": row.logical_date.isoformat() if row.logical_date else None,
    }[name]


def _write(event: CheckEvent, row: RunRow, settings: AthenaSettings) -> None:
    from athena_prefect.storage.db import Database
    from athena_prefect.storage.sql_journal import SqlJournal
    from athena_prefect.storage.validations import Validations

    database = Database.open(settings)
    SqlJournal(database).append(event)
    Validations(database).write(row.plan_run, [event])


def _newest(plan: Plan, run: str | None, settings: AthenaSettings) -> RunRow | None:
    from athena_prefect.storage.db import Database
    from athena_prefect.storage.plans import PlanStore

    store = PlanStore(Database.open(settings))
    if run is not None:
        return _of_this_plan(store.run(run), plan)
    found = store.live_runs(plan, namespace=settings.namespace) or store.runs(
        settings.namespace, plan=plan.name, limit=1
    )
    return found[0] if found else None


def _live(plan: Plan, run: str | None, settings: AthenaSettings, *, needed: bool) -> RunRow | None:
    """The run that a check is about: the named one, else the plan's one live run."""
    from athena_prefect.storage.db import Database
    from athena_prefect.storage.plans import PlanStore

    store = PlanStore(Database.open(settings))
    if run is not None:
        return _of_this_plan(store.run(run), plan)
    live = store.live_runs(plan, namespace=settings.namespace)
    if len(live) > 1:
        ids = ", ".join(str(r.plan_run)[:8] for r in live)
        raise InputError(
            f"plan {plan.name!r} has {len(live)} live runs; name one with --run: {ids}"
        )
    if not live and needed:
        raise UnknownRunError(
            f"plan {plan.name!r} has no live run that an answer could be for; "
            "see what it would mean with --dry-run"
        )
    return live[0] if live else None


def _of_this_plan(row: RunRow, plan: Plan) -> RunRow:
    if row.plan != plan.name:
        raise InputError(f"run {row.plan_run} is one of plan {row.plan!r}, not of {plan.name!r}")
    return row


def _followed(plan_run: UUID, settings: AthenaSettings, clock: Clock) -> FollowedRun:
    from athena_prefect.service.reading import open_run

    return open_run(str(plan_run), settings=settings, clock=clock)


def _validator(followed: FollowedRun) -> AssumptionValidator | None:
    """A validator that only reads; None where the run has no baseline yet."""
    try:
        followed.status()
        monitor = followed.monitored()
        return None if monitor is None else AssumptionValidator(followed.plan, monitor)
    except AthenaError:
        return None

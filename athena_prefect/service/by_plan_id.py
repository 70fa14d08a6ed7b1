"""What is asked and done about a run by its `plan_id`, as tools for agents do."""

from __future__ import annotations

from collections.abc import Mapping
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
from athena_prefect.errors import InputError
from athena_prefect.journal.state import fold_entries
from athena_prefect.replanning.why import Why
from athena_prefect.service.addressing import decision_of, run_of, store_of
from athena_prefect.service.following import Clock, FollowedRun, utc_now
from athena_prefect.service.kept import KeptRuns
from athena_prefect.service.outside import is_outside
from athena_prefect.service.reading import open_run
from athena_prefect.service.replanning import Replanned, why_late
from athena_prefect.service.results import RunStatus, _Answer
from athena_prefect.service.revisions import KeptRevision, revisions
from athena_prefect.service.showing import look

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


def standing(
    plan_id: int | None,
    *,
    settings: AthenaSettings,
    clock: Clock = utc_now,
    kept: KeptRuns | None = None,
) -> Standing:
    """Where a run stands. Raises UnknownNameError, UnknownRunError, StorageError.

    `kept`: the runs of earlier looks with these settings and this clock.
    """
    row = run_of(plan_id, settings)
    runs = kept or KeptRuns(most=1)
    with runs.following(row.plan_run, lambda: _followed(row, settings, clock)) as followed:
        status = followed.status()
    return Standing(plan_id=row.decision_id, status=status, outside=is_outside(status.state))


def replanning_options(
    plan_id: int,
    *,
    strategy: str | None = None,
    settings: AthenaSettings,
    clock: Clock = utc_now,
) -> Options:
    """Evaluate the rest of a run and solve its options; the list is kept, nothing is adopted.

    Raises UnknownNameError, UnknownRunError, InputError, StorageError.
    """
    row = run_of(plan_id, settings)
    found = look(str(row.plan_run), settings=settings, strategy=strategy, clock=clock)
    return Options(plan_id=row.decision_id, revision=row.revision, found=found)


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

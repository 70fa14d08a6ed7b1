"""Waiting for a plan run to end, through however many flow runs it goes."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

from athena_prefect.errors import RunError, StorageUnavailableError, UnknownRunError
from athena_prefect.journal.state import fold_entries
from athena_prefect.service.results import _Answer

if TYPE_CHECKING:
    from athena_prefect.settings import AthenaSettings

LOOK_SECONDS = 1.0
"""How often it looks: a run's end is known that late."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanRunEnd(_Answer):
    """How a plan run ended."""

    plan_run: UUID
    plan: str
    status: str
    """completed, failed, cancelled, aborted; skipped where it never began."""
    reason: str
    revision: int
    """The one that was in force at the end."""
    ended: datetime | None


def wait_for_plan_run(
    run: UUID | str,
    *,
    timeout: float | None = None,
    raise_on_failure: bool = True,
    settings: AthenaSettings | None = None,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], object] = time.sleep,
) -> PlanRunEnd:
    """Wait until a plan run is over, and say how it ended.

    `run` is its id, or that of its first flow run, which for a deployed plan is the same:
    what `run_deployment(…, timeout=0)` returns. A flow run that ended as Superseded
    is not the end: the plan run goes on in a continuation, and so does the waiting. Waits
    over an absent database, and for a run that has not begun.

    Raises RunError where it did not complete, unless told not to, and where `timeout`
    (seconds) is over.
    """
    from athena_prefect.runtime.blocks import current_settings

    known = settings or current_settings()
    until = None if timeout is None else clock() + timeout
    while True:
        found = _end_of(run, known)
        if found is not None:
            if raise_on_failure and found.status != "completed":
                raise RunError(
                    f"plan run {found.plan_run} of {found.plan!r} {found.status}"
                    + (f": {found.reason}" if found.reason else ""),
                    run=str(found.plan_run), status=found.status,
                )  # fmt: skip
            return found
        if until is not None and clock() >= until:
            raise RunError(f"plan run {run} has not ended within {timeout:g} s", run=str(run))
        sleep(LOOK_SECONDS)


def _end_of(run: UUID | str, settings: AthenaSettings) -> PlanRunEnd | None:
    """How it ended; None where it has not, or nobody can say."""
    from athena_prefect.storage.db import Database
    from athena_prefect.storage.plans import PlanStore
    from athena_prefect.storage.sql_journal import SqlJournal

    try:
        database = Database.open(settings)
        row = PlanStore(database).run(run)
    except UnknownRunError:
        return _never_began(run)
    except StorageUnavailableError:
        return None
    state = fold_entries(SqlJournal(database).read(row.plan_run))
    if state.end_status is None:
        return None
    return PlanRunEnd(
        plan_run=row.plan_run,
        plan=row.plan,
        status=state.end_status,
        reason=state.end_reason,
        revision=state.revision,
        ended=state.ended,
    )


def _never_began(run: UUID | str) -> PlanRunEnd | None:
    """The end of a flow run that never became a plan run: skipped, or failed at its start."""
    try:
        flow_run_id = UUID(str(run))
    except ValueError:
        return None
    from athena_prefect.runtime.watching import connected

    with connected() as api:
        flow_run = None if api is None else api.flow_run(flow_run_id)
    if flow_run is None or flow_run.type not in ("COMPLETED", "FAILED", "CRASHED", "CANCELLED"):
        return None
    skipped = flow_run.type == "COMPLETED" or flow_run.refused
    return PlanRunEnd(
        plan_run=flow_run_id,
        plan="",
        status="skipped" if skipped else flow_run.type.lower(),
        reason=flow_run.message or flow_run.name,
        revision=0,
        ended=flow_run.since,
    )

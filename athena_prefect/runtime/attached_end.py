"""How a hand-written flow's run ends in its journal, and by whom that is written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from athena_prefect.errors import UnknownRunError
from athena_prefect.journal.events import Reporter, RunEvent, RunEventKind, TaskOutcome
from athena_prefect.journal.state import fold_entries
from athena_prefect.runtime.ending import RunEnd
from athena_prefect.runtime.observing import Observing
from athena_prefect.runtime.projection import write_records
from athena_prefect.runtime.recorder import recording_of

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.objects import State

    from athena_prefect.settings import AthenaSettings

MOST_NAMES = 10
"""Tasks that a line of the log names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowEnd:
    """The flow run has come to a final state."""

    end: RunEnd
    at: datetime


def end_of(state: State[Any]) -> RunEnd:
    """How a plan run has ended whose flow run has ended in that state."""
    if state.is_cancelling():
        return RunEnd(status="cancelled", reason="cancelled in Prefect")
    end = end_in(state.type.value, state.message or state.name or "")
    assert end is not None, f"hooks of an end are called at the end, not in {state.name}"
    return end


def end_in(state_type: str, message: str) -> RunEnd | None:
    """How a plan run has ended whose flow run is in a state of that type; None before its end."""
    match state_type:
        case "COMPLETED":
            return RunEnd(status="completed")
        case "CANCELLED":
            return RunEnd(status="cancelled", reason="cancelled in Prefect")
        case "CRASHED":
            return RunEnd(status="failed", reason=f"crashed: {message}")
        case "FAILED":
            return RunEnd(status="failed", reason=message)
        case _:
            return None


def end_elsewhere(
    flow_run_id: UUID, ended: FlowEnd, *, settings: AthenaSettings, client: SyncPrefectClient
) -> None:
    """Write down the end of an attached run whose own process did not live to do so.

    What the API knows of its tasks comes first. Raises StorageError.
    """
    from athena_prefect.storage.db import database_for
    from athena_prefect.storage.plans import PlanStore

    database = database_for(settings.database_url, durable=settings.durable)
    store = PlanStore(database)
    try:
        plan_run = store.run(flow_run_id).plan_run
    except UnknownRunError:
        return  # the monitor never came so far
    plan = store.revision(plan_run)
    journal = recording_of(settings, plan).open_journal()
    state = fold_entries(journal.read(plan_run))
    if not state.attached or state.end_status is not None:
        return
    observing = Observing.of(plan, plan_run, flow_run_id, state)
    events = [*observing.reconcile(client), *observing.close(ended.at)]
    cancelled = ended.end.status == "cancelled"
    outcome = TaskOutcome.BLOCKED if cancelled else TaskOutcome.FAILURE
    events += observing.abandon(ended.at, outcome, ended.end.reason or "the flow run has ended")
    end = end_with(ended.end, observing.open_tasks())
    events.append(
        RunEvent(
            plan_run=plan_run,
            kind=RunEventKind.ENDED,
            at=ended.at,
            source=str(flow_run_id),
            reported_by=Reporter.API,
            data={"status": end.status, "reason": end.reason},
        )
    )
    journal.append(*events)
    store.set_run_status(plan_run, end.status, reason=end.reason, ended=ended.at)
    write_records(database, plan, plan_run, fold_entries(journal.read(plan_run)))


def end_with(end: RunEnd, left: Sequence[str]) -> RunEnd:
    """`end`, with the tasks that never ran in its reason."""
    reasons = [end.reason] if end.reason else []
    if left:
        reasons.append(f"never ran: {listed(left)}")
    return RunEnd(status=end.status, reason="; ".join(reasons))


def listed(names: Sequence[str]) -> str:
    """Names in a line, the first few of many."""
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return ", ".join(names[:MOST_NAMES]) + more

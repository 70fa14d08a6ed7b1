"""One look at a hand-written flow that is monitored: its end, or that its process is gone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from athena_prefect.journal.journal import Entry
from athena_prefect.journal.state import ExecutionState
from athena_prefect.service.watched import Watch, WatchedRun, newest_flow_run_of

if TYPE_CHECKING:
    from athena_prefect.storage.decisions import RunRow


def look_at_attached(
    watch: Watch,
    row: RunRow,
    plan: Any,
    entries: Sequence[Entry],
    state: ExecutionState,
    found: WatchedRun,
) -> WatchedRun:
    """See what became of a hand-written flow; it is somebody else's to start again."""
    from athena_prefect.runtime.attached_end import FlowEnd, end_elsewhere, end_in
    from athena_prefect.runtime.observing import Observing

    if watch.leases.current(row.plan_run) is not None:
        return found
    flow_run = None if watch.api is None else watch.api.flow_run(newest_flow_run_of(entries))
    if watch.api is None or flow_run is None:
        return replace(found, status="interrupted")
    end = end_in(flow_run.type, flow_run.message or flow_run.name)
    if end is not None:
        ended = FlowEnd(end=end, at=flow_run.since)
        end_elsewhere(flow_run.flow_run_id, ended, settings=watch.settings, client=watch.api.client)
        return replace(found, status="ended")
    if flow_run.type in ("SCHEDULED", "PENDING"):
        return replace(found, status="starting")
    if flow_run.type in ("PAUSED", "CANCELLING"):
        return replace(found, status=flow_run.type.lower())
    if watch.clock() - flow_run.since < watch.grace:
        return replace(found, status="starting")
    observing = Observing.of(plan, row.plan_run, flow_run.flow_run_id, state)
    watch.journal.append(*observing.reconcile(watch.api.client))
    remedy = f"look at flow run {flow_run.flow_run_id} in Prefect's UI"
    why = f"its process is gone, or cut off from the database; {remedy}"
    watch.raise_at_risk(row.plan_run, state, why)
    return replace(found, status="interrupted", remedy=remedy)

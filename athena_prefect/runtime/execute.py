"""Run a plan's flow in this process: what `athena run` does once a server is there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from athena_prefect.errors import AthenaError
from athena_prefect.plan.model import Plan
from athena_prefect.runtime.afterwards import wait_for_afterwards
from athena_prefect.runtime.compiler import compile_plan
from athena_prefect.runtime.flow_body import ABORTED
from athena_prefect.settings import AthenaSettings

LAST_WORDS_SECONDS = 15.0
"""How long the command waits for the last events and dashboards, on a server that hangs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """How a plan run ended. `exit_code`: 0 done, 1 failed, 2 bad input, 3 late or aborted."""

    plan_run: UUID
    flow_run_id: str | None
    status: str
    reason: str
    exit_code: int
    error: AthenaError | None = None


def execute(
    plan: Plan,
    *,
    settings: AthenaSettings,
    plan_run: UUID,
    parameters: Mapping[str, Any],
    logical_date: datetime | None = None,
    source: Path | None = None,
) -> RunResult:
    """Run `plan` as the Prefect flow that it compiles to, or go on with `plan_run`.

    Needs PREFECT_API_URL, and the main thread for Ctrl-C to reach the flow.
    """
    flow = compile_plan(plan)
    state: Any = flow(
        **parameters,
        plan_run=str(plan_run),
        logical_date=logical_date,
        return_state=True,
    )
    wait_for_afterwards(LAST_WORDS_SECONDS)
    error = None
    if not state.is_completed():
        try:
            raised = state.result(raise_on_failure=False, _sync=True)
        except Exception as unreadable:  # noqa: BLE001 - a state without data raises what it likes
            raised = unreadable
        error = raised if isinstance(raised, AthenaError) else None
    details = state.state_details
    status = (
        "cancelled" if state.is_cancelled() else "completed" if state.is_completed() else "failed"
    )
    if state.name == ABORTED:
        status = "aborted"
    return RunResult(
        plan_run=plan_run,
        flow_run_id=str(details.flow_run_id) if details.flow_run_id else None,
        status=status,
        reason=str(error) if error is not None else state.message or "",
        exit_code=_exit_code(plan, settings, plan_run, status, error),
        error=error,
    )


def _exit_code(
    plan: Plan, settings: AthenaSettings, plan_run: UUID, status: str, error: AthenaError | None
) -> int:
    if error is not None:
        return error.exit_code
    if status in ("cancelled", "aborted"):
        return 3
    if status != "completed":
        return 1
    return 3 if _late(plan, settings, plan_run) else 0


def _late(plan: Plan, settings: AthenaSettings, plan_run: UUID) -> bool:
    """Whether the run ended after its deadline."""
    from athena_prefect.journal.state import fold_entries
    from athena_prefect.runtime.recorder import recording_of

    if plan.deadline is None:
        return False
    state = fold_entries(recording_of(settings, plan).open_journal().read(plan_run))
    if state.started is None or state.ended is None:
        return False
    return state.ended > plan.deadline.resolve(state.started, state.scheduled)

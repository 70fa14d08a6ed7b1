"""How a plan run ended, and why, in words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from athena_prefect.journal.events import TaskOutcome
from athena_prefect.journal.state import ExecutionState, Status
from athena_prefect.plan.model import Plan


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEnd:
    """How a plan run ended: completed, failed, cancelled, aborted; and why.

    ``superseded``: it has not; another flow run goes on with it.
    """

    status: str
    reason: str = ""


def settled(state: ExecutionState, task_id: str) -> bool:
    """Whether nothing more is to be done for a task."""
    status = state.status(task_id)
    return status.good or status is Status.SKIPPED


def how_it_ended(plan: Plan, state: ExecutionState, blocked: Mapping[str, str]) -> RunEnd:
    """Completed where every required task is done or skipped; else failed, with the reasons."""
    bad = [t.id for t in plan.tasks if not settled(state, t.id)]
    required = [t for t in bad if t in plan.required]
    if not required:
        reason = f"not required and not done: {', '.join(bad)}" if bad else ""
        return RunEnd(status="completed", reason=reason)
    reasons = (_why_not(state, blocked, t) for t in required)
    return RunEnd(status="failed", reason="; ".join(reasons))


def aborted(plan: Plan, state: ExecutionState, why: str) -> RunEnd:
    """Stopped for good: why, what is done and what is not."""
    done = [t for t in plan.task_ids if state.status(t).good]
    left = [t for t in plan.task_ids if not settled(state, t)]
    return RunEnd(
        status="aborted",
        reason=f"{why}; done: {', '.join(done) or 'nothing'}; "
        f"not done: {', '.join(left) or 'nothing'}",
    )


def _why_not(state: ExecutionState, blocked: Mapping[str, str], task_id: str) -> str:
    if task_id in blocked:
        return f"{task_id} is blocked: {blocked[task_id]}"
    states = [state.task(task_id), *state.items(task_id).values()]
    last = next(
        (s.latest for s in states if s.latest and s.latest.outcome is TaskOutcome.FAILURE), None
    )
    if last is not None:
        said = last.data.get("reason") or last.state_name or "no reason was given"
        return f"{task_id} failed: {said}"
    return f"{task_id} never became ready"

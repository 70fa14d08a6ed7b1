"""What Prefect's API knows and the journal does not: the truth path beside the hooks.

Hooks miss what happens without them: an upstream failure, a crash, the end of an
attempt that is retried, a process that was killed. The API's state histories
tell. Every event here has the key that a hook would have used, so both together
give one record an attempt.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol
from uuid import UUID

from athena_prefect.journal.events import Reporter, TaskEvent, TaskEventKind, TaskOutcome
from athena_prefect.journal.state import Attempt, ExecutionState
from athena_prefect.plan.model import Plan
from athena_prefect.runtime.attempt import plain

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.objects import StateType, TaskRun

_PAGE = 200
"""Task runs a request: the API's own most."""
_NAME = re.compile(r"(?P<task>.+?)(?:\[(?P<item>\d+)\])?")
CARRIED = "Carried"
"""State name of a task run that only shows what an earlier run has done."""


class Told(Protocol):
    """A state of a task run: Prefect's `State`, or what one of its events says."""

    type: StateType
    name: str | None
    timestamp: Any
    message: str | None


class Identified(Protocol):
    """A task run, as far as its id."""

    @property
    def id(self) -> UUID:
        """Prefect's id of it."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiAttempt:
    """One attempt as the API's state history tells it."""

    run_count: int
    started: datetime | None
    ended: datetime | None
    state_type: str
    state_name: str
    message: str

    @property
    def outcome(self) -> TaskOutcome | None:
        """The outcome of the state that ended it; None while it runs."""
        if self.ended is None:
            return None
        if self.state_type == "COMPLETED":
            return TaskOutcome.SUCCESS
        if self.state_type in ("PENDING", "CANCELLED", "CANCELLING"):
            return TaskOutcome.BLOCKED
        return TaskOutcome.FAILURE


def item_of(name: str, plan: Plan) -> tuple[str, int | None] | None:
    """The task and item that a task run's name says; None for a name of something else."""
    found = _NAME.fullmatch(name)
    if found is None or found["task"] not in plan.task_ids:
        return None
    return found["task"], int(found["item"]) if found["item"] else None


def task_runs_of(client: SyncPrefectClient, flow_runs: Iterable[UUID]) -> Iterator[TaskRun]:
    """Every task run of `flow_runs`, page by page."""
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId

    ids = list(flow_runs)
    if not ids:
        return
    offset = 0
    while True:
        page = client.read_task_runs(
            flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=ids)),
            limit=_PAGE,
            offset=offset,
        )
        yield from page
        if len(page) < _PAGE:
            return
        offset += _PAGE


def attempts_in(states: Sequence[Told]) -> list[ApiAttempt]:
    """The attempts that a task run's state history tells of, in order."""
    attempts: list[ApiAttempt] = []
    started: datetime | None = None
    count = 0
    for state in sorted(states, key=lambda s: s.timestamp):
        at, kind, name = plain(state.timestamp), str(state.type.value), state.name or ""
        if kind == "RUNNING":
            if started is not None and name != "Retrying":
                continue  # a crash repeats Running; the attempt is the same
            if started is not None:
                attempts.append(_attempt(count, started, at, "FAILED", "Retrying", ""))
            started, count = at, count + 1
        elif name == "AwaitingRetry":
            if started is not None:
                attempts.append(
                    _attempt(count, started, at, "FAILED", "Retrying", state.message or "")
                )
            started = None
        elif name == "NotReady" or kind in ("COMPLETED", "FAILED", "CRASHED", "CANCELLED"):
            attempts.append(_attempt(max(count, 1), started, at, kind, name, state.message or ""))
            started = None
    if started is not None:
        attempts.append(_attempt(count, started, None, "RUNNING", "Running", ""))
    return attempts


def _attempt(
    count: int, started: datetime | None, ended: datetime | None, kind: str, name: str, message: str
) -> ApiAttempt:
    return ApiAttempt(
        run_count=count,
        started=started,
        ended=ended,
        state_type=kind,
        state_name=name,
        message=message,
    )


def missing_events(
    plan_run: UUID,
    item: tuple[str, int | None],
    task_run: Identified,
    states: Sequence[Told],
    state: ExecutionState,
    *,
    reported_by: Reporter = Reporter.API,
) -> list[TaskEvent]:
    """The events that the journal lacks of one task run, or that the API tells otherwise.

    A success whose result is not known to be stored is left out: the caller
    looks for the result first (`Restorer` of the dispatcher).
    """
    known = {a.run_count: a for a in state.task(*item).attempts if a.source == str(task_run.id)}
    events: list[TaskEvent] = []
    for told in attempts_in(states):
        before = known.get(told.run_count)
        events += _of_attempt(plan_run, item, str(task_run.id), told, before, reported_by)
    return events


def _of_attempt(
    plan_run: UUID,
    item: tuple[str, int | None],
    source: str,
    told: ApiAttempt,
    known: Attempt | None,
    reported_by: Reporter,
) -> Iterator[TaskEvent]:
    def event(kind: TaskEventKind, at: datetime, **more: object) -> TaskEvent:
        return TaskEvent(
            plan_run=plan_run,
            task_id=item[0],
            map_index=item[1],
            kind=kind,
            at=at,
            source=source,
            run_count=told.run_count,
            reported_by=reported_by,
            **more,  # type: ignore[arg-type]
        )

    if told.started is not None and (known is None or known.started is None):
        yield event(TaskEventKind.STARTED, told.started, state_type="RUNNING", state_name="Running")
    if told.ended is None or told.outcome is None:
        return
    agreed = known is not None and (
        known.abandoned
        or (
            known.ended is not None
            and known.outcome is not None
            and known.outcome.good is told.outcome.good
        )
    )
    # A success by the API that our criteria or a damaged result made a failure stays ours.
    ours = known is not None and known.ended is not None and told.outcome.good
    if not agreed and not ours:
        yield event(
            TaskEventKind.ENDED,
            told.ended,
            state_type=told.state_type,
            state_name=told.state_name,
            outcome=told.outcome,
            data={"reason": told.message} if told.message else {},
        )

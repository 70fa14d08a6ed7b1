"""What the task runs of a hand-written flow mean for its plan: the events of its journal.

The same translation serves what is seen as it happens (`athena_prefect.runtime.tap`)
and what the API tells later, so that both write the same facts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from athena_prefect.journal.events import (
    Event,
    Reporter,
    RunEvent,
    RunEventKind,
    TaskEvent,
    TaskEventKind,
    TaskOutcome,
)
from athena_prefect.journal.state import ExecutionState, Item, Status, evolve
from athena_prefect.plan.model import Plan
from athena_prefect.runtime.matching import FLOW_ATTEMPT, Items, Matching, task_name
from athena_prefect.runtime.reconcile import Told, missing_events, task_runs_of

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.objects import TaskRun

    from athena_prefect.runtime.tap import Observed

CACHED = "Cached"
NOT_READY = "NotReady"
REPEATED = "the flow run was tried again, and called it again"


@dataclass(slots=True, kw_only=True)
class Observing:
    """One attached plan run: its matching, its items, and what is known of it so far."""

    plan: Plan
    plan_run: UUID
    flow_run: UUID
    matching: Matching
    state: ExecutionState
    items: Items = field(init=False)
    _told: dict[UUID, list[Told]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.items = Items(self.plan, self.state)

    @classmethod
    def of(cls, plan: Plan, plan_run: UUID, flow_run: UUID, state: ExecutionState) -> Observing:
        """That of a run whose start is in `state`, which has the mapping of names."""
        names = dict(state.run_data.get("names", {}))
        return cls(
            plan=plan,
            plan_run=plan_run,
            flow_run=flow_run,
            matching=Matching(plan, names),
            state=state,
        )

    # -- as it happens ------------------------------------------------------------------------

    def observe(self, seen: Observed) -> list[Event]:
        """The events that a state amounts to, after those of the same task run before it."""
        state: Any = seen.state
        if state.type.value in ("PENDING", "SCHEDULED") and state.name not in _TELLING:
            return []  # it may get its own name only when it runs
        told = self._told.setdefault(seen.id, [])
        told.append(state)
        if state.type.value in _FINAL:
            self._told.pop(seen.id)
        return self._events(seen, seen.flow_attempt, told, Reporter.HOOK)

    # -- as the API tells it -------------------------------------------------------------------

    def reconcile(self, client: SyncPrefectClient) -> list[Event]:
        """What the API knows and the journal does not. Raises what Prefect's client raises."""
        found: list[Event] = []
        for run in task_runs_of(client, [self.flow_run]):
            if self._news_of(run):
                states: Any = client.read_task_run_states(run.id)
                attempt = max(run.flow_run_run_count, 1)
                found += self._events(run, attempt, states, Reporter.API)
        return found

    def _news_of(self, run: TaskRun) -> bool:
        state = run.state
        if state is None:
            return False
        over = state.is_final() or state.name == NOT_READY
        if not over and not state.is_running():
            return False
        task_id = self.matching.task_of(run)
        if task_id is None:
            return task_name(run) not in self.state.unplanned
        item = self.items.item_of(str(run.id), task_id, max(run.flow_run_run_count, 1))
        own = [a for a in self.state.task(*item).attempts if a.source == str(run.id)]
        known = [a for a in own if a.ended or not over]
        return len(known) < max(run.run_count, 1)

    # -- both ------------------------------------------------------------------------------------

    def _events(
        self, run: Any, flow_attempt: int, states: Sequence[Told], reported_by: Reporter
    ) -> list[Event]:
        task_id = self.matching.task_of(run)
        if task_id is None:
            return self._folded(self._unplanned(task_name(run), states[-1].timestamp))
        item = self.items.item_of(str(run.id), task_id, flow_attempt)
        missing = missing_events(
            self.plan_run, item, run, states, self.state, reported_by=reported_by
        )
        events: list[Event] = []
        for event in missing:
            event = replace(
                event,
                data={
                    **event.data,
                    "flow_run_id": str(self.flow_run),
                    FLOW_ATTEMPT: flow_attempt,
                },
            )
            events += self._folded(self._with_marks(event, item, flow_attempt))
        return events

    def _with_marks(self, event: TaskEvent, item: Item, flow_attempt: int) -> Iterator[TaskEvent]:
        """The event, with those that have to come before it."""
        yield from self._expanded(item[0], event)
        cached = event.kind is TaskEventKind.ENDED and event.state_name == CACHED
        if event.kind is TaskEventKind.STARTED:
            before = self.state.task(*item).in_force
            if before is not None and int(before.data.get(FLOW_ATTEMPT, 1)) < flow_attempt:
                yield replace(event, kind=TaskEventKind.INVALIDATED, data={"reason": REPEATED})
        if not cached:
            yield event
            return
        # Prefect answered from a cache: it began when it ended.
        data = {**event.data, "cached": True}
        yield replace(
            event, kind=TaskEventKind.STARTED, outcome=None, state_type=None, state_name=None,
            data=data,
        )  # fmt: skip
        yield replace(event, data=data)

    def _expanded(self, task_id: str, event: TaskEvent) -> Iterator[TaskEvent]:
        """How many items a mapped task has by now: what was expected, or more."""
        task = self.plan.get_task(task_id)
        if task.map_over is None:
            return
        count = max(task.expected_items, self.items.seen(task_id))
        if count > (self.state.task(task_id).items or 0):
            yield self._count(task_id, count, event.at)

    def _count(self, task_id: str, count: int, at: datetime) -> TaskEvent:
        return TaskEvent(
            plan_run=self.plan_run,
            task_id=task_id,
            kind=TaskEventKind.EXPANDED,
            at=at,
            source=f"{task_id}:{count}",
            reported_by=Reporter.DISPATCHER,
            data={"items": count},
        )

    def _unplanned(self, name: str, at: Any) -> Iterator[RunEvent]:
        if name not in self.state.unplanned:
            yield RunEvent(
                plan_run=self.plan_run,
                kind=RunEventKind.UNPLANNED,
                at=datetime.fromtimestamp(at.timestamp(), at.tzinfo),
                source=name,
            )

    def _folded(self, events: Iterator[Any]) -> list[Event]:
        found: list[Event] = []
        for event in events:
            self.state = evolve(self.state, event)
            found.append(event)
        return found

    def abandon(self, at: datetime, outcome: TaskOutcome, reason: str) -> list[Event]:
        """Take back what still counts as running: the process that ran it is gone."""
        left = [
            (item, attempt)
            for item, own in self.state.tasks.items()
            for attempt in own.attempts
            if attempt.running
        ]
        return self._folded(
            TaskEvent(
                plan_run=self.plan_run,
                task_id=item[0],
                map_index=item[1],
                kind=TaskEventKind.ABANDONED,
                at=at,
                source=attempt.source,
                run_count=attempt.run_count,
                outcome=outcome,
                reported_by=Reporter.DISPATCHER,
                data={"reason": reason},
            )
            for item, attempt in left
        )

    # -- the end ---------------------------------------------------------------------------------

    def close(self, at: datetime) -> list[Event]:
        """The flow run is over: mapped tasks have no more items than they had."""
        events: list[Event] = []
        for task in self.plan.tasks:
            seen = self.items.seen(task.id)
            if seen and seen != self.state.task(task.id).items:
                events += self._folded(iter([self._count(task.id, seen, at)]))
        return events

    def done(self) -> bool:
        """Whether every task of the plan has run and none runs."""
        running = (a.running for t in self.state.tasks.values() for a in t.attempts)
        return not any(running) and not self.open_tasks()

    def open_tasks(self) -> tuple[str, ...]:
        """The plan's tasks that never ran."""
        left = (Status.WAITING, Status.READY)
        return tuple(t.id for t in self.plan.tasks if self.state.status(t.id) in left)


_FINAL = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")
_TELLING = (NOT_READY, "AwaitingRetry")

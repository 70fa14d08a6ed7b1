"""Beside a run: what is late is found and written down, what was written is told to Prefect.

Both read the journal and nothing else, at a bounded rate, so that a task waits
for neither. The watching flow does the same for runs whose process is gone.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from athena_prefect.assumptions.unseen import NOBODY, unknown_in_a_row
from athena_prefect.journal.events import (
    CheckEvent,
    RunEvent,
    RunEventKind,
    TaskEvent,
    TaskEventKind,
)
from athena_prefect.journal.journal import Entry, Journal
from athena_prefect.journal.state import RETRYING, ExecutionState, fold_entries
from athena_prefect.monitor.breaches import assess, changes
from athena_prefect.monitor.context import ExecutionContext
from athena_prefect.monitor.effects import violation_of
from athena_prefect.monitor.monitor import ExecutionMonitor
from athena_prefect.monitor.shared import SharedMonitor
from athena_prefect.plan.model import Plan
from athena_prefect.runtime.events import SENDER, PlanEvent, Sender

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

logger = logging.getLogger(__name__)

ASSESS_SECONDS = 5.0
"""How often a run is assessed at most: a simulation is not made anew more often."""
TELL_SECONDS = 2.0
BATCH = 80
"""Events told at a time: 40 a second, of which a small server takes hundreds."""
BUSY_SHARE = 0.02
"""Share of the time that assessing may take: a large plan is assessed less often."""
MARK_SECONDS = 30.0
"""How often the journal is told how far Prefect was told; what a killed process had told
since is told again, as the same events."""

_PLAN_EVENTS = {
    RunEventKind.STARTED: "athena.plan.started",
    RunEventKind.REVISED: "athena.plan.replanned",
    RunEventKind.SUPERSEDED: "athena.plan.superseded",
    RunEventKind.PROPOSED: "athena.replan.proposed",
    RunEventKind.CHOSEN: "athena.replan.chosen",
    RunEventKind.NOT_REPLANNED: "athena.replan.failed",
}
_ENDS = {"completed": "athena.plan.completed", "failed": "athena.plan.failed"}


_CAN_WAIT = ("athena.task.", "athena.assumption.checked")


class Deriver:
    """The Prefect events that a plan run's journal entries amount to, in their order.

    A mapped task is told as one: begun with its first item, over with its last.
    """

    def __init__(self, plan: Plan, plan_run: UUID, namespace: str) -> None:
        self.state = ExecutionState()
        self._plan = plan
        self._run = plan_run
        self._namespace = namespace
        self._flow_run: str | None = None
        self._known = frozenset(plan.task_ids)
        self._begun: set[str] = set()
        self._over: dict[str, set[int]] = {}
        self._violated: set[str] = set()
        self._predicted: set[str] = set()
        self._unseen: set[str] = set()

    def take(self, entries: Iterable[Entry]) -> list[tuple[int, PlanEvent]]:
        """What the entries amount to, each with its position."""
        told = []
        for entry in entries:
            self.state = fold_entries((entry,), self.state)
            if entry.conflict:
                continue
            event = entry.event
            if isinstance(event, RunEvent):
                found = self._run_event(event)
            elif isinstance(event, TaskEvent) and event.task_id in self._known:
                found = self._task_event(event)
            elif isinstance(event, CheckEvent):
                found = self._check_event(event)
            else:
                found = None
            if found is not None:
                told.append((entry.position, found))
        return told

    def _event(self, name: str, key: str, at: datetime, figures: dict[str, Any]) -> PlanEvent:
        return PlanEvent(
            event=name, plan=self._plan.name, key=key, at=at, plan_run=self._run,
            revision=self.state.revision, flow_run_id=self._flow_run,
            namespace=self._namespace, figures=figures,
        )  # fmt: skip

    def _run_event(self, event: RunEvent) -> PlanEvent | None:
        data = event.data
        self._flow_run = data.get("flow_run_id") or self._flow_run
        if event.kind is RunEventKind.BREACHED:
            figures = {k: data.get(k) for k in ("level", "reason", "task_id", "episode")}
            figures |= dict(data.get("figures") or {}) | {"breach": data["name"]}
            return self._event(str(data["event"]), event.key, event.at, figures)
        if event.kind is RunEventKind.ENDED:
            status, started = str(data.get("status")), self.state.started
            seconds = None if started is None else (event.at - started).total_seconds()
            figures = {"status": status, "reason": data.get("reason"), "duration_s": seconds}
            if started is not None and self._plan.deadline is not None:
                limit = self._plan.deadline.resolve(started, self.state.scheduled)
                figures |= {"deadline": limit.isoformat(), "late": event.at > limit}
            name = _ENDS.get(status, "athena.plan.aborted")
            return self._event(name, event.key, event.at, figures)
        if event.kind not in _PLAN_EVENTS:
            return None
        name = _PLAN_EVENTS[event.kind]
        kept = (
            "logical_date", "scheduled_for", "author", "reason", "strategy", "by_hand", "option",
            "changes", "decide", "options", "recommended", "p50", "accepted", "p_deadline",
            "escalate",
        )  # fmt: skip
        return self._event(name, event.key, event.at, {k: data.get(k) for k in kept if k in data})

    def _check_event(self, event: CheckEvent) -> PlanEvent:
        """A violation and its end are told once each, and so is that it cannot be seen; a person
        is reminded each time; all other checks are told as checked.
        """
        name, data = event.assumption_id, event.data
        checks = self.state.checks.get(name, ())
        standing = violation_of(checks) is not None
        row = unknown_in_a_row(checks)
        unseen = len(row) >= self._plan.replanning.policy.unknown_in_a_row
        before = name in self._violated
        (self._violated.add if standing else self._violated.discard)(name)
        word = "checked"
        if standing != before:
            word = "violated" if standing else "recovered"
        elif data.get("predicted") and name not in self._predicted:
            word = "predicted"
        elif unseen and name not in self._unseen:
            word = "unknown"
        elif event.verdict == "unknown" and data.get("error") == NOBODY:
            word = "reminder"
        (self._unseen.add if unseen else self._unseen.discard)(name)
        (self._predicted.add if data.get("predicted") else self._predicted.discard)(name)
        kept = ("value", "unit", "reason", "error", "method", "author", "predicted")
        figures = {k: data[k] for k in kept if k in data}
        figures |= {"assumption_id": name, "verdict": event.verdict}
        assumption = next((a for a in self._plan.assumptions if a.id == name), None)
        if assumption is not None:
            figures |= {
                "criticality": str(assumption.criticality),
                "affects": list(assumption.affects),
                "expected": assumption.expected_value,
            }
            if row:
                figures |= {"unknown_in_a_row": len(row), "since": row[0].at.isoformat()}
            if unseen:
                figures["severity"] = str(assumption.criticality)
        return self._event(f"athena.assumption.{word}", event.key, event.at, figures)

    def _task_event(self, event: TaskEvent) -> PlanEvent | None:
        task = self._plan.get_task(event.task_id)
        if task.map_over is not None and event.map_index is not None:
            return self._item_event(event, event.map_index)
        figures: dict[str, Any] = {"task_id": task.id, "run_count": event.run_count}
        if event.kind is TaskEventKind.STARTED:
            return self._event("athena.task.started", event.key, event.at, figures)
        if event.kind is not TaskEventKind.ENDED or event.state_name in RETRYING:
            return None
        attempt = self.state.task(task.id).latest
        duration = attempt.duration if attempt is not None else None
        figures |= {
            "outcome": event.outcome and str(event.outcome),
            "reason": event.data.get("reason"),
            "duration_s": None if duration is None else duration.total_seconds(),
        }
        good = event.outcome is not None and event.outcome.good
        name = "athena.task.completed" if good else "athena.task.failed"
        return self._event(name, event.key, event.at, figures)

    def _item_event(self, event: TaskEvent, index: int) -> PlanEvent | None:
        task_id = event.task_id
        count = self.state.task(task_id).items
        figures: dict[str, Any] = {"task_id": task_id, "items": count}
        if event.kind is TaskEventKind.STARTED and task_id not in self._begun:
            self._begun.add(task_id)
            return self._event("athena.task.started", f"{task_id}|items", event.at, figures)
        if event.kind is not TaskEventKind.ENDED or event.state_name in RETRYING:
            return None
        over = self._over.setdefault(task_id, set())
        over.add(index)
        status = self.state.status(task_id) if len(over) == count else None
        if status is None or not status.final:
            return None
        name = "athena.task.completed" if status.good else "athena.task.failed"
        figures["outcome"] = str(status)
        return self._event(name, f"{task_id}|items|{event.key}", event.at, figures)


@dataclass(slots=True, kw_only=True)
class Telling:
    """Assesses one run and tells Prefect of it. For one thread."""

    plan: Plan
    plan_run: UUID
    journal: Journal
    namespace: str
    clock: Callable[[], datetime]
    client: SyncPrefectClient | None = None
    sender: Sender = SENDER
    shared: SharedMonitor = field(default_factory=SharedMonitor)
    """The run's monitor, where this process has one or will have one."""
    _deriver: Deriver | None = None
    _pending: list[tuple[int, PlanEvent]] = field(default_factory=list)
    _marked: int = 0
    _marked_at: float = 0.0
    assessing: bool = True
    """Whether the run's end is assessed, where the run was."""
    _assessed: bool = False
    _not_before: float = 0.0

    # -- assessing --------------------------------------------------------------------------

    def assess(self) -> tuple[RunEvent, ...]:
        """Find what is late and write it down; what was written."""
        if time.monotonic() < self._not_before:
            return ()
        begun = time.thread_time()
        events: tuple[RunEvent, ...] = ()
        with self._monitored() as monitor:
            if monitor is not None:
                self._assessed = True
                monitor.refresh()
                now = self.clock()
                events = tuple(changes(assess(monitor, now), monitor.state, self.plan_run, now))
                self.journal.append(*events)
                monitor.record_forecast(now=now)
        took = time.thread_time() - begun
        self._not_before = time.monotonic() + took / BUSY_SHARE
        return events

    @contextmanager
    def _monitored(self) -> Iterator[ExecutionMonitor | None]:
        with self.shared.using() as monitor:
            if monitor is None:
                monitor = self._taken_up()
                if monitor is not None:
                    self.shared.put(monitor)
            yield monitor

    def _taken_up(self) -> ExecutionMonitor | None:
        state = fold_entries(self.journal.read(self.plan_run))
        # The run's own process makes the baseline; until then there is nothing to compare.
        if state.started is None or state.baseline is None:
            return None
        context = ExecutionContext(
            plan_run=self.plan_run,
            clock=self.clock,
            started_at=state.started,
            journal=self.journal,
        )
        return ExecutionMonitor(self.plan, context)

    # -- telling ----------------------------------------------------------------------------

    def tell(self, most: int = BATCH) -> int:
        """Tell Prefect of what is new, what concerns the plan first; how many it took."""
        deriver = self._deriver
        if deriver is None:
            deriver = self._deriver = Deriver(self.plan, self.plan_run, self.namespace)
        entries = self.journal.read(self.plan_run, deriver.state.position)
        new = deriver.take(entries)
        self._pending += [p for p in new if p[0] > deriver.state.told]
        # Stable: in the journal's order, but for tasks, which can wait.
        batch = sorted(self._pending, key=lambda p: p[1].event.startswith(_CAN_WAIT))[:most]
        if not batch or not self.sender.send([e for _, e in batch], self.client):
            return 0
        done = {id(p) for p in batch}
        self._pending = [p for p in self._pending if id(p) not in done]
        if time.monotonic() - self._marked_at >= MARK_SECONDS:
            self.mark()
        return len(batch)

    def mark(self) -> None:
        """Write down how far Prefect was told."""
        assert self._deriver is not None
        first = min((p for p, _ in self._pending), default=None)
        position = self._deriver.state.position if first is None else first - 1
        self._marked_at = time.monotonic()
        if position <= max(self._marked, self._deriver.state.told):
            return
        self._marked = position
        self.journal.append(
            RunEvent(
                plan_run=self.plan_run,
                kind=RunEventKind.TOLD,
                at=self.clock(),
                source=str(position),
                data={"position": position},
            )
        )

    def end(self) -> None:
        """The run is over: assess it if it was assessed, tell what is left, up to a batch."""
        try:
            if self._assessed and self.assessing:
                self._not_before = 0.0
                self.assess()
            if self.tell(5 * BATCH):
                self.mark()
        except Exception as error:  # noqa: BLE001 - the boundary: the run has ended as it has
            logger.warning("Prefect's events do not show the end yet: %r", error)

"""What stays the same while one dispatcher runs a plan run."""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

from athena_prefect.journal.events import Event, Reporter, TaskEvent, TaskEventKind
from athena_prefect.journal.state import Item
from athena_prefect.monitor.shared import SharedMonitor
from athena_prefect.plan.model import DEFAULT_MODE, Plan, PlanTask, ResolvedMode
from athena_prefect.plan.templates import Template
from athena_prefect.runtime.calls import variable
from athena_prefect.runtime.recorder import Recorder, Recording

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

    from athena_prefect.learning.memory import Recalled


@dataclass(slots=True, kw_only=True)
class RunFacts:
    """A plan run in the hands of one dispatcher."""

    plan: Plan
    plan_run: UUID
    revision: int
    root: Path
    parameters: Mapping[str, Any]
    logical_date: datetime
    started_at: datetime
    flow_run_id: UUID
    session: str
    """Unique to this dispatcher, so that its run events are facts of their own."""
    token: int | None
    recorder: Recorder
    recording: Recording
    client: SyncPrefectClient
    modes: Mapping[str, str] = field(default_factory=dict)
    profiled: frozenset[str] = frozenset()
    """Tasks whose time is sampled."""
    keep_revision: Callable[[int, str, str, Mapping[str, Any] | None], None] | None = None
    """Stores `plan` as revision `number` of the run, with its author, its reason and what was
    promised. Raises StorageError."""
    keep_decision: Callable[[str, str, str, int | None], None] | None = None
    """Writes down what was decided about the rest of the run: outcome (proposed, adopted,
    declined, failed, aborted), strategy, reason, and the revision that came of it."""
    recall: Callable[[Plan], tuple[Recalled, ...]] = lambda plan: ()
    """What earlier runs taught that concerns a plan."""
    hands_over: Callable[[], bool] = lambda: False
    """Whether revisions that change more than one task are another flow run's to carry out."""
    shared: SharedMonitor = field(default_factory=SharedMonitor)
    """The run's monitor in this process, once its baseline is made."""
    heard: queue.SimpleQueue[Event] = field(default_factory=queue.SimpleQueue)
    _resolved: dict[str, ResolvedMode] = field(default_factory=dict)
    _only: dict[str, str] = field(default_factory=dict)
    """Modes that violated assumptions leave."""

    def mode_of(self, task_id: str) -> str:
        """The mode in which the revision in force runs a task."""
        return self._only.get(task_id) or self.modes.get(task_id, DEFAULT_MODE)

    def only_modes(self, modes: Mapping[str, str]) -> None:
        """Run these tasks in these modes only, whatever the revision says, and no others."""
        self._only = dict(modes)
        self._resolved.clear()

    def hear(self, events: Iterable[Event]) -> None:
        """Take note of what this process has recorded, for when the database is away."""
        for event in events:
            self.heard.put(event)

    def resolved(self, task: PlanTask) -> ResolvedMode:
        """A task in the mode of the revision in force; made once, asked for at each try."""
        found = self._resolved.get(task.id)
        if found is None:
            found = self._resolved[task.id] = task.mode(self.mode_of(task.id))
        return found

    def forget_resolved(self) -> None:
        """The plan or the modes are others now."""
        self._resolved.clear()

    def heard_since(self) -> list[Event]:
        """What this process has recorded since the last time."""
        events = []
        while not self.heard.empty():
            events.append(self.heard.get())
        return events

    def event(
        self,
        kind: TaskEventKind,
        at: datetime,
        item: Item,
        source: str,
        *,
        reason: str | None = None,
        **more: Any,
    ) -> TaskEvent:
        """An event of a task (or item) that the dispatcher itself reports."""
        data = dict(more.pop("data", {}))
        if reason is not None:
            data["reason"] = reason
        return TaskEvent(
            plan_run=self.plan_run,
            task_id=item[0],
            map_index=item[1],
            kind=kind,
            at=at,
            source=source,
            reported_by=Reporter.DISPATCHER,
            data=data,
            **more,
        )

    def look_up(self, template: Template) -> Any:
        """The value of a template that is no secret."""
        if template.namespace == "parameters":
            return self.parameters[template.name]
        if template.namespace == "variable":
            return variable(template.name)
        return {
            "logical_date": self.logical_date,
            "started_at": self.started_at,
            "id": str(self.plan_run),
            "plan": self.plan.name,
        }[template.name]


def label(item: Item) -> str:
    """The name of an item's task run."""
    return item[0] if item[1] is None else f"{item[0]}[{item[1]}]"

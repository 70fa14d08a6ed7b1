"""The fast path to the task runs of a flow that is not ours: Prefect's own events, as they leave.

The tasks of a hand-written flow are globals of somebody's module, so no hook can be
hung on them; but the engine tells Prefect's server of every state of every task run
by an event, and all of a process's events, those of a process pool included, pass
through one method. It is wrapped once, when the first flow run is listened to.
Prefect promises nothing about that method: where it is not there, or a task runs on
another machine, the API alone is asked (`athena_prefect.runtime.reconcile`).
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from prefect.client.schemas.objects import StateType
from prefect.context import FlowRunContext, TaskRunContext

logger = logging.getLogger(__name__)

PREFIX = "prefect.task-run."


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """One state of one task run, as Prefect's event of it says."""

    id: UUID
    """Of the task run."""
    name: str
    task_key: str
    dynamic_key: str
    flow_attempt: int
    """Which attempt of its flow run it belongs to, from 1."""
    state: ObservedState


@dataclass(slots=True)
class ObservedState:
    """A state as an event tells it, with the names of Prefect's `State`."""

    type: StateType
    name: str | None
    timestamp: datetime
    message: str | None


Listener = Callable[[Observed], object]

_listeners: dict[UUID, Listener] = {}
_lock = threading.Lock()


def listen(flow_run: UUID, listener: Listener) -> bool:
    """Tell `listener` of each task run state of `flow_run`; False where Prefect cannot be tapped.

    It is called in the task's own thread: it must be quick, and nothing that it raises
    reaches the task.
    """
    with _lock:
        _listeners[flow_run] = listener
        return _tapped()


def stop_listening(flow_run: UUID) -> None:
    """Tell nobody of `flow_run` any more."""
    with _lock:
        _listeners.pop(flow_run, None)


def _tapped() -> bool:
    try:
        from prefect.events.worker import EventsWorker

        send = EventsWorker.send
    except (ImportError, AttributeError):
        return False
    if getattr(send, "athena_tap", False):
        return True

    def tapped(worker: Any, event: Any) -> Any:
        _tell(event)
        return send(worker, event)

    tapped.athena_tap = True  # type: ignore[attr-defined]
    EventsWorker.send = tapped  # type: ignore[assignment,method-assign]
    return True


def _tell(event: Any) -> None:
    try:
        if not _listeners or not event.event.startswith(PREFIX):
            return
        flow_run = _flow_run_of(event)
        listener = _listeners.get(flow_run) if flow_run is not None else None
        if listener is not None:
            listener(observed(event))
    except Exception as error:  # noqa: BLE001 - the boundary: a task must not be failed by who watches
        logger.debug("a task run's event was not understood: %r", error)


def _flow_run_of(event: Any) -> UUID | None:
    for related in event.related:
        # There where the event comes out of another process of this machine.
        if related.get("prefect.resource.role") == "flow-run":
            return UUID(related["prefect.resource.id"].removeprefix("prefect.flow-run."))
    task = TaskRunContext.get()
    if task is not None and event.resource["prefect.resource.id"] == f"{PREFIX}{task.task_run.id}":
        found: UUID | None = task.task_run.flow_run_id
        return found
    flow = FlowRunContext.get()
    return None if flow is None or flow.flow_run is None else flow.flow_run.id


def observed(event: Any) -> Observed:
    """What an event says of a task run. Raises KeyError, ValueError for one of another form."""
    resource, run = event.resource, event.payload["task_run"]
    return Observed(
        id=UUID(resource["prefect.resource.id"].removeprefix(PREFIX)),
        name=run["name"],
        task_key=run["task_key"],
        dynamic_key=run["dynamic_key"],
        flow_attempt=max(int(run.get("flow_run_run_count", 0)), 1),
        state=ObservedState(
            type=StateType(resource["prefect.state-type"]),
            name=resource["prefect.state-name"],
            timestamp=event.occurred,
            message=event.payload["validated_state"].get("message"),
        ),
    )

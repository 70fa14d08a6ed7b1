"""From ready to running: what fits is started, the most critical first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from prefect.futures import PrefectFuture

from athena_prefect.errors import ResultUnreadableError
from athena_prefect.journal.events import TaskEventKind
from athena_prefect.journal.state import Item
from athena_prefect.plan.model import PlanTask, RunnerKind
from athena_prefect.runtime.readying import block, look_at, lost_result

if TYPE_CHECKING:
    from athena_prefect.runtime.dispatcher import Dispatcher

AHEAD_LONGEST = timedelta(seconds=1)
"""A task planned to take less may be given to the thread pool before a thread is free, which
spares it the 10 ms from one task's end to the next one's start. A longer one would gain
nothing that counts, and could stand before a more critical one that becomes ready meanwhile."""


@dataclass(slots=True)
class Running:
    """A submitted task (or item) whose body may run."""

    item: Item
    task: PlanTask
    future: PrefectFuture[Any]
    source: str
    demand: Mapping[str, float]
    since: datetime
    """Since when it could have started."""
    leases: tuple[Any, ...] = ()
    overdue: bool = False


def start_what_fits(dispatcher: Dispatcher) -> None:
    """Start what there is room and capacity for; of the rest the journal knows that it waits."""
    for item in dispatcher.line if _room(dispatcher, None) else ():
        if not _room(dispatcher, item):
            break
        if item in dispatcher.line.ready:
            _try_to_start(dispatcher, item)
    _say_what_waits(dispatcher)


def _room(dispatcher: Dispatcher, item: Item | None) -> bool:
    """Whether a worker is free for it, or it is short enough to wait in the pool's queue."""
    if not dispatcher.capacity.full:
        return True
    pooled = dispatcher.facts.plan.runner.kind is RunnerKind.THREADS and dispatcher.limits is None
    if not pooled or dispatcher.capacity.busy >= 2 * dispatcher.capacity.workers:
        return False
    if item is None:
        return True
    planned = dispatcher.facts.plan.get_task(item[0]).planned_duration
    return planned is not None and planned < AHEAD_LONGEST


def _say_what_waits(dispatcher: Dispatcher) -> None:
    """Tasks that only a slot or a resource holds back: their queue time begins here."""
    new = dispatcher.line.new()
    dispatcher.record(
        *(
            dispatcher.facts.event(TaskEventKind.READY, at, i, dispatcher.facts.session)
            for i, at in new
        )
    )


def _try_to_start(dispatcher: Dispatcher, item: Item) -> None:
    task = dispatcher.facts.plan.get_task(item[0])
    if dispatcher.gate is not None and dispatcher.gate.holds_back(
        task.id, dispatcher.input_revision(task.id)
    ):
        return
    demand = dispatcher.facts.resolved(task).resources
    if dispatcher.capacity.lacking(demand) is not None:
        return
    leases: tuple[Any, ...] = ()
    slots = dispatcher.limits.demand(demand) if dispatcher.limits is not None else {}
    if slots and dispatcher.limits is not None:
        impossible = dispatcher.limits.impossible(slots)
        if impossible is not None:
            dispatcher.line.leave(item)
            look_at(dispatcher, set(block(dispatcher, task.id, impossible)))
            return
        taken = dispatcher.limits.take(slots)
        if taken is None:
            return
        leases = taken
    since = dispatcher.line.leave(item)
    try:
        future = dispatcher.submitter.submit(
            task, item[1], dispatcher.handles, ready=since,
            input_revision=dispatcher.input_revision(task.id), leases=leases,
        )  # fmt: skip
    except ResultUnreadableError as error:
        if leases and dispatcher.limits is not None:
            dispatcher.limits.give_back(leases)
        look_at(dispatcher, set(lost_result(dispatcher, task, error)))
        return
    dispatcher.capacity.take(demand)
    dispatcher.line.under_way[task.id] += 1
    source = str(future.task_run_id)
    dispatcher.running[source] = Running(item, task, future, source, demand, since, leases)
    dispatcher.handles.put(item, future)
    future.add_done_callback(lambda _: dispatcher.news.put(source))

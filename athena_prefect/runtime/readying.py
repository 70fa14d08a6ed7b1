"""From waiting to ready: which tasks can start, which are skipped or blocked, and what follows."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from athena_prefect.errors import ResultUnreadableError, RunError
from athena_prefect.journal.events import TaskEvent, TaskEventKind, TaskOutcome
from athena_prefect.journal.state import Item
from athena_prefect.plan.expectation import field_of
from athena_prefect.plan.model import PlanTask
from athena_prefect.runtime.frontier import Verdict

if TYPE_CHECKING:
    from athena_prefect.runtime.dispatcher import Dispatcher

logger = logging.getLogger(__name__)


def look_at(dispatcher: Dispatcher, tasks: set[str]) -> None:
    """See of each task whether it can start, and of what follows from those that cannot."""
    todo = sorted(tasks & dispatcher.open, key=dispatcher.frontier.rank)
    while todo:
        task_id = todo.pop(0)
        if (
            task_id not in dispatcher.open
            or dispatcher.line.busy(task_id)
            or task_id in dispatcher.held
        ):
            continue
        dispatcher.timers.pop(task_id, None)
        task = dispatcher.facts.plan.get_task(task_id)
        answer = dispatcher.frontier.readiness(
            task, dispatcher.state, dispatcher.open, dispatcher.clock()
        )
        if answer.verdict is Verdict.WAIT:
            if answer.not_before is not None:
                dispatcher.timers[task_id] = answer.not_before
        elif answer.verdict is Verdict.SKIP:
            todo += _skip(dispatcher, task_id, answer.reason)
        elif answer.verdict is Verdict.BLOCK:
            todo += block(dispatcher, task_id, answer.reason)
        else:
            todo += _make_ready(dispatcher, task)


def _make_ready(dispatcher: Dispatcher, task: PlanTask) -> list[str]:
    try:
        reason = _unwanted(dispatcher, task)
        items = _items(dispatcher, task) if reason is None else ()
    except ResultUnreadableError as error:
        return lost_result(dispatcher, task, error)
    except RunError as error:  # what it maps over is no list: done by hand, without a result
        return block(dispatcher, task.id, str(error))
    if reason is not None:
        return _skip(dispatcher, task.id, reason)
    now = dispatcher.clock()
    for item in items:
        if not dispatcher.state.task(*item).status.good:
            dispatcher.line.join(item, now)
    if not dispatcher.line.busy(task.id):
        return close(dispatcher, task.id)
    return []


def _unwanted(dispatcher: Dispatcher, task: PlanTask) -> str | None:
    """Why `when` leaves the task out; None where it does not."""
    if task.when is None:
        return None
    value = dispatcher.handles.value(task.when.task)
    if task.when.field is not None:
        value = field_of(value, task.when.field)
    unmet = task.when.unmet(value)
    name = f"{task.when.task}.{task.when.field}" if task.when.field else task.when.task
    return None if unmet is None else f"when: {name} {unmet}"


def _items(dispatcher: Dispatcher, task: PlanTask) -> tuple[Item, ...]:
    if task.map_over is None:
        return ((task.id, None),)
    count = dispatcher.handles.expand(task)
    if dispatcher.state.task(task.id).items != count:
        dispatcher.record(
            _marker(dispatcher, task.id, TaskEventKind.EXPANDED, data={"items": count})
        )
    return tuple((task.id, i) for i in range(count))


def lost_result(dispatcher: Dispatcher, task: PlanTask, error: ResultUnreadableError) -> list[str]:
    """A stored result that a task needs cannot be read: make it again, or say why not."""
    lost = str(error.__dict__["task_id"])
    if not dispatcher.facts.plan.get_task(lost).rerunnable:
        return block(dispatcher, task.id, f"{error}; {lost} is not rerunnable")
    dispatcher.handles.forget(lost)
    invalidate(dispatcher, lost, str(error))
    return [lost]


def invalidate(dispatcher: Dispatcher, task_id: str, reason: str) -> None:
    """End the success in force of a task (and its items), so that it may run again."""
    indices = [None, *dispatcher.state.items(task_id)]
    events = [
        dispatcher.facts.event(
            TaskEventKind.INVALIDATED,
            dispatcher.clock(),
            (task_id, index),
            str(uuid4()),
            reason=reason,
        )
        for index in indices
        if index is None or dispatcher.state.task(task_id, index).in_force
    ]
    dispatcher.record(*events)
    dispatcher.revisions = {}
    dispatcher.open.add(task_id)


def _skip(dispatcher: Dispatcher, task_id: str, reason: str) -> list[str]:
    dispatcher.record(_marker(dispatcher, task_id, TaskEventKind.SKIPPED, reason=reason))
    logger.info("task %s is skipped: %s", task_id, reason)
    return close(dispatcher, task_id)


def block(dispatcher: Dispatcher, task_id: str, reason: str) -> list[str]:
    """It can never start: say so, and what is to be looked at then."""
    dispatcher.blocked[task_id] = reason
    future = dispatcher.submitter.show_blocked(
        dispatcher.facts.plan.get_task(task_id), dispatcher.handles
    )
    if future is not None:
        dispatcher.handles.put((task_id, None), future)
    source = str(future.task_run_id) if future is not None else f"{task_id}:blocked"
    dispatcher.record(
        dispatcher.facts.event(
            TaskEventKind.ENDED,
            dispatcher.clock(),
            (task_id, None),
            source,
            state_type="PENDING",
            state_name="NotReady",
            outcome=TaskOutcome.BLOCKED,
            reason=reason,
        )
    )
    logger.warning("task %s is blocked: %s", task_id, reason)
    return close(dispatcher, task_id)


def _marker(dispatcher: Dispatcher, task_id: str, kind: TaskEventKind, **more: Any) -> TaskEvent:
    """An event that a task has at most once on the same inputs."""
    source = f"{task_id}:{dispatcher.input_revision(task_id)}"
    return dispatcher.facts.event(kind, dispatcher.clock(), (task_id, None), source, **more)


def close(dispatcher: Dispatcher, task_id: str) -> list[str]:
    """A task has come to an end: what waited for it is to be looked at."""
    dispatcher.open.discard(task_id)
    dispatcher.timers.pop(task_id, None)
    return dispatcher.frontier.downstream(task_id)

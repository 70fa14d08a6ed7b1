"""Tasks that are done again, left out, or settled by hand, in the dispatcher's books."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from athena_prefect.journal.events import TaskEventKind
from athena_prefect.journal.state import Status
from athena_prefect.runtime.readying import close, invalidate, look_at

if TYPE_CHECKING:
    from athena_prefect.runtime.dispatcher import Dispatcher


def cannot_run_again(dispatcher: Dispatcher, task_id: str) -> str | None:
    """Why a task and what follows from it cannot run again now; None where they can."""
    if dispatcher.state.status(task_id) in (Status.WAITING, Status.READY):
        return f"{task_id} has not run yet"
    cone = {task_id, *dispatcher.frontier.cone(task_id)}
    busy = sorted({r.task.id for r in dispatcher.running.values()} & cone)
    if busy:
        return f"{', '.join(busy)} is running; wait for it, or cancel the run first"
    return None


def run_again(dispatcher: Dispatcher, task_id: str, reason: str) -> None:
    """Have a task and all that follows from it run again."""
    _again(
        dispatcher,
        sorted({task_id, *dispatcher.frontier.cone(task_id)}, key=dispatcher.frontier.rank),
        reason,
    )


def _again(dispatcher: Dispatcher, tasks: Iterable[str], reason: str) -> None:
    """End what is known of `tasks` and start from there."""
    for task_id in tasks:
        for item in dispatcher.line.of(task_id):
            dispatcher.line.leave(item)
        for item in [i for i in dispatcher.tries if i[0] == task_id]:
            del dispatcher.tries[item]
        dispatcher.blocked.pop(task_id, None)
        dispatcher.held.discard(task_id)
        dispatcher.handles.forget(task_id)
        invalidate(dispatcher, task_id, reason)
    look_at(dispatcher, set(dispatcher.open))


def settled_by_hand(dispatcher: Dispatcher, task_id: str) -> None:
    """A command has ended a task that had not started: go on from there."""
    dispatcher.handles.forget(task_id)
    for item in dispatcher.line.of(task_id):
        dispatcher.line.leave(item)
    dispatcher.blocked.pop(task_id, None)
    dispatcher.held.discard(task_id)
    after = close(dispatcher, task_id)
    # What it had blocked may start now.
    dispatcher.open |= {
        t for t in dispatcher.frontier.cone(task_id) if dispatcher.state.status(t) is Status.BLOCKED
    }
    look_at(dispatcher, set(after) | dispatcher.open)


def leave_out(dispatcher: Dispatcher, task_id: str, reason: str) -> None:
    """A revision has left the task out."""
    dispatcher.held.discard(task_id)
    dispatcher.blocked.pop(task_id, None)
    dispatcher.timers.pop(task_id, None)
    dispatcher.open.discard(task_id)
    if not dispatcher.state.status(task_id).good:
        dispatcher.record(
            dispatcher.facts.event(
                TaskEventKind.SKIPPED, dispatcher.clock(), (task_id, None), reason, reason=reason
            )
        )


def reopen(dispatcher: Dispatcher, again: Iterable[str], changed: Iterable[str]) -> None:
    """Try failed tasks `again`, and look anew at what was blocked behind what has changed."""
    for task_id in again:
        for item in [i for i in dispatcher.tries if i[0] == task_id]:
            del dispatcher.tries[item]
        dispatcher.handles.forget(task_id)
        dispatcher.open.add(task_id)
    for task_id in changed:
        for after in (task_id, *dispatcher.frontier.cone(task_id)):
            if dispatcher.state.status(after) is Status.BLOCKED:
                dispatcher.blocked.pop(after, None)
                dispatcher.open.add(after)
    look_at(dispatcher, set(dispatcher.open))

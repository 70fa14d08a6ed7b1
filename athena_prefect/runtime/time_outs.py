"""Time-outs of bodies that run on threads, which nobody can stop.

The attempt is taken back and what it reports later is ignored; its body keeps
its slot and resources until it ends, and only a `rerunnable` task is tried
again before that.
"""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from athena_prefect.journal.events import TaskEvent, TaskEventKind, TaskOutcome
from athena_prefect.journal.state import OVERRAN, Item
from athena_prefect.runtime.attempt import abandon
from athena_prefect.runtime.settling import close_if_over

if TYPE_CHECKING:
    from athena_prefect.runtime.dispatcher import Dispatcher
    from athena_prefect.runtime.starting import Running

logger = logging.getLogger(__name__)


def watch(dispatcher: Dispatcher) -> None:
    """Take back every attempt that has run past its time-out."""
    now = dispatcher.clock()
    for running in list(dispatcher.running.values()):
        item, task = running.item, running.task
        if task.timeout is None or running.overdue or dispatcher.submitter.ends_itself(task):
            continue
        attempt = dispatcher.state.task(*item).latest
        if attempt is None or attempt.source != running.source or attempt.started is None:
            continue
        if attempt.running and now - attempt.started >= task.timeout:
            _overdue(dispatcher, item, running, attempt.run_count, task.timeout)


def _overdue(
    dispatcher: Dispatcher, item: Item, running: Running, count: int, limit: timedelta
) -> None:
    running.overdue = True
    abandon(running.future.task_run_id)
    reason = f"{OVERRAN} of {limit.total_seconds():g} s; its body cannot be stopped"

    def event(kind: TaskEventKind, **more: Any) -> TaskEvent:
        return dispatcher.facts.event(
            kind, dispatcher.clock(), item, running.source, run_count=count, reason=reason, **more
        )

    dispatcher.record(
        event(TaskEventKind.OVERDUE),
        event(
            TaskEventKind.ABANDONED,
            state_type="FAILED",
            state_name="TimedOut",
            outcome=TaskOutcome.FAILURE,
        ),
    )
    logger.error("task %s %s (isolation: process can be)", item[0], reason)
    dispatcher.take_in(fresh=True)
    if dispatcher.state.task(*item).status.good:
        running.overdue = False
        return  # its success was recorded first
    # From here on the old body only keeps its slot and resources until it ends.
    dispatcher.line.under_way[item[0]] -= 1
    dispatcher.tries[item] = dispatcher.tries.get(item, 0) + 1
    if running.task.rerunnable and dispatcher.tries[item] <= running.task.retries:
        dispatcher.line.join(item, dispatcher.clock())
    else:
        close_if_over(dispatcher, item)

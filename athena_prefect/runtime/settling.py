"""From running to ended: what an end frees, and whether its task is over."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from athena_prefect.journal.state import Item, Status
from athena_prefect.runtime.readying import close, look_at
from athena_prefect.runtime.starting import Running

if TYPE_CHECKING:
    from athena_prefect.runtime.dispatcher import Dispatcher

logger = logging.getLogger(__name__)


def ended(dispatcher: Dispatcher, running: Running) -> None:
    """A body has ended: what it held is free, and what it came to is known."""
    item = running.item
    dispatcher.capacity.give_back(running.demand)
    if running.leases and dispatcher.limits is not None:
        dispatcher.limits.give_back(running.leases)
    if running.overdue:
        logger.info("task %s: the body that ran past its time-out has ended", item[0])
        return
    dispatcher.line.under_way[item[0]] -= 1
    _make_sure_it_is_recorded(dispatcher, item, running)
    close_if_over(dispatcher, item)


def close_if_over(dispatcher: Dispatcher, item: Item) -> None:
    """Go on from an item that has ended: its task is over where nothing is left to try."""
    if not dispatcher.state.task(*item).status.good:
        dispatcher.handles.drop_failed(item)
    if dispatcher.draining:
        return  # what follows from it is for whoever goes on
    # An item that is to be tried again still shows its last failure: it is not over.
    if dispatcher.line.busy(item[0]) or not dispatcher.state.status(item[0]).final:
        return
    failed = dispatcher.state.status(item[0]) is Status.FAILURE
    if failed and dispatcher.replanner is not None and dispatcher.replanner.takes_up(item[0]):
        dispatcher.held.add(item[0])
        return
    look_at(dispatcher, set(close(dispatcher, item[0])))


def _make_sure_it_is_recorded(dispatcher: Dispatcher, item: Item, running: Running) -> None:
    """The hook has written the end; where it could not, the future knows it."""
    attempt = next(
        (a for a in reversed(dispatcher.state.task(*item).attempts) if a.source == running.source),
        None,
    )
    if attempt is not None and attempt.ended is not None:
        return
    dispatcher.record(
        *dispatcher.submitter.end_of(item, running.future, attempt, dispatcher.clock())
    )

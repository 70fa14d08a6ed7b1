"""The options of a run as somebody looked at them, so that a number means what they saw."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from athena_prefect.errors import InputError, RunError, StaleOptionError, StorageError
from athena_prefect.journal.events import Reporter, RunEvent, RunEventKind
from athena_prefect.journal.state import fold_entries
from athena_prefect.replanning.account import told
from athena_prefect.replanning.wishes import Shown, Wish, newest_list
from athena_prefect.service.by_hand import ChangedByHand, adopt, author
from athena_prefect.service.following import Clock, utc_now
from athena_prefect.service.outside import journal_of
from athena_prefect.service.replanning import Replanned, replan

if TYPE_CHECKING:
    from athena_prefect.settings import AthenaSettings

logger = logging.getLogger(__name__)


def look(
    run: str | None,
    *,
    settings: AthenaSettings,
    strategy: str | None = None,
    clock: Clock = utc_now,
) -> Replanned:
    """Solve a run's options as `replan` does, and keep the list that is shown.

    Nothing is adopted. Raises as `replan` does.
    """
    found = replan(run, settings=settings, strategy=strategy, clock=clock)
    event = RunEvent(
        plan_run=found.plan_run,
        kind=RunEventKind.SHOWN,
        at=clock(),
        source=str(uuid4()),
        reported_by=Reporter.CALLER,
        data={
            "by": author(),
            "strategy": str(found.strategy),
            "revision": found.revision,
            "recommended": found.recommended,
            "options": [told(o) for o in found.options],
        },
    )
    try:
        journal_of(settings).append(event)
    except StorageError as error:
        # They can be looked at; a number that is chosen then says that they are not kept.
        logger.warning("the options that are shown are not kept: %s", error)
    return found


def choose(
    run: str,
    option: int,
    *,
    settings: AthenaSettings,
    strategy: str | None = None,
    clock: Clock = utc_now,
) -> ChangedByHand:
    """Have a run that goes on adopt an option, by its number in the list that was looked at.

    What is adopted changes what that option changed, or nothing is: StaleOptionError where
    the run has gone past it, which brings the options that there are now. Raises
    InputError for a number that no list has, RunError where the run refuses.
    """
    shown, in_force = _shown(run, settings, strategy)
    if shown is None:
        found = look(run, settings=settings, strategy=strategy, clock=clock)
        why = (
            f"no options of run {str(found.plan_run)[:8]} have been looked at, so {option} is none"
        )
        raise _stale(why, found)
    wish = shown.wish(option)
    if shown.revision != in_force:
        found = look(run, settings=settings, strategy=strategy, clock=clock)
        raise _stale(
            f"revision {in_force} of run {str(found.plan_run)[:8]} is in force, and option "
            f"{option}, {wish.words}, was shown for revision {shown.revision}",
            found,
        )
    try:
        return adopt(run, wish, settings=settings, revision=in_force)
    except RunError as error:
        try:
            found = look(run, settings=settings, strategy=strategy, clock=clock)
        except InputError:
            raise error from None  # the run is over meanwhile
        raise _stale(error.message, found) from None


def _shown(run: str, settings: AthenaSettings, strategy: str | None) -> tuple[Shown | None, int]:
    from athena_prefect.service.addressing import store_of

    entries = journal_of(settings).read(store_of(settings).run(run).plan_run)
    state = fold_entries(entries)
    return newest_list(entries, author(), strategy=strategy), state.revision


def _stale(why: str, found: Replanned) -> StaleOptionError:
    there = "; ".join(f"{o.option_id}: {o.title}" for o in found.options) or "none"
    return StaleOptionError(
        f"{why}; nothing is adopted. There are now: {there}",
        field="option",
        options=[told(o) for o in found.options],
        _found=found,  # for people it is drawn as a table
    )


def wish_for(
    plan_run: Any, option: int, title: str | None, *, settings: AthenaSettings, revision: int
) -> Wish | None:
    """The option that a number and a title mean in the list that was shown; None without one.

    A title decides: what a person saw is that.
    """
    shown = newest_list(journal_of(settings).read(plan_run), author())
    if shown is None or shown.revision != revision:
        return None
    titled = [o for o in shown.options if title in (None, o["title"])]
    same = [o for o in titled if o["option_id"] == option] or (titled if title else [])
    return shown.wish(int(same[0]["option_id"])) if same else None

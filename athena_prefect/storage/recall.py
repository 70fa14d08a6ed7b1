"""What this process has lately written to a journal or read from it, by its key.

A run's own process reads back what its threads wrote: the dispatcher, the
monitor and the events to Prefect each look at every entry. Reading them again and
again, half of it decoding, was 7 % of the samples of a run of short tasks.
"""

from __future__ import annotations

from uuid import UUID

from athena_prefect.journal.events import Event
from athena_prefect.storage.db import Database

MOST = 20_000
"""Events kept: 23 MB of starts and ends. What is older is decoded again."""


class Recall:
    """Events by plan run and key; for any number of threads."""

    def __init__(self, database: Database) -> None:
        self._events: dict[tuple[UUID, str], Event] = {}

    def note(self, event: Event) -> None:
        """Keep the event that is stored under its key: the first, not one that contradicts it."""
        events = self._events
        events.setdefault((event.plan_run, event.key), event)
        if len(events) > MOST:
            # The half that was noted first; a race makes two threads drop more, and harms nothing.
            for key in list(events)[: MOST // 2]:
                events.pop(key, None)

    def event(self, plan_run: UUID, key: str) -> Event | None:
        """The event stored under that key, where it is still kept."""
        return self._events.get((plan_run, key))

    def close(self) -> None:
        """Forget all."""
        self._events.clear()


def recall_of(database: Database) -> Recall:
    """This process's memory of `database`."""
    return database.local(Recall)

"""A journal that goes on, into the spool, while the database cannot be reached."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from uuid import UUID

from athena_prefect.errors import StorageUnavailableError
from athena_prefect.journal.events import Event
from athena_prefect.journal.journal import Entry, Journal, Recorded
from athena_prefect.monitor.context import Remembering
from athena_prefect.monitor.history import NO_HISTORY, History
from athena_prefect.storage.spool_file import Drained, Spool

__all__ = ["Drained", "Spool", "SpoolingJournal"]

logger = logging.getLogger(__name__)

FIRST_RETRY = 1.0
"""Seconds until an append looks for the database again after it was away."""
LOOK_AGAIN = 0.1
"""Seconds for which an append believes that no other process has begun to spool. Who has read
an event of another's has drained the spool by it, so that causes still come before effects."""
LAST_RETRY = 30.0
"""Longest wait between two looks: each may cost a connection time-out in somebody's hook."""


class SpoolingJournal:
    """`primary`, or `spool` while `primary` cannot be reached.

    While anything waits in the spool, of whatever process, appends follow it
    there, so that the order is kept. It is drained by `drain` (a dispatcher calls
    it each second), before a read, and by appends with growing pauses between
    attempts. Each database has a folder of its own within the spool's.
    `on_degraded` is told of an outage once, and of gaps, as is the log.
    """

    def __init__(
        self,
        primary: Journal,
        spool: Spool,
        *,
        on_degraded: Callable[[str], None] | None = None,
    ) -> None:
        self.primary = primary
        # What was meant for one database must never be drained into another.
        database = getattr(primary, "database", None)
        self.spool = spool if database is None else spool.within(database.fingerprint)
        self._on_degraded = on_degraded
        self._degraded = False
        self._pause = FIRST_RETRY
        self._next_try = 0.0
        self._look_lock = threading.Lock()
        self._empty_until = 0.0
        self._spooled_times = 0

    @property
    def degraded(self) -> bool:
        """Whether events wait in the spool."""
        return self.spool.pending

    def append(self, *events: Event, token: int | None = None) -> tuple[Recorded, ...]:
        """Write `events` in order, all or none; durable on return, here or there.

        Raises LeaseLostError (of the database; the spool cannot know), RecordingError,
        and StorageUnavailableError where neither the database nor the spool takes them.
        """
        if not events:
            return ()
        if self._spooled() and not self._recovered():
            return self._to_spool(events, token)
        try:
            return self.primary.append(*events, token=token)
        except StorageUnavailableError as error:
            self._say(error)
            return self._to_spool(events, token)

    def finished_runs(self, plan_run: UUID) -> History:
        """What the database knows of earlier runs; nothing while it cannot be reached."""
        if not isinstance(self.primary, Remembering):
            return NO_HISTORY
        try:
            return self.primary.finished_runs(plan_run)
        except StorageUnavailableError as error:
            logger.warning("forecasts rest on estimates: earlier runs cannot be read: %s", error)
            return NO_HISTORY

    def read(self, plan_run: UUID, after: int = 0) -> Sequence[Entry]:
        """The entries behind position `after`; what this machine spooled is drained first.

        So an entry has one position for ever. Raises StorageUnavailableError.
        """
        if self.spool.pending:
            self._finished(self.spool.drain(self._write, wait=True))
        return self.primary.read(plan_run, after)

    def drain(self) -> Drained:
        """Try to bring what was spooled into the database; never raises because it is away."""
        if not self.spool.pending:
            return Drained()
        try:
            drained = self.spool.drain(self._write)
        except StorageUnavailableError as error:
            self._say(error)
            return Drained(left=True)
        self._finished(drained)
        return drained

    def _write(self, events: tuple[Event, ...], token: int | None) -> object:
        return self.primary.append(*events, token=token)

    def _spooled(self) -> bool:
        # A look into the folder is four calls into the system, in the hook of every task.
        now = time.monotonic()
        if now < self._empty_until:
            return False
        before = self._spooled_times
        pending = self.spool.pending
        with self._look_lock:
            # What another thread has spooled since the look must not be overtaken.
            if not pending and before == self._spooled_times:
                self._empty_until = now + LOOK_AGAIN
        return pending

    def _recovered(self) -> bool:
        if time.monotonic() < self._next_try:
            return False
        # Before the attempt: others must not wait for the same time-out.
        self._next_try = time.monotonic() + self._pause
        self._pause = min(2 * self._pause, LAST_RETRY)
        return not self.drain().left

    def _finished(self, drained: Drained) -> None:
        for gap in drained.gaps:
            self._tell(gap)
        if drained.left:
            return
        if self._degraded or drained.events:
            logger.warning("the database is back; %s spooled events are in it now", drained.events)
        self._degraded = False
        self._pause, self._next_try = FIRST_RETRY, 0.0

    def _to_spool(self, events: tuple[Event, ...], token: int | None) -> tuple[Recorded, ...]:
        try:
            self.spool.append(*events, token=token)
        except OSError as error:
            raise StorageUnavailableError(
                f"events can be neither stored nor spooled: {self.spool.folder}: {error}",
                folder=str(self.spool.folder),
            ) from error
        with self._look_lock:
            self._spooled_times += 1
            self._empty_until = 0.0
        return tuple(Recorded.SPOOLED for _ in events)

    def _say(self, error: StorageUnavailableError) -> None:
        # A look that failed postpones the next one, whoever made it.
        self._next_try = time.monotonic() + self._pause
        if self._degraded:
            return
        self._degraded = True
        message = f"{error}; events are kept in {self.spool.folder} until it is back"
        logger.error("%s", message)
        self._tell(message)

    def _tell(self, message: str) -> None:
        if self._on_degraded is not None:
            self._on_degraded(message)

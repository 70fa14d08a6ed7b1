"""The one way by which the runtime writes to the journal, from whatever process a task is in.

A problem with the database is ours and never the pipeline's: what cannot be
stored is spooled, what cannot even be spooled is said once and rebuilt from
Prefect's API later. The one error that passes is `LeaseLostError`: who has been
fenced off must stop.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from uuid import UUID

from athena_prefect.errors import AthenaError, LeaseLostError
from athena_prefect.journal.events import Event
from athena_prefect.journal.journal import Journal
from athena_prefect.runtime.results import ResultVault, open_vault

if TYPE_CHECKING:
    from athena_prefect.plan.model import Plan
    from athena_prefect.settings import AthenaSettings

logger = logging.getLogger(__name__)

Listener = Callable[[tuple[Event, ...]], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """Where a run's facts and results go; travels with each task into its process."""

    database_url: str = field(repr=False)
    """With its password, so it is never shown."""
    durable: Literal["process", "power"] = "process"
    spool: Path
    results: Path
    storage: str = "local"

    def open_journal(self) -> Journal:
        """The journal in the database, with a spool for when it cannot be reached."""
        from athena_prefect.storage.db import database_for
        from athena_prefect.storage.spool import Spool, SpoolingJournal
        from athena_prefect.storage.sql_journal import SqlJournal

        database = database_for(self.database_url, durable=self.durable)
        spool = Spool(self.spool, durable=self.durable)
        return SpoolingJournal(SqlJournal(database), spool)

    def open_vault(self) -> ResultVault:
        """Where the results of tasks are kept."""
        return open_vault(self.storage, self.results, sync=self.durable == "power")


def recording_of(settings: AthenaSettings, plan: Plan) -> Recording:
    """Where the facts and results of the plan's runs go under `settings`."""
    return Recording(
        database_url=settings.database_url,
        durable=settings.durable,
        spool=settings.spool_folder,
        results=settings.results_folder,
        storage=plan.results.storage,
    )


class Recorder:
    """A journal that never fails its caller, and tells this process what was written."""

    def __init__(self, journal: Journal, vault: ResultVault) -> None:
        self.journal = journal
        self.vault = vault
        self._lock = threading.Lock()
        self._listeners: dict[UUID, Listener] = {}
        self._said = False
        self.lost: list[Event] = []
        """What could be neither stored nor spooled, in this process."""

    def listen(self, plan_run: UUID, listener: Listener | None) -> None:
        """Tell `listener` of every event of the run that this process writes; None ends it."""
        with self._lock:
            if listener is None:
                self._listeners.pop(plan_run, None)
            else:
                self._listeners[plan_run] = listener

    def record(self, *events: Event, token: int | None = None) -> None:
        """Write `events`, all of one run. Raises LeaseLostError, and nothing else."""
        if not events:
            return
        try:
            self.journal.append(*events, token=token)
        except LeaseLostError:
            raise
        except (AthenaError, OSError) as error:
            self._degraded(events, error)
        listener = self._listeners.get(events[0].plan_run)
        if listener is not None:
            listener(events)

    def _degraded(self, events: tuple[Event, ...], error: Exception) -> None:
        with self._lock:
            self.lost.extend(events)
            said, self._said = self._said, True
        if not said:
            logger.error(
                "neither the database nor the spool takes events (%s); the run goes on, and what "
                "is missing is rebuilt from Prefect's API when it ends",
                error,
            )


_recorders: dict[tuple[int, Recording], Recorder] = {}
_recorders_lock = threading.Lock()


def recorder_for(recording: Recording) -> Recorder:
    """This process's recorder for `recording`, opened at its first use.

    Keyed by process: a connection that crossed a fork belongs to the parent.
    """
    key = (os.getpid(), recording)
    found = _recorders.get(key)
    if found is None:
        with _recorders_lock:
            found = _recorders.get(key)
            if found is None:
                found = Recorder(recording.open_journal(), recording.open_vault())
                _recorders[key] = found
    return found

"""One look at every live run: what hooks missed, what is late, what has to be started again.

The same look may be taken by any number of watchers, at any time and as often as
they like: what it writes is claimed under a unique key of the journal. A live run's
part is in `live_runs`, that of a hand-written flow in `attached_runs`, what is to be
replanned in `due_replans`, what has not begun in `late_starts`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING
from uuid import UUID

from athena_prefect.errors import StorageUnavailableError
from athena_prefect.journal.events import RunEvent, RunEventKind
from athena_prefect.service.following import Clock, utc_now
from athena_prefect.service.late_starts import LateStarts
from athena_prefect.service.live_runs import LiveRuns
from athena_prefect.service.watched import MOST_RUNS, Watch, WatchedRun, WatchPass

if TYPE_CHECKING:
    from athena_prefect.runtime.events import Sender
    from athena_prefect.settings import AthenaSettings
    from athena_prefect.storage.decisions import RunRow

logger = logging.getLogger(__name__)

GRACE = timedelta(seconds=60)
"""How long a flow run may read as running before its dispatcher holds the lease."""
TOLD_LATE = timedelta(days=1)
"""How long after its end a run is still told of; later nobody is helped."""


def watch_live(
    plan: str | None = None,
    *,
    settings: AthenaSettings,
    clock: Clock = utc_now,
    sender: Sender | None = None,
    grace: timedelta = GRACE,
) -> WatchPass:
    """Look once at every live run of the namespace, or of one plan.

    What happens to one run stops no other. Raises StorageError where the database
    is away, UnknownNameError for a plan that was never registered or run.
    """
    from athena_prefect.runtime.events import SENDER
    from athena_prefect.runtime.watching import connected
    from athena_prefect.storage.db import Database
    from athena_prefect.storage.lease import Leases
    from athena_prefect.storage.plans import PlanStore
    from athena_prefect.storage.sql_journal import SqlJournal

    database = Database.open(settings)
    store = PlanStore(database)
    if plan is not None:
        store.plan(plan, namespace=settings.namespace)
    with connected() as api:
        watch = Watch(
            settings=settings,
            database=database,
            store=store,
            leases=Leases(database),
            journal=SqlJournal(database),
            api=api,
            clock=clock,
            sender=sender or SENDER,
            grace=grace,
        )
        return _Pass(watch).look(plan)


def watch_every(
    every: timedelta,
    plan: str | None = None,
    *,
    settings: AthenaSettings,
    told: Callable[[WatchPass], object],
) -> None:
    """Look again and again, `every` so often, until interrupted; also over an absent database."""
    while True:
        try:
            found = watch_live(plan, settings=settings)
        except StorageUnavailableError as error:
            found = WatchPass(as_of=utc_now(), api=True, problems=(str(error),))
        told(found)
        time.sleep(every.total_seconds())


class _Pass:
    """One look at everything that is live."""

    def __init__(self, watch: Watch) -> None:
        self.watch = watch

    def look(self, plan: str | None) -> WatchPass:
        """Look at every live run and at every late start, and tell what was not told."""
        from athena_prefect.storage.plans import LIVE

        rows = self.watch.store.runs(
            self.watch.settings.namespace, plan=plan, status=LIVE, limit=MOST_RUNS
        )
        found = [self._guarded(row) for row in rows]
        self._untold(plan)
        self._check_schedules(plan)
        found += LateStarts(self.watch).look(plan)
        return WatchPass(
            as_of=self.watch.clock(),
            api=self.watch.api is not None,
            runs=tuple(found),
            problems=tuple(self.watch.problems),
        )

    def _guarded(self, row: RunRow) -> WatchedRun:
        try:
            return LiveRuns(self.watch).look(row)
        except Exception as error:  # the boundary: one run's failure stops no other
            logger.exception("plan run %s could not be looked at", row.plan_run)
            return WatchedRun(
                plan_run=row.plan_run, plan=row.plan, status="unknown", problem=repr(error)
            )

    def _untold(self, plan: str | None) -> None:
        """Tell Prefect of runs that have ended, where it was away when they did."""
        if self.watch.api is None:
            return
        from athena_prefect.runtime.telling import Telling
        from athena_prefect.storage.plans import LIVE

        since = self.watch.clock() - TOLD_LATE
        rows = self.watch.store.runs(self.watch.settings.namespace, plan=plan, limit=MOST_RUNS)
        for row in rows:
            if row.status in LIVE or row.ended_at is None or row.ended_at < since:
                continue
            try:
                if not self._all_told(row.plan_run):
                    self.watch.tell(Telling, row, self.watch.store.revision(row.plan_run))
            except Exception as error:  # the boundary: one run's failure stops no other
                logger.exception("Prefect could not be told of plan run %s", row.plan_run)
                self.watch.problems.append(f"{row.plan_run}: {error!r}")

    def _check_schedules(self, plan: str | None) -> None:
        """Pause schedules of checks that no live run needs any more, and set active what one does.

        Where the process that should have done it vanished.
        """
        if self.watch.api is None:
            return
        from athena_prefect.runtime.deployment.check_schedules import needed, settle
        from athena_prefect.storage.plans import LIVE

        namespace = self.watch.settings.namespace

        def wanted() -> set[tuple[str, str]]:
            live = self.watch.store.runs(namespace, plan=plan, status=LIVE, limit=MOST_RUNS)
            of = {row.plan for row in live}
            return {pair for name in of for pair in needed(self.watch.database, name, namespace)}

        try:
            settle(self.watch.api.client, namespace, wanted, plan)
        except Exception as error:  # the boundary: live runs were looked at all the same
            logger.exception("schedules of checks could not be looked at")
            self.watch.problems.append(f"schedules of checks could not be looked at: {error!r}")

    def _all_told(self, plan_run: UUID) -> bool:
        last = self.watch.journal.last_position(plan_run)
        return any(
            isinstance(e.event, RunEvent)
            and e.event.kind is RunEventKind.TOLD
            and e.event.data["position"] >= e.position - 1
            for e in self.watch.journal.read(plan_run, last - 1)
        )

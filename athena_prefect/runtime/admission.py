"""Whether a deployment's run may start: overlapping starts, and starts that were missed.

Prefect's limit of a deployment keeps runs apart only while it knows of them: it
counts neither the continuation nor `athena run`, forgets who died, and cannot tell
a start that was missed from one that waits. So each run asks here before it begins.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any
from uuid import UUID

from athena_prefect.errors import PlanBlockedError, StorageError
from athena_prefect.plan.model import Plan
from athena_prefect.runtime.continuing import newest_flow_run, waiting_revision

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.objects import FlowRun

    from athena_prefect.journal.journal import Entry
    from athena_prefect.settings import AthenaSettings

logger = logging.getLogger(__name__)

LOOK_SECONDS = 2.0
"""Between two looks at an earlier run that is waited for; its end is told no sooner."""
CANCEL_PATIENCE = timedelta(minutes=2)
"""How long a cancelled run may take to end: Prefect's own grace for deaf tasks is 30 s, and the
worker looks for cancelled runs every ten."""
RESUMED_WITHIN = timedelta(minutes=10)
"""How long a crashed run counts as one that goes on: the watching flow looks every minute, so
one that is crashed for longer is not going to."""
LIMIT_REACHED = "Deployment concurrency limit reached."
"""What Prefect says of a run that it cancels for a deployment's limit."""
_MOST = 200


class Verdict(StrEnum):
    """What becomes of a start."""

    RUN = "run"
    SKIP = "skip"
    WAIT = "wait"
    CANCEL = "cancel the earlier ones"


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """A scheduled start of the deployment that is due."""

    flow_run_id: UUID
    due: datetime
    waits: bool = True
    """Whether it has neither begun nor been cancelled."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Earlier:
    """Another run of the plan."""

    flow_run_id: UUID | None
    started: datetime
    ended: datetime | None = None
    works: bool = False
    """Whether a process works on it, or will again."""

    def covers(self, moment: datetime) -> bool:
        """Whether it worked at `moment`."""
        if self.ended is None:
            return self.works and self.started <= moment
        return self.started <= moment < self.ended


@dataclass(frozen=True, slots=True, kw_only=True)
class Admission:
    """The verdict, why, and the start that the run stands for."""

    verdict: Verdict
    due: datetime
    reason: str = ""
    gives_up: tuple[UUID, ...] = ()
    """Waiting starts that this run makes needless."""
    for_good: bool = False
    """Whether it would be skipped at any later moment, too."""


def admission(
    plan: Plan, mine: Start, *, scheduled: bool, later: Sequence[Start], runs: Sequence[Earlier]
) -> Admission:
    """What becomes of a start, given the later ones that are due too and the plan's other runs.

    `scheduled` is whether the schedule made it. Without `catch_up`, of several starts
    that were missed one run is made, for the newest; a start that was due while a run
    worked was not missed: it is skipped, queued, or has replaced that run.
    """
    working = [r for r in runs if r.works and r.ended is None]
    if plan.overlap == "skip" and any(r.covers(mine.due) for r in runs):
        return Admission(
            verdict=Verdict.SKIP,
            due=mine.due,
            reason="an earlier run worked when it was due",
            # One that still works may turn out to be gone.
            for_good=any(r.ended is not None and r.covers(mine.due) for r in runs),
        )
    missed = [s for s in later if not any(r.covers(s.due) for r in runs)]
    if scheduled and not plan.catch_up and missed:
        newest = max(missed, key=lambda s: s.due)
        if plan.overlap == "cancel_running":
            why = f"the start of {newest.due:%Y-%m-%d %H:%M:%S} UTC is due, too"
            return Admission(verdict=Verdict.SKIP, due=mine.due, reason=why, for_good=True)
        given_up = tuple(s.flow_run_id for s in missed if s.waits)
        mine = Start(flow_run_id=mine.flow_run_id, due=newest.due)
    else:
        given_up = ()
    if not working:
        return Admission(verdict=Verdict.RUN, due=mine.due, gives_up=given_up)
    match plan.overlap:
        case "skip":
            return Admission(verdict=Verdict.SKIP, due=mine.due, reason="an earlier run works")
        case "queue":
            return Admission(
                verdict=Verdict.WAIT, due=mine.due, reason="an earlier run works", gives_up=given_up
            )
        case "cancel_running":
            return Admission(verdict=Verdict.CANCEL, due=mine.due, reason="a later start is due")


# -- asking, and doing what the answer says -------------------------------------------------


def admit(
    plan: Plan,
    flow_run: FlowRun,
    *,
    client: SyncPrefectClient,
    settings: AthenaSettings,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    sleep: Callable[[float], object] = time.sleep,
) -> Admission:
    """Whether the flow run may start now; waits for earlier runs or cancels them, as the plan says.

    Raises PlanBlockedError where an earlier run cannot be cancelled.
    """
    look = _Look(plan=plan, flow_run=flow_run, client=client, settings=settings, clock=clock)
    since: datetime | None = None
    cancelled: set[UUID] = set()
    while True:
        found = look.once()
        for start in found.gives_up:
            look.give_up(start, found.due)
        match found.verdict:
            case Verdict.RUN | Verdict.SKIP:
                return found
            case Verdict.WAIT:
                if since is None:
                    logger.info("waits for an earlier run of %s", plan.name)
            case Verdict.CANCEL:
                look.cancel(cancelled)
                if since is not None and clock() - since > CANCEL_PATIENCE:
                    raise PlanBlockedError(
                        f"an earlier run of {plan.name!r} was cancelled and still works; "
                        "look at its worker"
                    )
        since = since or clock()
        sleep(LOOK_SECONDS)


def take_back(
    plan: Plan,
    flow_run: FlowRun,
    *,
    client: SyncPrefectClient,
    settings: AthenaSettings,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> str:
    """Cancel a start that waits for a worker where the plan says it is never to run; why, or "".

    Without a worker nobody would: the run itself asks when it begins.
    """
    from prefect.states import Cancelled

    look = _Look(plan=plan, flow_run=flow_run, client=client, settings=settings, clock=clock)
    found = look.once()
    if found.verdict is not Verdict.SKIP or not found.for_good:
        return ""
    state: Any = Cancelled(name="Skipped", message=found.reason)
    client.set_flow_run_state(flow_run.id, state)
    return found.reason


@dataclass(frozen=True, slots=True, kw_only=True)
class _Look:
    plan: Plan
    flow_run: FlowRun
    client: SyncPrefectClient
    settings: AthenaSettings
    clock: Callable[[], datetime]

    def once(self) -> Admission:
        due = _plain(self.flow_run.expected_start_time) or self.clock()
        return admission(
            self.plan,
            Start(flow_run_id=self.flow_run.id, due=due),
            scheduled=bool(self.flow_run.auto_scheduled),
            later=self._later(due),
            runs=[*self._recorded(), *self._beginning(due)],
        )

    def cancel(self, done: set[UUID]) -> None:
        """Cancel what works, as its Cancel in the UI does, but for those that are `done`."""
        from prefect.states import Cancelling

        for run in self._recorded():
            if run.works and run.flow_run_id is not None and run.flow_run_id not in done:
                done.add(run.flow_run_id)
                state: Any = Cancelling(message=f"flow run {self.flow_run.name!r} takes its place")
                self.client.set_flow_run_state(run.flow_run_id, state)

    def give_up(self, start: UUID, due: datetime) -> None:
        from prefect.states import Cancelled

        message = f"missed; flow run {self.flow_run.name!r} stands for {due:%Y-%m-%d %H:%M:%S} UTC"
        state: Any = Cancelled(name="Skipped", message=message)
        self.client.set_flow_run_state(start, state)

    def _later(self, due: datetime) -> list[Start]:
        """Scheduled starts after mine that are due, and have not begun."""
        found = []
        for run in self._flow_runs(due, self.clock()):
            moment, state = _plain(run.expected_start_time), run.state
            if not run.auto_scheduled or moment is None or moment <= due or state is None:
                continue
            by_limit = state.is_cancelled() and state.message == LIMIT_REACHED
            waits = (state.is_scheduled() or state.is_pending()) and not run.run_count
            if waits or by_limit:
                found.append(Start(flow_run_id=run.id, due=moment, waits=waits))
        return found

    def _beginning(self, due: datetime) -> list[Earlier]:
        """Runs of the deployment that ask at the same time and come first: of two one gives way."""
        mine = (due, str(self.flow_run.id))
        found = []
        for run in self._flow_runs(due - timedelta(days=1), due):
            moment = _plain(run.expected_start_time)
            if run.state is None or moment is None or not run.state.is_running():
                continue
            if (moment, str(run.id)) < mine and not self._ever_held(run.id):
                began = _plain(run.start_time) or moment
                recent = self.clock() - began < RESUMED_WITHIN
                found.append(Earlier(flow_run_id=run.id, started=began, works=recent))
        return found

    def _flow_runs(self, since: datetime, until: datetime) -> list[Any]:
        from prefect.client.schemas.filters import (
            DeploymentFilter,
            DeploymentFilterId,
            FlowRunFilter,
            FlowRunFilterExpectedStartTime,
        )
        from prefect.types._datetime import create_datetime_instance

        assert self.flow_run.deployment_id is not None
        between = FlowRunFilterExpectedStartTime(
            after_=create_datetime_instance(since), before_=create_datetime_instance(until)
        )
        chosen = DeploymentFilter(id=DeploymentFilterId(any_=[self.flow_run.deployment_id]))
        return list(
            self.client.read_flow_runs(
                deployment_filter=chosen,
                flow_run_filter=FlowRunFilter(expected_start_time=between),
                limit=_MOST,
            )
        )

    def _recorded(self) -> list[Earlier]:
        """The plan's newest runs, by Athena's own list; none where it cannot be read."""
        from athena_prefect.storage.plans import PlanStore

        with suppress(StorageError):
            store = PlanStore(self._database())
            rows = store.runs(self.settings.namespace, plan=self.plan.name, limit=_MOST)
            return [self._earlier(row) for row in rows if row.plan_run != self.flow_run.id]
        logger.error("whether an earlier run works cannot be seen: the database is away")
        return []

    def _earlier(self, row: Any) -> Earlier:
        if row.ended_at is not None:
            return Earlier(flow_run_id=row.flow_run_id, started=row.started_at, ended=row.ended_at)
        from athena_prefect.storage.sql_journal import SqlJournal

        entries = SqlJournal(self._database()).read(row.plan_run)
        # After a change-over it is another that works than the one that began.
        newest = newest_flow_run(entries) or row.flow_run_id
        works = self._works(row.plan_run, newest, entries)
        return Earlier(flow_run_id=newest, started=row.started_at, works=works)

    def _works(self, plan_run: UUID, flow_run_id: UUID | None, entries: Sequence[Entry]) -> bool:
        from prefect.exceptions import ObjectNotFound

        from athena_prefect.storage.lease import Leases

        if Leases(self._database()).current(plan_run) is not None:
            return True
        if flow_run_id is None or not self._ever_held(plan_run):
            return False
        if waiting_revision(entries) is not None:
            # Between two flow runs nobody works on it, and one will.
            return self.clock() - entries[-1].event.at < RESUMED_WITHIN
        try:
            run = self.client.read_flow_run(flow_run_id)
        except ObjectNotFound:
            return False
        if run.deployment_id is None or run.state is None:
            return False  # of `athena run`: nothing starts it again
        if run.state.is_crashed():
            since = _plain(run.state.timestamp)
            return since is not None and self.clock() - since < RESUMED_WITHIN
        return not run.state.is_final()

    def _ever_held(self, plan_run: UUID) -> bool:
        from athena_prefect.storage.lease import Leases

        with suppress(StorageError):
            return Leases(self._database()).ever_held(plan_run)
        return False

    def _database(self) -> Any:
        from athena_prefect.storage.db import database_for

        return database_for(self.settings.database_url, durable=self.settings.durable)


def _plain(moment: Any) -> datetime | None:
    return None if moment is None else datetime.fromtimestamp(moment.timestamp(), UTC)

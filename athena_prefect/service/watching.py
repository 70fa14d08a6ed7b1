"""One look at every live run: what hooks missed, what is late, what has to be started again.

The same look may be taken by any number of watchers, at any time and as often as
they like: what it writes is claimed under a unique key of the journal.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

from athena_prefect.errors import StorageUnavailableError, UnknownNameError
from athena_prefect.journal.events import Reporter, RunEvent, RunEventKind, TaskEvent
from athena_prefect.journal.journal import Entry, Recorded
from athena_prefect.journal.state import ExecutionState, fold_entries
from athena_prefect.monitor.breaches import AT_RISK, Finding, changes, not_started
from athena_prefect.monitor.deadlines import start_outlook
from athena_prefect.plan.model import Criticality
from athena_prefect.replanning.asked import newest_question
from athena_prefect.service.changing_over import claim_of
from athena_prefect.service.following import Clock, utc_now
from athena_prefect.service.results import _Answer

if TYPE_CHECKING:
    from athena_prefect.plan.model import Plan
    from athena_prefect.replanning.asked import Question
    from athena_prefect.runtime.events import Sender
    from athena_prefect.runtime.watching import Api, FlowRunState, LateStart
    from athena_prefect.settings import AthenaSettings
    from athena_prefect.storage.db import Database
    from athena_prefect.storage.decisions import RunRow
    from athena_prefect.storage.lease import Leases
    from athena_prefect.storage.plans import PlanStore
    from athena_prefect.storage.sql_journal import SqlJournal

logger = logging.getLogger(__name__)

MOST_RUNS = 1000
MOST_RESUMES = 3
"""How often a run is started again without a task having succeeded since: a run that kills its
process each time does not go on for ever, one that gets further each time does."""
GRACE = timedelta(seconds=60)
"""How long a flow run may read as running before its dispatcher holds the lease."""


MISSED = timedelta(seconds=15)
"""How long a run waits for the replanning flow before a watcher has it started: the automation
takes a second, and the flow some ten to begin on a busy machine."""
REPLAN_AGAIN = timedelta(seconds=60)
"""How often a watcher starts the replanning flow of a run at most: from flow run to revision it
took sixteen seconds on a busy machine."""
TOLD_LATE = timedelta(days=1)
"""How long after its end a run is still told of; later nobody is helped."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchedRun(_Answer):
    """What a pass found of one run and did about it."""

    plan_run: UUID
    plan: str
    status: str
    """running, starting, paused, interrupted, resumed, continued, asked, replanning, ended;
    not started, missed, skipped."""
    breaches: tuple[str, ...] = ()
    """What is late or about to be."""
    raised: tuple[str, ...] = ()
    """Of these, what this pass raised."""
    remedy: str = ""
    problem: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchPass(_Answer):
    """One look at everything that is live."""

    as_of: datetime
    api: bool
    """Whether Prefect's API was there; without it runs are only assessed."""
    runs: tuple[WatchedRun, ...] = ()
    problems: tuple[str, ...] = ()


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
        watch = _Watch(
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
        return watch.look(plan)


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


@dataclass(slots=True, kw_only=True)
class _Watch:
    settings: AthenaSettings
    database: Database
    store: PlanStore
    leases: Leases
    journal: SqlJournal
    api: Api | None
    clock: Clock
    sender: Sender
    grace: timedelta
    problems: list[str] = field(default_factory=list)

    def look(self, plan: str | None) -> WatchPass:
        from athena_prefect.storage.plans import LIVE

        rows = self.store.runs(self.settings.namespace, plan=plan, status=LIVE, limit=MOST_RUNS)
        found = [self._guarded(row) for row in rows]
        self._untold(plan)
        self._check_schedules(plan)
        found += self._starts(plan)
        return WatchPass(
            as_of=self.clock(),
            api=self.api is not None,
            runs=tuple(found),
            problems=tuple(self.problems),
        )

    def _guarded(self, row: RunRow) -> WatchedRun:
        try:
            return self._one(row)
        except Exception as error:  # the boundary: one run's failure stops no other
            logger.exception("plan run %s could not be looked at", row.plan_run)
            return WatchedRun(
                plan_run=row.plan_run, plan=row.plan, status="unknown", problem=repr(error)
            )

    # -- a run ------------------------------------------------------------------------------

    def _one(self, row: RunRow) -> WatchedRun:
        from athena_prefect.runtime.telling import Telling

        plan = self.store.revision(row.plan_run)
        entries = self.journal.read(row.plan_run)
        state = fold_entries(entries)
        if state.end_status is not None:
            # It ended, and the list of runs was not told.
            self.store.set_run_status(
                row.plan_run, state.end_status, reason=state.end_reason, ended=state.ended
            )
            self._tell(Telling, row, plan)
            return WatchedRun(plan_run=row.plan_run, plan=row.plan, status="ended")
        from athena_prefect.runtime.continuing import roll_forward

        if roll_forward(self.store, self.journal, row.plan_run, state.revision, now=self.clock()):
            entries = self.journal.read(row.plan_run)
            state, plan = fold_entries(entries), self.store.revision(row.plan_run)
        found = WatchedRun(plan_run=row.plan_run, plan=row.plan, status="running")
        if state.paused:
            found = replace(found, status="paused")
        if state.attached:
            found = self._attached(row, plan, entries, state, found)
        elif state.run_data.get("flow_run_id") and self.leases.ever_held(row.plan_run):
            found = self._process(row, plan, entries, state, found)
            question = newest_question(entries)
            if question is not None and not question.settled:
                found = self._asked(row, plan, question, found)
            else:
                self._close_form(question)
                found = self._replanned(row, entries, state, found)
        self._tell(Telling, row, plan, assess=found.status != "ended")
        after = fold_entries(self.journal.read(row.plan_run))
        raised = tuple(
            b.reason for b in after.breaches.values() if b.open and state.breaches.get(b.name) != b
        )
        breaches = tuple(b.reason for b in after.breaches.values() if b.open)
        return replace(found, breaches=breaches, raised=raised)

    def _tell(self, make: Any, row: RunRow, plan: Any, *, assess: bool = False) -> None:
        telling = make(
            plan=plan,
            plan_run=row.plan_run,
            journal=self.journal,
            namespace=self.settings.namespace,
            clock=self.clock,
            client=None if self.api is None else self.api.client,
            sender=self.sender,
        )
        if assess:
            telling.assess()
        # While its own process lives, that tells of it.
        if self.api is not None and self.leases.current(row.plan_run) is None:
            if telling.tell(500):
                telling.mark()
            self._show(row, self.api)

    def _show(self, row: RunRow, api: Api) -> None:
        """The dashboards of a run whose process is gone, as it stands or as it ended."""
        from athena_prefect.runtime.dashboard import publish
        from athena_prefect.service.reading import open_run

        status = open_run(str(row.plan_run), settings=self.settings, clock=self.clock).status()
        publish(status, client=api.client, namespace=self.settings.namespace)

    def _process(
        self,
        row: RunRow,
        plan: Any,
        entries: Sequence[Entry],
        state: ExecutionState,
        found: WatchedRun,
    ) -> WatchedRun:
        """See whether the run's process is there, and have it started again where it is not."""
        if self.leases.current(row.plan_run) is not None:
            return found
        if self.api is None:
            return replace(found, status="interrupted", remedy=_by_hand(row))
        flow_run = self.api.flow_run(_newest_flow_run(entries))
        if flow_run is None:
            return replace(found, status="interrupted", remedy=_by_hand(row))
        if flow_run.type == "CANCELLED" and not flow_run.refused:
            self._ended(row, "cancelled", "cancelled in Prefect")
            return replace(found, status="ended")
        from athena_prefect.runtime.continuing import waiting_revision

        waiting = waiting_revision(entries)
        if waiting is not None and not state.paused and flow_run.deployed:
            return self._continue(row, entries, state, waiting, found)
        if flow_run.type in ("SCHEDULED", "PENDING"):
            return replace(found, status="starting")
        if flow_run.type in ("PAUSED", "CANCELLING") or state.paused:
            return replace(found, status="paused" if state.paused else flow_run.type.lower())
        if flow_run.type == "COMPLETED":
            return replace(found, status="interrupted", remedy=_by_hand(row))
        if flow_run.type == "RUNNING" and self.clock() - flow_run.since < self.grace:
            return replace(found, status="starting")
        self._reconcile(row, plan, entries, state)
        vanished = flow_run.type in ("RUNNING", "CRASHED") or flow_run.refused
        if not flow_run.deployed or not vanished:
            remedy = _in_the_ui(flow_run) if flow_run.deployed else _by_hand(row)
            self._raise(row.plan_run, state, f"its process is gone; go on with `{remedy}`")
            return replace(found, status="interrupted", remedy=remedy)
        return self._resume(row, entries, state, flow_run, found)

    # -- another plan for the rest ------------------------------------------------------------

    def _continue(
        self,
        row: RunRow,
        entries: Sequence[Entry],
        state: ExecutionState,
        revision: int,
        found: WatchedRun,
    ) -> WatchedRun:
        """Nobody runs the plan, and a revision waits: have its continuation started."""
        from prefect.exceptions import ObjectNotFound

        from athena_prefect.runtime.continuing import continuation_of, redeploy, start, supersede

        assert self.api is not None
        wanted = continuation_of(
            self.store, row.plan_run, revision, namespace=self.settings.namespace
        )
        try:
            redeploy(self.api.client, wanted)
            started = self.api.flow_run(start(self.api.client, wanted).id)
        except ObjectNotFound:
            why = f"revision {revision} has no deployment {wanted.deployment} to go on in"
            self._raise(row.plan_run, state, f"{why}; go on with `{_by_hand(row)}`")
            return replace(found, status="interrupted", remedy=_by_hand(row))
        assert started is not None
        supersede(self.api.client, _newest_flow_run(entries), wanted, started.flow_run_id)
        if started.type == "CRASHED":
            return self._resume(row, entries, state, started, found)
        if started.type in ("FAILED", "CANCELLED"):
            # It never got as far as the journal: its own word is the last one.
            remedy = _in_the_ui(started)
            why = f"the continuation {started.name.lower()}: {started.message}; {remedy}"
            self._raise(row.plan_run, state, why)
            return replace(found, status="interrupted", remedy=remedy)
        return replace(found, status="continued")

    def _asked(self, row: RunRow, plan: Plan, question: Question, found: WatchedRun) -> WatchedRun:
        """People are asked: see that their answer is carried out, and what the plan says where
        none has come in time; whether the process that runs the plan lives or not.
        """
        from athena_prefect.service.asking import carry_on_with, write_answer

        now = self.clock()
        if self.api is None or found.status == "ended":
            return found
        if question.answer is None and now >= question.until:
            default = question.default(plan.replanning.unanswered)
            counts = write_answer(self.journal, row.plan_run, question, default, at=now)
            question = replace(question, answer=counts)
        if self.leases.current(claim_of(row.plan_run)) is None:
            carry_on_with(
                self.api.client, row.plan_run, question,
                namespace=self.settings.namespace, now=now,
            )  # fmt: skip
        if found.status not in ("running", "resumed"):
            return found
        return replace(found, status="asked" if question.answer is None else "replanning")

    def _close_form(self, question: Question | None) -> None:
        from athena_prefect.runtime.asking import close_form

        if question is not None and self.api is not None:
            why = "the run goes another way by now"
            close_form(self.api.client, question.flow_run, "Settled", why)

    def _replanned(
        self, row: RunRow, entries: Sequence[Entry], state: ExecutionState, found: WatchedRun
    ) -> WatchedRun:
        """Have the replanning flow started where the run waits for it and no automation did."""
        from prefect.exceptions import ObjectNotFound

        from athena_prefect.runtime.continuing import start_replanning, unanswered

        asked = unanswered(entries)
        if asked is None or self.api is None or found.status not in ("running", "resumed"):
            return found
        now = self.clock()
        if now - asked[1].at < MISSED or self.leases.current(claim_of(row.plan_run)) is not None:
            return found
        turn = int(now.timestamp() // REPLAN_AGAIN.total_seconds())
        try:
            start_replanning(
                self.api.client, row.plan_run, self.settings.namespace,
                trigger="watch-plan", key=f"athena:replan:{row.plan_run}:{state.revision}:{turn}",
            )  # fmt: skip
        except ObjectNotFound:
            return found  # undeployed since: the run's own process adopts
        return replace(found, status="replanning")

    def _attached(
        self,
        row: RunRow,
        plan: Any,
        entries: Sequence[Entry],
        state: ExecutionState,
        found: WatchedRun,
    ) -> WatchedRun:
        """See what became of a hand-written flow; it is somebody else's to start again."""
        from athena_prefect.runtime.attached_end import FlowEnd, end_elsewhere, end_in
        from athena_prefect.runtime.observing import Observing

        if self.leases.current(row.plan_run) is not None:
            return found
        flow_run = None if self.api is None else self.api.flow_run(_newest_flow_run(entries))
        if self.api is None or flow_run is None:
            return replace(found, status="interrupted")
        end = end_in(flow_run.type, flow_run.message or flow_run.name)
        if end is not None:
            ended = FlowEnd(end=end, at=flow_run.since)
            end_elsewhere(
                flow_run.flow_run_id, ended, settings=self.settings, client=self.api.client
            )
            return replace(found, status="ended")
        if flow_run.type in ("SCHEDULED", "PENDING"):
            return replace(found, status="starting")
        if flow_run.type in ("PAUSED", "CANCELLING"):
            return replace(found, status=flow_run.type.lower())
        if self.clock() - flow_run.since < self.grace:
            return replace(found, status="starting")
        observing = Observing.of(plan, row.plan_run, flow_run.flow_run_id, state)
        self.journal.append(*observing.reconcile(self.api.client))
        remedy = f"look at flow run {flow_run.flow_run_id} in Prefect's UI"
        why = f"its process is gone, or cut off from the database; {remedy}"
        self._raise(row.plan_run, state, why)
        return replace(found, status="interrupted", remedy=remedy)

    def _resume(
        self,
        row: RunRow,
        entries: Sequence[Entry],
        state: ExecutionState,
        flow_run: FlowRunState,
        found: WatchedRun,
    ) -> WatchedRun:
        asked = _resumes(entries)
        in_vain = _resumes(entries, since_success=True)
        if asked and self.clock() - asked[-1].at < self.grace:
            return replace(found, status="starting")
        if len(in_vain) >= MOST_RESUMES:
            remedy = _in_the_ui(flow_run)
            why = (
                f"its process vanished again, after {len(in_vain)} starts without a task done; "
                f"look at its logs, then {remedy}"
            )
            self._raise(row.plan_run, state, why)
            return replace(found, status="interrupted", remedy=remedy)
        why = "its process is gone; the plan run goes on where its journal ends"
        claim = RunEvent(
            plan_run=row.plan_run,
            kind=RunEventKind.RESCHEDULED,
            at=self.clock(),
            source=str(len(asked) + 1),
            reported_by=Reporter.CALLER,
            data={"flow_run_id": str(flow_run.flow_run_id), "state": flow_run.name},
        )
        (recorded,) = self.journal.append(claim)
        if recorded is not Recorded.STORED:
            return replace(found, status="starting")  # another watcher was faster
        assert self.api is not None
        self.api.start_again(flow_run.flow_run_id, why)
        logger.warning("plan run %s is started again: %s", row.plan_run, why)
        return replace(found, status="resumed")

    def _reconcile(
        self, row: RunRow, plan: Any, entries: Sequence[Entry], state: ExecutionState
    ) -> None:
        """Write what the API knows of task runs and the journal does not, but for successes.

        A success counts with its result only, which the run itself looks for when it goes on.
        """
        from athena_prefect.runtime.reconcile import (
            CARRIED,
            item_of,
            missing_events,
            task_runs_of,
        )

        assert self.api is not None
        client = self.api.client
        for task_run in task_runs_of(client, [_newest_flow_run(entries)]):
            item = item_of(task_run.name, plan)
            final = task_run.state is not None and task_run.state.is_final()
            if item is None or not final or (task_run.state and task_run.state.name == CARRIED):
                continue
            known = [
                a for a in state.task(*item).attempts if a.source == str(task_run.id) and a.ended
            ]
            if len(known) >= max(task_run.run_count, 1):
                continue
            states = client.read_task_run_states(task_run.id)
            missing = missing_events(row.plan_run, item, task_run, states, state)
            events = [e for e in missing if e.outcome is None or not e.outcome.good]
            self.journal.append(*events)

    def _raise(self, plan_run: UUID, state: ExecutionState, reason: str) -> None:
        finding = Finding(name="process", event=AT_RISK, level=Criticality.CRITICAL, reason=reason)
        self.journal.append(*changes([finding], state, plan_run, self.clock()))

    def _ended(self, row: RunRow, status: str, reason: str) -> None:
        now = self.clock()
        self.journal.append(
            RunEvent(
                plan_run=row.plan_run,
                kind=RunEventKind.ENDED,
                at=now,
                source="api",
                reported_by=Reporter.API,
                data={"status": status, "reason": reason},
            )
        )
        self.store.set_run_status(row.plan_run, status, reason=reason, ended=now)

    def _untold(self, plan: str | None) -> None:
        """Tell Prefect of runs that have ended, where it was away when they did."""
        if self.api is None:
            return
        from athena_prefect.runtime.telling import Telling
        from athena_prefect.storage.plans import LIVE

        since = self.clock() - TOLD_LATE
        rows = self.store.runs(self.settings.namespace, plan=plan, limit=MOST_RUNS)
        for row in rows:
            if row.status in LIVE or row.ended_at is None or row.ended_at < since:
                continue
            try:
                if not self._all_told(row.plan_run):
                    self._tell(Telling, row, self.store.revision(row.plan_run))
            except Exception as error:  # the boundary: one run's failure stops no other
                logger.exception("Prefect could not be told of plan run %s", row.plan_run)
                self.problems.append(f"{row.plan_run}: {error!r}")

    def _check_schedules(self, plan: str | None) -> None:
        """Pause schedules of checks that no live run needs any more, and set active what one does.

        Where the process that should have done it vanished.
        """
        if self.api is None:
            return
        from athena_prefect.runtime.deployment.check_schedules import needed, settle
        from athena_prefect.storage.plans import LIVE

        namespace = self.settings.namespace

        def wanted() -> set[tuple[str, str]]:
            live = self.store.runs(namespace, plan=plan, status=LIVE, limit=MOST_RUNS)
            of = {row.plan for row in live}
            return {pair for name in of for pair in needed(self.database, name, namespace)}

        try:
            settle(self.api.client, namespace, wanted, plan)
        except Exception as error:  # the boundary: live runs were looked at all the same
            logger.exception("schedules of checks could not be looked at")
            self.problems.append(f"schedules of checks could not be looked at: {error!r}")

    def _all_told(self, plan_run: UUID) -> bool:
        last = self.journal.last_position(plan_run)
        return any(
            isinstance(e.event, RunEvent)
            and e.event.kind is RunEventKind.TOLD
            and e.event.data["position"] >= e.position - 1
            for e in self.journal.read(plan_run, last - 1)
        )

    # -- starts that have not happened --------------------------------------------------------

    def _starts(self, plan: str | None) -> Iterator[WatchedRun]:
        if self.api is None:
            return
        names = [plan] if plan is not None else self._plans()
        try:
            late = list(self.api.late_starts(names, self.clock(), self.settings.namespace))
        except Exception as error:  # the boundary: live runs were looked at all the same
            logger.exception("late starts could not be looked for")
            self.problems.append(f"late starts could not be looked for: {error!r}")
            return
        for start in late:
            try:
                found = self._start(start)
            except Exception as error:  # the boundary: one plan's failure stops no other
                logger.exception("the start of %s could not be looked at", start.plan)
                self.problems.append(f"{start.plan}: {error!r}")
                continue
            if found is not None:
                yield found

    def _plans(self) -> list[str]:
        decisions = self.store.decisions(namespace=self.settings.namespace, limit=MOST_RUNS)
        return sorted({d.plan for d in decisions})

    def _needless(self, plan: Plan, start: LateStart) -> str:
        """Cancel the start where `overlap` says that it is never to run; why."""
        from athena_prefect.runtime.admission import take_back

        assert self.api is not None
        client = self.api.client
        flow_run = client.read_flow_run(start.subject)
        if flow_run.deployment_id is None or flow_run.state is None:
            return ""
        if not flow_run.state.is_scheduled():
            return ""  # a worker has it by now
        return take_back(plan, flow_run, client=client, settings=self.settings, clock=self.clock)

    def _start(self, start: LateStart) -> WatchedRun | None:
        from athena_prefect.runtime.telling import Telling

        try:
            plan = self.store.plan(start.plan, namespace=self.settings.namespace)
        except UnknownNameError:
            return None
        if not start.missed and (why := self._needless(plan, start)):
            return WatchedRun(plan_run=start.subject, plan=start.plan, status="skipped", remedy=why)
        now = self.clock()
        outlook = start_outlook(plan, start.scheduled, now)
        what = f"the start of {start.scheduled:%Y-%m-%d %H:%M} UTC has not happened"
        if start.missed:
            last = f" to {start.last:%Y-%m-%d %H:%M} UTC" if start.missed > 1 else ""
            what = (
                f"{start.missed} scheduled start{'s' if start.missed > 1 else ''} missed: "
                f"{start.scheduled:%Y-%m-%d %H:%M} UTC{last}; no run was made"
            )
        finding = not_started(plan, outlook, now, what=what)
        if start.missed:
            # Nothing will start by itself, so it is told whatever time is left.
            finding = replace(finding, level=finding.level or Criticality.MEDIUM)
        if finding.level is None:
            return None
        state = fold_entries(self.journal.read(start.subject))
        events = tuple(changes([finding], state, start.subject, now))
        recorded = self.journal.append(*events)
        telling = Telling(
            plan=plan, plan_run=start.subject, journal=self.journal,
            namespace=self.settings.namespace, clock=self.clock,
            client=None if self.api is None else self.api.client, sender=self.sender,
        )  # fmt: skip
        if telling.tell():
            telling.mark()
        return WatchedRun(
            plan_run=start.subject,
            plan=start.plan,
            status="missed" if start.missed else "not started",
            breaches=(finding.reason,),
            raised=(finding.reason,) if Recorded.STORED in recorded else (),
        )


def _newest_flow_run(entries: Sequence[Entry]) -> UUID:
    """The flow run that last took the plan run up: there is one where a dispatcher ran it."""
    from athena_prefect.runtime.continuing import newest_flow_run

    found = newest_flow_run(entries)
    assert found is not None
    return found


def _resumes(entries: Sequence[Entry], *, since_success: bool = False) -> list[RunEvent]:
    """The times that the run was started again, since a task last succeeded where so asked."""
    found: list[RunEvent] = []
    for entry in entries:
        event = entry.event
        if isinstance(event, RunEvent) and event.kind is RunEventKind.RESCHEDULED:
            found.append(event)
        elif (
            since_success
            and isinstance(event, TaskEvent)
            and event.outcome is not None
            and event.outcome.good
        ):
            found.clear()
    return found


def _by_hand(row: RunRow) -> str:
    return f"athena run {row.source or 'PLAN'} --resume {str(row.plan_run)[:8]}"


def _in_the_ui(flow_run: FlowRunState) -> str:
    return f"retry flow run {flow_run.flow_run_id} in Prefect's UI"

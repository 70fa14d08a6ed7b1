"""A plan run's life around the dispatcher: opened, taken, gone on with, ended.

`run_session` is the body of every compiled flow. The same flow run again (a
retry, a resume from the UI) and another flow run for the same plan run both come
through here and go on where the journal ends.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

from prefect.client.orchestration import get_client
from prefect.context import FlowRunContext
from prefect.logging import get_run_logger
from prefect.states import Cancelled, Completed, Failed

from athena_prefect.errors import (
    AthenaError,
    LeaseHeldError,
    LeaseLostError,
    StorageError,
    StorageUnavailableError,
)
from athena_prefect.journal.events import RunEvent, RunEventKind
from athena_prefect.journal.state import ExecutionState, fold_entries
from athena_prefect.plan.model import Plan
from athena_prefect.runtime.admission import Verdict, admit
from athena_prefect.runtime.adopting import priority_of
from athena_prefect.runtime.afterwards import afterwards
from athena_prefect.runtime.attempt import QuietHooks, plain
from athena_prefect.runtime.baseline import baseline_beside, latest_starts
from athena_prefect.runtime.blocks import current_settings
from athena_prefect.runtime.checking import Checking
from athena_prefect.runtime.child import kill_children
from athena_prefect.runtime.chores import LEASE, chores
from athena_prefect.runtime.code_version import commit_of, uncommitted
from athena_prefect.runtime.continuing import SUPERSEDED
from athena_prefect.runtime.dashboard import Boards
from athena_prefect.runtime.dispatcher import Dispatcher
from athena_prefect.runtime.ending import RunEnd
from athena_prefect.runtime.facts import RunFacts
from athena_prefect.runtime.frontier import Frontier
from athena_prefect.runtime.handing_over import HANDED_OVER, HandingOver
from athena_prefect.runtime.handles import Handles
from athena_prefect.runtime.heap import set_aside
from athena_prefect.runtime.limits import Capacity, GlobalLimits
from athena_prefect.runtime.naming import name_flow_run
from athena_prefect.runtime.parameters import parameter_value
from athena_prefect.runtime.profiling import tasks_to_profile
from athena_prefect.runtime.questions import Questions
from athena_prefect.runtime.recorder import Recorder, Recording, recorder_for
from athena_prefect.runtime.restore import restore, take_up
from athena_prefect.runtime.rows import Rows, jsonable, project
from athena_prefect.runtime.submission import Submitter
from athena_prefect.runtime.telling import Telling
from athena_prefect.runtime.watcher import Chore, Watcher
from athena_prefect.settings import AthenaSettings

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.objects import FlowRun

    from athena_prefect.journal.journal import Journal
    from athena_prefect.storage.lease import Lease

logger = logging.getLogger(__name__)

ABORTED = "Aborted"
"""Name of the final state of a run that was stopped because there was no way to its goals."""

KEEP_SECONDS = 5.0
"""How often checks of assumptions are written to their table."""
NAME_SECONDS = 0.2
"""From a run's start to its name: behind what the first tasks wait for."""

LAST_WAIT_SECONDS = 15.0
"""How long a run that has ended waits for its database: a restart of PostgreSQL takes that long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Compiled:
    """A plan and where it came from."""

    plan: Plan
    root: Path


@dataclass(slots=True, kw_only=True)
class Asked:
    """What a flow run's parameters ask for."""

    parameters: Mapping[str, Any]
    plan_run: UUID | None
    logical_date: datetime | None
    revision: int | None = None
    """The one that a continuation goes on by."""


def run_session(compiled: Compiled, asked: Asked) -> Any:
    """Run the plan, or what is left of it, in the current flow run; its final state."""
    context = FlowRunContext.get()
    assert context is not None
    assert context.flow_run is not None
    logging.getLogger("prefect.task_runs").addFilter(_QUIET)
    settings = current_settings()
    flow_run = context.flow_run
    with get_client(sync_client=True) as client:
        if flow_run.deployment_id and asked.plan_run is None and flow_run.run_count <= 1:
            admitted = admit(compiled.plan, flow_run, client=client, settings=settings)
            if admitted.verdict is Verdict.SKIP:
                return Completed(name="Skipped", message=admitted.reason)
            # Of starts that were missed it stands for the newest.
            due: Any = admitted.due
            flow_run = flow_run.model_copy(update={"expected_start_time": due})
        session = Session(
            compiled=compiled,
            asked=asked,
            settings=settings,
            client=client,
            flow_run=flow_run,
        )
        with set_aside():
            end = session.run_or_give_way()
            while end.status == "superseded":
                end = session.over.start(end) or session.run()
    return _final_state(end)


_QUIET = QuietHooks()


def _final_state(end: RunEnd) -> Any:
    if end.status == HANDED_OVER:
        return Completed(name=SUPERSEDED, message=end.reason)
    if end.status == "completed":
        return Completed(message=end.reason or "all required tasks are done")
    if end.status == "cancelled":
        return Cancelled(message=end.reason)
    if end.status == "aborted":
        return Failed(name=ABORTED, message=end.reason)
    return Failed(message=end.reason)


def recording_of(settings: AthenaSettings, plan: Plan) -> Recording:
    """Where the facts and results of the plan's runs go under `settings`."""
    return Recording(
        database_url=settings.database_url,
        durable=settings.durable,
        spool=settings.spool_folder,
        results=settings.results_folder,
        storage=plan.results.storage,
    )


@dataclass(slots=True, kw_only=True)
class Session:
    """One dispatcher's hold of a plan run."""

    compiled: Compiled
    asked: Asked
    settings: AthenaSettings
    client: SyncPrefectClient
    flow_run: FlowRun
    clock: Callable[[], datetime] = field(default=lambda: datetime.now(UTC))
    lease: Lease | None = None
    more: Mapping[str, Any] = field(default_factory=dict)
    """What the start of the run says besides."""
    rows: Rows = field(init=False)
    over: HandingOver = field(init=False)
    telling: Telling = field(init=False)

    @property
    def plan_run(self) -> UUID:
        """The id of the first flow run, unless the caller gave one."""
        return self.asked.plan_run or self.flow_run.id

    def __post_init__(self) -> None:
        self.rows = Rows(settings=self.settings, plan_run=self.plan_run, clock=self.clock)
        self.over = HandingOver(
            plan=self.compiled.plan.name, flow_run=self.flow_run, client=self.client,
            rows=self.rows, journal=self._journal, mine=self.asked.revision,
        )  # fmt: skip

    def run_or_give_way(self) -> RunEnd:
        """Run; where a continuation has the plan run already, this flow run is over.

        Raises LeaseHeldError for any other that holds it.
        """
        try:
            return self.run()
        except LeaseHeldError:
            end = self.over.overtaken()
            if end is None:
                raise
            return end

    def run(self) -> RunEnd:
        """Take the plan run, run what is left of it, and end it."""
        self.rows.prepare()
        recorder = recorder_for(recording_of(self.settings, self.compiled.plan))
        state = self._known(recorder)
        with self._leased(recorder, resuming=state.started is not None):
            if self.lease is not None:
                state = self._known(recorder)  # what was written before the lease was ours
                waiting = self.over.waiting(state)
                if waiting is not None:
                    return RunEnd(status="superseded", reason=f"by revision {waiting}")
            facts = self._facts(recorder, state)
            dispatcher = self._prepared(facts, state)
            return self._dispatched(dispatcher)

    # -- taking it --------------------------------------------------------------------------

    def _known(self, recorder: Recorder) -> ExecutionState:
        try:
            return fold_entries(recorder.journal.read(self.plan_run))
        except StorageUnavailableError as error:
            if self.asked.plan_run is not None or self.flow_run.run_count > 1:
                raise  # what was done already stands in the database: running blind could repeat it
            logger.error(
                "the database cannot be reached (%s); the run is recorded in the spool", error
            )
            return ExecutionState()

    @contextmanager
    def _leased(self, recorder: Recorder, *, resuming: bool) -> Iterator[None]:
        """Hold the plan run's lease. Raises LeaseHeldError, saying who holds it."""
        leases = self.rows.leases
        try:
            self.lease = leases.acquire(self.plan_run, holder_name(self.flow_run.id), ttl=LEASE)
        except StorageUnavailableError:
            if resuming:
                raise
            logger.error("no lease could be taken: the database cannot be reached")
        try:
            yield
        finally:
            if self.lease is not None:
                with suppress(StorageError):
                    leases.release(self.lease)

    def _journal(self) -> Journal:
        return recorder_for(recording_of(self.settings, self.compiled.plan)).journal

    # -- preparing --------------------------------------------------------------------------

    def _facts(self, recorder: Recorder, state: ExecutionState) -> RunFacts:
        plan = None
        if state.started is not None:
            # What is stored and not in force was left by a process that died.
            plan = self.rows.plan(state.revision) or self.rows.plan()
        plan = plan or self.compiled.plan
        now = self.clock()
        logical = plain(self.asked.logical_date or self.flow_run.expected_start_time or now)
        parameters = dict(self.asked.parameters)
        if state.started is not None:
            # The journal holds them as JSON; a date is to be a date again.
            kept = state.run_data.get("parameters", {})
            parameters |= {n: _again(plan, n, v) for n, v in kept.items()}
            logical = datetime.fromisoformat(
                state.run_data.get("logical_date", logical.isoformat())
            )
        facts = RunFacts(
            plan=plan,
            plan_run=self.plan_run,
            revision=state.revision,
            root=self.compiled.root,
            parameters=parameters,
            logical_date=logical,
            started_at=state.started or now,
            flow_run_id=self.flow_run.id,
            session=str(uuid4()),
            token=self.lease.token if self.lease else None,
            recorder=recorder,
            recording=recording_of(self.settings, plan),
            client=self.client,
            modes=dict(state.acceptance.get("modes") or {}),
            profiled=tasks_to_profile(plan, self.settings, now),
        )
        facts.keep_revision = partial(self.rows.keep_revision, facts)
        facts.keep_decision = partial(self.rows.keep_decision, facts)
        facts.recall = self.rows.recalled
        facts.hands_over = self.over.possible
        recorder.listen(facts.plan_run, facts.hear)
        return facts

    def _prepared(self, facts: RunFacts, state: ExecutionState) -> Dispatcher:
        # Before anything is written: a call that cannot be imported fails the run at once.
        submitter = Submitter(facts)
        self.rows.open(facts)
        self._leave_checks(facts.plan, state)
        self._say_started(facts, state)
        dispatcher = Dispatcher(
            facts=facts,
            state=fold_entries(_read(facts), state),
            frontier=Frontier(facts.plan, self._priority(facts)),
            capacity=Capacity(facts.plan),
            limits=self._limits(facts.plan),
            submitter=submitter,
            handles=Handles(facts, lambda: dispatcher.state),
            clock=self.clock,
        )
        if state.started is not None:
            restore(dispatcher)
        if self.over.first:
            take_up(dispatcher, self.rows.plan(facts.revision - 1))
        return dispatcher

    def _priority(self, facts: RunFacts) -> Mapping[str, float]:
        """Task → the second by which it is to start: by the revision's schedule, if it has one."""
        starts = self.rows.starts(facts.revision) if facts.revision > 1 else None
        return priority_of(starts, facts.plan) if starts else latest_starts(facts.plan)

    def _leave_checks(self, plan: Plan, state: ExecutionState) -> None:
        """Leave checks to their schedules, where the plan is deployed with them.

        After the run is in the list of runs: who pauses the schedules looks there.
        """
        from athena_prefect.runtime.deployment.check_schedules import (
            SCHEDULED_CHECKS,
            leave_to_schedules,
        )

        if self.flow_run.deployment_id is None and SCHEDULED_CHECKS not in state.run_data:
            return
        found = leave_to_schedules(self.client, plan, self.settings.namespace)
        if found or state.run_data.get(SCHEDULED_CHECKS):
            self.more = {**self.more, SCHEDULED_CHECKS: list(found)}

    def _limits(self, plan: Plan) -> GlobalLimits | None:
        named = {n: r.concurrency_limit for n, r in plan.resources.items() if r.concurrency_limit}
        return GlobalLimits(self.client, self.flow_run.id, named) if named else None

    def _say_started(self, facts: RunFacts, state: ExecutionState) -> None:
        kind = RunEventKind.RESUMED if state.started is not None else RunEventKind.STARTED
        commit = commit_of(facts.root)
        facts.recorder.record(
            RunEvent(
                plan_run=facts.plan_run,
                kind=kind,
                at=facts.started_at if kind is RunEventKind.STARTED else self.clock(),
                source=facts.session if kind is RunEventKind.RESUMED else "",
                data={
                    "revision": facts.revision,
                    "flow_run_id": str(facts.flow_run_id),
                    "parameters": jsonable(facts.parameters),
                    "logical_date": facts.logical_date.isoformat(),
                    "scheduled_for": self._scheduled_for(),
                    "host": socket.gethostname(),
                    "plan": facts.plan.name,
                    "commit": commit,
                    "uncommitted": None if commit is None else uncommitted(facts.root),
                    **self.more,
                },
            ),
            token=facts.token,
        )

    def _scheduled_for(self) -> str | None:
        # Not the logical date: a run for last month's date is not a month late.
        expected = self.flow_run.expected_start_time
        return None if expected is None else plain(expected).isoformat()

    # -- running ----------------------------------------------------------------------------

    def _dispatched(self, dispatcher: Dispatcher) -> RunEnd:
        log = get_run_logger()
        facts = dispatcher.facts
        log.info(
            "plan run %s, revision %d: %d of %d tasks to do",
            facts.plan_run, facts.revision,
            sum(not dispatcher.state.status(t.id).good for t in facts.plan.tasks),
            len(facts.plan.tasks),
        )  # fmt: skip
        self.telling = Telling(
            plan=facts.plan, plan_run=facts.plan_run, journal=facts.recorder.journal,
            namespace=self.settings.namespace, clock=self.clock, client=self.client,
            shared=facts.shared,
        )  # fmt: skip
        boards = Boards(
            run=facts, journal=facts.recorder.journal, client=self.client,
            namespace=self.settings.namespace, clock=self.clock,
        )  # fmt: skip
        checking = Checking(facts, self.clock, frozenset(self.more.get("scheduled_checks", ())))
        questions = Questions(
            facts=facts, client=self.client, clock=self.clock,
            state=lambda: dispatcher.state, wake=lambda: dispatcher.news.put(lambda: None),
        )  # fmt: skip
        try:
            with (
                baseline_beside(facts),
                checking.beside(dispatcher),
                Watcher((*chores(self, dispatcher), *self._keeping(checking))),
                Watcher((boards.chore, self._naming(facts), *questions.chores())),
                self._replanned(dispatcher),
            ):
                end = dispatcher.run()
            if end.status != "superseded":  # else what is left is the next one's to check
                checking.leave(dispatcher)
        except LeaseLostError:
            kill_children(facts.plan_run)
            raise
        except BaseException as error:
            kill_children(facts.plan_run)
            if not isinstance(error, KeyboardInterrupt) and not self._cancelling():
                raise  # a crash or a suspension: the run is open and can be resumed
            dispatcher.stop("cancelled")
            end = dispatcher.stopped()
            checking.leave(dispatcher)
            self._say_ended(facts, end)
            afterwards("last words", lambda: self._last_words(boards, questions))
            raise
        finally:
            _wait_for_database(facts.recorder)
            afterwards("projection", lambda: project(self.rows.database, facts, dispatcher.state))
            if facts.plan.assumptions:
                afterwards("validations", lambda: checking.keep(self.rows.database))
            facts.recorder.listen(facts.plan_run, None)
        if end.status == "superseded":
            self._say_superseded(facts, dispatcher.state.revision)
            self.telling.assessing = False
        else:
            self._say_ended(facts, end)
        asked = None if end.status == "superseded" else questions
        afterwards("last words", lambda: self._last_words(boards, asked))
        (log.info if end.status in ("completed", "superseded") else log.error)(
            "plan run %s %s%s", facts.plan_run, end.status, f": {end.reason}" if end.reason else ""
        )
        return end

    @contextmanager
    def _replanned(self, dispatcher: Dispatcher) -> Iterator[None]:
        """Have the run replanned while it lives, unless its plan says that it is not."""
        if dispatcher.facts.plan.replanning.decide == "off":
            yield
            return
        from athena_prefect.runtime.replanner import Replanner

        with Replanner(dispatcher, self.clock) as dispatcher.replanner:
            yield

    def _last_words(self, boards: Boards, questions: Questions | None = None) -> None:
        """How it ended, to Prefect; with a client of its own, for the run's is closed by then."""
        # Given settings of its own, it is not the flow run's client, which is closed by now.
        with get_client(sync_client=True, httpx_settings={}) as client:
            self.telling.client = boards.client = client
            self.telling.end()
            boards.publish()
            if questions is not None:
                questions.client = client
                questions.end()
            if self.more.get("scheduled_checks"):
                self._give_back(client)

    def _give_back(self, client: SyncPrefectClient) -> None:
        """Pause the schedules of checks that no other run needs."""
        from athena_prefect.runtime.deployment.check_schedules import needed, settle

        plan, namespace = self.compiled.plan.name, self.settings.namespace
        settle(client, namespace, lambda: needed(self.rows.database, plan, namespace), plan)

    def _keeping(self, checking: Checking) -> tuple[Chore, ...]:
        if not checking.facts.plan.assumptions:
            return ()
        do = lambda: checking.keep(self.rows.database)  # noqa: E731 - what a chore is
        return (Chore(name="keeping validations", every=KEEP_SECONDS, do=do),)

    def _naming(self, facts: RunFacts) -> Chore:
        """Beside the tasks, once: a name is for people, who are not there in the first second."""
        return Chore(
            name="naming the flow run",
            every=NAME_SECONDS,
            do=lambda: name_flow_run(
                self.client,
                self.flow_run,
                plan=facts.plan.name,
                revision=facts.revision,
                date=facts.logical_date,
                number=self.rows.number(),
            ),
            once=True,
        )

    def _cancelling(self) -> bool:
        with suppress(Exception):  # the API may be what is gone
            state = self.client.read_flow_run(self.flow_run.id).state
            return state is not None and (state.is_cancelling() or state.is_cancelled())
        return False

    def _say_superseded(self, facts: RunFacts, revision: int) -> None:
        facts.recorder.record(
            RunEvent(
                plan_run=facts.plan_run,
                kind=RunEventKind.SUPERSEDED,
                at=self.clock(),
                source=f"{facts.session}",
                data={"revision": revision, "flow_run_id": str(facts.flow_run_id)},
            ),
            token=facts.token,
        )

    def _say_ended(self, facts: RunFacts, end: RunEnd) -> None:
        facts.recorder.record(
            RunEvent(
                plan_run=facts.plan_run,
                kind=RunEventKind.ENDED,
                at=self.clock(),
                source=facts.session,
                data={"status": end.status, "reason": end.reason},
            ),
            token=facts.token,
        )
        self.rows.end(facts, end)


def _wait_for_database(recorder: Recorder) -> None:
    """Give an absent database a moment: when the run has ended, nobody drains its spool."""
    end = time.monotonic() + LAST_WAIT_SECONDS
    while getattr(recorder.journal, "degraded", False) and time.monotonic() < end:
        with suppress(AthenaError, OSError):
            recorder.journal.drain()  # type: ignore[attr-defined]
        time.sleep(0.25)


def _again(plan: Plan, name: str, value: Any) -> Any:
    known = plan.parameters.get(name)
    return value if known is None or value is None else parameter_value(name, known, value)


def holder_name(flow_run_id: UUID) -> str:
    """Who holds a lease, for people and for telling whether that process still lives."""
    return f"flow run {flow_run_id} in process {os.getpid()} on {socket.gethostname()}"


def _read(facts: RunFacts) -> Any:
    try:
        return facts.recorder.journal.read(facts.plan_run)
    except StorageUnavailableError:
        return ()

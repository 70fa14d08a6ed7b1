"""A plan run's life around the dispatcher: taken, prepared, gone on with, ended.

The same flow run again (a retry, a resume from the UI) and another flow run for the same
plan run both come through here and go on where the journal ends.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from prefect.logging import get_run_logger

from athena_prefect.errors import (
    LeaseHeldError,
    LeaseLostError,
    StorageError,
    StorageUnavailableError,
)
from athena_prefect.journal.events import RunEvent, RunEventKind
from athena_prefect.journal.state import ExecutionState, fold_entries
from athena_prefect.plan.model import Plan
from athena_prefect.runtime.adopting import priority_of
from athena_prefect.runtime.afterwards import afterwards
from athena_prefect.runtime.baseline import baseline_beside, latest_starts
from athena_prefect.runtime.checking import Checking
from athena_prefect.runtime.child import kill_children
from athena_prefect.runtime.chores import LEASE, chores
from athena_prefect.runtime.dashboard import Boards
from athena_prefect.runtime.dispatcher import Dispatcher
from athena_prefect.runtime.ending import RunEnd
from athena_prefect.runtime.facts import RunFacts
from athena_prefect.runtime.frontier import Frontier
from athena_prefect.runtime.handing_over import HandingOver
from athena_prefect.runtime.handles import Handles
from athena_prefect.runtime.last_words import last_words, wait_for_database
from athena_prefect.runtime.limits import Capacity, GlobalLimits
from athena_prefect.runtime.naming import NAME_SECONDS, name_flow_run
from athena_prefect.runtime.questions import Questions
from athena_prefect.runtime.recorder import Recorder, recorder_for, recording_of
from athena_prefect.runtime.restore import restore, take_up
from athena_prefect.runtime.rows import project
from athena_prefect.runtime.run_hold import RunHold, holder_name
from athena_prefect.runtime.submission import Submitter
from athena_prefect.runtime.telling import Telling
from athena_prefect.runtime.watcher import Chore, Watcher

if TYPE_CHECKING:
    from athena_prefect.journal.journal import Journal

logger = logging.getLogger(__name__)


@dataclass(slots=True, kw_only=True)
class Session(RunHold):
    """One dispatcher's hold of a plan run."""

    over: HandingOver = field(init=False)

    def __post_init__(self) -> None:
        RunHold.__post_init__(self)  # super() knows no class with slots
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
            facts.hands_over = self.over.possible
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
            afterwards("last words", lambda: last_words(self, boards, questions))
            raise
        finally:
            wait_for_database(facts.recorder)
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
        afterwards("last words", lambda: last_words(self, boards, asked))
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


def _read(facts: RunFacts) -> Any:
    try:
        return facts.recorder.journal.read(facts.plan_run)
    except StorageUnavailableError:
        return ()

"""A hand-written flow's run, written down while it runs: a dispatcher's session without one."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from athena_prefect.errors import (
    LeaseHeldError,
    LeaseLostError,
    StorageError,
    StorageUnavailableError,
)
from athena_prefect.journal.events import Event, TaskOutcome
from athena_prefect.journal.state import ExecutionState, fold_entries
from athena_prefect.plan.model import Plan
from athena_prefect.runtime.attached_checks import Onlooker
from athena_prefect.runtime.attached_end import FlowEnd, end_with, listed
from athena_prefect.runtime.baseline import baseline_beside
from athena_prefect.runtime.checking import Checking
from athena_prefect.runtime.chores import DRAIN_SECONDS, LEASE, RENEW_LEASE_SECONDS
from athena_prefect.runtime.dashboard import BUSY_SHARE, Boards
from athena_prefect.runtime.facts import RunFacts
from athena_prefect.runtime.last_words import last_words, wait_for_database
from athena_prefect.runtime.matching import Matching
from athena_prefect.runtime.naming import NAME_SECONDS, name_flow_run
from athena_prefect.runtime.observing import Observing
from athena_prefect.runtime.questions import Questions
from athena_prefect.runtime.recorder import recorder_for, recording_of
from athena_prefect.runtime.rows import project
from athena_prefect.runtime.run_hold import RunHold, holder_name
from athena_prefect.runtime.tap import Observed
from athena_prefect.runtime.telling import ASSESS_SECONDS, TELL_SECONDS, Telling
from athena_prefect.runtime.watcher import Chore, Watcher

if TYPE_CHECKING:
    from athena_prefect.runtime.recorder import Recorder

logger = logging.getLogger(__name__)

RECONCILE_SECONDS = 5.0
"""How often the API is asked for what was not seen as it happened, at most."""
LOOK_SECONDS = 0.5
"""How long nothing needs to happen until it is looked whether the flow is still there."""
BATCH = 200
"""Task run states written at a time."""
LAST_WAIT_SECONDS = 15.0
"""How long the end of a run waits for the last states of tasks that ran in other processes or on
other machines; Prefect's recorder writes them within seconds."""


@dataclass(slots=True, kw_only=True)
class AttachedSession(RunHold):
    """What a dispatcher's session is for a compiled plan, with nothing to dispatch."""

    seen: queue.SimpleQueue[Observed | FlowEnd]
    log: Any
    began: datetime
    """When the flow run began, which is before this does."""
    given_name: bool = False
    """Whether the flow names its own runs."""
    elsewhere: bool = False
    observing: Observing = field(init=False)
    _next_look: float = 0.0
    _told: set[str] = field(default_factory=set)

    def watch(self) -> None:
        """Write the flow run's journal until it has ended. Raises what ends the watching."""
        self.rows.prepare()
        recorder = recorder_for(recording_of(self.settings, self.compiled.plan))
        with self._alone():
            state = self._before(recorder)
            facts = self._facts(recorder, state)
            facts.started_at = state.started or self.began
            self.rows.open(facts)
            self._say_started(facts, state)
            self._explain(facts.plan)
            self.observing = Observing(
                plan=facts.plan,
                plan_run=facts.plan_run,
                flow_run=self.flow_run.id,
                # Not out of the journal: the database may be away.
                matching=Matching(facts.plan, self.more["names"]),
                state=self._before(recorder),
            )
            self._told.update(self.observing.state.unplanned)
            recorder.listen(facts.plan_run, None)  # nobody waits for what is written here
            if state.started is not None:
                why = "its process was gone when the flow run was started again"
                self._record(facts, self.observing.abandon(self.began, TaskOutcome.FAILURE, why))
            self._beside(facts)

    def _before(self, recorder: Recorder) -> ExecutionState:
        try:
            return fold_entries(recorder.journal.read(self.plan_run))
        except StorageUnavailableError:
            return ExecutionState()  # what is told again changes nothing

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Hold the run's lease: two processes that watch one flow run would both tell of it.

        An absent database is no reason not to watch. Raises LeaseHeldError where another
        process watches.
        """
        end = time.monotonic() + LEASE.total_seconds()
        while self.lease is None:
            try:
                self.lease = self.rows.leases.acquire(
                    self.plan_run, holder_name(self.flow_run.id), ttl=LEASE
                )
            except StorageUnavailableError as error:
                self.log.error(
                    "athena: the database cannot be reached, so the run is recorded in the "
                    "spool: %s", error,
                )  # fmt: skip
                break
            except LeaseHeldError:
                # The process before may have died a moment ago, on another machine.
                if time.monotonic() > end:
                    raise
                time.sleep(1.0)
        try:
            yield
        finally:
            if self.lease is not None:
                with suppress(StorageError):
                    self.rows.leases.release(self.lease)

    def _explain(self, plan: Plan) -> None:
        decide = plan.replanning.decide
        if decide not in ("off", "advise") and "replanning" in plan.model_fields_set:
            self.log.info(
                "athena: replanning.decide is %r; an attached flow's order is its own code, so "
                "replanning only advises (advise)",
                decide,
            )

    # -- while it runs ------------------------------------------------------------------------

    def _beside(self, facts: RunFacts) -> None:
        journal = facts.recorder.journal
        self.telling = Telling(
            plan=facts.plan, plan_run=facts.plan_run, journal=journal,
            namespace=self.settings.namespace, clock=self.clock, client=self.client,
        )  # fmt: skip
        boards = Boards(
            run=facts, journal=journal, client=self.client,
            namespace=self.settings.namespace, clock=self.clock,
        )  # fmt: skip
        onlooker = Onlooker(facts, self.observing.state)
        # Task runs of ours among the flow's own would be its author's to wonder about.
        checking = Checking(facts, self.clock, shown=False)
        questions = Questions(
            facts=facts, client=self.client, clock=self.clock,
            state=lambda: onlooker.state, wake=lambda: None,
        )  # fmt: skip
        in_its_place: Any = onlooker
        try:
            with (
                baseline_beside(facts),
                checking.beside(in_its_place),
                Watcher((*self._chores(facts), *onlooker.chores(), *self._keeping(checking))),
                Watcher((boards.chore, self._named(facts), *questions.chores())),
            ):
                ended = self._follow(facts)
            if ended is None:
                return  # the process ends and the flow has not: whoever watches sees it
            self._last_look(facts)
            self._record(facts, self.observing.close(ended.at))
            checking.leave(in_its_place)
            if facts.plan.assumptions:
                with suppress(StorageError):
                    checking.keep(self.rows.database)
            wait_for_database(facts.recorder)
            self._say_how_it_ended(facts, ended)
        except LeaseLostError as error:
            self.log.warning("athena: another process watches this run now: %s", error)
            return
        last_words(self, boards, questions)

    def _chores(self, facts: RunFacts) -> tuple[Chore, ...]:
        chores = [
            Chore(name="renewing the lease", every=RENEW_LEASE_SECONDS, do=self._renew),
            Chore(name="assessing the run", every=ASSESS_SECONDS, do=self.telling.assess),
            Chore(name="telling Prefect", every=TELL_SECONDS, do=self.telling.tell),
        ]
        drain = getattr(facts.recorder.journal, "drain", None)
        if drain is not None:
            chores.append(Chore(name="draining the spool", every=DRAIN_SECONDS, do=drain))
        return tuple(chores)

    def _renew(self) -> None:
        leases = self.rows.leases
        if self.lease is None:  # the database was away when the run began
            name = holder_name(self.flow_run.id)
            self.lease = leases.acquire(self.plan_run, name, ttl=LEASE)
        else:
            # That it is lost is seen at the next write, which is fenced off.
            with suppress(LeaseLostError):
                self.lease = leases.renew(self.lease, ttl=LEASE)

    def _named(self, facts: RunFacts) -> Chore:
        def name() -> None:
            number = None if self.given_name else self.rows.number()
            name_flow_run(
                self.client, self.client.read_flow_run(self.flow_run.id),
                plan=facts.plan.name, revision=facts.revision,
                date=facts.logical_date, number=number,
            )  # fmt: skip

        return Chore(name="naming the flow run", every=NAME_SECONDS, do=name, once=True)

    def _follow(self, facts: RunFacts) -> FlowEnd | None:
        """Write what happens until the flow run has ended; None where its process just ends."""
        while threading.main_thread().is_alive():
            seen = self._batch()
            events: list[Event] = []
            for one in seen:
                if isinstance(one, FlowEnd):
                    self._record(facts, events)
                    return one
                events += self.observing.observe(one)
            self._record(facts, events)
            if time.monotonic() >= self._next_look:
                self._look(facts)
        return None

    def _batch(self, wait: float = LOOK_SECONDS) -> list[Observed | FlowEnd]:
        try:
            found = [self.seen.get(timeout=wait)]
        except queue.Empty:
            return []
        while len(found) < BATCH:
            try:
                found.append(self.seen.get_nowait())
            except queue.Empty:
                break
        return found

    def _look(self, facts: RunFacts) -> None:
        """Ask the API what was not seen; a server that does not answer is asked again."""
        begun = time.monotonic()
        try:
            self._record(facts, self.observing.reconcile(self.client))
        except LeaseLostError:
            raise
        except Exception as error:  # noqa: BLE001 - the boundary: what was seen is written already
            logger.debug("the API could not be asked for task runs: %r", error)
        took = time.monotonic() - begun
        self._next_look = time.monotonic() + max(RECONCILE_SECONDS, took / BUSY_SHARE)

    def _record(self, facts: RunFacts, events: list[Event]) -> None:
        facts.recorder.record(*events, token=facts.token)
        new = [n for n in self.observing.state.unplanned if n not in self._told]
        if new:
            self._told.update(new)
            self.log.warning(
                "athena: not in plan %s, so not counted: %s", facts.plan.name, listed(new)
            )

    # -- the end ---------------------------------------------------------------------------------

    def _last_look(self, facts: RunFacts) -> None:
        """What comes late: subflows, of which the API knows, and tasks of other processes."""
        end = time.monotonic() + (LAST_WAIT_SECONDS if self.elsewhere else 0.0)
        while True:
            late = [s for s in self._batch(wait=0.001) if not isinstance(s, FlowEnd)]
            self._record(facts, [e for one in late for e in self.observing.observe(one)])
            self._look(facts)
            if time.monotonic() >= end or self.observing.done():
                return
            time.sleep(LOOK_SECONDS)

    def _say_how_it_ended(self, facts: RunFacts, ended: FlowEnd) -> None:
        self.clock = lambda: ended.at  # when it ended, not when that was written
        self._say_ended(facts, end_with(ended.end, self.observing.open_tasks()))
        self.log.info(
            "athena: plan run %s %s; `athena status %s` shows it", facts.plan_run,
            ended.end.status, str(facts.plan_run)[:8],
        )  # fmt: skip
        with suppress(StorageUnavailableError):
            state = fold_entries(facts.recorder.journal.read(facts.plan_run))
            project(self.rows.database, facts, state)

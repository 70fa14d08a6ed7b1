"""The steps of the replanning flow: what is left of a deployed run gets another plan.

Each step may be taken twice, by two at once, and the process may die between any two:
the revision's number is unique, the events have keys, and the continuation's flow
run has an idempotency key. What was stored by a process that died is brought into force
by whoever looks next.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid5

from athena_prefect.errors import LeaseHeldError, RevisionTakenError, UnknownRunError
from athena_prefect.journal.events import Reporter, RunEvent, RunEventKind
from athena_prefect.journal.state import ExecutionState, fold_entries
from athena_prefect.plan.revision import ChangeKind
from athena_prefect.replanning.evaluation import AdaptiveReplanning, ReplanningEvaluation
from athena_prefect.replanning.options import Kind, ReplanningOption
from athena_prefect.service.following import Clock, utc_now
from athena_prefect.service.results import _Answer

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

    from athena_prefect.journal.journal import Entry
    from athena_prefect.monitor.monitor import ExecutionMonitor
    from athena_prefect.plan.model import Plan
    from athena_prefect.replanning.engine import AdaptiveReplanningEngine
    from athena_prefect.replanning.results import ReplanResult
    from athena_prefect.runtime.continuing import Continuation
    from athena_prefect.settings import AthenaSettings
    from athena_prefect.storage.db import Database
    from athena_prefect.storage.plans import PlanStore
    from athena_prefect.storage.sql_journal import SqlJournal

logger = logging.getLogger(__name__)

NOTHING_TO_DO, ALREADY, ADVISED = "NothingToDo", "AlreadyReplanned", "Advised"
"""Names of the final states of replanning flows that make no revision."""
CLAIM = timedelta(seconds=120)
"""How long a replanning of one run keeps others off, at most: it takes seconds, and a process of
this machine that died keeps nobody off at all."""
_CLAIMS = UUID("5f1b2f0e-6a3f-5e0c-8f55-0d4f4f5f9a51")
GREATER = (AdaptiveReplanning.SEGMENT, AdaptiveReplanning.FULL)
"""What is carried out by a continuation; less is adopted by the run's own process."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Called(_Answer):
    """What an evaluation calls for, and whether this flow is to see to it."""

    plan_run: UUID | None
    plan: str
    revision: int
    strategy: str
    reason: str
    replans: bool
    """Whether the steps that make a revision follow."""
    state: str = ""
    """Name of the flow's final state, where they do not."""
    waiting: bool = False
    """Whether `revision` is in force already and its continuation is not known to go on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored(_Answer):
    """What became of a revision that was ready."""

    plan_run: UUID
    revision: int
    stored: bool
    again: bool = False
    """Whether the run has gone past it, so that all is to be evaluated anew."""
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Redeployed(_Answer):
    """A continuation that is ready to go on, or does."""

    plan_run: UUID
    revision: int
    deployment: str
    flow_run_id: UUID | None = None
    """Of the continuation, where nobody runs the plan now; else its dispatcher starts it."""


class Rest:
    """What is left of a plan run, in the hands of one replanning flow."""

    def __init__(
        self, plan_run: UUID | str, *, settings: AthenaSettings, client: SyncPrefectClient,
        clock: Clock = utc_now,
    ) -> None:  # fmt: skip
        from athena_prefect.storage.db import Database
        from athena_prefect.storage.plans import PlanStore
        from athena_prefect.storage.sql_journal import SqlJournal

        self.settings, self.client, self.clock = settings, client, clock
        self.database: Database = Database.open(settings)
        self.store: PlanStore = PlanStore(self.database)
        self.journal: SqlJournal = SqlJournal(self.database)
        self.plan_run: UUID = self.store.run(plan_run).plan_run
        self.evaluation: ReplanningEvaluation | None = None
        self.recommended: int | None = None
        self._read()

    # -- what is known ----------------------------------------------------------------------

    def _read(self) -> None:
        self.entries: Sequence[Entry] = self.journal.read(self.plan_run)
        self.state: ExecutionState = fold_entries(self.entries)
        self.engine: AdaptiveReplanningEngine | None = None

    @property
    def plan(self) -> Plan:
        """The plan of the revision in force."""
        return self.store.revision(self.plan_run, self.state.revision)

    def _monitor(self) -> ExecutionMonitor | None:
        from athena_prefect.monitor.context import ExecutionContext
        from athena_prefect.monitor.monitor import ExecutionMonitor
        from athena_prefect.service.following import ReadOnly

        if self.state.started is None or self.state.baseline is None:
            return None
        context = ExecutionContext(
            plan_run=self.plan_run, clock=self.clock, started_at=self.state.started,
            journal=ReadOnly(self.journal),
        )  # fmt: skip
        return ExecutionMonitor(self.plan, context)

    def _engine(self, monitor: ExecutionMonitor) -> AdaptiveReplanningEngine:
        from athena_prefect.assumptions.validator import AssumptionValidator
        from athena_prefect.replanning.engine import AdaptiveReplanningEngine
        from athena_prefect.runtime.continuing import changeovers, last_revised
        from athena_prefect.service.replanning import planner

        return AdaptiveReplanningEngine(
            monitor,
            AssumptionValidator(monitor.plan, monitor),
            planner(monitor.plan),
            changeovers=changeovers(self.entries),
            replanned_at=last_revised(self.entries),
            seed=monitor.baseline.seed,
        )

    # -- the steps --------------------------------------------------------------------------

    def evaluate(self) -> Called:
        """Whether the rest needs another plan that a continuation is to carry out."""
        from athena_prefect.runtime.continuing import roll_forward, waiting_revision

        self._read()
        forward = roll_forward(
            self.store, self.journal, self.plan_run, self.state.revision, now=self.clock()
        )
        if forward is not None:
            self._read()
        waiting = waiting_revision(self.entries)
        if waiting is not None:
            return Called(
                plan_run=self.plan_run, plan=self.plan.name, revision=waiting, strategy="",
                reason=f"revision {waiting} waits for its continuation", replans=False,
                state=ALREADY, waiting=True,
            )  # fmt: skip
        if self.state.end_status is not None:
            return self._no(NOTHING_TO_DO, f"the run is over: {self.state.end_status}", "")
        if self.state.paused:
            return self._no(NOTHING_TO_DO, "the run is paused", "")
        monitor = self._monitor()
        if monitor is None:
            return self._no(NOTHING_TO_DO, "the run has no baseline yet", "")
        self.engine = self._engine(monitor)
        now = self.clock()
        found = self.engine.evaluate_replanning_need(
            monitor.get_plan_deviation(now=now),
            self.engine.validator.get_violated_assumptions(),
            now=now,
        )
        self.evaluation = found
        return self._called(found)

    def _called(self, found: ReplanningEvaluation) -> Called:
        strategy, why = str(found.strategy), found.rationale
        decide = self.plan.replanning.decide
        if found.strategy is AdaptiveReplanning.NONE:
            return self._no(NOTHING_TO_DO, why, strategy)
        if self.state.attached:
            return self._no(ADVISED, f"{why}; the run is only monitored", strategy)
        if decide != "auto":
            return self._no(ADVISED, f"{why}; its plan says `decide: {decide}`", strategy)
        if found.strategy not in GREATER or not self._hands_over():
            return self._no(NOTHING_TO_DO, f"{why}; its own process sees to it", strategy)
        return Called(
            plan_run=self.plan_run, plan=self.plan.name, revision=self.state.revision,
            strategy=strategy, reason=why, replans=True,
        )  # fmt: skip

    def _no(self, state: str, why: str, strategy: str) -> Called:
        self.decline(why, strategy)
        return Called(
            plan_run=self.plan_run, plan=self.plan.name, revision=self.state.revision,
            strategy=strategy, reason=why, replans=False, state=state,
        )  # fmt: skip

    def _hands_over(self) -> bool:
        from athena_prefect.runtime.continuing import hands_over, newest_flow_run

        newest = newest_flow_run(self.entries)
        if newest is None:
            return False  # recorded by hand
        flow_run = self.client.read_flow_run(newest)
        return hands_over(self.client, flow_run, self.plan.name, self.settings.namespace)

    def options(self) -> tuple[ReplanningOption, ...]:
        """The real alternatives, each solved, checked and simulated; the abort last."""
        monitor, engine, found = self._open()
        now = self.clock()
        options = engine.get_replanning_options(
            monitor.get_plan_deviation(now=now),
            engine.validator.get_violated_assumptions(),
            now=now,
            strategy=found.strategy,
        )
        self.recommended = engine.recommended_option(found.strategy)
        return tuple(options)

    def choose(self, options: Sequence[ReplanningOption]) -> ReplanningOption | None:
        """The recommended one; None where that is to abort, which is the run's own to decide."""
        best = None if self.recommended is None else options[self.recommended]
        return None if best is None or best.kind is Kind.ABORT else best

    def verify(self, option: ReplanningOption) -> ReplanResult:
        """The revision behind an option, with whether it passed the checker, and the staleness."""
        _, engine, found = self._open()
        return engine.adopt(option, found.strategy)

    def store_revision(
        self, option: ReplanningOption, result: ReplanResult, *, author: str = "policy"
    ) -> Stored:
        """Store the revision and bring it into force, unless the run has gone past it."""
        from athena_prefect.runtime.continuing import revised_event
        from athena_prefect.runtime.seams import reached

        stale = self.why_stale(result)
        if stale is not None:
            return Stored(
                plan_run=self.plan_run, revision=result.revision, stored=False, again=True,
                reason=stale,
            )  # fmt: skip
        reason = f"{result.strategy}: {self._open()[2].rationale}"
        figures = _figures(option, result)
        try:
            self.store.save_run_revision(
                self.plan_run, result.revision, result.new_plan,
                author=author, reason=reason, figures=figures, strategy=str(result.strategy),
            )  # fmt: skip
        except RevisionTakenError as error:
            return Stored(
                plan_run=self.plan_run, revision=result.revision, stored=False, reason=str(error)
            )
        reached("stored")
        now = self.clock()
        chosen = RunEvent(
            plan_run=self.plan_run, kind=RunEventKind.CHOSEN, at=now,
            source=f"revision {result.revision}", reported_by=Reporter.CALLER,
            data={"option": option.title, "author": author, "strategy": str(result.strategy)},
        )  # fmt: skip
        revised = revised_event(
            self.plan_run, result.revision, figures, author=author, reason=reason, at=now
        )
        self.journal.append(chosen, revised)
        logger.info("revision %d: %s", result.revision, "; ".join(result.changes))
        return Stored(plan_run=self.plan_run, revision=result.revision, stored=True, reason=reason)

    def why_stale(self, result: ReplanResult) -> str | None:
        """Why the run has gone past what the revision changes; None where it has not."""
        state = fold_entries(self.journal.read(self.plan_run))
        if state.end_status is not None:
            return f"the run is over: {state.end_status}"
        if result.revision != state.revision + 1:
            return f"revision {state.revision} is in force already"
        for change in result.details:
            if change.kind is ChangeKind.CAPACITY:
                continue
            task = state.task(change.subject)
            latest = task.latest
            if state.status(change.subject).good or (latest is not None and latest.running):
                return f"{change.subject}, which it changes, has begun meanwhile"
        return None

    def redeploy(self, revision: int) -> Redeployed:
        """Have the continuation deployment say what goes on; start it where no process runs it."""
        from athena_prefect.runtime.continuing import (
            continuation_of,
            newest_flow_run,
            redeploy,
            start,
            supersede,
        )
        from athena_prefect.runtime.seams import reached
        from athena_prefect.storage.lease import Leases

        wanted: Continuation = continuation_of(
            self.store, self.plan_run, revision, namespace=self.settings.namespace
        )
        redeploy(self.client, wanted)
        reached("redeployed")
        done = Redeployed(plan_run=self.plan_run, revision=revision, deployment=wanted.deployment)
        if Leases(self.database).current(self.plan_run) is not None:
            return done  # its dispatcher drains, and starts it
        gone = newest_flow_run(self.journal.read(self.plan_run))
        started = start(self.client, wanted)
        supersede(self.client, gone, wanted, started.id)
        return Redeployed(
            plan_run=self.plan_run, revision=revision, deployment=wanted.deployment,
            flow_run_id=started.id,
        )  # fmt: skip

    def decline(self, why: str, strategy: str) -> None:
        """Tell the run's own process, where it waits for an answer, that it need not."""
        from athena_prefect.runtime.continuing import unanswered

        asked = unanswered(self.entries)
        if asked is None:
            return
        self.journal.append(
            RunEvent(
                plan_run=self.plan_run, kind=RunEventKind.NOT_REPLANNED, at=self.clock(),
                source=f"answer to {asked[0]}", reported_by=Reporter.CALLER,
                data={"reason": why, "strategy": strategy, "position": self.state.position},
            )
        )  # fmt: skip

    def _open(self) -> tuple[ExecutionMonitor, AdaptiveReplanningEngine, ReplanningEvaluation]:
        assert self.engine is not None and self.evaluation is not None, "evaluate first"
        return self.engine.monitor, self.engine, self.evaluation


@contextmanager
def rest_of(
    plan_run: UUID | str,
    *,
    settings: AthenaSettings,
    clock: Clock = utc_now,
    client: SyncPrefectClient | None = None,
) -> Iterator[Rest | str]:
    """What is left of a run, for this replanning alone; or, in words, why it is not to be had.

    `client` is one of Prefect's, made here where none is given. Raises StorageError.
    """
    from prefect.client.orchestration import get_client

    from athena_prefect.storage.lease import Leases

    with nullcontext(client) if client else get_client(sync_client=True) as known:
        try:
            rest = Rest(plan_run, settings=settings, client=known, clock=clock)
        except UnknownRunError as error:
            yield str(error)
            return
        leases = Leases(rest.database)
        claim = claim_of(rest.plan_run)
        try:
            lease = leases.acquire(claim, "a replanning flow", ttl=CLAIM)
        except LeaseHeldError:
            yield "another replanning of this run is under way"
            return
        try:
            yield rest
        finally:
            leases.release(lease)


def claim_of(plan_run: UUID) -> UUID:
    """The id of the lease of whoever replans a run."""
    return uuid5(_CLAIMS, str(plan_run))


def _figures(option: ReplanningOption, result: ReplanResult) -> dict[str, Any]:
    """What is kept of a revision beside its document: enough to bring it into force."""
    proposal = result.proposal
    return {
        **result.acceptance,
        "modes": dict(result.modes),
        "starts": {} if proposal is None else {t: float(s) for t, s in proposal.starts.items()},
        "strategy": str(result.strategy),
        "option": option.title,
        "changes": list(result.changes),
        "again": [c.subject for c in result.details if c.kind is ChangeKind.AGAIN],
        "continuation": True,
    }

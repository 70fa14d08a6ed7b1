"""The steps of the replanning flow: what is left of a deployed run gets another plan.

Each step may be taken twice, by two at once, and the process may die between any two:
the revision's number is unique, the events have keys, and the continuation's flow
run has an idempotency key. What was stored by a process that died is brought into force
by whoever looks next.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid5

from athena_prefect.errors import LeaseHeldError, RevisionTakenError, UnknownRunError
from athena_prefect.journal.events import Command, CommandKind, Reporter, RunEvent, RunEventKind
from athena_prefect.journal.journal import Recorded
from athena_prefect.journal.state import ExecutionState, fold_entries
from athena_prefect.plan.revision import ChangeKind
from athena_prefect.replanning.account import account
from athena_prefect.replanning.asked import (
    Answered,
    Question,
    asked_by_its_process,
    newest_question,
    open_question,
    proposed,
    proposed_since,
)
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
    from athena_prefect.service.asking import Form
    from athena_prefect.settings import AthenaSettings
    from athena_prefect.storage.db import Database
    from athena_prefect.storage.plans import PlanStore
    from athena_prefect.storage.sql_journal import SqlJournal

logger = logging.getLogger(__name__)

NOTHING_TO_DO, ALREADY, ADVISED = "NothingToDo", "AlreadyReplanned", "Advised"
DECLINED, PASSED_ON, ASKS = "Declined", "PassedOn", "Asks"
"""Names of the final states of replanning flows that make no revision."""
CLAIM = timedelta(seconds=120)
"""How long a replanning of one run keeps others off, at most: it takes seconds, and a process of
this machine that died keeps nobody off at all."""
_CLAIMS = UUID("5f1b2f0e-6a3f-5e0c-8f55-0d4f4f5f9a51")
GREATER = (AdaptiveReplanning.SEGMENT, AdaptiveReplanning.FULL)
"""What is carried out by a continuation where it changes anything; all else is adopted by the
run's own process."""


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
    asks: bool = False
    """Whether people are to be asked, by a form."""
    answered: bool = False
    """Whether they have answered, and what they chose is to be carried out."""


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
        clock: Clock = utc_now, flow_run: UUID | None = None,
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
        self.flow_run = flow_run
        """That is in hand; None outside one."""
        self.question: Question | None = None
        self.refused = ""
        """Why what was chosen cannot be done any more."""
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
        from athena_prefect.orchestrator import engine_of
        from athena_prefect.runtime.continuing import changeovers, last_revised
        from athena_prefect.service.replanning import recalled_for

        return engine_of(
            monitor,
            clock=time.perf_counter,
            lessons=recalled_for(monitor, self.settings),
            changeovers=changeovers(self.entries),
            replanned_at=last_revised(self.entries),
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
        self.question = open_question(self.entries)
        if self.question is not None and (self.question.answer or not self.question.outdated):
            return self._about(self.question)
        if self.state.paused:
            return self._no(NOTHING_TO_DO, "the run is paused", "")
        found = self._evaluated()
        if found is None:
            return self._no(NOTHING_TO_DO, "the run has no baseline yet", "")
        return self._called(found)

    def _evaluated(self) -> ReplanningEvaluation | None:
        monitor = self._monitor()
        if monitor is None:
            return None
        self.engine = self._engine(monitor)
        now = self.clock()
        self.evaluation = self.engine.evaluate_replanning_need(
            monitor.get_plan_deviation(now=now),
            self.engine.validator.get_violated_assumptions(),
            now=now,
        )
        return self.evaluation

    def _called(self, found: ReplanningEvaluation) -> Called:
        strategy, why = str(found.strategy), found.rationale
        decide = self.plan.replanning.decide
        if found.strategy is AdaptiveReplanning.NONE:
            return self._no(NOTHING_TO_DO, why, strategy)
        if self.state.attached:
            return self._no(ADVISED, f"{why}; the run is only monitored", strategy)
        if decide == "ask" and self.flow_run is not None and self._hands_over():
            if self._was_declined(found):
                return self._no(NOTHING_TO_DO, f"{why}; it was asked before", strategy)
            if self._asks_itself():
                why = f"{why}; people are asked already, by the run's own process"
                return self._called_for(strategy, why, state=ALREADY)
            return self._called_for(strategy, why, asks=True, state=ASKS)
        if decide != "auto":
            return self._no(ADVISED, f"{why}; its plan says `decide: {decide}`", strategy)
        if found.strategy not in GREATER or self._only_promises() or not self._hands_over():
            return self._no(NOTHING_TO_DO, f"{why}; its own process sees to it", strategy)
        return self._called_for(strategy, why, replans=True)

    def _only_promises(self) -> bool:
        """Whether nothing can be changed that helps: for another promise no flow run is begun."""
        options = self.options()
        best = None if self.recommended is None else options[self.recommended]
        return best is not None and best.only_promises

    def _called_for(self, strategy: str, why: str, **more: Any) -> Called:
        return Called(
            plan_run=self.plan_run, plan=self.plan.name, revision=self.state.revision,
            strategy=strategy, reason=why, **{"replans": False, **more},
        )  # fmt: skip

    def _no(self, state: str, why: str, strategy: str) -> Called:
        self.decline(why, strategy)
        return Called(
            plan_run=self.plan_run, plan=self.plan.name, revision=self.state.revision,
            strategy=strategy, reason=why, replans=False, state=state,
        )  # fmt: skip

    # -- asking people ------------------------------------------------------------------------

    def _about(self, question: Question) -> Called:
        """What an open question calls for: its form, its answer carried out, or nothing now."""
        from athena_prefect.service.asking import form_waits

        strategy, answer = question.strategy, question.answer
        if answer is None:
            if question.flow_run != self.flow_run and form_waits(self.client, question):
                why = f"people are asked already, by flow run {question.flow_run}"
                return self._called_for(strategy, why, state=ALREADY)
            return self._called_for(
                strategy, str(question.data.get("reason")), asks=True, state=ASKS
            )
        who = "nobody answered in time" if answer.unanswered else answer.author
        if answer.wish is None:
            return self._no(DECLINED, f"{who}: carry on", strategy)
        if self._evaluated() is None:
            return self._no(NOTHING_TO_DO, "the run has no baseline yet", strategy)
        wish = answer.wish
        if wish.abort or wish.only_promises or strategy == AdaptiveReplanning.LOCAL:
            return self._passed_on(question, answer, who)
        why = f"{who}: {wish.words}"
        return self._called_for(strategy, why, replans=True, answered=True)

    def _passed_on(self, question: Question, answer: Answered, who: str) -> Called:
        """One task's change, another promise and an end are the run's own process's to carry
        out.
        """
        assert answer.wish is not None
        command_id = f"answer to {question.key}"
        told = self.state.answers.get(command_id)
        if told is not None and not told.accepted:
            if question.again:
                return self._no(DECLINED, f"{who}: cannot be done: {told.message}", "")
            self.refused = told.message
            return self._called_for(question.strategy, told.message, asks=True)
        wish = replace(answer.wish, revision=self.state.revision)
        self.journal.append(
            Command(
                plan_run=self.plan_run, command_id=command_id, kind=CommandKind.ADOPT,
                at=self.clock(), author=answer.author, data=wish.as_data(),
            )
        )  # fmt: skip
        why = f"{who}: {wish.words}; the run's own process sees to it"
        return self._called_for(question.strategy, why, state=PASSED_ON)

    def _about_key(self) -> str:
        """Says for which reasons people are asked, so that they are not asked twice."""
        found = self._open()[2]
        rules = ",".join(sorted(r.rule for r in found.reasons))
        return f"{self.state.revision}:{found.strategy}:{rules}"

    def _was_declined(self, found: ReplanningEvaluation) -> bool:
        last = newest_question(self.entries)
        if last is None or last.data.get("about") != self._about_key():
            return False
        # What has failed since is another question, though the reasons are of the same sort.
        return not proposed_since(self.entries, last.position)

    def _asks_itself(self) -> bool:
        """Whether the run's own process shows a form, for this flow came too late."""
        from athena_prefect.storage.lease import Leases

        if not asked_by_its_process(self.entries):
            return False
        return Leases(self.database).current(self.plan_run) is not None

    def ask(self) -> Form | None:
        """The form that this flow run is to show; None where it was shown twice already."""
        from athena_prefect.runtime.asking import close_form
        from athena_prefect.service.asking import form_of

        question, now = self.question, self.clock()
        assert self.flow_run is not None, "people are asked by a flow run"
        again = question is not None and question.answer is not None
        if question is not None and again and question.again:
            return None
        same = question is not None and not again and not question.outdated
        if question is not None and same and question.flow_run == self.flow_run:
            return form_of(question)
        if question is not None and same:
            data = {**question.data, "flow_run": str(self.flow_run)}
        else:
            if question is not None and not again:
                close_form(self.client, question.flow_run, "Superseded", "asked anew")
            data = self._asked(now, again=again)
        source = f"question-{self.state.revision}-{self.state.position}"
        self.journal.append(
            RunEvent(
                plan_run=self.plan_run, kind=RunEventKind.ASKED, at=now, source=source,
                reported_by=Reporter.CALLER, data=data,
            )
        )  # fmt: skip
        self._read()
        self.question = open_question(self.entries)
        return None if self.question is None else form_of(self.question)

    def take_answer(self, form: Form, answer: Answered) -> Answered:
        """Write an answer down, which needs no claim; the one that counts, the first."""
        from athena_prefect.service.asking import write_answer

        return write_answer(self.journal, self.plan_run, form.question, answer, at=self.clock())

    def _asked(self, now: datetime, *, again: bool) -> dict[str, Any]:
        """What is asked: the options as the run has proposed them, else solved here."""
        if self.evaluation is None or self.engine is None:
            self._evaluated()
        monitor, _, found = self._open()
        kept = None if again else proposed(self.entries, self.state.revision)
        if kept is None:
            options = self.options()
            best = None if self.recommended is None else options[self.recommended]
            kept = {
                **account(options, best, monitor.brought_up(now)[1]),
                "strategy": str(self.strategy), "recommended": self.recommended,
                "reason": found.rationale,
            }  # fmt: skip
        until = now + self.plan.replanning.answer_within
        return {
            **{k: v for k, v in kept.items() if k not in ("handed_over", "course")},
            "decide": "ask",
            "revision": self.state.revision,
            "flow_run": str(self.flow_run),
            "until": until.isoformat(),
            "about": self._about_key(),
            "again": again,
            "why": self.refused,
        }

    @property
    def strategy(self) -> AdaptiveReplanning:
        """What is carried out: as it was asked, else as it is called for."""
        if self.question is not None and self.question.answer is not None:
            asked = AdaptiveReplanning(self.question.strategy)
            none = asked is AdaptiveReplanning.NONE
            return AdaptiveReplanning.FULL if none else asked
        return self._open()[2].strategy

    def _hands_over(self) -> bool:
        from athena_prefect.runtime.continuing import hands_over, newest_flow_run

        newest = newest_flow_run(self.entries)
        if newest is None:
            return False  # recorded by hand
        flow_run = self.client.read_flow_run(newest)
        return hands_over(self.client, flow_run, self.plan.name, self.settings.namespace)

    def options(self) -> tuple[ReplanningOption, ...]:
        """The real alternatives, each solved, checked and simulated; the abort last."""
        monitor, engine, _ = self._open()
        now = self.clock()
        options = engine.get_replanning_options(
            monitor.get_plan_deviation(now=now),
            engine.validator.get_violated_assumptions(),
            now=now,
            strategy=self.strategy,
        )
        self.recommended = engine.recommended_option(self.strategy)
        return tuple(options)

    def choose(self, options: Sequence[ReplanningOption]) -> ReplanningOption | None:
        """What people have chosen, as it is by now; else the recommended one.

        None where that cannot be done any more, or is to abort, which is the run's own
        to decide.
        """
        answer = None if self.question is None else self.question.answer
        if answer is not None and answer.wish is not None:
            monitor, engine, _ = self._open()
            now, violations = self.clock(), self._open()[1].validator.get_violated_assumptions()
            deviation = monitor.get_plan_deviation(now=now)
            found = engine.option_like(answer.wish, deviation, violations, now=now)
            self.refused = f"{answer.wish.words}, for the run has gone past it"
            return found
        best = None if self.recommended is None else options[self.recommended]
        return None if best is None or best.kind is Kind.ABORT else best

    def verify(self, option: ReplanningOption) -> ReplanResult:
        """The revision behind an option, with whether it passed the checker, and the staleness."""
        return self._open()[1].adopt(option, self.strategy)

    def store_revision(
        self, option: ReplanningOption, result: ReplanResult, *, author: str = ""
    ) -> Stored:
        """Store the revision and bring it into force, unless the run has gone past it."""
        answer = None if self.question is None else self.question.answer
        author = author or ("policy" if answer is None else answer.author)
        from athena_prefect.runtime.continuing import revised_event
        from athena_prefect.runtime.seams import reached

        stale = self.why_stale(result) or _why_idle(result)
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
            waiting_revision,
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
        entries = self.journal.read(self.plan_run)
        if waiting_revision(entries) is None:
            return done  # taken up already, or what ran was the last of it
        gone = newest_flow_run(entries)
        started = start(self.client, wanted)
        supersede(self.client, gone, wanted, started.id)
        return Redeployed(
            plan_run=self.plan_run, revision=revision, deployment=wanted.deployment,
            flow_run_id=started.id,
        )  # fmt: skip

    def decline(self, why: str, strategy: str) -> None:
        """Tell the run's own process, where it waits for an answer, that it need not."""
        from athena_prefect.runtime.continuing import unanswered

        asked, question = unanswered(self.entries), open_question(self.entries)
        if asked is None and question is None:
            return
        about = question.key if question is not None else str(asked and asked[0])
        data = {"reason": why, "strategy": strategy, "position": self.state.position}
        if question is not None:
            data["outcome"] = "declined"
        (recorded,) = self.journal.append(
            RunEvent(
                plan_run=self.plan_run, kind=RunEventKind.NOT_REPLANNED, at=self.clock(),
                source=f"answer to {about}", reported_by=Reporter.CALLER, data=data,
            )
        )  # fmt: skip
        if question is not None and recorded is Recorded.STORED:
            self._keep_declined(why, strategy)

    def _keep_declined(self, why: str, strategy: str) -> None:
        from athena_prefect.storage.replans import add_replanning_event

        add_replanning_event(
            self.database, original_plan_id=self.store.run(self.plan_run).decision_id,
            new_plan_id=None, trigger_reason=why, strategy=strategy, outcome="declined",
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
    flow_run: UUID | None = None,
) -> Iterator[Rest | str]:
    """What is left of a run, for this replanning alone; or, in words, why it is not to be had.

    `client` is one of Prefect's, made here where none is given; `flow_run` the one that this
    is done in, the current one where none is given. Raises StorageError.
    """
    from prefect.client.orchestration import get_client

    from athena_prefect.storage.lease import Leases

    with nullcontext(client) if client else get_client(sync_client=True) as known:
        try:
            rest = Rest(
                plan_run, settings=settings, client=known, clock=clock,
                flow_run=flow_run or _current_flow_run(),
            )  # fmt: skip
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


def _current_flow_run() -> UUID | None:
    from prefect.runtime import flow_run

    return None if flow_run.id is None else UUID(str(flow_run.id))


def claim_of(plan_run: UUID) -> UUID:
    """The id of the lease of whoever replans a run."""
    return uuid5(_CLAIMS, str(plan_run))


def _why_idle(result: ReplanResult) -> str | None:
    """Why no continuation is begun for it, though it can be; None where one is."""
    return None if result.details else "nothing can be changed any more, only promised"


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

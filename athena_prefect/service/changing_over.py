"""The steps of the replanning flow: what is left of a deployed run gets another plan.

Each step may be taken twice, by two at once, and the process may die between any two:
the revision's number is unique, the events have keys, and the continuation's flow
run has an idempotency key. What was stored by a process that died is brought into force
by whoever looks next.

What is known of the rest is in `rest`, asking people in `rest_asking`, storing and going on in
`rest_storing`, what the steps answer in `step_answers`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from datetime import timedelta
from typing import TYPE_CHECKING
from uuid import UUID, uuid5

from athena_prefect.errors import LeaseHeldError, UnknownRunError
from athena_prefect.replanning.asked import Answered, open_question
from athena_prefect.replanning.evaluation import AdaptiveReplanning, ReplanningEvaluation
from athena_prefect.replanning.options import Kind, ReplanningOption
from athena_prefect.service.following import Clock, utc_now
from athena_prefect.service.rest import RestOfRun
from athena_prefect.service.rest_asking import about, ask, asks_itself, was_declined
from athena_prefect.service.rest_storing import have_gone_on, store_revision
from athena_prefect.service.step_answers import (
    ADVISED,
    ALREADY,
    ASKS,
    DECLINED,
    NOTHING_TO_DO,
    PASSED_ON,
    Called,
    Redeployed,
    Stored,
)

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

    from athena_prefect.replanning.results import ReplanResult
    from athena_prefect.service.asking import Form
    from athena_prefect.settings import AthenaSettings

__all__ = [
    "ADVISED",
    "ALREADY",
    "ASKS",
    "DECLINED",
    "NOTHING_TO_DO",
    "PASSED_ON",
    "Called",
    "Redeployed",
    "Rest",
    "Stored",
    "claim_of",
    "rest_of",
]

CLAIM = timedelta(seconds=120)
"""How long a replanning of one run keeps others off, at most: it takes seconds, and a process of
this machine that died keeps nobody off at all."""
_CLAIMS = UUID("5f1b2f0e-6a3f-5e0c-8f55-0d4f4f5f9a51")
GREATER = (AdaptiveReplanning.SEGMENT, AdaptiveReplanning.FULL)
"""What is carried out by a continuation where it changes anything; all else is adopted by the
run's own process."""


class Rest(RestOfRun):
    """What is left of a plan run, in the hands of one replanning flow: its steps."""

    def evaluate(self) -> Called:
        """Whether the rest needs another plan that a continuation is to carry out."""
        from athena_prefect.runtime.continuing import roll_forward, waiting_revision

        self.read()
        forward = roll_forward(
            self.store, self.journal, self.plan_run, self.state.revision, now=self.clock()
        )
        if forward is not None:
            self.read()
        waiting = waiting_revision(self.entries)
        if waiting is not None:
            return Called(
                plan_run=self.plan_run, plan=self.plan.name, revision=waiting, strategy="",
                reason=f"revision {waiting} waits for its continuation", replans=False,
                state=ALREADY, waiting=True,
            )  # fmt: skip
        if self.state.end_status is not None:
            return self.nothing(NOTHING_TO_DO, f"the run is over: {self.state.end_status}", "")
        self.question = open_question(self.entries)
        if self.question is not None and (self.question.answer or not self.question.outdated):
            return about(self, self.question)
        if self.state.paused:
            return self.nothing(NOTHING_TO_DO, "the run is paused", "")
        found = self.evaluated()
        if found is None:
            return self.nothing(NOTHING_TO_DO, "the run has no baseline yet", "")
        return self._called(found)

    def _called(self, found: ReplanningEvaluation) -> Called:
        strategy, why = str(found.strategy), found.rationale
        decide = self.plan.replanning.decide
        if found.strategy is AdaptiveReplanning.NONE:
            return self.nothing(NOTHING_TO_DO, why, strategy)
        if self.state.attached:
            return self.nothing(ADVISED, f"{why}; the run is only monitored", strategy)
        if decide == "ask" and self.flow_run is not None and self.hands_over_now():
            if was_declined(self):
                return self.nothing(NOTHING_TO_DO, f"{why}; it was asked before", strategy)
            if asks_itself(self):
                why = f"{why}; people are asked already, by the run's own process"
                return self.called_for(strategy, why, state=ALREADY)
            return self.called_for(strategy, why, asks=True, state=ASKS)
        if decide != "auto":
            return self.nothing(ADVISED, f"{why}; its plan says `decide: {decide}`", strategy)
        if found.strategy not in GREATER or self._only_promises() or not self.hands_over_now():
            return self.nothing(NOTHING_TO_DO, f"{why}; its own process sees to it", strategy)
        return self.called_for(strategy, why, replans=True)

    def _only_promises(self) -> bool:
        """Whether nothing can be changed that helps: for another promise no flow run is begun."""
        options = self.options()
        best = None if self.recommended is None else options[self.recommended]
        return best is not None and best.only_promises

    def ask(self) -> Form | None:
        """The form that this flow run is to show; None where it was shown twice already."""
        return ask(self)

    def take_answer(self, form: Form, answer: Answered) -> Answered:
        """Write an answer down, which needs no claim; the one that counts, the first."""
        from athena_prefect.service.asking import write_answer

        return write_answer(self.journal, self.plan_run, form.question, answer, at=self.clock())

    def choose(self, options: Sequence[ReplanningOption]) -> ReplanningOption | None:
        """What people have chosen, as it is by now; else the recommended one.

        None where that cannot be done any more, or is to abort, which is the run's own
        to decide.
        """
        answer = None if self.question is None else self.question.answer
        if answer is not None and answer.wish is not None:
            monitor, engine, _ = self.in_hand()
            now, violations = self.clock(), engine.validator.get_violated_assumptions()
            deviation = monitor.get_plan_deviation(now=now)
            found = engine.option_like(answer.wish, deviation, violations, now=now)
            self.refused = f"{answer.wish.words}, for the run has gone past it"
            return found
        best = None if self.recommended is None else options[self.recommended]
        return None if best is None or best.kind is Kind.ABORT else best

    def verify(self, option: ReplanningOption) -> ReplanResult:
        """The revision behind an option, with whether it passed the checker, and the staleness."""
        return self.in_hand()[1].adopt(option, self.strategy)

    def store_revision(
        self, option: ReplanningOption, result: ReplanResult, *, author: str = ""
    ) -> Stored:
        """Store the revision and bring it into force, unless the run has gone past it."""
        return store_revision(self, option, result, author=author)

    def redeploy(self, revision: int) -> Redeployed:
        """Have the continuation deployment say what goes on; start it where no process runs it."""
        return have_gone_on(self, revision)


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

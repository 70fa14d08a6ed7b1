"""Beside a dispatcher: sees whether the rest of its run needs another plan, and has it adopted.

It thinks in a thread of its own, on the run's monitor; what it decides is done by
the dispatcher, between two task starts. A replanner that fails says so once, and
the run goes on by the plan that it has.
"""

from __future__ import annotations

import contextvars
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from math import inf
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import httpx

from athena_prefect.errors import AthenaError
from athena_prefect.journal.events import Command, CommandKind, RunEvent, RunEventKind
from athena_prefect.monitor.context import ExecutionContext
from athena_prefect.monitor.monitor import ExecutionMonitor
from athena_prefect.replanning.account import account
from athena_prefect.replanning.asked import (
    Question,
    answered_event,
    newest_question,
    open_question,
)
from athena_prefect.replanning.evaluation import AdaptiveReplanning, ReplanningEvaluation
from athena_prefect.replanning.hindsight import hindsight
from athena_prefect.replanning.options import Kind, ReplanningOption
from athena_prefect.replanning.wishes import Wish, wish_from
from athena_prefect.report.replanning import form_markdown
from athena_prefect.runtime.adopting import Revision, adopt, priority_of
from athena_prefect.runtime.asking import Form, ask, close_form
from athena_prefect.runtime.continuing import changeovers, flows_answer, last_revised

if TYPE_CHECKING:
    from athena_prefect.journal.journal import Entry
    from athena_prefect.replanning.engine import AdaptiveReplanningEngine
    from athena_prefect.runtime.dispatcher import Dispatcher

logger = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
"""How often it looks whether anything has happened; a failed task wakes it at once."""
BUSY_SHARE = 0.05
"""Share of the time that looking may take, where nothing has failed."""
FIRST_SECONDS = 3.0
"""From a run's start to its first look, unless a task fails: a shorter run has no rest to plan."""
OVERDUE_SECONDS = 5.0
"""How often it looks where nothing was written: what runs may have become late."""
BASELINE_SECONDS = 60.0
"""How long a failed task waits for the run's baseline: one of 100,000 tasks took 13 s."""
CHECKS_SECONDS = 15.0
"""How long the checks that an event made due are waited for: their own time-out is 10 s. What
takes longer, or waits for a person, is judged when it comes."""
ADOPT_SECONDS = 60.0
"""How long the dispatcher may take to adopt: it does so between two task starts."""
HANDED_OVER_SECONDS = 180.0
"""How long the replanning flow of a deployed plan may take. The watching flow, which starts it
where the automation did not, looks every 60 s, and a flow takes some 10 s to begin; where no worker
is free for it, this process adopts what it has found itself."""
ANSWER_HOLDS = 60.0
"""How long its answer that nothing is better holds, at least: each question starts a process."""

_FAILED = frozenset({RunEventKind.NOT_REPLANNED})


@dataclass(frozen=True, kw_only=True)
class Proposed:
    """What was found, for whoever chooses."""

    evaluation: ReplanningEvaluation
    options: tuple[ReplanningOption, ...]
    recommended: int | None
    position: int
    """Of the journal: what it rests on."""
    at: datetime
    key: str
    """Says for which reasons, so that the same proposal is made once."""
    account: Mapping[str, Any] = field(default_factory=dict)
    """What the journal keeps of it: the options, what the recommended one moves, its order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Handed:
    """A proposal that the replanning flow is to see to."""

    key: str
    position: int
    """Of the journal, when it was handed over: what rests on less is no answer."""
    until: float
    """By the monotonic clock: then this process adopts."""


@dataclass(slots=True)
class Replanner:
    """Replans one run. `look` is for its own thread; `takes_up` and `choose` for the dispatcher."""

    dispatcher: Dispatcher
    clock: Callable[[], datetime]
    pending: Proposed | None = None
    """Asked, and not answered yet."""
    handed: Handed | None = None
    """Left to the replanning flow, which has not answered yet."""
    changeovers: list[timedelta] = field(default_factory=list)
    _engine: AdaptiveReplanningEngine | None = None
    _replanned_at: datetime | None = None
    _tried: set[tuple[str, int]] = field(default_factory=set)
    """Failed tasks with the number of their attempts, for which it has had its say."""
    _said: set[str] = field(default_factory=set)
    _not_handed: set[str] = field(default_factory=set)
    """Keys of proposals that the replanning flow has not answered in time."""
    _answered: dict[str, float] = field(default_factory=dict)
    """Keys of proposals of which it said that nothing comes of them, until when that holds."""
    _awaited: set[tuple[str, str]] = field(default_factory=set)
    """Checks that were waited for in vain."""
    _form: Form | None = None
    """The form that is open in Prefect's UI."""
    _sent: str | None = None
    """The command by which its answer was sent to the dispatcher."""
    _held_for: set[str] = field(default_factory=set)
    """Failed tasks that wait for the answer."""
    _asked_again: set[str] = field(default_factory=set)
    """Keys of proposals that were asked a second time."""
    _unjudged: bool = False
    """Whether a task has failed, and might be helped, since it looked last."""
    _broken: bool = False
    _wake: threading.Event = field(default_factory=threading.Event)
    _stop: threading.Event = field(default_factory=threading.Event)
    _not_before: float = field(default_factory=lambda: time.monotonic() + FIRST_SECONDS)
    _looked: float = field(default_factory=time.monotonic)
    _position: int = -1
    _thread: threading.Thread | None = None

    @property
    def decide(self) -> str:
        """Who decides: auto, ask, advise, off."""
        return self.dispatcher.facts.plan.replanning.decide

    # -- the thread -------------------------------------------------------------------------

    def __enter__(self) -> Replanner:
        self._remember()
        context = contextvars.copy_context()
        self._thread = threading.Thread(
            target=context.run, args=(self._loop,), name="athena-replanner", daemon=True
        )
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join(timeout=5)
        if self._unjudged and self.decide == "advise":
            # It failed and was over at once: what would have been done is said all the same.
            try:
                self.look()
            except Exception as error:  # noqa: BLE001 - the boundary: replanning never ends the run
                self._give_up(error)
        if self.pending is None:
            self._close_form("Answered", "the run goes by it")
        self._close_form("Withdrawn", "the run has ended")
        self._close_question()
        self._look_back()

    def _close_question(self) -> None:
        """A form that a replanning flow shows is needed no more when the run has ended."""
        facts = self.dispatcher.facts
        if self.decide != "ask" or self.dispatcher.superseded or not facts.hands_over():
            return
        try:
            question = newest_question(self._entries())
            if question is not None:
                close_form(facts.client, question.flow_run, "Settled", "the run has ended")
        except (httpx.HTTPError, AthenaError) as error:
            logger.warning("the question to people stays open: %s", error)

    def _look_back(self) -> None:
        """Of what was only proposed: whether it would have been right, into its table."""
        facts = self.dispatcher.facts
        keep = facts.keep_decision
        if keep is None or self.decide != "advise":
            return
        self.dispatcher.take_in(fresh=True)
        state = self.dispatcher.state
        # The run's last event is written after this: its end is now.
        over = replace(state, ended=state.ended or self.clock())
        for event in [e for e in state.decisions if e.kind is RunEventKind.PROPOSED]:
            course = event.data.get("course")
            found = None if course is None else hindsight(course, facts.plan, over)
            if found is not None:
                said = f"{event.data.get('option')}: {found}"
                outcome = "would have helped" if found.right else "would not have helped"
                keep(outcome, str(event.data["strategy"]), said, None)

    def _remember(self) -> None:
        """What an earlier process knew: when the run was replanned, and how long that took."""
        if not self.dispatcher.state.replans:
            return
        facts = self.dispatcher.facts
        try:
            entries = facts.recorder.journal.read(facts.plan_run)
        except AthenaError as error:
            logger.warning("when the run was replanned cannot be read: %s", error)
            return
        self._replanned_at = last_revised(entries)
        self.changeovers.extend(changeovers(entries))

    def _loop(self) -> None:
        while not self._stop.is_set():
            woken = self._wake.wait(LOOK_SECONDS)
            self._wake.clear()
            if self._stop.is_set():
                return
            if not woken and not self._due():
                continue
            begun = time.thread_time()
            try:
                self.look()
            except Exception as error:  # noqa: BLE001 - the boundary: replanning never ends the run
                self._give_up(error)
            self._looked = time.monotonic()
            self._not_before = self._looked + (time.thread_time() - begun) / BUSY_SHARE

    def _due(self) -> bool:
        if self.pending is not None or self.handed is not None:
            return True
        now = time.monotonic()
        moved = self.dispatcher.state.position != self._position
        return now >= self._not_before and (moved or now - self._looked >= OVERDUE_SECONDS)

    def _give_up(self, error: Exception) -> None:
        if not self._broken:
            logger.error("replanning fails (%r); the run goes on by the plan that it has", error)
            self._record(RunEventKind.NOT_REPLANNED, "broken", reason=repr(error))
        self._broken = True
        self.dispatcher.news.put(self.dispatcher.let_go)

    # -- what the dispatcher asks -----------------------------------------------------------

    def takes_up(self, task_id: str) -> bool:
        """Whether it is worth waiting for what it says of a task that has failed."""
        tries = len(self.dispatcher.state.task(task_id).attempts)
        self._wake.set()
        self._unjudged = self._may_be_done_again(task_id)
        if self._broken or self.decide == "advise" or (task_id, tries) in self._tried:
            return False
        if not self._may_be_done_again(task_id):
            return False
        self._tried.add((task_id, tries))
        return True

    def _may_be_done_again(self, task_id: str) -> bool:
        """Whether the plan declares any way on from a failure of the task."""
        plan = self.dispatcher.facts.plan
        task = plan.get_task(task_id)
        by_effect = any(
            task_id in a.affects and a.effect is not None and a.effect.mode is not None
            for a in plan.assumptions
        )
        return task.rerunnable or len(task.mode_names) > 1 or by_effect

    def choose(self, command: Command) -> str | None:
        """Adopt the option that a person names; None, or why not. In the dispatcher's thread."""
        wish = wish_from(command.data)
        in_force = self.dispatcher.facts.revision
        if wish.revision is not None and wish.revision != in_force:
            return (
                f"revision {in_force} is in force, and option {wish.words} was chosen for "
                f"revision {wish.revision}; look at the options again"
            )
        with self.dispatcher.facts.shared.using() as monitor:
            if monitor is None:
                return "the run has no baseline yet, so there is nothing to choose from"
            monitor.refresh()
            found = self._proposed(monitor, wish.strategy or None)
            option = next((o for o in found.options if wish.means(o)), None)
            option = option or self._like(monitor, wish)
            if option is None:
                there = ", ".join(repr(o.title) for o in found.options) or "none"
                return (
                    f"option {wish.words} cannot be carried out any more, for the run has moved "
                    f"on; there are: {there}"
                )
            if option.kind is Kind.ABORT:
                self._abort(found, author=command.author)
                return None
            revision = self._revision(monitor, found, option, command.author)
        refusal = adopt(self.dispatcher, revision)
        if refusal is None:
            self._chosen(found, option, command.author)
            self._taken_up(revision)
        return refusal

    # -- looking ----------------------------------------------------------------------------

    def look(self) -> None:
        """Evaluate the run once, and do what follows."""
        if self.decide == "off" or self.dispatcher.superseded:
            return
        if self.handed is not None and self._wait_for_the_flow(self.handed):
            return
        if self.pending is None:
            self._close_form("Answered", "it was decided elsewhere")
        elif not self.dispatcher.held - self._held_for:
            return self._wait_for_answer(self.pending)
        # Else a task has failed since, which does not wait for an answer to something else.
        # A task may fail before the baseline is made, which takes tenths of a second.
        if self.dispatcher.held or self._unjudged:
            self.dispatcher.facts.shared.tried.wait(BASELINE_SECONDS)
        self._unjudged = False
        self._await_checks()
        with self.dispatcher.facts.shared.using() as monitor:
            if monitor is None:
                return self._nothing()
            monitor.refresh()
            self._position = monitor.state.position
            found = self._proposed(monitor, None)
            evaluation = found.evaluation
            if evaluation.strategy is AdaptiveReplanning.NONE:
                self._tell_escalation(found)
                return self._nothing()
            if evaluation.strategy is AdaptiveReplanning.ABORT:
                return self._no_way_on(found)
            if time.monotonic() < self._answered.get(found.key, 0.0):
                return self._nothing()
            option = None if found.recommended is None else found.options[found.recommended]
            revision = None
            if option is not None and option.kind is not Kind.ABORT and self._left_to_flow(found):
                return
            if option is not None and option.kind is not Kind.ABORT and self.decide == "auto":
                revision = self._revision(monitor, found, option, "")
        if self.decide != "auto":
            return self._propose(found)
        if revision is None or option is None:
            self._once(
                RunEventKind.NOT_REPLANNED, found, reason="no option can be carried out", once=True
            )
            return self._nothing()
        self._have_adopted(found, option, revision)

    # -- handing over to the replanning flow, which a deployed plan has -----------------------

    def _left_to_flow(self, found: Proposed) -> bool:
        """Whether the replanning flow is to see to it: of a deployed plan, more than one task."""
        local = found.evaluation.strategy is AdaptiveReplanning.LOCAL
        asks = self.decide == "ask"
        if not (asks or (self.decide == "auto" and not local)) or found.key in self._not_handed:
            return False
        if not self.dispatcher.facts.hands_over():
            return False
        new = self.dispatcher.held - self._held_for
        self._held_for = set(self.dispatcher.held)
        question = open_question(self._entries()) if asks and not new else None
        if question is not None:  # asked by a flow that began by itself, or before a restart
            self.handed = Handed(
                key=found.key,
                position=question.position - 1,
                until=time.monotonic() + HANDED_OVER_SECONDS,
            )
            return True
        logger.info("%s; the replanning flow sees to it", found.evaluation.rationale)
        self.handed = Handed(
            key=found.key,
            position=found.position,
            until=time.monotonic() + HANDED_OVER_SECONDS,
        )
        self._once(
            RunEventKind.PROPOSED, found, decide=self.decide, handed_over=True,
            recommended=found.recommended, reason=found.evaluation.rationale, **found.account,
        )  # fmt: skip
        return True

    def _wait_for_the_flow(self, handed: Handed) -> bool:
        """Whether it may still answer; a revision of its making is the dispatcher's to see."""
        entries = self._entries(handed.position)
        question = newest_question(entries)
        if question is not None and not question.settled:
            return self._people_are_asked(question)
        if time.monotonic() > handed.until:
            logger.warning("the replanning flow has not answered: this process sees to it")
            self._not_handed.add(handed.key)
            self._said.discard(handed.key)  # people are to be asked from here, then
            self.handed = None
            return False
        answer = flows_answer(entries, handed.position)
        if answer is None:
            if question is not None:  # the run went another way: by hand, or another's revision
                self.handed = None
                return False
            return True
        logger.info("the replanning flow found nothing better: %s", answer)
        self.handed = None
        hold = max(self.dispatcher.facts.plan.replanning.cooldown.total_seconds(), ANSWER_HOLDS)
        # People are not asked twice for the same reasons.
        self._answered[handed.key] = inf if question is not None else time.monotonic() + hold
        self._nothing()
        return True

    def _people_are_asked(self, question: Question) -> bool:
        """Whether their answer, and its flow, are still waited for."""
        handed = self.handed
        assert handed is not None
        if self.dispatcher.held - self._held_for and question.answer is None:
            self.handed = None  # what has failed since is another question
            return False
        patience = timedelta(seconds=HANDED_OVER_SECONDS)
        if self.clock() < question.until + patience:
            return True
        # Neither the watching flow nor a worker has seen to it: this process does.
        logger.warning("no flow carries the answer out: this process does")
        answer = question.answer
        if answer is None:
            answer = question.default(self.dispatcher.facts.plan.replanning.unanswered)
            event = answered_event(
                self.dispatcher.facts.plan_run, question, answer, at=self.clock()
            )
            self.dispatcher.facts.recorder.record(event)
        self._not_handed.add(handed.key)
        self._answered[handed.key] = inf
        self.handed = None
        if answer.wish is None:
            self._record(
                RunEventKind.NOT_REPLANNED, f"answer to {question.key}", outcome="declined",
                reason="nobody answered in time", strategy=question.strategy,
            )  # fmt: skip
            self._nothing()
        else:
            wish = replace(answer.wish, revision=self.dispatcher.facts.revision)
            self._command(wish.as_data(), answer.author, f"answer to {question.key}")
        return True

    def _entries(self, after: int = 0) -> Sequence[Entry]:
        facts = self.dispatcher.facts
        return facts.recorder.journal.read(facts.plan_run, after)

    def _await_checks(self) -> None:
        """What an event has made due is checked before the event is judged, each check once."""
        gate = self.dispatcher.gate
        if gate is None or not gate.milestones or self._stop.is_set():
            return
        turned = threading.Event()
        self.dispatcher.news.put(turned.set)  # by then it has seen which milestones are reached
        until = time.monotonic() + CHECKS_SECONDS
        turned.wait(CHECKS_SECONDS)
        while time.monotonic() < until and not self._stop.is_set():
            if not set(gate.pending) - self._awaited:
                return
            time.sleep(0.02)
        self._awaited |= set(gate.pending)

    def _nothing(self) -> None:
        """There is no other plan: whoever waits for one need not."""
        if self.dispatcher.held:
            self.dispatcher.news.put(self.dispatcher.let_go)

    def _proposed(self, monitor: ExecutionMonitor, strategy: str | None) -> Proposed:
        now = self.clock()
        engine = self._engine_of(monitor)
        violations = engine.validator.get_violated_assumptions()
        deviation = monitor.get_plan_deviation(now=now)
        evaluation = engine.evaluate_replanning_need(deviation, violations, now=now)
        wanted = AdaptiveReplanning(strategy.lower()) if strategy else evaluation.strategy
        options: list[ReplanningOption] = []
        recommended = evaluation.recommended_option
        if strategy or wanted is not AdaptiveReplanning.NONE:
            options = engine.get_replanning_options(
                deviation,
                violations,
                now=now,
                strategy=None if wanted is AdaptiveReplanning.NONE else wanted,
            )
            recommended = engine.recommended_option(wanted)
        rules = ",".join(sorted(r.rule for r in evaluation.reasons))
        return Proposed(
            evaluation=evaluation,
            options=tuple(options),
            recommended=recommended,
            position=monitor.state.position,
            at=now,
            key=f"{monitor.state.revision}:{evaluation.strategy}:{rules}",
            account=account(
                options,
                None if recommended is None else options[recommended],
                monitor.brought_up(now)[1],
            ),
        )

    def _like(self, monitor: ExecutionMonitor, wish: Wish) -> ReplanningOption | None:
        """What was chosen, by its own levers, where the set that is solved no longer has it."""
        now, engine = self.clock(), self._engine_of(monitor)
        violations = engine.validator.get_violated_assumptions()
        return engine.option_like(wish, monitor.get_plan_deviation(now=now), violations, now=now)

    def _engine_of(self, monitor: ExecutionMonitor) -> AdaptiveReplanningEngine:
        if self._engine is None or self._engine.monitor is not monitor:
            from athena_prefect.assumptions.validator import AssumptionValidator
            from athena_prefect.orchestrator import PlanOrchestrator
            from athena_prefect.replanning.engine import AdaptiveReplanningEngine

            planner = PlanOrchestrator(clock=time.perf_counter, policy=monitor.policy)
            lessons = self.dispatcher.facts.recall(monitor.plan)
            self._engine = AdaptiveReplanningEngine(
                monitor,
                AssumptionValidator(monitor.plan, monitor),
                planner,
                taught=replace(planner, lessons=lessons),
                changeovers=tuple(self.changeovers),
                replanned_at=self._replanned_at,
                seed=monitor.baseline.seed,
            )
        return self._engine

    def _revision(
        self, monitor: ExecutionMonitor, found: Proposed, option: ReplanningOption, author: str
    ) -> Revision:
        strategy = found.evaluation.strategy
        if strategy is AdaptiveReplanning.NONE:
            strategy = AdaptiveReplanning.FULL  # nothing called for it: a person did
        result = self._engine_of(monitor).adopt(option, strategy)
        promised = {k: v for k, v in result.acceptance.items() if k != "revision"}
        starts = result.proposal.starts if result.proposal is not None else {}
        return Revision(
            number=result.revision,
            plan=result.new_plan,
            modes=result.modes,
            changes=result.details,
            priority=priority_of(starts, result.new_plan),
            promised=promised,
            strategy=str(strategy),
            reason=found.evaluation.rationale,
            author=author,
            option=option.title,
        )

    # -- doing ------------------------------------------------------------------------------

    def _have_adopted(self, found: Proposed, option: ReplanningOption, revision: Revision) -> None:
        answers: list[str | None] = []
        done = threading.Event()
        begun = self.clock()

        def in_dispatcher() -> None:
            try:
                answers.append(adopt(self.dispatcher, revision))
                if answers[0] is not None:
                    self.dispatcher.let_go()
            finally:
                done.set()

        self.dispatcher.news.put(in_dispatcher)
        while not done.wait(0.1):
            if self._stop.is_set() or self.clock() - begun > timedelta(seconds=ADOPT_SECONDS):
                return
        if not answers or answers[0] is not None:
            reason = answers[0] if answers else "the dispatcher failed"
            logger.warning("revision %d is not adopted: %s", revision.number, reason)
            self._once(RunEventKind.NOT_REPLANNED, found, reason=reason)
            return
        self._chosen(found, option, revision.author)
        self.changeovers.append(self.clock() - begun)
        self._taken_up(revision)

    def _taken_up(self, revision: Revision) -> None:
        """A revision is in force: the monitor watches that one from now on."""
        self.pending = None
        self.handed = None
        self._replanned_at = self.clock()
        facts = self.dispatcher.facts
        with facts.shared.using() as old:
            if old is None:
                return
            context = ExecutionContext(
                plan_run=facts.plan_run,
                clock=old.context.clock,
                started_at=old.started,
                journal=old.context.journal,
            )
            facts.shared.put(ExecutionMonitor(revision.plan, context))

    def _propose(self, found: Proposed) -> None:
        """Say what would be done; and with `ask`, wait for an answer."""
        first = found.key not in self._said
        self._once(
            RunEventKind.PROPOSED,
            found,
            decide=self.decide,
            recommended=found.recommended,
            reason=found.evaluation.rationale,
            once=True,
            **found.account,
        )
        if first:
            logger.warning(
                "%s: %s; %s", found.evaluation.strategy.value.upper(), found.evaluation.rationale,
                self._what_to_do(found),
            )  # fmt: skip
        if self.decide == "ask" and first:
            self._ask(found)
        elif self.pending is None:
            self._nothing()
        else:
            new = self.dispatcher.held - self._held_for
            self.dispatcher.news.put(lambda: self._let_go_of(new))

    def _let_go_of(self, tasks: set[str]) -> None:
        """In the dispatcher's thread: of these tasks there is nothing more to be asked."""
        new = tasks & self.dispatcher.held
        self.dispatcher.held -= new
        self.dispatcher.let_go_of(new)

    def _ask(self, found: Proposed, why_again: str = "") -> None:
        """Wait for an answer from now on, and have a form opened for it in Prefect's UI."""
        self._close_form("Superseded", "there is a newer proposal")
        self._held_for = set(self.dispatcher.held)
        self.pending = found
        facts = self.dispatcher.facts
        text = [f"**{found.evaluation.strategy.value.upper()}**: {found.evaluation.rationale}"]
        text += (
            [f"What was chosen before cannot be done any more: {why_again}"] if why_again else []
        )
        text.append(form_markdown({**found.account, "recommended": found.recommended}))
        try:
            self._form = ask(
                facts.client,
                plan=facts.plan.name,
                plan_run=facts.plan_run,
                text="\n\n".join(text),
                options=list(found.account["options"]),
                recommended=found.recommended,
                within=facts.plan.replanning.answer_within,
            )
        except (httpx.HTTPError, KeyError) as error:
            logger.warning("no form is open in Prefect's UI (%r); answer by command", error)

    def _close_form(self, name: str, message: str) -> None:
        form, self._form = self._form, None
        if form is not None:
            form.close(name, message)
        self._sent = None

    def _read_form(self, pending: Proposed) -> bool:
        """Whether the form, or the answer that was sent from it, settles the proposal."""
        if self._sent is not None:
            answer = self.dispatcher.state.answers.get(self._sent)
            if answer is None or answer.accepted:
                return True  # accepted: the dispatcher has taken it up, or is about to
            self._close_form("Refused", answer.message)
            if pending.key in self._asked_again:
                self._decline(pending, f"what was chosen cannot be done: {answer.message}")
                return True
            self._asked_again.add(pending.key)
            self._propose_again(pending, answer.message)
            return True
        try:
            found = None if self._form is None else self._form.answer()
        except (httpx.HTTPError, KeyError, ValueError) as error:
            logger.warning("the form in Prefect's UI cannot be read: %r", error)
            return False
        if found is None:
            return False
        if found.withdrawn:
            self._form = None  # somebody has ended its flow run: the other ways stay
            return False
        who = f"{found.name} (claimed)" if found.name else "somebody, in Prefect's UI"
        if found.title is None:
            self._close_form("Answered", f"carry on, by {who}")
            self._decline(pending, f"{who}: carry on")
            return True
        self._sent = self._send(pending, found.title, who)
        return True

    def _send(self, pending: Proposed, title: str, author: str) -> str:
        """Have the dispatcher verify and adopt what was chosen, as any other command."""
        told: Mapping[str, Any] = next(
            (o for o in pending.account["options"] if o["title"] == title), {}
        )
        data = {
            **told,
            "title": title,
            "strategy": str(pending.evaluation.strategy),
            "revision": self.dispatcher.facts.revision,
        }
        return self._command(wish_from(data).as_data(), author, str(uuid4()))

    def _command(self, data: Mapping[str, Any], author: str, command_id: str) -> str:
        facts = self.dispatcher.facts
        command = Command(
            plan_run=facts.plan_run,
            command_id=command_id,
            kind=CommandKind.ADOPT,
            at=self.clock(),
            author=author,
            data=data,
        )
        facts.recorder.record(command)
        return command_id

    def _propose_again(self, pending: Proposed, why: str) -> None:
        """The run has moved on: the same question once more, with what can be done now."""
        with self.dispatcher.facts.shared.using() as monitor:
            if monitor is None:
                return self._decline(pending, why)
            monitor.refresh()
            found = self._proposed(monitor, str(pending.evaluation.strategy))
        self._record(
            RunEventKind.PROPOSED,
            f"{pending.key}:{found.position}:again",
            decide=self.decide,
            strategy=str(found.evaluation.strategy),
            recommended=found.recommended,
            reason=f"asked again: {why}",
            **found.account,
        )
        self._ask(replace(found, key=pending.key), why)

    def _decline(self, pending: Proposed, reason: str) -> None:
        self.pending = None
        self._once(RunEventKind.NOT_REPLANNED, pending, reason=reason, outcome="declined")
        self._nothing()

    def _what_to_do(self, found: Proposed) -> str:
        best = None if found.recommended is None else found.options[found.recommended]
        would = f"recommended: {best.title}" if best is not None else "no option is recommended"
        run = str(self.dispatcher.facts.plan_run)[:8]
        if self.decide == "advise":
            return f"{would}; nothing is changed, as the plan says"
        within = self.dispatcher.facts.plan.replanning.answer_within
        by = f"in Prefect's UI, or with `athena replan {run} --option N`"
        return f"{would}; answer within {within} {by}"

    def _wait_for_answer(self, pending: Proposed) -> None:
        """Nothing more until a person has chosen, or the time for that is up."""
        if self._read_form(pending):
            return
        terms = self.dispatcher.facts.plan.replanning
        if self.clock() - pending.at < terms.answer_within:
            return
        self.pending = None
        self._close_form("Unanswered", f"nobody answered; {terms.unanswered} is what the plan says")
        if terms.unanswered == "recommended" and self._take_recommended(pending):
            return
        self._once(
            RunEventKind.NOT_REPLANNED, pending, reason="nobody answered in time",
            outcome="declined",
        )  # fmt: skip
        self._nothing()

    def _take_recommended(self, pending: Proposed) -> bool:
        with self.dispatcher.facts.shared.using() as monitor:
            if monitor is None:
                return False
            monitor.refresh()
            found = self._proposed(monitor, str(pending.evaluation.strategy))
            option = None if found.recommended is None else found.options[found.recommended]
            if option is None or option.kind is Kind.ABORT:
                return False
            revision = self._revision(monitor, found, option, "unanswered")
        self._have_adopted(found, option, revision)
        return True

    def _no_way_on(self, found: Proposed) -> None:
        """ABORT: say so; stop only where the plan lets that be decided here."""
        terms = self.dispatcher.facts.plan.replanning
        if terms.abort != "auto" or self.decide != "auto":
            self._tell_escalation(found)
            return self._nothing()
        cancel = terms.running_tasks_on_abort == "cancel"
        reason = found.evaluation.rationale
        # Before it is told, which takes the time in which another task could start.
        self.dispatcher.news.put(lambda: self.dispatcher.abort(reason, cancel=cancel))
        self._tell_escalation(found)
        if self.dispatcher.facts.keep_decision is not None:
            self.dispatcher.facts.keep_decision("aborted", "abort", reason, None)

    def _abort(self, found: Proposed, *, author: str) -> None:
        terms = self.dispatcher.facts.plan.replanning
        self._record(
            RunEventKind.CHOSEN, f"{found.key}:abort", option="abort", author=author,
            strategy=str(AdaptiveReplanning.ABORT),
        )  # fmt: skip
        self.dispatcher.abort(
            f"by {author or 'a person'}: {found.evaluation.rationale}",
            cancel=terms.running_tasks_on_abort == "cancel",
        )

    def _tell_escalation(self, found: Proposed) -> None:
        if found.evaluation.escalate and found.key not in self._said:
            logger.error("%s", found.evaluation.rationale)
            self._once(
                RunEventKind.PROPOSED, found, decide=self.decide, options=[], recommended=None,
                escalate=True, reason=found.evaluation.rationale, once=True,
            )  # fmt: skip

    # -- telling ----------------------------------------------------------------------------

    def _chosen(self, found: Proposed, option: ReplanningOption, author: str) -> None:
        # What a proposal has told already is not told again.
        told = {} if found.key in self._said else found.account
        self._record(
            RunEventKind.CHOSEN, f"{found.key}:{found.position}",
            **{**told, "option": option.title, "author": author or "policy",
               "strategy": str(found.evaluation.strategy)},
        )  # fmt: skip

    def _once(
        self, kind: RunEventKind, found: Proposed, *, once: bool = False, **data: Any
    ) -> None:
        source = found.key if once else f"{found.key}:{found.position}"
        if once and found.key in self._said:
            return
        self._said.add(found.key)
        strategy = str(found.evaluation.strategy)
        self._record(kind, source, strategy=strategy, **data)
        keep = self.dispatcher.facts.keep_decision
        if keep is not None:
            outcome = str(data.pop("outcome", "failed" if kind in _FAILED else "proposed"))
            keep(outcome, strategy, str(data.get("reason", "")), None)

    def _record(self, kind: RunEventKind, source: str, **data: Any) -> None:
        event = RunEvent(
            plan_run=self.dispatcher.facts.plan_run,
            kind=kind,
            at=self.clock(),
            source=source,
            data=data,
        )
        try:
            self.dispatcher.facts.recorder.record(event)
        except AthenaError as error:
            logger.warning("what replanning found is not written down: %s", error)

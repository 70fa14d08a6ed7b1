"""Beside a dispatcher: sees whether the rest of its run needs another plan, and has it adopted.

It thinks in a thread of its own, on the run's monitor; what it decides is done by
the dispatcher, between two task starts. A replanner that fails says so once, and
the run goes on by the plan that it has.

What the rest calls for is found by `replan_finding`; people are asked by `replan_asking`, or
by the replanning flow, for which `replan_handing_over` waits; `replan_holding` has the failed
tasks that wait meanwhile, and `replan_log` writes down what was found.
"""

from __future__ import annotations

import contextvars
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from athena_prefect.errors import AthenaError
from athena_prefect.journal.events import Command, RunEventKind
from athena_prefect.replanning.asked import declined
from athena_prefect.replanning.evaluation import AdaptiveReplanning
from athena_prefect.replanning.options import Kind, ReplanningOption
from athena_prefect.replanning.wishes import wish_from
from athena_prefect.runtime.adopting import Revision, adopt
from athena_prefect.runtime.replan_asking import AskingHere
from athena_prefect.runtime.replan_finding import Finder, Proposed
from athena_prefect.runtime.replan_handing_over import LeftToFlow
from athena_prefect.runtime.replan_holding import Held
from athena_prefect.runtime.replan_log import ReplanLog

if TYPE_CHECKING:
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


@dataclass(slots=True)
class Replanner:
    """Replans one run. `look` is for its own thread; `takes_up` and `choose` for the dispatcher."""

    dispatcher: Dispatcher
    clock: Callable[[], datetime]
    finder: Finder = field(init=False)
    held: Held = field(init=False)
    log: ReplanLog = field(init=False)
    asking: AskingHere = field(init=False)
    flow: LeftToFlow = field(init=False)
    _tried: set[tuple[str, int]] = field(default_factory=set)
    """Failed tasks with the number of their attempts, for which it has had its say."""
    _awaited: set[tuple[str, str]] = field(default_factory=set)
    """Checks that were waited for in vain."""
    _unjudged: bool = False
    """Whether a task has failed, and might be helped, since it looked last."""
    _broken: bool = False
    _wake: threading.Event = field(default_factory=threading.Event)
    _stop: threading.Event = field(default_factory=threading.Event)
    _not_before: float = field(default_factory=lambda: time.monotonic() + FIRST_SECONDS)
    _looked: float = field(default_factory=time.monotonic)
    _position: int = -1
    _thread: threading.Thread | None = None

    def __post_init__(self) -> None:
        self.finder = Finder(self.dispatcher.facts, self.clock)
        self.held = Held(self.dispatcher)
        self.log = ReplanLog(self.dispatcher, self.clock)
        self.asking = AskingHere(self.finder, self.held, self.log, self.clock, self._have_adopted)
        self.flow = LeftToFlow(self.held, self.log, self.clock)

    @property
    def decide(self) -> str:
        """Who decides: auto, ask, advise, off."""
        return self.log.decide

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
        self.asking.look_for_forms()
        if self.asking.pending is None:
            self.asking.close("Answered", "the run goes by it")
        self.asking.close("Withdrawn", "the run has ended")
        self.flow.close_question()
        self.log.look_back()

    def _remember(self) -> None:
        """What an earlier process knew: when the run was replanned, and what people declined or
        are asked.
        """
        if not (self.dispatcher.state.replans or self.dispatcher.state.decisions):
            return
        try:
            entries = self.log.entries()
        except AthenaError as error:
            logger.warning("how the run was replanned before cannot be read: %s", error)
            return
        self.finder.remember(entries)
        self.log.declined.update(declined(entries))
        self.asking.take_up(entries)

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
        if self.asking.pending is not None or self.flow.handed is not None:
            return True
        now = time.monotonic()
        moved = self.dispatcher.state.position != self._position
        return now >= self._not_before and (moved or now - self._looked >= OVERDUE_SECONDS)

    def _give_up(self, error: Exception) -> None:
        if not self._broken:
            logger.error("replanning fails (%r); the run goes on by the plan that it has", error)
            self.log.record(RunEventKind.NOT_REPLANNED, "broken", reason=repr(error))
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
            found = self.finder.propose(monitor, wish.strategy or None)
            option = next((o for o in found.options if wish.means(o)), None)
            option = option or self.finder.like(monitor, wish)
            if option is None:
                there = ", ".join(repr(o.title) for o in found.options) or "none"
                return (
                    f"option {wish.words} cannot be carried out any more, for the run has moved "
                    f"on; there are: {there}"
                )
            if option.kind is Kind.ABORT:
                self._abort(found, author=command.author)
                return None
            revision = self.finder.revision(monitor, found, option, command.author)
        refusal = adopt(self.dispatcher, revision)
        if refusal is None:
            self.log.chosen(found, option, command.author)
            self._taken_up(revision)
        return refusal

    # -- looking ----------------------------------------------------------------------------

    def look(self) -> None:
        """Evaluate the run once, and do what follows."""
        if self.decide == "off" or self.dispatcher.superseded:
            return
        self.asking.look_for_forms()
        if self.flow.waits():
            return
        if self.asking.pending is None:
            self.asking.close("Answered", "it was decided elsewhere")
        elif not self.asking.sent and self.flow.has_come(self.asking.pending):
            return self.asking.give_up("Superseded", "the replanning flow asks by now")
        elif not self.held.new:
            return self.asking.wait(self.asking.pending)
        # Else a task has failed since, which does not wait for an answer to something else.
        # A task may fail before the baseline is made, which takes tenths of a second.
        if self.dispatcher.held or self._unjudged:
            self.dispatcher.facts.shared.tried.wait(BASELINE_SECONDS)
        self._unjudged = False
        self._await_checks()
        with self.dispatcher.facts.shared.using() as monitor:
            if monitor is None:
                return self.held.let_go()
            monitor.refresh()
            self._position = monitor.state.position
            found = self.finder.propose(monitor, None)
            evaluation = found.evaluation
            if evaluation.strategy is AdaptiveReplanning.NONE:
                self.log.escalation(found)
                return self.held.let_go()
            if evaluation.strategy is AdaptiveReplanning.ABORT:
                return self._no_way_on(found)
            if self.log.is_declined(found):
                return self.asking.nothing_new()
            if self.flow.has_answered(found):
                return self.held.let_go()
            option = found.best
            revision = None
            if option is not None and option.kind is not Kind.ABORT and self.flow.takes(found):
                return self.asking.give_up("Superseded", "there is a newer proposal")
            if option is not None and option.kind is not Kind.ABORT and self.decide == "auto":
                revision = self.finder.revision(monitor, found, option, "")
        if self.decide != "auto":
            return self.asking.propose(found)
        if revision is None or option is None:
            self.log.once(
                RunEventKind.NOT_REPLANNED, found, reason="no option can be carried out", once=True
            )
            return self.held.let_go()
        self._have_adopted(found, option, revision)

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
            self.log.once(RunEventKind.NOT_REPLANNED, found, reason=reason)
            return
        self.log.chosen(found, option, revision.author)
        self.finder.changeovers.append(self.clock() - begun)
        self._taken_up(revision)

    def _taken_up(self, revision: Revision) -> None:
        """A revision is in force: the monitor watches that one from now on."""
        self.asking.settled()
        self.flow.settled()
        self.finder.watch(revision)

    def _no_way_on(self, found: Proposed) -> None:
        """ABORT: say so; stop only where the plan lets that be decided here."""
        terms = self.dispatcher.facts.plan.replanning
        if terms.abort != "auto" or self.decide != "auto":
            self.log.escalation(found)
            return self.held.let_go()
        cancel = terms.running_tasks_on_abort == "cancel"
        reason = found.evaluation.rationale
        # Before it is told, which takes the time in which another task could start.
        self.dispatcher.news.put(lambda: self.dispatcher.abort(reason, cancel=cancel))
        self.log.escalation(found)
        if self.dispatcher.facts.keep_decision is not None:
            self.dispatcher.facts.keep_decision("aborted", "abort", reason, None)

    def _abort(self, found: Proposed, *, author: str) -> None:
        terms = self.dispatcher.facts.plan.replanning
        self.log.record(
            RunEventKind.CHOSEN, f"{found.key}:abort", option="abort", author=author,
            strategy=str(AdaptiveReplanning.ABORT),
        )  # fmt: skip
        self.dispatcher.abort(
            f"by {author or 'a person'}: {found.evaluation.rationale}",
            cancel=terms.running_tasks_on_abort == "cancel",
        )

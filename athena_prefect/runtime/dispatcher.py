"""The loop that runs a revision of a plan: one dispatcher a plan run.

It starts what is ready, most critical first, within capacity; it settles what
has ended; and it ends when nothing is left that could still happen. What it
knows is folded from the journal, so a dispatcher that takes over knows the same.

What becomes of a task on its way is in `readying` (it can start, is skipped or blocked),
`starting` and `settling` (it has ended); what people and revisions do to it in `redoing`.
"""

from __future__ import annotations

import logging
import queue
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from time import monotonic
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from athena_prefect.errors import StorageUnavailableError
from athena_prefect.journal.events import Event, RunEvent, RunEventKind, TaskEventKind, TaskOutcome
from athena_prefect.journal.state import ExecutionState, Item, evolve, fold, fold_entries
from athena_prefect.plan.model import RunnerKind
from athena_prefect.runtime import settling
from athena_prefect.runtime.attempt import abandon
from athena_prefect.runtime.child import kill_children
from athena_prefect.runtime.ending import RunEnd, aborted, how_it_ended, settled
from athena_prefect.runtime.executor import Executor
from athena_prefect.runtime.facts import RunFacts
from athena_prefect.runtime.frontier import Frontier, input_revisions
from athena_prefect.runtime.handles import Handles
from athena_prefect.runtime.limits import Capacity, GlobalLimits
from athena_prefect.runtime.line import Line
from athena_prefect.runtime.orders import Orders
from athena_prefect.runtime.readying import close, look_at
from athena_prefect.runtime.seams import reached
from athena_prefect.runtime.starting import Running, start_what_fits
from athena_prefect.runtime.submission import withdrawn
from athena_prefect.runtime.time_outs import watch

if TYPE_CHECKING:
    from athena_prefect.runtime.gate import Gate
    from athena_prefect.runtime.replanner import Replanner

logger = logging.getLogger(__name__)

LOOK_SECONDS = 0.5
"""How long the loop waits for news at most; time-outs and lags are seen that late."""


@dataclass(slots=True)
class Dispatcher:
    """Runs what is left of a plan run."""

    facts: RunFacts
    state: ExecutionState
    frontier: Frontier
    capacity: Capacity
    limits: GlobalLimits | None
    submitter: Executor
    handles: Handles
    clock: Callable[[], datetime] = field(default=lambda: datetime.now(UTC))
    news: queue.SimpleQueue[Any] = field(default_factory=queue.SimpleQueue)
    running: dict[str, Running] = field(default_factory=dict)
    """By task-run id: a body past its time-out may run beside its successor."""
    timers: dict[str, datetime] = field(default_factory=dict)
    blocked: dict[str, str] = field(default_factory=dict)
    tries: dict[Item, int] = field(default_factory=dict)
    stop_reason: str = ""
    abort_reason: str = ""
    paused: bool = False
    paused_by: str = ""
    line: Line = field(init=False)
    """What is ready, in the order in which it is to start."""
    revisions: dict[str, int] = field(default_factory=dict)
    last_read: float = 0.0
    open: set[str] = field(default_factory=set)
    """Tasks that have not come to an end."""
    held: set[str] = field(default_factory=set)
    """Failed tasks of which it is being found out whether another plan helps."""
    replanner: Replanner | None = None
    orders: Orders = field(default_factory=Orders)
    gate: Gate | None = None
    """What holds tasks back for the sake of assumptions; None in a plan without any."""
    given_up: frozenset[str] = frozenset()
    """Failed tasks that the revision does not do again; a resume would."""
    draining: bool = False

    def __post_init__(self) -> None:
        self.line = Line(lambda task_id: self.frontier.rank(task_id))

    # -- the loop ---------------------------------------------------------------------------

    def run(self) -> RunEnd:
        """Run until nothing is left. Raises LeaseLostError where another has taken over."""
        self.open = {t.id for t in self.facts.plan.tasks if not settled(self.state, t.id)}
        self.open -= self.given_up
        look_at(self, set(self.open))
        self.orders.obey(self)  # what was asked while nobody ran it; it may open what was done
        while self.open:
            self.take_in()
            if self.superseded and not self.paused:
                return self._drained()  # paused, it would go on in another flow run
            self.orders.obey(self)
            if self.stop_reason:
                return self.stopped()
            watch(self)
            if self.gate is not None:
                self.gate.look(self)
            if not (self.paused or self.superseded):  # a command may have ended the pause
                start_what_fits(self)
            if not self.open or self._nothing_can_happen():
                break
            self._wait()
        return self._end()

    def _wait(self) -> None:
        now = self.clock()
        due = [t for t in self.timers.values() if t > now]
        pause = min([LOOK_SECONDS, *((t - now).total_seconds() for t in due)])
        try:
            news = [self.news.get(timeout=max(pause, 0.001))]
        except queue.Empty:
            news = []
        while not self.news.empty():
            news.append(self.news.get())
        for told in news:
            if callable(told):
                told()
        ended = [n for n in news if isinstance(n, str)]
        if ended:
            self.take_in()
            for source in ended:
                over = self.running.pop(source, None)
                if over is not None:  # None: it was taken back
                    settling.ended(self, over)
        passed = {t for t, at in self.timers.items() if at <= self.clock()}
        if passed:
            look_at(self, passed)

    def _nothing_can_happen(self) -> bool:
        # Paused, or waiting for a slot of another flow, is not the end.
        return not (self.running or self.line.ready or self.timers or self.paused or self.held)

    # -- what is known ----------------------------------------------------------------------

    def record(self, *events: Event) -> None:
        """Write events and know them at once. Raises LeaseLostError."""
        self.facts.recorder.record(*events, token=self.facts.token)
        for event in events:
            self.state = evolve(self.state, event)

    def take_in(self, *, fresh: bool = False) -> None:
        """Fold what others — hooks, other processes — have written since the last time.

        The journal is read at most every `LOOK_SECONDS` where this process hears
        of every event itself, unless its order is what counts (`fresh`).
        """
        # What this process has written is known also while the database is away; folding
        # it again when it is read changes nothing.
        heard = self.facts.heard_since()
        if fresh or self._may_have_news():
            self.last_read = monotonic()
            self._read()
        self.state = fold(heard, self.state)

    def _may_have_news(self) -> bool:
        # Threads of this process are heard; of others the journal has to tell.
        heard_all = self.facts.plan.runner.kind is RunnerKind.THREADS
        return not heard_all or monotonic() - self.last_read >= LOOK_SECONDS

    def _read(self) -> None:
        with suppress(StorageUnavailableError):
            entries = self.facts.recorder.journal.read(self.facts.plan_run, self.state.position)
            self.state = fold_entries(entries, self.state)

    # -- what others ask of it ---------------------------------------------------------------

    def input_revision(self, task_id: str) -> int:
        """1 + how often the task or an ancestor was invalidated."""
        if not self.revisions:
            self.revisions = input_revisions(self.facts.plan, self.state)
        return self.revisions[task_id]

    def take_back(self) -> None:
        """Put what the thread pool has not begun back into the line."""
        for source, running in tuple(self.running.items()):
            if not withdrawn(running.future):
                continue
            del self.running[source]
            self.capacity.give_back(running.demand)
            self.line.under_way[running.item[0]] -= 1
            self.handles.withdraw(running.item, running.future)
            self.line.join(running.item, running.since)

    def let_go(self) -> None:
        """No other plan helps the tasks that failed: what follows from them is blocked."""
        held, self.held = self.held, set()
        self.let_go_of(held)

    def let_go_of(self, tasks: Iterable[str]) -> None:
        """These have failed for good."""
        for task_id in sorted(tasks):
            look_at(self, set(close(self, task_id)))

    # -- the end ----------------------------------------------------------------------------

    def stop(self, reason: str) -> None:
        """Start nothing more and end: asked for by a command or from Prefect."""
        self.stop_reason = self.stop_reason or reason
        self.take_back()

    def abort(self, reason: str, *, cancel: bool) -> None:
        """Start nothing more and end as aborted: at once, or when what runs has ended."""
        self.abort_reason = reason
        if cancel:
            self.stop(reason)
            return
        self.take_back()
        self.let_go()
        for item in self.line:
            self.line.leave(item)
        self.timers.clear()
        self.open &= {r.task.id for r in self.running.values()}

    def pause(self, why: str) -> None:
        """Start nothing more until told to go on; what runs goes on."""
        if not self.paused:
            self.paused, self.paused_by = True, why
            self.take_back()
            self.record(self._run_event(RunEventKind.PAUSED, reason=why))
            logger.info("paused %s: nothing more starts until it is resumed", why)

    def resume(self) -> None:
        """Go on after a pause."""
        if self.paused:
            self.paused = False
            self.record(self._run_event(RunEventKind.CONTINUED))
            logger.info("resumed")

    def resume_from(self, why: str) -> Callable[[], None]:
        """Go on, if it was `why` that paused: a pause by command is not Prefect's to end."""
        return lambda: self.resume() if self.paused_by == why else None

    def revise(self, author: str, reason: str) -> None:
        """Make the next revision of the run: by hand, with the same document.

        Raises StorageError, with nothing changed.
        """
        number = self.state.revision + 1
        if self.facts.keep_revision is not None:
            self.facts.keep_revision(number, author, reason, None)
        self.facts.revision = number
        self.record(
            self._run_event(
                RunEventKind.REVISED, revision=number, author=author, reason=reason, by_hand=True
            )
        )

    def _run_event(self, kind: RunEventKind, **data: Any) -> RunEvent:
        return RunEvent(
            plan_run=self.facts.plan_run, kind=kind, at=self.clock(), source=str(uuid4()), data=data
        )

    def stopped(self) -> RunEnd:
        """Cancelled: end what can be ended, take back the rest."""
        now = self.clock()
        for running in self.running.values():
            item = running.item
            attempt = self.state.task(*item).latest
            count = attempt.run_count if attempt and attempt.source == running.source else 1
            abandon(running.future.task_run_id)
            self.record(
                self.facts.event(
                    TaskEventKind.ABANDONED,
                    now,
                    item,
                    running.source,
                    run_count=count,
                    state_type="CANCELLED",
                    state_name="Cancelled",
                    outcome=TaskOutcome.BLOCKED,
                    reason=self.stop_reason,
                )
            )
        # Only now, so that what the killed bodies report comes after and is ignored.
        killed = kill_children(self.facts.plan_run)
        if killed:
            logger.info("%d child processes ended", killed)
        self.orders.close(self)
        if self.abort_reason:
            return aborted(self.facts.plan, self.state, self.abort_reason)
        return RunEnd(status="cancelled", reason=self.stop_reason)

    @property
    def superseded(self) -> bool:
        """Whether another process has made a revision that another flow run goes on by."""
        return self.state.revision > self.facts.revision

    def _drained(self) -> RunEnd:
        """Start nothing more, and see what runs to its end: another goes on from there.

        A body past its time-out no longer counts, so it is not waited for; commands are
        left for whoever goes on. Where all is done by then, nobody needs to.
        """
        self.draining = True
        reached("draining")
        self.take_back()
        self.timers.clear()
        while any(not r.overdue for r in self.running.values()):
            watch(self)
            self._wait()
            self.take_in()
            if self.stop_reason:
                return self.stopped()
        self.take_in(fresh=True)
        if all(settled(self.state, t) for t in self.facts.plan.task_ids):
            self.orders.close(self)
            return how_it_ended(self.facts.plan, self.state, self.blocked)
        return RunEnd(status="superseded", reason=f"by revision {self.state.revision}")

    def _end(self) -> RunEnd:
        self.take_in(fresh=True)
        if self.superseded:
            return self._drained()
        self.orders.close(self)
        if self.abort_reason:
            return aborted(self.facts.plan, self.state, self.abort_reason)
        return how_it_ended(self.facts.plan, self.state, self.blocked)

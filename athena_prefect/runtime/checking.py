"""Checks of assumptions beside a run, from its start to its end: begun, written down, kept.

They end Completed whatever the verdict. Which are due is in `due_checks`, where they are made
in `check_places`, how one is made in `check_making`. Between them and the dispatcher stands
`Gate`: it holds tasks back, and says in which mode the others run.
"""

from __future__ import annotations

import contextvars
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from datetime import datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from athena_prefect.assumptions.schedule import Milestones
from athena_prefect.errors import LeaseLostError
from athena_prefect.journal.events import CheckEvent
from athena_prefect.journal.state import ExecutionState
from athena_prefect.runtime.check_making import Maker, can_hang
from athena_prefect.runtime.check_places import Places
from athena_prefect.runtime.due_checks import DueChecks
from athena_prefect.runtime.gate import Due, Gate

if TYPE_CHECKING:
    from athena_prefect.runtime.dispatcher import Dispatcher
    from athena_prefect.runtime.facts import RunFacts

logger = logging.getLogger(__name__)

LOOK_SECONDS = 5.0
"""From one look to the next where nothing is known to be due sooner: what is new wakes the loop."""
MOST_A_SECOND = 5.0
"""Timed checks begun a second: each takes the run's process some 10 ms, so that they take it a
twentieth of the time at most. Two hundred assumptions are checked every 40 seconds then."""
LAST_SECONDS = 2.0
"""How long a run whose work is done waits for checks that are due: some two hundred quick ones.
A process that starts on a busy machine takes as long; what hangs would take for ever."""
MOST_SHOWN = 10
"""Checks left at the end of a run that are task runs as all others: a task run takes ten times as
long as most checks, and the run waits for it."""
LATEST_SECONDS = 5.0
"""How long a check in this process, which cannot be ended, is waited for after that."""
ENDED_FIRST = "the run ended before it was checked"


class Checking:
    """Makes the checks of one run, from its start to its end."""

    def __init__(
        self,
        facts: RunFacts,
        clock: Callable[[], datetime],
        elsewhere: frozenset[str] = frozenset(),
        *,
        shown: bool = True,
    ) -> None:
        """`elsewhere`: the assumptions that schedules check by the clock, after the first time.

        `shown`: whether each check is a task run of the flow run.
        """
        self.facts = facts
        self.gate = Gate(facts, Milestones.of(facts.plan))
        self.gate.wake = lambda: self._news.set()
        self._clock = clock
        self._due = DueChecks(facts.plan, elsewhere)
        self._places = Places(self._make, shown=shown)
        self._maker = Maker(facts)
        self._news = threading.Event()
        """Wakes the loop."""
        self._over = threading.Event()
        """Nothing new is begun by the loop."""
        self._stop = threading.Event()
        """What a check finds from now on is not written."""
        self._dispatcher: Dispatcher | None = None
        self._state: Callable[[], ExecutionState] = ExecutionState
        self._wake: Callable[[], object] = lambda: None
        self._written: set[tuple[str, str]] = set()
        """Milestones whose check is written, by assumption and key."""
        self._made: dict[str, str] = {}
        """The id of the check of each assumption that was made last."""
        self._not_before = 0.0
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._kept = 0

    # -- its life ---------------------------------------------------------------------------

    def beside(self, dispatcher: Dispatcher) -> Self:
        """Make checks beside this dispatcher, while the block runs."""
        dispatcher.gate = self.gate if self.facts.plan.assumptions else None
        self._dispatcher = dispatcher
        self._state = lambda: dispatcher.state
        self._wake = lambda: dispatcher.news.put(lambda: None)
        return self

    def __enter__(self) -> Self:
        if self.facts.plan.assumptions:
            self._places.open()
            # A plain thread has no run context: Prefect's client and logs need it.
            context = contextvars.copy_context()
            self._thread = threading.Thread(
                target=context.run, args=(self._loop,), name="athena-checks", daemon=True
            )
            self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        self._news.set()
        if self._thread is not None:
            self._thread.join(timeout=LATEST_SECONDS)
        if self._thread is not None and kind is None:
            self._make_what_is_left()
        with self._lock:
            self._stop.set()
        # Killed first, so that nothing waits for what hangs.
        self._maker.children.close()
        self._places.close(time.monotonic() + LATEST_SECONDS)

    def _loop(self) -> None:
        said, pause = False, 0.0
        if any(can_hang(a) for a in self.facts.plan.assumptions):
            self._maker.children.expect()
        while not self._over.is_set():
            self._news.wait(pause)
            self._news.clear()
            try:
                pause = self._begin_what_is_due()
            except Exception as error:  # noqa: BLE001 - the boundary: a check fails nobody's run
                if not said:
                    logger.warning("checks of assumptions fail (%r); they are tried again", error)
                said, pause = True, LOOK_SECONDS

    # -- what is due ------------------------------------------------------------------------

    def _begin_what_is_due(self) -> float:
        """Begin what there is a place for; the seconds until it is worth to look again."""
        state = self._state()
        if state.started is None:
            return LOOK_SECONDS
        for _ in range(len(self.gate.queue)):
            due = self.gate.queue.popleft()
            if not self._places.begin(due):
                self.gate.queue.append(due)
        now = self._clock()
        for name in self._due.look(state, now):
            if self._over.is_set() or not self._read_back(state, name):
                continue
            if self._due.is_elsewhere(state, name):
                self._say_missed(state, name, now)
                continue
            if self._places.full:
                return LOOK_SECONDS  # the end of one is news
            pause = self._not_before - time.monotonic()
            if pause > 0:
                return pause
            if self._places.begin(Due(assumption=self.facts.plan.get_assumption(name))):
                self._not_before = time.monotonic() + 1 / MOST_A_SECOND
        coming = self._due.first_after(now)
        if coming is None:
            return LOOK_SECONDS
        return min((coming - now).total_seconds(), LOOK_SECONDS)

    def _make_what_is_left(self) -> None:
        """The run's work is done: make what is due and was not made, while the time lasts."""
        until = time.monotonic() + LAST_SECONDS
        if self._dispatcher is not None:
            self._dispatcher.take_in(fresh=True)
            self.gate.look(self._dispatcher)  # its last event may have reached a milestone
        todo = deque(self._left())
        begin = self._places.begin if len(todo) <= MOST_SHOWN else self._places.begin_unseen
        while time.monotonic() < until and (todo or self._places.taken):
            while todo and (self._known(todo[0]) or begin(todo[0])):
                todo.popleft()
            self._news.wait(max(until - time.monotonic(), 0.0))
            self._news.clear()

    def _left(self) -> list[Due]:
        """What was due in this run and has no check yet: milestones and first checks."""
        state = self._state()
        if state.started is None:
            return []
        found = list(self.gate.pending.values())
        first = self._due.never_made(state, self._clock())
        there = {due.assumption.id for due in found}
        found += [
            Due(assumption=self.facts.plan.get_assumption(n)) for n in first if n not in there
        ]
        return [due for due in found if not self._known(due)]

    def _known(self, due: Due) -> bool:
        """Whether what was found is written: a first check is any, a milestone's is its own."""
        with self._lock:
            if due.key is not None:
                return (due.assumption.id, due.key) in self._written
            return due.assumption.id in self._made

    def leave(self, dispatcher: Dispatcher) -> None:
        """The run is over: what was due and could not be made any more is unknown, and says so.

        After the block, in the dispatcher's thread. Raises LeaseLostError.
        """
        if self._thread is None:
            return
        dispatcher.take_in(fresh=True)
        left = self._left()
        there = {due.assumption.id for due in left}
        left += [d for n, d in self._places.taken.items() if d.key is None and n not in there]
        now = self._clock()
        for due in left:
            self._write(due, self._maker.unmade(due, now, ENDED_FIRST))
        if left:
            logger.warning(
                "%d checks of assumptions were due when the run ended and are unknown: %s",
                len(left), ", ".join(due.assumption.id for due in left[:10]),
            )  # fmt: skip
            dispatcher.take_in(fresh=True)

    def _say_missed(self, state: ExecutionState, name: str, now: datetime) -> None:
        """What its schedule does not check, as without a worker, is unknown, and said to be."""
        why = self._due.missed(state, name, now)
        if why is not None:
            here = Due(assumption=self.facts.plan.get_assumption(name))
            self._write(here, self._maker.unmade(here, now, why))
            self._wake()

    def _read_back(self, state: ExecutionState, name: str) -> bool:
        """Whether the state knows of the check that was made last."""
        last = self._made.get(name)
        newest = state.checks.get(name, ())[-20:]
        return last is None or any(c.check_id == last for c in newest)

    # -- making -----------------------------------------------------------------------------

    def _make(self, due: Due) -> tuple[str, str]:
        """Make one check and write down what it found. Raises nothing."""
        began = self._clock()
        try:
            event = self._maker.found(due, began, self._state())
            if event is None or not self._write(due, event, late=False):
                return "unknown", "nothing new" if event is None else ENDED_FIRST
        except LeaseLostError:
            self._over.set()
            self._stop.set()
            return "unknown", "another dispatcher has taken over"
        finally:
            with self._lock:
                if not self._stop.is_set():
                    # What was cut off stays there: it was due and begun.
                    self._places.free(due)
            self._wake()
            self._news.set()
        return event.verdict, str(event.data.get("reason", ""))

    def _write(self, due: Due, event: CheckEvent, *, late: bool = True) -> bool:
        """Record what was found; not what a check finds when the run is over (`late` false)."""
        with self._lock:
            if self._stop.is_set() and not late:
                return False
            self._made[due.assumption.id] = event.check_id
            if due.key is not None:
                self._written.add((due.assumption.id, due.key))
        self.facts.recorder.record(event, token=self.facts.token)
        return True

    # -- rows -------------------------------------------------------------------------------

    def keep(self, database: Any) -> None:
        """Write what was checked since the last time to the table of validations."""
        from athena_prefect.storage.validations import Validations

        events = [c for known in self._state().checks.values() for c in known]
        if len(events) > self._kept:
            Validations(database).write(self.facts.plan_run, events)
            self._kept = len(events)

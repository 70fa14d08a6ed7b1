"""Checks of assumptions beside a run: when they are due, where they are made, what they change.

They are task runs of the same flow run on a task runner of their own, so that no
task loses its slot to one; they end Completed whatever the verdict. What can hang
is made in a child process and killed when its time is up. Between them and the
dispatcher stands `Gate`: it holds tasks back, and says in which mode the others run.
"""

from __future__ import annotations

import contextvars
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from athena_prefect.assumptions.checks.base import CheckContext
from athena_prefect.assumptions.checks.children import Children
from athena_prefect.assumptions.checks.making import Made, make, prepare
from athena_prefect.assumptions.checks.registry import kind_named
from athena_prefect.assumptions.prediction import FEWEST
from athena_prefect.assumptions.schedule import Milestones, ScheduledChecks
from athena_prefect.assumptions.unseen import NOBODY
from athena_prefect.assumptions.validator import (
    LIKELY,
    AssumptionValidator,
    check_event,
    data_of,
    method_of,
)
from athena_prefect.errors import AthenaError, LeaseLostError
from athena_prefect.journal.events import CheckEvent, Reporter
from athena_prefect.journal.state import ExecutionState
from athena_prefect.monitor.effects import violations_in_force
from athena_prefect.plan.model import Assumption
from athena_prefect.plan.templates import Template
from athena_prefect.runtime.calls import secret
from athena_prefect.runtime.gate import MARK, Due, Gate
from athena_prefect.runtime.questions import asks_a_person, standing_answer

if TYPE_CHECKING:
    from athena_prefect.runtime.dispatcher import Dispatcher
    from athena_prefect.runtime.facts import RunFacts

logger = logging.getLogger(__name__)

MOST_AT_ONCE = 4
"""Checks made at once: enough that a slow one keeps no other waiting, few beside the work."""
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
SCHEDULE_GRACE = timedelta(seconds=60)
"""How late a scheduled check may be beside a whole frequency: a worker polls, and starts Python."""
AGAIN_SECONDS = 30.0
"""How often a violated assumption without a frequency is checked again while it holds a task
back: else it would never be let go."""
BUSY_SHARE = 0.02
"""Share of the time that predicting may take."""
TAG = "athena-check"


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
        self._shown = shown
        self._elsewhere = elsewhere
        self.gate = Gate(facts, Milestones.of(facts.plan))
        self.gate.wake = lambda: self._news.set()
        self._clock = clock
        self._children = Children(_environment())
        self._news = threading.Event()
        """Wakes the loop."""
        self._over = threading.Event()
        """Nothing new is begun by the loop."""
        self._stop = threading.Event()
        """What a check finds from now on is not written."""
        self._dispatcher: Dispatcher | None = None
        self._state: Callable[[], ExecutionState] = ExecutionState
        self._wake: Callable[[], object] = lambda: None
        self._in_flight: dict[str, Due] = {}
        self._written: set[tuple[str, str]] = set()
        """Milestones whose check is written, by assumption and key."""
        self._schedule: ScheduledChecks | None = None
        self._made: dict[str, str] = {}
        """The id of the check of each assumption that was made last."""
        self._validator: AssumptionValidator | None = None
        self._predict_after = 0.0
        self._not_before = 0.0
        self._lock = threading.Lock()
        self._runner: Any = None
        self._unseen: ThreadPoolExecutor | None = None
        self._futures: set[Any] = set()
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
            if self._shown:
                from prefect.task_runners import ThreadPoolTaskRunner

                self._runner = ThreadPoolTaskRunner(max_workers=MOST_AT_ONCE).__enter__()
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
        self._children.close()
        # What is being made ends now: cancelled, its task run would count as crashed.
        until = time.monotonic() + LATEST_SECONDS
        for future in tuple(self._futures):
            left = max(until - time.monotonic(), 0.0)
            if isinstance(future, Future):
                wait((future,), left)
            else:
                future.wait(timeout=left)
        if self._runner is not None:
            self._runner.__exit__(None, None, None)
        if self._unseen is not None:
            self._unseen.shutdown(wait=False)

    def _loop(self) -> None:
        said, pause = False, 0.0
        if any(_can_hang(a) for a in self.facts.plan.assumptions):
            self._children.expect()
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
            if not self._begin(due):
                self.gate.queue.append(due)
        now = self._clock()
        self._schedule = ScheduledChecks(
            self.facts.plan, started=state.started, checks=state.checks, before=self._schedule
        )
        for name in (*self._schedule.due(now), *self._in_the_way(state, self._schedule, now)):
            if self._over.is_set() or not self._read_back(state, name):
                continue
            if name in self._elsewhere and name in state.checks:
                self._missed(state, self._schedule, name, now)
                continue
            if len(self._in_flight) >= MOST_AT_ONCE:
                return LOOK_SECONDS  # the end of one is news
            pause = self._not_before - time.monotonic()
            if pause > 0:
                return pause
            if self._begin(Due(assumption=self.facts.plan.get_assumption(name))):
                self._not_before = time.monotonic() + 1 / MOST_A_SECOND
        coming = self._schedule.first_after(now)
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
        begin = self._begin if len(todo) <= MOST_SHOWN else self._begin_unseen
        while time.monotonic() < until and (todo or self._in_flight):
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
        schedule = ScheduledChecks(self.facts.plan, started=state.started, checks=state.checks)
        first = [n for n in schedule.due(self._clock()) if n not in state.checks]
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
        left += [d for n, d in self._in_flight.items() if d.key is None and n not in there]
        now = self._clock()
        for due in left:
            self._write(due, self._unmade(due, now, ENDED_FIRST))
        if left:
            logger.warning(
                "%d checks of assumptions were due when the run ended and are unknown: %s",
                len(left), ", ".join(due.assumption.id for due in left[:10]),
            )  # fmt: skip
            dispatcher.take_in(fresh=True)

    def _missed(
        self, state: ExecutionState, schedule: ScheduledChecks, name: str, now: datetime
    ) -> None:
        """What its schedule does not check, as without a worker, is unknown, and said to be."""
        due = schedule.next(name)
        if due is not None and now - due > schedule[name] + SCHEDULE_GRACE:
            newest = max(c.at for c in state.checks[name])
            why = f"its schedule has made no check since {newest:%Y-%m-%d %H:%M:%S} UTC"
            here = Due(assumption=self.facts.plan.get_assumption(name))
            self._write(here, self._unmade(here, now, why))
            self._wake()

    def _read_back(self, state: ExecutionState, name: str) -> bool:
        """Whether the state knows of the check that was made last."""
        last = self._made.get(name)
        newest = state.checks.get(name, ())[-20:]
        return last is None or any(c.check_id == last for c in newest)

    def _in_the_way(
        self, state: ExecutionState, schedule: ScheduledChecks, now: datetime
    ) -> list[str]:
        """What keeps tasks from starting and would not be checked again by itself."""
        found = []
        for name in violations_in_force(self.facts.plan, state):
            assumption = self.facts.plan.get_assumption(name)
            effect = assumption.effect
            if effect is None or not (effect.block or effect.capacity):
                continue
            if name in schedule or asks_a_person(assumption):
                continue
            newest = max(c.at for c in state.checks[name])
            if now - newest >= timedelta(seconds=AGAIN_SECONDS):
                found.append(name)
        return found

    def _begin(self, due: Due) -> bool:
        """Begin a check; False where no place is free, or it is being made already."""
        if not self._shown and not asks_a_person(due.assumption):
            return self._begin_unseen(due)
        if not self._takes_place(due):
            return False
        if not asks_a_person(due.assumption):
            try:
                self._keep(self._runner.submit(self._task(due), parameters={}))
            except Exception as error:  # noqa: BLE001 - Prefect is not needed for a check
                logger.warning("no task run for the check of %s (%r)", due.assumption.id, error)
            else:
                return True
        self._make(due)
        return True

    def _begin_unseen(self, due: Due) -> bool:
        """The same without a task run."""
        if not self._takes_place(due):
            return False
        if self._unseen is None:
            self._unseen = ThreadPoolExecutor(MOST_AT_ONCE, thread_name_prefix="athena-checks")
        self._keep(self._unseen.submit(contextvars.copy_context().run, self._make, due))
        return True

    def _takes_place(self, due: Due) -> bool:
        name = due.assumption.id
        with self._lock:
            if name in self._in_flight or len(self._in_flight) >= MOST_AT_ONCE:
                return False
            self._in_flight[name] = due
            return True

    def _keep(self, future: Any) -> None:
        self._futures.add(future)
        future.add_done_callback(self._futures.discard)

    def _task(self, due: Due) -> Any:
        from prefect import Task
        from prefect.states import Completed

        def check() -> Any:
            verdict, reason = self._make(due)
            return Completed(name=verdict.capitalize(), message=reason)

        name = f"check {due.assumption.id}"
        return Task(check, name=name, task_run_name=name, tags=[TAG], persist_result=False)

    # -- making -----------------------------------------------------------------------------

    def _make(self, due: Due) -> tuple[str, str]:
        """Make one check and write down what it found. Raises nothing."""
        name, began = due.assumption.id, self._clock()
        try:
            event = self._found(due, began)
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
                    del self._in_flight[name]
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

    def _found(self, due: Due, began: datetime) -> CheckEvent | None:
        assumption, state = due.assumption, self._state()
        try:
            return self._event(due, self._observed(assumption, state, began), began, state)
        except Exception as error:  # noqa: BLE001 - the boundary: a check fails nobody's run
            logger.warning("assumption %s could not be checked: %r", assumption.id, error)
            # A milestone is over with this, too: what waits for it must not wait for ever.
            return self._unmade(due, began, f"{type(error).__name__} while it was checked")

    def _unmade(self, due: Due, at: datetime, why: str) -> CheckEvent:
        return CheckEvent(
            plan_run=self.facts.plan_run,
            assumption_id=due.assumption.id,
            check_id=_id_of(due, at),
            at=at,
            verdict="unknown",
            reported_by=Reporter.DISPATCHER,
            data={"reason": why, "error": why, "method": str(method_of(due.assumption))},
        )

    def _event(
        self, due: Due, made: Made, began: datetime, state: ExecutionState
    ) -> CheckEvent | None:
        assumption = due.assumption
        if asks_a_person(assumption):
            answer = standing_answer(assumption, state, began)
            if answer is not None and due.key is None:
                return None
            if answer is not None:
                made = Made(observation=data_of(answer))
        event = check_event(
            assumption,
            made,
            plan_run=self.facts.plan_run,
            now=began,
            check_id=_id_of(due, began),
            reported_by=Reporter.DISPATCHER,
        )
        # With few checks there is nothing to predict from, and no reason to wait for the monitor.
        enough = len(state.checks.get(assumption.id, ())) >= FEWEST
        predicted = self._prediction(assumption) if enough and event.verdict == "holds" else None
        return replace(event, data={**event.data, "predicted": predicted}) if predicted else event

    def _prediction(self, assumption: Assumption) -> dict[str, Any] | None:
        """What speaks for a failure before it is needed, from the checks so far."""
        if time.monotonic() < self._predict_after:
            return None
        begun = time.thread_time()
        try:
            with self.facts.shared.using() as monitor:
                if monitor is None:
                    return None
                if self._validator is None or self._validator.monitor is not monitor:
                    self._validator = AssumptionValidator(self.facts.plan, monitor)
                found = self._validator.prediction(assumption.id)
        except AthenaError:
            return None
        finally:
            took = time.thread_time() - begun
            self._predict_after = time.monotonic() + took / BUSY_SHARE
        if found.probability is None or found.probability <= LIKELY:
            return None
        return {"probability": found.probability, "reason": found.reason}

    def _observed(self, assumption: Assumption, state: ExecutionState, now: datetime) -> Made:
        if asks_a_person(assumption):
            return Made(error=NOBODY)
        return checked(
            assumption,
            self.facts.look_up,
            CheckContext(
                now=now,
                root=self.facts.root,
                plan=self.facts.plan,
                plan_run=self.facts.plan_run,
                started=self.facts.started_at,
                state=state,
                environment=_database(self.facts),
            ),
            self._children,
        )

    # -- rows -------------------------------------------------------------------------------

    def keep(self, database: Any) -> None:
        """Write what was checked since the last time to the table of validations."""
        from athena_prefect.storage.validations import Validations

        events = [c for known in self._state().checks.values() for c in known]
        if len(events) > self._kept:
            Validations(database).write(self.facts.plan_run, events)
            self._kept = len(events)


def checked(
    assumption: Assumption,
    look_up: Callable[[Template], Any],
    context: CheckContext,
    children: Children,
) -> Made:
    """Make an assumption's own check: in a child where it can hang, else here."""
    assert assumption.check is not None

    def resolve(template: Template) -> Any:
        return secret(template.name) if template.namespace == "secret" else look_up(template)

    try:
        check, secrets = prepare(assumption.check, resolve)
    except AthenaError as error:
        return Made(error=str(error))
    context = replace(context, secrets=secrets)
    return children.make(check, context) if check.can_hang else make(check, context)


def _can_hang(assumption: Assumption) -> bool:
    """Whether its check needs a child; False for one that cannot be made at all."""
    if assumption.check is None or asks_a_person(assumption):
        return False
    with suppress(AthenaError):
        return kind_named(assumption.check.kind).can_hang
    return False


def _id_of(due: Due, began: datetime) -> str:
    return f"{MARK}{due.key}" if due.key else f"timed|{began.isoformat()}"


def _database(facts: RunFacts) -> Mapping[str, str]:
    return {"ATHENA_DATABASE_URL": facts.recording.database_url}


def _environment() -> dict[str, str]:
    """What a child needs to reach the same Prefect server."""
    from prefect.settings import PREFECT_API_URL

    url = PREFECT_API_URL.value()
    return {"PREFECT_API_URL": url} if url else {}

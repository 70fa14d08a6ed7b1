"""When each assumption is to be checked: by the clock, and at moments of the run."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from athena_prefect.assumptions.unseen import unknown_in_a_row
from athena_prefect.journal.events import CheckEvent, utc
from athena_prefect.journal.state import ExecutionState, Status
from athena_prefect.plan.model import Milestone, Plan, ValidationMethod

JITTER = 0.1
"""Share of an interval over which checks of the same one are spread, so that two hundred are
not made in the same moment."""
FIRST_WITHIN = timedelta(minutes=1)
"""From a run's start to the first check of what is no person's to say, at most: two hundred are
made in that time at the pace at which a run makes them."""
BACK_OFF_AFTER = 3
"""Checks in a row that could not be made, after which the next ones come less often: by then it
is no blip."""
BACK_OFF_MOST = 16
"""Times the interval at most: what is mended is seen again within a few."""
START = "at:start"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seen:
    """What the journal knows of an assumption's checks."""

    last: datetime | None = None
    count: int = 0
    unknown: int = 0
    """In a row, up to now."""


class ScheduledChecks(Mapping[str, timedelta]):
    """The timed checks of a plan: assumption → interval, in the order of the plan.

    `milestones` has the moments of the run at which others, or the same ones, are
    due; `due(now)` says which timed ones are.
    """

    def __init__(
        self,
        plan: Plan,
        *,
        started: datetime | None = None,
        checks: Mapping[str, Sequence[CheckEvent]] | None = None,
        before: ScheduledChecks | None = None,
    ) -> None:
        """`checks`: what the journal knows of each assumption's checks; `before` spares to look
        again at those that are the same.
        """
        self._intervals = {
            a.id: a.validation_frequency
            for a in plan.assumptions
            if a.validation_frequency is not None
        }
        self.milestones: Mapping[str, tuple[Milestone, ...]] = {
            a.id: a.milestones for a in plan.assumptions if a.milestones
        }
        """Assumption → the moments of the run at which it is checked."""
        self.manual = frozenset(
            a.id
            for a in plan.assumptions
            if a.validation_method is ValidationMethod.MANUAL or a.check is None
        )
        """Those that a person answers: when they are due, their answer has expired."""
        self._started = started
        self._checks = {a: checks.get(a, ()) for a in self._intervals} if checks else {}
        known = {} if before is None else before._checks
        self._seen: dict[str, _Seen] = {
            a: before._seen[a] if before and known.get(a) is own else _seen(own)
            for a, own in self._checks.items()
        }

    def __getitem__(self, assumption_id: str) -> timedelta:
        return self._intervals[assumption_id]

    def __iter__(self) -> Iterator[str]:
        return iter(self._intervals)

    def __len__(self) -> int:
        return len(self._intervals)

    def next(self, assumption_id: str) -> datetime | None:
        """When a timed assumption is next to be checked; None where it has no frequency, or
        neither has been checked nor has the run started: then at once.
        """
        interval = self._intervals.get(assumption_id)
        if interval is None:
            return None
        seen = self._seen.get(assumption_id, _Seen())
        if seen.last is None:
            if self._started is None:
                return None
            if assumption_id not in self.manual:
                # What is checked once a day is to be known in a run's first minute, too.
                return self._started + self._spread(
                    assumption_id, min(interval, FIRST_WITHIN / JITTER), 0
                )
            # A person is given the time.
            return self._started + interval + self._spread(assumption_id, interval, 0)
        step = interval * back_off(seen.unknown)
        return seen.last + step + self._spread(assumption_id, interval, seen.count)

    def due(self, now: datetime) -> tuple[str, ...]:
        """The timed assumptions that are to be checked at `now`, the longest overdue first."""
        moment = utc(now, "now")
        found = []
        for place, assumption_id in enumerate(self._intervals):
            at = self.next(assumption_id)
            if at is None or at <= moment:
                found.append((at or moment, place, assumption_id))
        return tuple(assumption_id for _, _, assumption_id in sorted(found))

    def first_after(self, now: datetime) -> datetime | None:
        """When the next check is due after `now`; None where none is to come."""
        moments = (self.next(a) for a in self._intervals)
        return min((m for m in moments if m is not None and m > now), default=None)

    @staticmethod
    def _spread(assumption_id: str, interval: timedelta, count: int) -> timedelta:
        """A part of the jitter that is the assumption's own, and another one each time.

        No chance is drawn, so that whoever asks gets the same answer.
        """
        share = zlib.crc32(f"{assumption_id}|{count}".encode()) / 2**32
        return interval * (JITTER * share)


def back_off(unknown: int) -> int:
    """How many times the interval is waited after so many checks in a row that were not made."""
    if unknown < BACK_OFF_AFTER:
        return 1
    doublings: int = unknown - BACK_OFF_AFTER + 1
    return BACK_OFF_MOST if doublings > 4 else min(1 << doublings, BACK_OFF_MOST)


def _seen(checks: Sequence[CheckEvent]) -> _Seen:
    if not checks:
        return _Seen()
    last = max(check.at for check in checks)
    return _Seen(last=last, count=len(checks), unknown=len(unknown_in_a_row(checks)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """A milestone of the run that has been reached."""

    assumption_id: str
    milestone: Milestone
    at: datetime
    key: str
    """Its name, and the id of its check: ``at:start``, ``after:TASK``, from the second time that
    the task has ended on with a count."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Milestones:
    """The milestones of a plan that its run has reached and that were not checked yet."""

    plan: Plan
    of_task: Mapping[str, tuple[tuple[str, Milestone], ...]] = field(default_factory=dict)

    @classmethod
    def of(cls, plan: Plan) -> Milestones:
        """Those of `plan`."""
        found: dict[str, list[tuple[str, Milestone]]] = {}
        for assumption in plan.assumptions:
            for milestone in assumption.milestones:
                task = milestone.before or milestone.after or ""
                found.setdefault(task, []).append((assumption.id, milestone))
        return cls(plan=plan, of_task={k: tuple(v) for k, v in found.items()})

    def __bool__(self) -> bool:
        return bool(self.of_task)

    def before(self, task_id: str) -> tuple[str, ...]:
        """The assumptions that are to be checked when this task is about to start."""
        return tuple(a for a, m in self.of_task.get(task_id, ()) if m.before is not None)

    def reached(self, state: ExecutionState, done: Mapping[str, frozenset[str]]) -> list[Moment]:
        """What is to be checked now: the start, and the ends of tasks, not yet in `done`.

        A milestone is checked once each time it is reached: a task that ran again
        after it was invalidated ends again. `before` a task is the dispatcher's to say.
        """
        found: list[Moment] = []
        if state.started is not None:
            found += self._new("", None, START, state.started, done)
        for task_id in self.of_task:
            if not task_id or not _ended(state, task_id):
                continue
            at = _end_of(state, task_id) or state.now or state.started
            if at is not None:
                round_ = 1 + len(state.task(task_id).invalidated)
                key = f"after:{task_id}" + (f":{round_}" if round_ > 1 else "")
                found += self._new(task_id, True, key, at, done)
        return found

    def _new(
        self,
        task: str,
        after: bool | None,
        key: str,
        at: datetime,
        done: Mapping[str, frozenset[str]],
    ) -> Iterator[Moment]:
        for assumption_id, milestone in self.of_task.get(task, ()):
            if after and milestone.after is None:
                continue
            if key not in done.get(assumption_id, frozenset()):
                yield Moment(assumption_id=assumption_id, milestone=milestone, at=at, key=key)


def _ended(state: ExecutionState, task_id: str) -> bool:
    return state.status(task_id).final and state.status(task_id) is not Status.SKIPPED


def _end_of(state: ExecutionState, task_id: str) -> datetime | None:
    own = [state.task(task_id), *state.items(task_id).values()]
    return max((a.ended for t in own for a in t.attempts if a.ended), default=None)

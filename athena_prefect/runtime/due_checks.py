"""Which timed checks a run has to make now: by the clock, and where a violation holds work back.

What the plan's schedules check is theirs after the first time; where they do not, it is seen here.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from athena_prefect.assumptions.schedule import ScheduledChecks
from athena_prefect.journal.state import ExecutionState
from athena_prefect.monitor.effects import violations_in_force
from athena_prefect.plan.model import Plan
from athena_prefect.runtime.questions import asks_a_person

SCHEDULE_GRACE = timedelta(seconds=60)
"""How late a scheduled check may be beside a whole frequency: a worker polls, and starts Python."""
AGAIN_SECONDS = 30.0
"""How often a violated assumption without a frequency is checked again while it holds a task
back: else it would never be let go."""


class DueChecks:
    """What is due of one run; `look` before anything else is asked."""

    def __init__(self, plan: Plan, elsewhere: frozenset[str]) -> None:
        """`elsewhere`: the assumptions that schedules check by the clock, after the first time."""
        self._plan = plan
        self._elsewhere = elsewhere
        self._schedule: ScheduledChecks | None = None

    def look(self, state: ExecutionState, now: datetime) -> tuple[str, ...]:
        """The assumptions to be checked now, of a run that has started."""
        assert state.started is not None
        self._schedule = ScheduledChecks(
            self._plan, started=state.started, checks=state.checks, before=self._schedule
        )
        return (*self._schedule.due(now), *self._in_the_way(state, self._schedule, now))

    def first_after(self, now: datetime) -> datetime | None:
        """When the next one is due."""
        return None if self._schedule is None else self._schedule.first_after(now)

    def is_elsewhere(self, state: ExecutionState, name: str) -> bool:
        """Whether the next check of an assumption is a schedule's."""
        return name in self._elsewhere and name in state.checks

    def missed(self, state: ExecutionState, name: str, now: datetime) -> str | None:
        """Why what its schedule should have checked is unknown; None where that is in time."""
        assert self._schedule is not None
        due = self._schedule.next(name)
        if due is None or now - due <= self._schedule[name] + SCHEDULE_GRACE:
            return None
        newest = max(c.at for c in state.checks[name])
        return f"its schedule has made no check since {newest:%Y-%m-%d %H:%M:%S} UTC"

    def never_made(self, state: ExecutionState, now: datetime) -> tuple[str, ...]:
        """Those that are due by the clock and were not checked once in this run."""
        assert state.started is not None
        schedule = ScheduledChecks(self._plan, started=state.started, checks=state.checks)
        return tuple(n for n in schedule.due(now) if n not in state.checks)

    def _in_the_way(
        self, state: ExecutionState, schedule: ScheduledChecks, now: datetime
    ) -> list[str]:
        """What keeps tasks from starting and would not be checked again by itself."""
        found = []
        for name in violations_in_force(self._plan, state):
            assumption = self._plan.get_assumption(name)
            effect = assumption.effect
            if effect is None or not (effect.block or effect.capacity):
                continue
            if name in schedule or asks_a_person(assumption):
                continue
            newest = max(c.at for c in state.checks[name])
            if now - newest >= timedelta(seconds=AGAIN_SECONDS):
                found.append(name)
        return found

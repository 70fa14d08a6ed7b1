"""What a monitor is told about the run it watches: which one, since when, what time it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol, runtime_checkable
from uuid import UUID

from athena_prefect.journal.events import utc
from athena_prefect.journal.journal import Journal
from athena_prefect.monitor.history import History


@runtime_checkable
class Remembering(Protocol):
    """A journal that also knows what earlier runs took."""

    def finished_runs(self, plan_run: UUID) -> History:
        """What had finished when a plan run began: of its plan, and of others beside it."""
        ...


Clock = Callable[[], datetime]
"""Gives the present, with a time zone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionContext:
    """One plan run, as its monitor needs to know it.

    The monitor itself reads no clock: `clock` is the only present that it knows.
    """

    plan_run: UUID
    clock: Clock
    started_at: datetime
    journal: Journal

    def __post_init__(self) -> None:
        object.__setattr__(self, "started_at", utc(self.started_at, "started_at"))

    def now(self) -> datetime:
        """The present in UTC. Raises NaiveDatetimeError."""
        return utc(self.clock(), "clock()")


class VirtualClock:
    """A clock that stands still until it is moved; for tests and for runs in virtual time."""

    def __init__(self, start: datetime) -> None:
        self._now = utc(start, "start")

    def __call__(self) -> datetime:
        return self._now

    def now(self, tz: object = UTC) -> datetime:
        """The present, under the name that `datetime` gives it."""
        return self._now

    def advance(self, by: timedelta) -> datetime:
        """Move on by `by`, which is not negative; the new present."""
        if by < timedelta(0):
            raise ValueError(f"time does not run backwards: {by}")
        self._now += by
        return self._now

    def move_to(self, moment: datetime) -> datetime:
        """Move on to `moment`, which is not in the past; the new present."""
        return self.advance(utc(moment, "moment") - self._now)

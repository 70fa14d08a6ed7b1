"""Where events are kept: a small port, and its twin in memory.

Writing is idempotent by an event's key. Reading gives events in the order in
which they were accepted, which is the order that decides every race.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol
from uuid import UUID

from athena_prefect.errors import LeaseLostError
from athena_prefect.journal.events import Event


class Recorded(StrEnum):
    """What became of a write."""

    STORED = "stored"
    KNOWN = "known"
    """The same fact was there: nothing changed."""
    CONFLICT = "conflict"
    """The same key said something else: both are kept."""
    SPOOLED = "spooled"
    """The database could not be reached; durable in the spool, to be drained in order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """An event at its place in the journal of its plan run; `position` counts from 1."""

    position: int
    event: Event
    conflict: bool = False


class Journal(Protocol):
    """An append-only, idempotent record of plan runs."""

    def append(self, *events: Event, token: int | None = None) -> tuple[Recorded, ...]:
        """Write `events` (of one plan run) in order, all or none; durable on return.

        With a fencing `token` nothing is written unless it is the newest of the
        plan run: LeaseLostError. Raises StorageUnavailableError.
        """
        ...

    def read(self, plan_run: UUID, after: int = 0) -> Sequence[Entry]:
        """The entries of a plan run behind position `after`, in order."""
        ...


class MemoryJournal:
    """A journal in this process's memory, for tests and for plans outside Prefect."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entries: dict[UUID, list[Entry]] = {}
        self._contents: dict[tuple[UUID, str], set[tuple[object, ...]]] = {}
        self._tokens: dict[UUID, int] = {}

    def fence(self, plan_run: UUID, token: int) -> None:
        """Make `token` the newest of the plan run."""
        with self._lock:
            self._tokens[plan_run] = token

    def append(self, *events: Event, token: int | None = None) -> tuple[Recorded, ...]:
        """Write `events` in order, all or none. Raises LeaseLostError."""
        with self._lock:
            for event in events:
                newest = self._tokens.get(event.plan_run)
                if token is not None and newest is not None and token != newest:
                    raise LeaseLostError(
                        f"plan run {event.plan_run}: another dispatcher has taken over",
                        plan_run=event.plan_run,
                        token=token,
                    )
            return tuple(self._append(event) for event in events)

    def _append(self, event: Event) -> Recorded:
        known = self._contents.setdefault((event.plan_run, event.key), set())
        if event.content in known:
            return Recorded.KNOWN
        conflict = bool(known)
        known.add(event.content)
        entries = self._entries.setdefault(event.plan_run, [])
        entries.append(Entry(position=len(entries) + 1, event=event, conflict=conflict))
        return Recorded.CONFLICT if conflict else Recorded.STORED

    def read(self, plan_run: UUID, after: int = 0) -> Sequence[Entry]:
        """The entries of a plan run behind position `after`, in order."""
        with self._lock:
            return tuple(self._entries.get(plan_run, ())[after:])

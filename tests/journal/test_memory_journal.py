"""The journal in memory: append-only, idempotent, fenced."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

import pytest

from athena_prefect.errors import LeaseLostError
from athena_prefect.journal.events import RunEvent, RunEventKind
from athena_prefect.journal.journal import MemoryJournal, Recorded


def event(run: int = 1, source: str = "") -> RunEvent:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    return RunEvent(plan_run=UUID(int=run), kind=RunEventKind.PAUSED, at=at, source=source)


def test_entries_are_read_in_the_order_of_writing() -> None:
    journal = MemoryJournal()
    journal.append(event(source="b"), event(source="a"))
    journal.append(event(source="b"))
    entries = journal.read(UUID(int=1))
    assert [(e.position, e.event.key) for e in entries] == [
        (1, event(source="b").key),
        (2, event(source="a").key),
    ]
    assert [e.position for e in journal.read(UUID(int=1), after=1)] == [2]


def test_plan_runs_are_apart() -> None:
    journal = MemoryJournal()
    assert journal.append(event(1), event(2)) == (Recorded.STORED, Recorded.STORED)
    assert len(journal.read(UUID(int=1))) == len(journal.read(UUID(int=2))) == 1
    assert journal.read(UUID(int=3)) == ()


def test_an_older_token_writes_nothing() -> None:
    journal = MemoryJournal()
    journal.append(event(source="a"), token=1)
    journal.fence(UUID(int=1), 2)
    with pytest.raises(LeaseLostError, match="another dispatcher"):
        journal.append(event(source="b"), token=1)
    journal.append(event(source="c"), token=2)
    journal.append(event(source="d"))
    assert [e.event.key for e in journal.read(UUID(int=1))] == [event(source=s).key for s in "acd"]

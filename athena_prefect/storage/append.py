"""What an append is, and what the two databases' ways to write it have in common."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from athena_prefect.errors import LeaseLostError
from athena_prefect.journal.journal import Recorded
from athena_prefect.storage.rows import EventRecord

Outcome = tuple[Recorded, ...] | LeaseLostError
"""What became of an append: of each of its events, or why nothing was written."""


@dataclass(frozen=True, slots=True)
class Append:
    """Events of one plan run that are written together or not at all."""

    plan_run: UUID
    records: tuple[EventRecord, ...]
    token: int | None


@dataclass(slots=True)
class Head:
    """Where a plan run's journal ends, and its newest fencing token, while we hold its lock."""

    token: int
    position: int

    def fences_off(self, append: Append) -> LeaseLostError | None:
        """The error of an append whose token is not the newest."""
        if append.token is None or append.token == self.token:
            return None
        return LeaseLostError(
            f"plan run {append.plan_run}: fencing token {append.token} is not the newest "
            f"({self.token}); another dispatcher has taken over",
            plan_run=append.plan_run,
            token=append.token,
            newest=self.token,
        )


class Appender(Protocol):
    """Writes appends in one transaction on its own connection; one thread at a time uses it."""

    fresh: bool
    """Whether nothing was written through the present connection yet."""

    def write(self, appends: Sequence[Append]) -> list[Outcome]:
        """Write them in order. Raises the driver's errors; then none of them counts as written."""
        ...

    def discard(self) -> None:
        """Drop the connection; the next write opens another."""
        ...

"""What a task's own code may say and ask while it runs.

Nothing here imports Prefect, and all of it also works outside a plan run:
`report_usage` is then forgotten and `idempotency_token` is a fresh one.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar
from uuid import UUID, uuid4, uuid5

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Partial(Generic[T]):
    """Return this from a task that reached only part of its work.

    `value` is what downstream tasks get; `share` is how much of the work it
    is, between 0 and 1, where known. The outcome is recorded as partial.
    """

    value: T
    share: float | None = None

    def __post_init__(self) -> None:
        if self.share is not None and not 0 <= self.share <= 1:
            raise ValueError(f"share is {self.share!r}; it lies between 0 and 1")


@dataclass(slots=True)
class AttemptContext:
    """The attempt whose body runs in this context."""

    plan_run: UUID
    task_id: str
    map_index: int | None
    input_revision: int
    usage: dict[str, float] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)


_CURRENT: ContextVar[AttemptContext | None] = ContextVar("athena_attempt", default=None)


@contextmanager
def attempt_context(attempt: AttemptContext) -> Iterator[AttemptContext]:
    """Make `attempt` the current one for the body that runs inside."""
    token = _CURRENT.set(attempt)
    try:
        yield attempt
    finally:
        _CURRENT.reset(token)


def report_usage(amounts: Mapping[str, float] | None = None, /, **more: float) -> None:
    """Report how much of each resource this attempt uses, in the resource's own unit.

    Called again, the larger amount counts (a peak). What is never reported is
    recorded as unknown, not as the planned amount. Raises ValueError for an
    amount that is no finite, non-negative number.
    """
    given = {**(amounts or {}), **more}
    for name, amount in given.items():
        if not 0 <= float(amount) < float("inf"):
            raise ValueError(f"usage of {name!r} is {amount!r}; it is a finite number, 0 or more")
    current = _CURRENT.get()
    if current is None:
        return
    with current.lock:
        for name, amount in given.items():
            current.usage[name] = max(float(amount), current.usage.get(name, 0.0))


def idempotency_token() -> str:
    """A key that is the same in every attempt of this task (and item) on the same inputs.

    Give it to systems that deduplicate by a key, so that an attempt that was
    cut off and made again takes effect once.
    """
    current = _CURRENT.get()
    if current is None:
        return str(uuid4())
    return token_of(current.plan_run, current.task_id, current.map_index, current.input_revision)


def token_of(plan_run: UUID, task_id: str, map_index: int | None, input_revision: int) -> str:
    """The token of a task (and item) of a plan run at an input revision."""
    item = "" if map_index is None else str(map_index)
    return str(uuid5(plan_run, f"{task_id}|{item}|{input_revision}"))


def current_usage() -> dict[str, Any]:
    """What the current attempt has reported so far."""
    current = _CURRENT.get()
    if current is None:
        return {}
    with current.lock:
        return dict(current.usage)

"""What is scheduled gets the time that it takes, and the time that it may take."""

from __future__ import annotations

from collections.abc import Iterator
from math import ulp

from athena_prefect.plan.model import DEFAULT_MODE
from athena_prefect.schedule.verification.claim import MARGIN
from athena_prefect.schedule.verification.findings import (
    Flaw,
    Objection,
    against,
    name_of,
    seconds,
)
from athena_prefect.schedule.verification.reading import Reading


def durations(reading: Reading) -> Iterator[Objection]:
    """Everything gets as long as it takes in its mode."""
    for item, (start, finish) in reading.free.items():
        task = reading.tasks.get(item[0])
        done_in = reading.done_in.get(item[0])
        if task is None or done_in is None:
            continue
        default = done_in.name == DEFAULT_MODE
        known = reading.claim.estimates.get(task.id) if default else None
        estimate = known or done_in.estimate
        if estimate is None:
            yield against(Flaw.DURATION, f"no duration is known of {task.id}", task.id)
            continue
        low, likely, high = (
            d.total_seconds() for d in (estimate.optimistic, estimate.likely, estimate.pessimistic)
        )
        lasts = (low + 4 * likely + high) / 6 * reading.claim.factors.get(task.id, 1.0)
        # Three durations of whole microseconds times a factor, and a difference of two floats.
        if abs(finish - start - lasts) > 2 * MARGIN + 4 * ulp(finish):
            yield against(
                Flaw.DURATION,
                f"{name_of(item)} is given {seconds(finish - start)}, but takes {seconds(lasts)}",
                task.id,
            )


def timeouts(reading: Reading) -> Iterator[Objection]:
    """A time-out that the revision gives has to hold what is planned under it."""
    given = {t.id: t.timeout for t in reading.claim.original.tasks}
    for name, task in reading.tasks.items():
        if task.timeout is None or name in reading.began or task.timeout == given.get(name):
            continue
        spans = (reading.free[i] for i in reading.items_of.get(name, ()) if i in reading.free)
        longest = max((f - s for s, f in spans), default=0.0)
        if longest > task.timeout.total_seconds() + MARGIN:
            yield against(
                Flaw.TIME_OUT,
                f"{name} is planned to take {seconds(longest)}, but may take "
                f"{seconds(task.timeout.total_seconds())}",
                name,
            )

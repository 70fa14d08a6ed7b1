"""Every piece of work has its place in the schedule, once, and none in the past."""

from __future__ import annotations

from collections.abc import Iterator
from math import isfinite

from athena_prefect.plan.model import PlanTask
from athena_prefect.schedule.verification.claim import MARGIN, Item
from athena_prefect.schedule.verification.findings import (
    Flaw,
    Objection,
    against,
    name_of,
    seconds,
)
from athena_prefect.schedule.verification.reading import Reading


def unplanned(reading: Reading) -> Iterator[Objection]:
    """What is to run is scheduled, and nothing else is."""
    out = set(reading.claim.left_out)
    for name, task in reading.tasks.items():
        if name not in out:
            yield from _of(reading, task)
    for name, items in reading.items_of.items():
        if name not in reading.tasks:
            yield against(Flaw.UNPLANNED, f"{name} is scheduled, but no task", name)
        elif name in out and any(i in reading.free for i in items):
            yield against(Flaw.UNPLANNED, f"{name} is scheduled, but will not run", name)


def _of(reading: Reading, task: PlanTask) -> Iterator[Objection]:
    """What is missing of a task, and what there is too much of it."""
    claim, name = reading.claim, task.id
    given, whole = set(reading.items_of.get(name, ())), (name, None)
    wanted: set[Item] = {whole}
    # A mapped task that is over may be told of as one; what is to run of it are its items.
    if task.map_over is not None and not (whole in given and whole in claim.begun):
        wanted = {(name, k) for k in range(claim.items.get(name, task.expected_items))}
    for item in sorted(wanted - given, key=str):
        yield against(Flaw.UNPLANNED, f"{name_of(item)} has no place in the schedule", name)
    for item in sorted(given - wanted - claim.begun.keys(), key=str):
        has = f"has {len(wanted)} items" if task.map_over is not None else "is not mapped"
        if item == whole or whole in wanted:
            has = "is scheduled item by item" if item == whole else "is scheduled as a whole"
        yield against(Flaw.UNPLANNED, f"{name_of(item)} is scheduled, but {name} {has}", name)


def past(reading: Reading) -> Iterator[Objection]:
    """Every time is a number, and nothing starts before now."""
    now = reading.claim.now
    for item, (start, finish) in reading.claim.spans.items():
        if not (isfinite(start) and isfinite(finish)):
            yield against(
                Flaw.PAST, f"{name_of(item)} is to run from {start} to {finish} s", item[0]
            )
        elif start < now - MARGIN and item in reading.free:
            yield against(
                Flaw.PAST,
                f"{name_of(item)} is to start at {seconds(start)}, but it is "
                f"{seconds(now)} already",
                item[0],
            )

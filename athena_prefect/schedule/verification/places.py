"""Every piece of work has its place in the schedule, once, and none in the past."""

from __future__ import annotations

from collections.abc import Iterator

from athena_prefect.schedule.verification.claim import MARGIN, Item
from athena_prefect.schedule.verification.findings import Flaw, Objection, against, name_of
from athena_prefect.schedule.verification.reading import Reading


def unplanned(reading: Reading) -> Iterator[Objection]:
    """What is to run is scheduled, and nothing else is."""
    claim = reading.claim
    out = set(claim.left_out)
    for name, task in reading.tasks.items():
        given = reading.items_of.get(name, ())
        if name in out or (name, None) in given:
            continue
        if task.map_over is None:
            yield against(Flaw.UNPLANNED, f"{name} has no place in the schedule", name)
            continue
        wanted: set[Item] = {(name, k) for k in range(claim.items.get(name, task.expected_items))}
        for item in sorted(wanted.difference(given)):
            yield against(Flaw.UNPLANNED, f"{name_of(item)} has no place in the schedule", name)
        for item in sorted(set(given) - wanted - claim.begun.keys()):
            yield against(
                Flaw.UNPLANNED,
                f"{name_of(item)} is scheduled, but {name} has {len(wanted)} items",
                name,
            )
    for name in reading.items_of:
        if name not in reading.tasks:
            yield against(Flaw.UNPLANNED, f"{name} is scheduled, but no task", name)


def past(reading: Reading) -> Iterator[Objection]:
    """Nothing starts before now."""
    for item, (start, _) in reading.free.items():
        if not start >= reading.claim.now - MARGIN:
            yield against(
                Flaw.PAST,
                f"{name_of(item)} is to start at {start:g} s, but it is "
                f"{reading.claim.now:g} s already",
                item[0],
            )

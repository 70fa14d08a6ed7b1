"""What waits starts after what it waits for, and after the lag between them."""

from __future__ import annotations

from collections.abc import Iterator

from athena_prefect.schedule.verification.claim import MARGIN
from athena_prefect.schedule.verification.findings import (
    Flaw,
    Objection,
    against,
    name_of,
    seconds,
)
from athena_prefect.schedule.verification.reading import Reading


def precedence(reading: Reading) -> Iterator[Objection]:
    """What is still to begin starts after the end of what it waits for."""
    spans = reading.claim.spans
    ends = {name: max(spans[i][1] for i in items) for name, items in reading.items_of.items()}
    for item, (start, _) in reading.free.items():
        task = reading.tasks.get(item[0])
        for name, lag in reading.waits(task) if task is not None else ():
            end = ends.get(name)
            if end is not None and start < end + lag - MARGIN:
                later = f" and a lag of {seconds(lag)}" if lag else ""
                yield against(
                    Flaw.PRECEDENCE,
                    f"{name_of(item)} starts at {seconds(start)}, but waits for {name}, "
                    f"which ends at {seconds(end)}{later}",
                    name,
                    item[0],
                )


def handed_on(reading: Reading) -> Iterator[Objection]:
    """What gets its units from other work starts after the end of that.

    A run keeps to this order, whatever the durations turn out to be: a schedule that
    does not is one that it would not keep to.
    """
    spans = reading.claim.spans
    for earlier, later in reading.claim.arcs:
        if later not in reading.free or earlier not in spans:
            continue
        start, end = spans[later][0], spans[earlier][1]
        if start < end - MARGIN:
            yield against(
                Flaw.PRECEDENCE,
                f"{name_of(later)} starts at {seconds(start)}, but gets its units from "
                f"{name_of(earlier)}, which ends at {seconds(end)}",
                earlier[0],
                later[0],
            )

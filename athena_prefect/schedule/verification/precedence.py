"""What waits starts after what it waits for, and after the lag between them."""

from __future__ import annotations

from collections.abc import Iterator

from athena_prefect.schedule.verification.claim import MARGIN
from athena_prefect.schedule.verification.findings import Flaw, Objection, against, name_of
from athena_prefect.schedule.verification.reading import Reading


def precedence(reading: Reading) -> Iterator[Objection]:
    """Starts before the end of what is waited for."""
    spans = reading.claim.spans
    ends = {name: max(spans[i][1] for i in items) for name, items in reading.items_of.items()}
    for item, (start, _) in reading.free.items():
        task = reading.tasks.get(item[0])
        for name, lag in reading.waits(task) if task is not None else ():
            end = ends.get(name)
            if end is not None and start < end + lag - MARGIN:
                later = f" and a lag of {lag:g} s" if lag else ""
                yield against(
                    Flaw.PRECEDENCE,
                    f"{name_of(item)} starts at {start:g} s, but waits for {name}, "
                    f"which ends at {end:g} s{later}",
                    name,
                    item[0],
                )

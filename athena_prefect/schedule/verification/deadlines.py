"""What ends after a deadline, and the chain that makes it so."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from athena_prefect.schedule.verification.claim import MARGIN, Item
from athena_prefect.schedule.verification.findings import Flaw, Objection, against, listed
from athena_prefect.schedule.verification.reading import Reading


def late(reading: Reading) -> Objection | None:
    """The chain that ends after the deadline of the run; None where it holds."""
    deadline = reading.claim.deadline
    if deadline is None or not reading.claim.spans:
        return None
    last, (_, finish) = max(reading.claim.spans.items(), key=lambda pair: pair[1][1])
    if finish <= deadline + MARGIN:
        return None
    chain = _chain(reading, last)
    return against(
        Flaw.DEADLINE,
        f"{listed(chain)} end at {finish:g} s, {finish - deadline:g} s after the deadline",
        *chain,
    )


def overdue(reading: Reading) -> Iterator[Objection]:
    """Tasks that end after their own deadlines."""
    for name, task in reading.tasks.items():
        items = reading.items_of.get(name)
        if task.deadline is None or not items or name in reading.over:
            continue
        end = max(reading.claim.spans[i][1] for i in items)
        limit = task.deadline.total_seconds()
        if end > limit + MARGIN:
            yield against(
                Flaw.DEADLINE,
                f"{name} ends at {end:g} s, {end - limit:g} s after its own deadline",
                name,
            )


def _chain(reading: Reading, last: Item) -> tuple[str, ...]:
    """What the last finish waits for, back to the first that waits for nothing."""
    chain, item = {last[0]: None}, last
    arcs: dict[Item, list[Item]] = defaultdict(list)
    for earlier, later in reading.claim.arcs:
        arcs[later].append(earlier)
    while item in reading.claim.spans and item not in reading.claim.begun:
        start = reading.claim.spans[item][0]
        task = reading.tasks.get(item[0])
        waited = [
            (i, lag)
            for name, lag in (reading.waits(task) if task is not None else ())
            for i in reading.items_of.get(name, ())
        ] + [(i, 0.0) for i in arcs[item]]
        binding = [
            i
            for i, lag in waited
            if i in reading.claim.spans
            and reading.claim.spans[i][1] + lag >= start - MARGIN
            and i[0] not in chain
        ]
        if not binding:
            break
        item = binding[0]
        chain[item[0]] = None
    return tuple(reversed(chain))

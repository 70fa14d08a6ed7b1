"""No more of a resource is taken at any moment than there is."""

from __future__ import annotations

from collections.abc import Iterator

from athena_prefect.schedule.verification.claim import MARGIN, RUNNER, SHARE, Item, Span
from athena_prefect.schedule.verification.findings import (
    Flaw,
    Objection,
    against,
    listed,
    seconds,
    units,
)
from athena_prefect.schedule.verification.reading import Reading


def capacity(reading: Reading) -> Iterator[Objection]:
    """Of every resource, and of the workers, of which a revision cannot make more."""
    have = {n: r.capacity for n, r in reading.plan.resources.items()}
    workers = min(p.runner.max_workers for p in (reading.plan, reading.claim.original))
    have |= {**reading.claim.capacities, RUNNER: float(workers)}
    for resource, there in have.items():
        yield from _over(reading, resource, there)


def _over(reading: Reading, resource: str, there: float) -> Iterator[Objection]:
    """The first moment of each stretch in which what starts finds less than it takes."""
    taken = list(_amounts(reading, resource))
    if sum(amount for _, _, amount in taken) <= there:
        return  # what suffices for all at once binds nobody
    # Half-open, a little shorter: one may start when another ends.
    changes: list[tuple[float, int, int]] = []
    for k, (_, (start, finish), _) in enumerate(taken):
        margin = min(MARGIN, (finish - start) / 4)
        changes.append((start + margin, 1, k))
        changes.append((finish - margin, 0, k))
    changes.sort()
    most = there + SHARE * max(1.0, there)
    use, free, told = 0.0, 0, False
    running = dict[Item, None]()
    for _, begins, k in changes:
        item, (start, _), amount = taken[k]
        if not begins:
            running.pop(item, None)
            free -= item in reading.free
            # Sums of floats that should be 0 are not quite.
            use = use - amount if running else 0.0
            told &= use > most
            continue
        use += amount
        running[item] = None
        free += item in reading.free
        # What has begun holds what it holds; whoever starts has to find enough.
        if use > most and free and not told:
            told = True
            yield _said(resource, there, start, use, running)


def _said(
    resource: str, there: float, at: float, use: float, running: dict[Item, None]
) -> Objection:
    who = tuple(dict.fromkeys(i[0] for i in running))
    what = "workers" if resource == RUNNER else f"of {resource}"
    is_there = "are" if resource == RUNNER and there != 1 else "is"
    return against(
        Flaw.CAPACITY,
        f"at {seconds(at)} {listed(who)} take {units(use)} {what}, "
        f"of which there {is_there} {units(there)}",
        *who,
    )


def _amounts(reading: Reading, resource: str) -> Iterator[tuple[Item, Span, float]]:
    """(work, when, units) of all that takes from a resource."""
    for item, span in reading.claim.spans.items():
        if item[0] not in reading.done_in or not span[1] > span[0]:
            continue
        amount = 1.0 if resource == RUNNER else reading.takes(item[0]).get(resource, 0.0)
        if amount:
            yield item, span, amount

"""No more of a resource is taken at any moment than there is."""

from __future__ import annotations

from collections.abc import Iterator

from athena_prefect.schedule.verification.claim import MARGIN, RUNNER, Item, Span
from athena_prefect.schedule.verification.findings import Flaw, Objection, against, listed
from athena_prefect.schedule.verification.reading import Reading


def capacity(reading: Reading) -> Iterator[Objection]:
    """Of every resource, and of the workers."""
    have = {n: r.capacity for n, r in reading.plan.resources.items()}
    have |= {**reading.claim.capacities, RUNNER: float(reading.plan.runner.max_workers)}
    for resource, capacity in have.items():
        yield from _over(reading, resource, capacity)


def _over(reading: Reading, resource: str, capacity: float) -> Iterator[Objection]:
    """Moments at which what starts finds less than it takes."""
    taken = list(_amounts(reading, resource))
    if sum(amount for _, _, amount in taken) <= capacity:
        return  # what suffices for all at once binds nobody
    changes: list[tuple[float, int, int]] = []
    for k, (_, (start, finish), _) in enumerate(taken):
        margin = min(MARGIN, (finish - start) / 4)
        changes.append((start + margin, 1, k))
        changes.append((finish - margin, 0, k))
    changes.sort()
    use, running = 0.0, dict[Item, None]()
    for at, begins, k in changes:
        item, _, amount = taken[k]
        if not begins:
            use -= amount
            running.pop(item, None)
            continue
        use += amount
        running[item] = None
        # What has begun holds what it holds; whoever starts has to find enough.
        over = use > capacity + MARGIN * max(1.0, capacity)
        if over and any(i in reading.free for i in running):
            who = tuple(dict.fromkeys(i[0] for i in running))
            yield against(
                Flaw.CAPACITY,
                f"at {at:.6g} s {listed(who)} take {use:g} of {resource}, "
                f"of which there is {capacity:g}",
                *who,
            )


def _amounts(reading: Reading, resource: str) -> Iterator[tuple[Item, Span, float]]:
    """(work, when, units) of all that takes from a resource."""
    for item, span in reading.claim.spans.items():
        known = reading.done_in.get(item[0])
        if known is None or span[1] <= span[0]:
            continue
        used = known.resources
        amount = 1.0 if resource == RUNNER else used.get(resource, 0.0)
        if amount:
            yield item, span, amount

"""The network of a plan as arrays: topological order, levels, ancestors, a cycle's witness."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def find_cycle(ids: Sequence[str], arcs: Iterable[tuple[str, str]]) -> tuple[str, ...] | None:
    """A cycle of the arcs (from, to), each node before the one that waits for it; None without one.

    It starts and ends with the same id. Linear in ids and arcs. An arc to or from
    what is not among `ids` closes no cycle and is left out.
    """
    known = set(ids)
    before: dict[str, list[str]] = {name: [] for name in ids}
    behind: dict[str, list[str]] = {name: [] for name in ids}
    for tail, head in arcs:
        if tail in known and head in known:
            before[head].append(tail)
            behind[tail].append(head)
    waits = {name: len(tails) for name, tails in before.items()}
    ready = [name for name, count in waits.items() if not count]
    while ready:
        for head in behind[ready.pop()]:
            waits[head] -= 1
            if not waits[head]:
                ready.append(head)
    # What still waits has a predecessor that still waits: walking back must come round.
    here = next((name for name, count in waits.items() if count), None)
    if here is None:
        return None
    seen: dict[str, int] = {}
    walk: list[str] = []
    while here not in seen:
        seen[here] = len(walk)
        walk.append(here)
        here = next(tail for tail in before[here] if waits[tail])
    return tuple(reversed([*walk[seen[here] :], here]))

"""What a revision is made of holds together: references, circles, deadlocks."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import TypeVar

from athena_prefect.schedule.verification.claim import Item
from athena_prefect.schedule.verification.findings import Flaw, Objection, against, name_of
from athena_prefect.schedule.verification.reading import Reading

T = TypeVar("T", bound=Hashable)


def references(reading: Reading) -> Iterator[Objection]:
    """Everything that is waited for is a task."""
    for task in reading.tasks.values():
        for name, _ in reading.waits(task):
            if name not in reading.tasks:
                yield against(
                    Flaw.REFERENCE, f"{task.id} waits for {name}, which is no task", task.id
                )


def cycles(reading: Reading) -> Iterator[Objection]:
    """No tasks of the plan wait for each other."""
    before = {t.id: [n for n, _ in reading.waits(t)] for t in reading.tasks.values()}
    circle = circle_of(before)
    if circle:
        words = " waits for ".join(circle)
        yield against(Flaw.CYCLE, f"a circle: {words}", *circle[:-1])


def deadlock(reading: Reading) -> Iterator[Objection]:
    """No work waits for each other by the plan and the order of the resources together."""
    before: dict[Item, list[Item]] = {item: [] for item in reading.claim.spans}
    for item in before:
        task = reading.tasks.get(item[0])
        for name, _ in reading.waits(task) if task is not None else ():
            before[item] += reading.items_of.get(name, ())
    for earlier, later in reading.claim.arcs:
        before.setdefault(later, []).append(earlier)
    for item in reading.claim.begun:
        before[item] = []  # what has begun waits for nothing
    circle = circle_of(before)
    if circle:
        names = tuple(name_of(i) for i in circle)
        yield against(
            Flaw.DEADLOCK, f"a deadlock: {' waits for '.join(names)}", *(i[0] for i in circle)
        )


def circle_of(before: Mapping[T, Sequence[T]]) -> tuple[T, ...]:
    """Some nodes that wait for each other, the first again at the end; empty where none do."""
    done: set[T] = set()
    for root in before:
        path: list[T] = []
        on_path: set[T] = set()
        stack: list[tuple[T, Iterator[T]]] = []
        if root not in done:
            stack.append((root, iter(before[root])))
            path.append(root)
            on_path.add(root)
        while stack:
            node, rest = stack[-1]
            following = next(rest, None)
            if following is None:
                stack.pop()
                done.add(node)
                on_path.discard(path.pop())
            elif following in on_path:
                return (*path[path.index(following) :], following)
            elif following not in done and following in before:
                stack.append((following, iter(before[following])))
                path.append(following)
                on_path.add(following)
    return ()

"""What a revision is made of holds together: references, circles, deadlocks."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import TypeVar

from athena_prefect.schedule.verification.claim import Item
from athena_prefect.schedule.verification.findings import Flaw, Objection, against, name_of
from athena_prefect.schedule.verification.reading import Reading

T = TypeVar("T", bound=Hashable)


def references(reading: Reading) -> Iterator[Objection]:
    """Everything that is waited for is a task, everything that is taken a resource."""
    for task in reading.tasks.values():
        for resource in reading.takes(task.id).keys() - reading.plan.resources.keys():
            yield against(
                Flaw.REFERENCE, f"{task.id} takes {resource}, which is no resource", task.id
            )
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
    spans, begun = reading.claim.spans, reading.claim.begun
    # A task's name stands for the last of its items: who waits for it has one arc to it.
    before: dict[Item | str, list[Item | str]] = {}
    for name, items in reading.items_of.items():
        before[name] = [*items]
        task = reading.tasks.get(name)
        waits = [n for n, _ in reading.waits(task)] if task is not None else []
        # What has begun waits for nothing.
        before |= {item: [] if item in begun else [*waits] for item in items}
    for earlier, later in reading.claim.arcs:
        if later not in begun and earlier in spans:
            before.setdefault(later, []).append(earlier)
    circle = [node for node in circle_of(before)[:-1] if not isinstance(node, str)]
    if circle:
        words = " waits for ".join(name_of(i) for i in (*circle, circle[0]))
        yield against(Flaw.DEADLOCK, f"a deadlock: {words}", *(i[0] for i in circle))


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

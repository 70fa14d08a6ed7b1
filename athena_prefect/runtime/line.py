"""What could start but for capacity, the most critical first."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime

from athena_prefect.journal.state import Item


class Line:
    """The items that are ready, in the order in which they are to start."""

    def __init__(self, rank: Callable[[str], tuple[float, int]]) -> None:
        """`rank`: a task's sort key; it may change only while nothing is in the line."""
        self.ready: dict[Item, datetime] = {}
        """What could start but for capacity, and since when."""
        self.under_way: Counter[str] = Counter()
        """How many items of each task are ready or running, those past their time-out apart."""
        self._rank = rank
        self._noted: set[Item] = set()
        self._order: list[tuple[float, int, int, Item]] = []

    def __iter__(self) -> Iterator[Item]:
        """As it is now: what joins or leaves meanwhile changes nothing."""
        return iter([item for *_, item in self._order])

    def busy(self, task_id: str) -> bool:
        """Whether the task, or an item of it, is ready or running."""
        return self.under_way[task_id] > 0

    def of(self, task_id: str) -> list[Item]:
        """What of a task is ready."""
        return [i for i in self.ready if i[0] == task_id]

    def join(self, item: Item, since: datetime) -> None:
        """Put an item in the line."""
        self.ready[item] = since
        self.under_way[item[0]] += 1
        insort(self._order, self._place(item))

    def leave(self, item: Item) -> datetime:
        """Take an item out of the line; since when it stood there."""
        self.under_way[item[0]] -= 1
        self._noted.discard(item)
        del self._order[bisect_left(self._order, self._place(item))]
        return self.ready.pop(item)

    def new(self) -> list[tuple[Item, datetime]]:
        """What waits and was not asked for before, and since when it does."""
        found = [(i, at) for i, at in self.ready.items() if i not in self._noted]
        self._noted.update(i for i, _ in found)
        return found

    def _place(self, item: Item) -> tuple[float, int, int, Item]:
        # The index before the item: None does not compare.
        return (*self._rank(item[0]), -1 if item[1] is None else item[1], item)

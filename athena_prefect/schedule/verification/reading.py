"""A claim as the looks at it read it: what there is of each task, what it waits for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from athena_prefect.plan.model import DEFAULT_MODE, PlanTask, ResolvedMode
from athena_prefect.schedule.verification.claim import Claim, Item


class Reading:
    """A claim, with what several looks at it need to know."""

    def __init__(self, claim: Claim) -> None:
        self.claim = claim
        self.plan = claim.plan
        self.tasks = {t.id: t for t in claim.plan.tasks}
        self.items_of = _by_task(claim.spans)
        modes = claim.modes
        self.done_in: dict[str, ResolvedMode] = {
            t.id: t.mode(mode)
            for t in claim.plan.tasks
            if (mode := modes.get(t.id, DEFAULT_MODE)) == DEFAULT_MODE or mode in t.mode_names
        }
        self.free = {
            item: span
            for item, span in claim.spans.items()
            if item not in claim.begun and (item[0], None) not in claim.begun
        }
        """What is still to begin."""
        self.waits_of = {t.id: tuple(_waits_in(t)) for t in claim.plan.tasks}
        self.began = {item[0] for item in claim.begun} - set(claim.again)
        # A mapped task is over when all of its items are.
        ended = frozenset(claim.over)
        self.over = {name for name, index in ended if index is None} | {
            name for name, items in self.items_of.items() if ended.issuperset(items)
        }

    def waits(self, task: PlanTask) -> tuple[tuple[str, float], ...]:
        """(task waited for, lag in seconds) of everything that a task waits for."""
        return self.waits_of[task.id]

    def takes(self, name: str) -> Mapping[str, float]:
        """Resource → units that one item of a task takes in its mode; empty where it has none."""
        known = self.done_in.get(name)
        return {} if known is None else known.resources

    def mode(self, name: str) -> str:
        """The mode that a task is to be done in."""
        return self.claim.modes.get(name, DEFAULT_MODE)


def _waits_in(task: PlanTask) -> Iterator[tuple[str, float]]:
    """(task waited for, lag) of everything that a task of the document waits for."""
    lags = {d.task: d.lag.total_seconds() for d in task.depends_on}
    yield from lags.items()
    for name in (*task.inputs.values(), *([task.when.task] if task.when else [])):
        if name not in lags:
            yield name, 0.0
            lags[name] = 0.0


def _by_task(items: Iterable[Item]) -> dict[str, Sequence[Item]]:
    """Task → what there is of it: the task as a whole, or its items."""
    found: dict[str, Sequence[Item]] = {}
    several: dict[str, list[Item]] = {}
    for item in items:
        name = item[0]
        if name in several:
            several[name].append(item)
        elif name in found:
            several[name] = [*found[name], item]
        else:
            found[name] = (item,)
    return {**found, **several}

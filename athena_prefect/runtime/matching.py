"""Which task of a plan a task run of a hand-written flow is, by its names alone."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from athena_prefect.journal.state import ExecutionState, Item
from athena_prefect.plan.model import Plan

_OTHER = re.compile(r"[^0-9a-z]+")
FLOW_ATTEMPT = "flow_run_count"
"""Key of an event's data: which of the flow run's own attempts its task run belongs to."""


class Named(Protocol):
    """What a task run says of itself: Prefect's `TaskRun`, or what an event tells of one."""

    name: str
    task_key: str
    dynamic_key: str


def normal(name: str) -> str:
    """`name` in small letters, every run of other characters than letters and digits as ``_``."""
    return _OTHER.sub("_", name.lower()).strip("_")


def task_name(run: Named) -> str:
    """The task's own name: the run's, without the key that Prefect puts behind it."""
    key = str(run.dynamic_key)
    for tail in (f"-{key}", f"-{key[:3]}"):
        if key and run.name.endswith(tail) and len(run.name) > len(tail):
            return run.name.removesuffix(tail)
    return run.name


def candidates(run: Named) -> tuple[str, ...]:
    """The names that a task run goes by: its own, its task's, its function's; each once."""
    # Prefect's key of a task is its function's qualified name and a hash.
    function = str(run.task_key).rpartition("-")[0].rpartition(".")[2]
    return tuple(dict.fromkeys(n for n in (run.name, task_name(run), function) if n))


@dataclass(slots=True)
class Matching:
    """Finds the plan's task of a task run.

    For each name that the run goes by, in turn: the explicit mapping, then the plan's
    ids, then the ids in `normal` form, where only one has it. Raises UnknownNameError
    where the mapping leads to no task of the plan.
    """

    plan: Plan
    names: Mapping[str, str] = field(default_factory=dict)
    _normal: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        for task_id in self.names.values():
            self.plan.get_task(task_id)
        forms: dict[str, list[str]] = {}
        for task_id in self.plan.task_ids:
            forms.setdefault(normal(task_id), []).append(task_id)
        self._normal = {form: ids[0] for form, ids in forms.items() if len(ids) == 1}

    def task_of(self, run: Named) -> str | None:
        """The id of the plan's task; None where the plan has none for it."""
        known = frozenset(self.plan.task_ids)
        for name in candidates(run):
            if name in self.names:
                return self.names[name]
            if name in known:
                return name
            if normal(name) in self._normal:
                return self._normal[normal(name)]
        return None


class Items:
    """Gives each task run its item: of a mapped task the next index of its flow run's attempt."""

    def __init__(self, plan: Plan, state: ExecutionState) -> None:
        self._plan = plan
        self._known: dict[str, Item] = {}
        self._next: dict[tuple[str, int], int] = {}
        for item, own in state.tasks.items():
            for attempt in own.attempts:
                self._known[attempt.source] = item
                self._count(item, int(attempt.data.get(FLOW_ATTEMPT, 1)))

    def item_of(self, source: str, task_id: str, flow_attempt: int) -> Item:
        """The task and item of the task run `source`, the same whenever it is asked for."""
        if source not in self._known:
            index = self._next.get((task_id, flow_attempt), 0)
            mapped = self._plan.get_task(task_id).map_over is not None
            self._known[source] = (task_id, index if mapped else None)
            self._count(self._known[source], flow_attempt)
        return self._known[source]

    def seen(self, task_id: str) -> int:
        """How many items a mapped task has had, in the attempt that had the most."""
        return max((n for (t, _), n in self._next.items() if t == task_id), default=0)

    def _count(self, item: Item, flow_attempt: int) -> None:
        if item[1] is not None:
            place = (item[0], flow_attempt)
            self._next[place] = max(self._next.get(place, 0), item[1] + 1)

"""A run that is over as a network: what was planned, what came, and what each task waited for.

Times are seconds from the start of the run. A node is a task or an item of a mapped
one, in its last attempt; a mapped task, and one that was left out, is a node of no
work besides. A node starts when all before it have ended, after a wait:

    start = max over arcs (finish + lag) + wait,   finish = start + duration

with the planned figures for the plan, and with the actual ones for the run. Both
are reproduced exactly, which is what makes the run replayable: with any of its
waits or durations as they were planned, the same sum says when it would have ended.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property

import numpy as np

from athena_prefect.learning.arcs import (
    EXACT,
    SAME,
    Arc,
    Arcs,
    held,
    inferred,
    kept_order,
    ready,
)
from athena_prefect.learning.nodes import Nodes
from athena_prefect.learning.records import RunRecord
from athena_prefect.learning.waits import UNKNOWN, as_in_the_baseline, queued
from athena_prefect.plan.graph import Floats, Ints, Network
from athena_prefect.plan.model import Plan
from athena_prefect.plan.scalars import DependencyKind
from athena_prefect.schedule.passes import backward, forward


@dataclass(frozen=True, kw_only=True, eq=False)
class Past:
    """One run, planned and actual; arrays of shape (n,), in seconds."""

    run: RunRecord
    tasks: tuple[str, ...]
    """The task of each node."""
    indices: tuple[int | None, ...]
    """Its map index."""
    arcs: Arcs
    """The arcs that held: dependencies, and the planned order on resources where it was kept."""
    dependencies: int
    """So many of them, the first ones, are dependencies."""
    cut: Arcs
    """Dependencies of the plan that the run did not wait for."""
    planned: Floats
    """Planned durations as the baseline had them; 0 where nothing was planned."""
    estimated: Floats
    """Durations by the plan document's estimates; NaN where it has none."""
    actual: Floats
    planned_wait: Floats
    queue: Floats
    """Waited for a slot or a resource."""
    hold: Floats
    """Waited for something else."""
    retries: Floats
    """From the first attempt's start to the last one's."""
    resource: tuple[str, ...]
    """What each node waited for, or was planned to; empty where for nothing."""
    demands: Floats
    """Units that a node takes while it runs, shape (n, resources)."""
    capacities: Floats
    names: tuple[str, ...]
    """Of the resources."""
    order: Ints
    """Nodes by their actual start."""
    inferred: bool
    """The plan is not known: dependencies were taken from the planned times."""
    notes: tuple[str, ...] = field(default=())

    @cached_property
    def network(self) -> Network:
        """The arcs that held."""
        return self.network_of(self.arcs)

    def network_of(self, arcs: Arcs, more: int = 0) -> Network:
        """The nodes, and so many `more` after them, with these arcs."""
        names = tuple(map(str, range(len(self.tasks) + more)))
        return Network.build(names, arcs.tail, arcs.head, lag=arcs.lag, hard=arcs.hard)

    @property
    def planned_arcs(self) -> Arcs:
        """The arcs that are dependencies of the plan."""
        return self.arcs[: self.dependencies]

    @cached_property
    def names_of_tasks(self) -> tuple[str, ...]:
        """The tasks, each once."""
        return tuple(dict.fromkeys(self.tasks))

    @cached_property
    def codes(self) -> Ints:
        """Of each node its task's place among `names_of_tasks`."""
        place = {name: i for i, name in enumerate(self.names_of_tasks)}
        return np.array([place[t] for t in self.tasks], dtype=np.int64)

    @cached_property
    def nodes_of(self) -> Mapping[str, Sequence[int]]:
        """Task → its nodes, the items of a mapped one among them."""
        found: dict[str, list[int]] = defaultdict(list)
        for i, task in enumerate(self.tasks):
            found[task].append(i)
        return found

    def last_of(self, task: str) -> int:
        """The node whose end is the task's: of a mapped one its join."""
        return next(i for i in reversed(self.nodes_of[task]) if self.indices[i] is None)

    def utilisation(self, task: str) -> float:
        """Mean of used ÷ planned over the resources measured of a task; 1 where none was."""
        return self._utilisations.get(task, 1.0)

    @cached_property
    def _utilisations(self) -> Mapping[str, float]:
        shares: dict[str, list[float]] = defaultdict(list)
        for record in self.run.tasks:
            for name, used in record.resources_used.items():
                planned = record.resources_planned.get(name, 0.0)
                if planned > 0 and used > 0:
                    shares[record.task_id].append(used / planned)
        return {task: sum(found) / len(found) for task, found in shares.items()}

    @cached_property
    def planned_finishes(self) -> Floats:
        """Finishes as planned."""
        return forward(self.network, self.planned_wait + self.planned)[1]

    @cached_property
    def planned_tails(self) -> Floats:
        """Planned seconds from each node's finish to the end of all that waits for it."""
        return backward(self.network, self.planned_wait + self.planned)

    @cached_property
    def finishes(self) -> Floats:
        """Finishes as they came."""
        return forward(self.network, self.wait + self.actual)[1]

    @property
    def wait(self) -> Floats:
        """All that a node waited besides what its arcs ask for."""
        return self.queue + self.hold + self.retries

    @property
    def planned_makespan(self) -> float:
        """Planned finish of the last node."""
        return float(self.planned_finishes.max(initial=0.0))

    @property
    def makespan(self) -> float:
        """Actual finish of the last node."""
        return float(self.finishes.max(initial=0.0))

    @property
    def delay(self) -> float:
        """Actual less planned finish."""
        return self.makespan - self.planned_makespan


def past(run: RunRecord) -> Past | None:
    """`run` as a network; None where no task has an actual start and duration."""
    return _Reading(run).past()


class _Reading:
    """A run's records being turned into arrays."""

    def __init__(self, run: RunRecord) -> None:
        self.run = run
        self.plan: Plan | None = run.plan
        self.origin = _origin(run)

    def past(self) -> Past | None:
        nodes = Nodes.of(self.run)
        if not len(nodes) or self.origin is None:
            return None
        planned, planned_start, start, actual, retries, queue = nodes.times(self.origin)
        names, capacities, demands = nodes.resources()
        arcs = self._dependencies(nodes, planned, planned_start, start, actual)
        kept, cut = held(arcs, start, actual)
        dependencies = len(kept)
        if not np.isnan(planned_start).all():
            # Beside a baseline, what has no planned start, such as an item too many, was not
            # planned; of a task that was left out its duration was.
            unplanned = np.isnan(planned_start) & ~np.isnan(start)
            planned[unplanned] = 0.0
        estimated = planned
        planned = as_in_the_baseline(kept, planned, planned_start, actual, demands, capacities)
        order = np.argsort(np.where(np.isnan(start), np.inf, start), kind="stable")
        ready_planned = ready(kept, planned, planned_start)
        if self.plan is not None:
            kept += kept_order(
                (planned_start, planned_start + planned), (start, start + actual), demands,
                ready_planned,
            )  # fmt: skip
            ready_planned = ready(kept, planned, planned_start)
        planned_wait = np.nan_to_num(np.maximum(planned_start - ready_planned, 0.0))
        came = ready(kept, actual, start)
        gap = np.nan_to_num(np.maximum(start - retries - came, 0.0))
        wait, resource = queued(
            gap, queue, start - retries, actual + retries, demands, capacities, names, planned_wait
        )
        return Past(
            run=self.run,
            tasks=tuple(nodes.tasks),
            indices=tuple(nodes.indices),
            arcs=kept, dependencies=dependencies, cut=cut,
            planned=planned, estimated=estimated, actual=actual, planned_wait=planned_wait,
            queue=wait, hold=gap - wait,
            # An attempt that began before its arcs allowed waited less than its retries took.
            retries=np.nan_to_num(np.minimum(retries, np.maximum(start - came, 0.0))),
            resource=resource, demands=demands, capacities=capacities, names=names,
            order=order.astype(np.int64), inferred=self.plan is None,
        )  # fmt: skip

    def _dependencies(
        self,
        nodes: Nodes,
        planned: Floats,
        planned_start: Floats,
        start: Floats,
        actual: Floats,
    ) -> Arcs:
        ends: dict[str, int] = {}
        fronts: dict[str, list[int]] = defaultdict(list)
        for i, (task, index) in enumerate(zip(nodes.tasks, nodes.indices, strict=True)):
            if index is None:
                ends[task] = i
            else:
                fronts[task].append(i)
        joins = Arcs.of(Arc(i, ends[t], 0.0, True) for t, items in fronts.items() for i in items)
        if self.plan is None:
            expected = planned_start, planned_start + planned
            return joins + inferred(expected, (start, start + actual))
        tails: list[int] = []
        heads: list[int] = []
        lags: list[float] = []
        firm: list[bool] = []
        for planned_task in self.plan.tasks:
            own = fronts.get(planned_task.id) or [ends[planned_task.id]]
            for d in planned_task.upstream:
                heads += own
                tails += [ends[d.task]] * len(own)
                lags += [d.lag.total_seconds()] * len(own)
                firm += [d.kind is DependencyKind.HARD] * len(own)
        dependencies = Arcs(
            np.array(tails, dtype=np.int64),
            np.array(heads, dtype=np.int64),
            np.array(lags, dtype=np.float64),
            np.array(firm, dtype=np.bool_),
        )
        return joins + dependencies


def _origin(run: RunRecord) -> datetime | None:
    if run.started is not None:
        return run.started
    moments = [m for t in run.tasks for m in (t.planned_start, t.actual_start) if m is not None]
    return min(moments, default=None)


__all__ = ["EXACT", "SAME", "UNKNOWN", "Arc", "Arcs", "Past", "past"]

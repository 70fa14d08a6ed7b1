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
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import NamedTuple

import numpy as np

from athena_prefect.errors import InfeasibleError
from athena_prefect.learning.frame import OUTCOMES, History
from athena_prefect.learning.records import RunRecord, TaskRecord
from athena_prefect.plan.graph import Bools, Floats, Ints, Network
from athena_prefect.plan.model import Plan
from athena_prefect.schedule.baseline import feasible_schedule
from athena_prefect.schedule.passes import forward
from athena_prefect.schedule.problem import RUNNER, Problem

SAME = 1.0
"""Seconds within which two moments are one: the dispatcher looks at least every second."""
EXACT = 1e-3
"""The same for planned moments, and for who gave up a resource to whom: what is recorded is in
milliseconds."""
UNKNOWN = "(unknown)"
"""The resource that was waited for, where the plan's own do not explain it."""


class Arc(NamedTuple):
    """What a node waits for: a dependency, or who gives up a resource to it."""

    tail: int
    head: int
    lag: float
    """Seconds."""
    hard: bool


@dataclass(frozen=True, kw_only=True, eq=False)
class Past:
    """One run, planned and actual; arrays of shape (n,), in seconds."""

    run: RunRecord
    tasks: tuple[str, ...]
    """The task of each node."""
    indices: tuple[int | None, ...]
    """Its map index."""
    arcs: tuple[Arc, ...]
    """The arcs that held: dependencies, and the planned order on resources where it was kept."""
    dependencies: int
    """So many of them, the first ones, are dependencies."""
    cut: tuple[Arc, ...]
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

    def network_of(self, arcs: Iterable[Arc]) -> Network:
        """The nodes with these arcs."""
        kept = list(arcs)
        return Network.build(
            tuple(str(i) for i in range(len(self.tasks))),
            [a.tail for a in kept],
            [a.head for a in kept],
            lag=[a.lag for a in kept] if kept else 0.0,
            hard=[a.hard for a in kept] if kept else True,
        )

    @cached_property
    def nodes_of(self) -> Mapping[str, Sequence[int]]:
        """Task → its nodes, the items of a mapped one among them."""
        found: dict[str, list[int]] = defaultdict(list)
        for i, task in enumerate(self.tasks):
            found[task].append(i)
        return found

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


def with_tasks(history: History) -> tuple[RunRecord, ...]:
    """The runs of columns with their attempts, which are rows there.

    Columns do not have the planned starts; where a plan's durations are known, they
    are those of its baseline.
    """
    planned: dict[str, Mapping[str, float]] = {}
    rows: dict[int, list[int]] = defaultdict(list)
    for row, run in enumerate(history.run.tolist()):
        rows[run].append(row)
    result = []
    for number, run in enumerate(history.runs):
        if run.tasks or not rows[number]:
            result.append(run)
            continue
        if run.plan_name not in planned:
            planned[run.plan_name] = _baseline_starts(run.plan)
        starts = planned[run.plan_name]
        records = [_record(history, row, run, starts) for row in rows[number]]
        result.append(replace(run, tasks=tuple(records)))
    return tuple(result)


def _baseline_starts(plan: Plan | None) -> Mapping[str, float]:
    """Seconds from a run's start at which the baseline has each task start; empty if unknown."""
    if plan is None:
        return {}
    problem = Problem.of(plan)
    if problem.unknown:
        return {}
    try:
        return {t: s.start for t, s in feasible_schedule(problem).tasks.items()}
    except InfeasibleError:
        return {}


def _record(history: History, row: int, run: RunRecord, starts: Mapping[str, float]) -> TaskRecord:
    def span(value: float) -> timedelta | None:
        return None if np.isnan(value) else timedelta(seconds=float(value))

    task, item = history.tasks[history.task[row]], int(history.item[row])
    began, outcome = float(history.started[row]), int(history.outcome[row])
    start = starts.get(task)
    return TaskRecord(
        task_id=task,
        run=run.run,
        plan=run.plan_name,
        category=history.categories[history.category[row]],
        map_index=None if item < 0 else item,
        attempt=int(history.attempt[row]),
        outcome=None if outcome < 0 else OUTCOMES[outcome],
        planned_start=(
            None if start is None or run.started is None else run.started + start * _SECOND
        ),
        actual_start=None if np.isnan(began) else datetime.fromtimestamp(began, UTC),
        planned_duration=span(history.planned[row]),
        actual_duration=span(history.duration[row]),
        queue_time=span(history.queued[row]),
        abandoned=not history.kept[row],
        resources_planned=_of_row(history.resources_planned, row),
        resources_used=_of_row(history.resources_used, row),
    )


def _of_row(columns: Mapping[str, Floats], row: int) -> dict[str, float]:
    return {k: float(v[row]) for k, v in columns.items() if not np.isnan(v[row])}


def past(run: RunRecord) -> Past | None:
    """`run` as a network; None where no task has an actual start and duration."""
    return _Reading(run).past()


@dataclass(slots=True)
class _Node:
    task: str
    index: int | None = None
    record: TaskRecord | None = None
    """The last attempt."""
    first: datetime | None = None
    """Start of the first attempt."""
    queue: float | None = None
    """Queue time of the first attempt."""


class _Reading:
    """A run's records being turned into arrays."""

    def __init__(self, run: RunRecord) -> None:
        self.run = run
        self.plan: Plan | None = run.plan
        self.origin = _origin(run)

    def past(self) -> Past | None:
        nodes = self._nodes()
        if not nodes or self.origin is None:
            return None
        joined = self._with_joins(nodes)
        mapped = {n.task for n in nodes if n.index is not None}
        count = len(joined)
        planned, actual = np.zeros(count), np.zeros(count)
        start, planned_start = np.full(count, np.nan), np.full(count, np.nan)
        retries, queue = np.zeros(count), np.full(count, np.nan)
        for i, node in enumerate(joined):
            record = node.record
            if record is None:
                planned[i] = self._left_out(node.task, mapped)
                continue
            begun, took = record.actual_start, record.actual_duration
            assert begun is not None and took is not None
            start[i] = self._seconds(begun)
            actual[i] = took.total_seconds()
            planned[i] = (
                np.nan
                if record.planned_duration is None
                else record.planned_duration.total_seconds()
            )
            if record.planned_start is not None:
                planned_start[i] = self._seconds(record.planned_start)
            if node.first is not None:
                retries[i] = max(start[i] - self._seconds(node.first), 0.0)
            if node.queue is not None:
                queue[i] = node.queue
        names, capacities, demands = self._resources(joined)
        arcs = self._dependencies(joined, planned, planned_start, start, actual)
        held, cut = self._held(arcs, start, actual)
        dependencies = len(held)
        if not np.isnan(planned_start).all():
            # Beside a baseline, what has no planned start, such as an item too many, was not
            # planned; of a task that was left out its duration was.
            unplanned = np.isnan(planned_start) & ~np.isnan(start)
            planned[unplanned] = 0.0
        estimated = planned
        planned = _as_in_the_baseline(held, planned, planned_start, actual, demands, capacities)
        order = np.argsort(np.where(np.isnan(start), np.inf, start), kind="stable")
        ready_planned = self._ready(held, planned, planned_start, count)
        if self.plan is not None:
            held += self._kept_order(
                planned_start,
                planned_start + planned,
                start,
                start + actual,
                demands,
                ready_planned,
            )
            ready_planned = self._ready(held, planned, planned_start, count)
        planned_wait = np.nan_to_num(np.maximum(planned_start - ready_planned, 0.0))
        ready = self._ready(held, actual, start, count)
        gap = np.nan_to_num(np.maximum(start - retries - ready, 0.0))
        queued, resource = self._queued(
            gap, queue, start - retries, start, actual + retries, demands, capacities, names,
            planned_wait,
        )  # fmt: skip
        return Past(
            run=self.run,
            tasks=tuple(n.task for n in joined),
            indices=tuple(n.index for n in joined),
            arcs=tuple(held), dependencies=dependencies, cut=tuple(cut),
            planned=planned, estimated=estimated, actual=actual, planned_wait=planned_wait,
            queue=queued, hold=gap - queued,
            # An attempt that began before its arcs allowed waited less than its retries took.
            retries=np.nan_to_num(np.minimum(retries, np.maximum(start - ready, 0.0))),
            resource=resource, demands=demands, capacities=capacities, names=names,
            order=order.astype(np.int64), inferred=self.plan is None,
        )  # fmt: skip

    def _seconds(self, moment: datetime) -> float:
        assert self.origin is not None
        return (moment - self.origin) / timedelta(seconds=1)

    # -- nodes ----------------------------------------------------------------------------

    def _nodes(self) -> list[_Node]:
        found: dict[tuple[str, int | None], _Node] = {}
        for record in self.run.tasks:
            if record.actual_start is None or record.actual_duration is None:
                continue
            if record.cached or record.abandoned:
                continue
            key = record.task_id, record.map_index
            node = found.setdefault(key, _Node(record.task_id, record.map_index))
            if node.record is None or record.attempt > node.record.attempt:
                # What counts is the attempt in force: the last one, or the last good one.
                good = node.record is not None and _good(node.record) and not _good(record)
                node.record = node.record if good else record
            if node.first is None or record.actual_start < node.first:
                node.first = record.actual_start
                node.queue = None if record.queue_time is None else record.queue_time / _SECOND
        return list(found.values())

    def _with_joins(self, nodes: list[_Node]) -> list[_Node]:
        """With a node for each mapped task, and for each task of the plan that has no record."""
        whole = {n.task for n in nodes if n.index is None}
        mapped = dict.fromkeys(n.task for n in nodes if n.index is not None)
        missing = [t for t in mapped if t not in whole]
        if self.plan is not None:
            missing += [t for t in self.plan.task_ids if t not in whole and t not in mapped]
        return [*nodes, *(_Node(task) for task in missing)]

    def _left_out(self, task: str, mapped: Collection[str]) -> float:
        """Planned seconds of a task that did not run; of a mapped one's join none."""
        if self.plan is None or task in mapped:
            return 0.0
        usual = self.plan.get_task(task).planned_duration
        return 0.0 if usual is None else usual / _SECOND

    def _resources(self, nodes: list[_Node]) -> tuple[tuple[str, ...], Floats, Floats]:
        if self.plan is None:
            return (), np.zeros(0), np.zeros((len(nodes), 0))
        names = (*self.plan.resources, RUNNER)
        column = {name: i for i, name in enumerate(names)}
        capacities = np.array(
            [*(r.capacity for r in self.plan.resources.values()), self.plan.runner.max_workers],
            dtype=np.float64,
        )
        demands = np.zeros((len(nodes), len(names)))
        for i, node in enumerate(nodes):
            if node.record is None:
                continue
            demands[i, -1] = 1.0
            taken = node.record.resources_allocated or node.record.resources_planned
            for name, amount in taken.items():
                if name in column:
                    demands[i, column[name]] = amount
        return names, capacities, demands

    # -- arcs -----------------------------------------------------------------------------

    def _dependencies(
        self,
        nodes: list[_Node],
        planned: Floats,
        planned_start: Floats,
        start: Floats,
        actual: Floats,
    ) -> list[Arc]:
        ends: dict[str, int] = {}
        fronts: dict[str, list[int]] = defaultdict(list)
        for i, node in enumerate(nodes):
            if node.index is None:
                ends[node.task] = i
            else:
                fronts[node.task].append(i)
        arcs = [Arc(i, ends[t], 0.0, True) for t, items in fronts.items() for i in items]
        if self.plan is None:
            return arcs + _inferred(planned, planned_start, start, actual)
        for task in self.plan.tasks:
            heads = fronts.get(task.id) or [ends[task.id]]
            for d in task.upstream:
                lag = d.lag.total_seconds()
                arcs += [Arc(ends[d.task], head, lag, d.hard) for head in heads]
        return arcs

    def _held(
        self, arcs: Sequence[Arc], start: Floats, actual: Floats
    ) -> tuple[list[Arc], list[Arc]]:
        """The arcs that the run kept, and those that it did not."""
        finish, began = self._through(arcs, start, actual).tolist(), start.tolist()
        held: list[Arc] = []
        cut: list[Arc] = []
        for arc in arcs:
            # A head without a start compares as not late: it is NaN.
            late = finish[arc.tail] + arc.lag > began[arc.head] + SAME
            (cut if late else held).append(arc)
        return held, cut

    @staticmethod
    def _through(arcs: Sequence[Arc], start: Floats, durations: Floats) -> Floats:
        """Finishes with every node at its start; those without one start when all before ended."""
        finish = start + durations
        missing = np.flatnonzero(np.isnan(start))
        if not len(missing):
            return finish
        into: dict[int, list[Arc]] = {int(i): [] for i in missing}
        for arc in arcs:
            if arc.head in into:
                into[arc.head].append(arc)
        # Depth first, so that of two such nodes the earlier is known first.
        todo = list(into)
        while todo:
            head = todo[-1]
            if not np.isnan(finish[head]):
                todo.pop()
                continue
            open_ = [a.tail for a in into[head] if np.isnan(finish[a.tail])]
            if open_:
                todo += open_
                continue
            begin = max((finish[a.tail] + a.lag for a in into[head]), default=0.0)
            finish[head] = begin + durations[head]
            todo.pop()
        return finish

    def _ready(self, arcs: Sequence[Arc], durations: Floats, start: Floats, count: int) -> Floats:
        """When all before a node have ended, with every node at its given start."""
        finish = self._through(arcs, start, durations)
        ready = np.zeros(count)
        if arcs:
            tails = np.array([a.tail for a in arcs])
            heads = np.array([a.head for a in arcs])
            lags = np.array([a.lag for a in arcs])
            np.maximum.at(ready, heads, finish[tails] + lags)
        return ready

    def _kept_order(
        self,
        planned_start: Floats,
        planned_finish: Floats,
        start: Floats,
        finish: Floats,
        demands: Floats,
        ready: Floats,
    ) -> list[Arc]:
        """Arcs for those that were planned to start when another gave up a resource, and did.

        One for each, from the one that gave it up last: waiting for it is no
        contention that the plan had not reckoned with.
        """
        waiting = np.flatnonzero(planned_start - ready > EXACT).tolist()
        if not waiting:
            return []
        # Plain numbers: numpy's are slow one at a time.
        begins, ends = planned_start.tolist(), planned_finish.tolist()
        began, ended = start.tolist(), finish.tolist()
        # Which resources it takes, as bits; beyond 62 of them they share the bits.
        bits = np.left_shift(1, np.arange(demands.shape[1]) % 62)
        takes = np.bitwise_or.reduce(np.where(demands > 0, bits, 0), axis=1).tolist()
        ending: dict[int, list[int]] = defaultdict(list)
        for i in np.flatnonzero(~np.isnan(planned_finish)).tolist():
            ending[round(ends[i] / SAME)].append(i)
        arcs = []
        for i in waiting:
            moment, here = begins[i], takes[i]
            near = round(moment / SAME)
            best, last = -1, -np.inf
            for k in (near - 1, near, near + 1):
                for j in ending.get(k, ()):
                    if (
                        ended[j] > last
                        and abs(ends[j] - moment) <= EXACT
                        and ended[j] <= began[i] + EXACT
                        and takes[j] & here
                        # Strictly later both ways, so that no order closes a circle.
                        and begins[j] < moment
                        and began[j] < began[i]
                    ):
                        best, last = j, ended[j]
            if best >= 0:
                arcs.append(Arc(best, i, 0.0, True))
        return arcs

    # -- waits ----------------------------------------------------------------------------

    def _queued(
        self,
        gap: Floats,
        queue: Floats,
        begun: Floats,
        start: Floats,
        occupied: Floats,
        demands: Floats,
        capacities: Floats,
        names: tuple[str, ...],
        planned_wait: Floats,
    ) -> tuple[Floats, tuple[str, ...]]:
        """How long each node waited for a resource, and for which one.

        What the dispatcher said counts; where it said nothing, the time during which
        there was less of a resource than the node takes.
        """
        queued = np.where(np.isnan(queue), 0.0, np.minimum(np.nan_to_num(queue), gap))
        short = _short(begun, gap, occupied, demands, capacities)
        longest = short.max(axis=1)
        untold = np.isnan(queue)
        queued[untold] = np.minimum(longest, gap)[untold]
        resource = np.full(len(gap), "", dtype=object)
        waits = (queued > SAME) | (planned_wait > SAME)
        if len(names):
            found = np.array(names, dtype=object)
            planned = waits & (planned_wait > SAME) & (longest <= 0)
            resource[planned] = found[np.argmax(demands / capacities, axis=1)[planned]]
            seen = (longest > 0) & (queued > 0)
            resource[seen] = found[short.argmax(axis=1)[seen]]
        resource[(queued > SAME) & (longest <= 0)] = UNKNOWN
        return queued, tuple(resource.tolist())


_SECOND = timedelta(seconds=1)


def _good(record: TaskRecord) -> bool:
    return record.outcome is not None and record.outcome.good


def _origin(run: RunRecord) -> datetime | None:
    if run.started is not None:
        return run.started
    moments = [m for t in run.tasks for m in (t.planned_start, t.actual_start) if m is not None]
    return min(moments, default=None)


def _inferred(planned: Floats, planned_start: Floats, start: Floats, actual: Floats) -> list[Arc]:
    """Where the plan is not known: who was planned to start when another ended waits for it.

    One arc for each, from the one that really ended last before it started.
    """
    finish, came = planned_start + planned, start + actual
    known = np.flatnonzero(~np.isnan(finish) & ~np.isnan(came))
    ending: dict[int, list[int]] = defaultdict(list)
    for i in known.tolist():
        ending[round(finish[i] / SAME)].append(i)
    arcs = []
    for i in known.tolist():
        if planned_start[i] <= 0:
            continue
        moment = round(planned_start[i] / SAME)
        before = [
            j
            for k in (moment - 1, moment, moment + 1)
            for j in ending.get(k, ())
            if planned_start[j] < planned_start[i]
            and start[j] < start[i]
            and came[j] <= start[i] + SAME
        ]
        if before:
            arcs.append(Arc(max(before, key=lambda j: came[j]), i, 0.0, True))
    return arcs


def _usage(start: Floats, length: Floats, demand: Floats) -> tuple[Floats, Floats]:
    """Times at which the use of a resource changes, and the use from each of them on."""
    there = ~np.isnan(start) & (demand > 0)
    times = np.concatenate([start[there], (start + length)[there]])
    change = np.concatenate([demand[there], -demand[there]])
    order = np.lexsort((change, times))
    return times[order], np.cumsum(change[order])


def _short(
    begun: Floats, gap: Floats, occupied: Floats, demands: Floats, capacities: Floats
) -> Floats:
    """Seconds of each wait of `gap` before `begun` in which a resource had too little left, for
    each resource; shape (n, resources), or one column of zeros where there is none.
    """
    short = np.zeros((len(gap), max(len(capacities), 1)))
    for r in range(len(capacities)):
        times, used = _usage(begun, occupied, demands[:, r])
        taking = (demands[:, r] > 0) & (gap > 0)
        for demand in np.unique(demands[taking, r]).tolist():
            rows = np.flatnonzero(taking & (demands[:, r] == demand))
            scarce = used > capacities[r] - demand + 1e-9
            short[rows, r] = _during(times, scarce, (begun - gap)[rows], begun[rows])
    return short


def _as_in_the_baseline(
    arcs: Sequence[Arc],
    planned: Floats,
    planned_start: Floats,
    actual: Floats,
    demands: Floats,
    capacities: Floats,
) -> Floats:
    """Planned durations as the baseline reckoned with them.

    A baseline may rest on what was learned and not on the document's estimates. Then
    a task was planned to start later than its predecessor's estimate ends, though
    there was enough of every resource: so long the predecessor was expected to take.
    A duration that nobody knew, and that no other start tells, is taken as it came:
    it is not put down to anybody.
    """
    unknown = np.isnan(planned)
    lengths = np.where(unknown, 0.0, planned)
    finish = planned_start + lengths
    last = np.full(len(planned), -np.inf)
    binding = np.full(len(planned), -1, dtype=np.int64)
    for arc in arcs:
        reached = finish[arc.tail] + arc.lag
        if reached > last[arc.head]:
            last[arc.head], binding[arc.head] = reached, arc.tail
    gap = np.where((binding >= 0) & ~np.isnan(planned_start), planned_start - last, 0.0)
    gap = np.where(gap > EXACT, gap, 0.0)
    longer = np.full(len(planned), np.inf)
    if gap.any():
        scarce = _short(planned_start, gap, lengths, demands, capacities).max(axis=1)
        left = gap - scarce
        for i in np.flatnonzero((left > SAME) & (gap > 0)).tolist():
            longer[binding[i]] = min(longer[binding[i]], left[i])
    told = np.isfinite(longer)
    result = lengths + np.where(told, longer, 0.0)
    return np.where(unknown & ~told, actual, result)


def _during(times: Floats, scarce: Bools, since: Floats, until: Floats) -> Floats:
    """Seconds of each [since, until) during which a step curve is on."""
    if not len(times):
        return np.zeros(len(since))
    total = np.concatenate([[0.0], np.cumsum(np.diff(times) * scarce[:-1])])
    result: Floats = np.interp(until, times, total) - np.interp(since, times, total)
    return result

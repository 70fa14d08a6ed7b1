"""What finished runs took, in columns: what a forecast from history rests on."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any, Self

import numpy as np

from athena_prefect.errors import CycleError, PlanError
from athena_prefect.monitor.capacity import slots_of
from athena_prefect.monitor.recorded import PastForecast
from athena_prefect.plan.graph import Bools, Floats, Ints, Network
from athena_prefect.schedule.partial_order import partial_order
from athena_prefect.schedule.problem import Problem
from athena_prefect.schedule.schedule import Schedule

MANY = 8
"""Items of one task beyond which what follows is held to wait for the last of them alone: all
of them times all that follow would be millions of arcs."""
SHORTEST = 1e-3
"""Seconds that a duration counts with at least: what clocks resolve, and zero has no logarithm."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PastTask:
    """One task, or item of a mapped task, that ended well; seconds."""

    id: str
    category: str
    """What it is grouped by: `PlanTask.group`."""
    planned: float | None
    """What the plan said when the run began; None where it said nothing, 0: it is no work."""
    actual: float
    """What its successful attempt took, without queueing."""
    started: float | None = None
    """From the start of the run; None where it was not recorded."""
    after: tuple[str, ...] = ()
    """Ids of the tasks that it waited for."""
    resources: Mapping[str, float] = field(default_factory=dict)
    """Units that it took of each resource while it ran."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PastRun:
    """One finished run, told task by task."""

    key: str
    plan: str
    tasks: Sequence[PastTask]
    slots: float | None = None
    """Tasks that could run at once (inf: any number); None: as many as there were resources
    for, where all took equally much, else as many as did."""
    capacities: Mapping[str, float] = field(default_factory=dict)
    """Units that there were of each resource; one that is not named never ran short."""
    started_at: datetime | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    """Parameters and tags."""
    forecasts: Sequence[PastForecast] = ()
    """What was forecast while it ran, as it was said then."""


@dataclass(frozen=True, kw_only=True, eq=False)
class History:
    """Records of finished runs in columns, one row a task; immutable.

    Rows of one run stand together: run r has ``rows[r]:rows[r + 1]``. Seconds.
    """

    keys: tuple[str, ...] = ()
    plans: tuple[str, ...] = ()
    slots: Floats = field(default_factory=lambda: np.zeros(0))
    """Tasks of each run that could run at once."""
    rows: Ints = field(default_factory=lambda: np.zeros(1, dtype=np.int64))
    categories: tuple[str, ...] = ()
    category: Ints = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    """Of each row, an index into `categories`."""
    tasks: tuple[str, ...] = ()
    planned: Floats = field(default_factory=lambda: np.zeros(0))
    actual: Floats = field(default_factory=lambda: np.zeros(0))
    started: Floats = field(default_factory=lambda: np.zeros(0))
    """From the start of the run; NaN where it was not recorded."""
    instant: Bools = field(default_factory=lambda: np.zeros(0, dtype=np.bool_))
    """What was planned to take no time: forecasts give it none, and no slot."""
    tail: Ints = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    head: Ints = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    """Row ``tail[k]`` ended before row ``head[k]`` could begin."""
    told: tuple[tuple[PastForecast, ...], ...] = ()
    """Of each run what was forecast while it ran."""
    resources: tuple[str, ...] = ()
    taken: Floats = field(default_factory=lambda: np.zeros((0, 0)))
    """Units of each of `resources` that a row took while it ran, shape (rows, resources)."""
    there: Floats = field(default_factory=lambda: np.zeros((0, 0)))
    """Units that there were, shape (runs, resources); inf where it never ran short."""
    memo: dict[tuple[str, str], Any] = field(default_factory=dict, init=False, repr=False)
    """What was worked out from these records, by what and plan: they never change."""

    @classmethod
    def of(cls, runs: Iterable[PastRun]) -> Self:
        """The history of these runs, in their order. Raises PlanError.

        A record without a planned duration is held against the median of its category
        in all runs of the plan.
        """
        return cls._of([run for run in runs if run.tasks])

    @classmethod
    def _of(cls, runs: Sequence[PastRun]) -> Self:
        keys = tuple(run.key for run in runs)
        if len(set(keys)) < len(keys):
            twice = next(k for k in keys if keys.count(k) > 1)
            raise PlanError(f"run {twice!r} is in the history twice; each run is told of once")
        kept = [list(run.tasks) for run in runs]
        flat = [task for tasks in kept for task in tasks]
        names = tuple(dict.fromkeys(t.category for t in flat))
        code = {name: i for i, name in enumerate(names)}
        rows = np.concatenate(([0], np.cumsum([len(tasks) for tasks in kept]))).astype(np.int64)
        started = [np.nan if t.started is None else t.started for t in flat]
        history = cls(
            keys=keys,
            plans=tuple(run.plan for run in runs),
            slots=np.zeros(0),
            rows=rows,
            categories=names,
            category=np.array([code[t.category] for t in flat], dtype=np.int64),
            tasks=tuple(t.id for t in flat),
            planned=_planned(runs),
            actual=np.array([max(t.actual, SHORTEST) for t in flat], dtype=np.float64),
            started=np.array(started, dtype=np.float64),
            instant=np.array([_instant(t) for t in flat], dtype=np.bool_),
            told=tuple(tuple(run.forecasts) for run in runs),
            **_arcs(kept, rows),
            **_resources(runs, flat),
        )
        slots = [
            history.fitting(r) if run.slots is None else float(run.slots)
            for r, run in enumerate(runs)
        ]
        object.__setattr__(history, "slots", np.array(slots, dtype=np.float64))
        return history

    def __len__(self) -> int:
        """Number of records."""
        return len(self.planned)

    def __str__(self) -> str:
        runs, records = len(self.keys), len(self)
        return (
            f"{runs:,} run{'' if runs == 1 else 's'}, "
            f"{records:,} record{'' if records == 1 else 's'}"
        )

    @cached_property
    def run(self) -> Ints:
        """Of each row the index of its run."""
        return np.repeat(np.arange(len(self.keys)), np.diff(self.rows))

    @cached_property
    def work(self) -> History:
        """The history of the same runs without what is no work."""
        if not self.instant.any():
            return self
        return self._of_rows(list(range(len(self.keys))), ~self.instant)

    @cached_property
    def ratios(self) -> Floats:
        """Of each row log(actual / planned)."""
        ratios: Floats = np.log(self.actual / np.maximum(self.planned, SHORTEST))
        return ratios

    def of_plan(self, plan: str) -> Ints:
        """Indices of the runs of a plan."""
        return np.flatnonzero(np.array([name == plan for name in self.plans], dtype=np.bool_))

    def typical(self, category: str, plan: str) -> float | None:
        """Median duration of a category (s), in the plan's runs or else in all; None: none."""
        actual = self.durations(category, plan)
        return float(np.median(actual)) if len(actual) else None

    def durations(self, category: str, plan: str) -> Floats:
        """Durations of a category (s), in the plan's runs or else in all."""
        if category not in self.categories:
            return np.zeros(0)
        rows = self.category == self.categories.index(category)
        own = rows & np.isin(self.run, self.of_plan(plan))
        actual: Floats = self.actual[own if own.any() else rows]
        return actual

    def span(self, run: int) -> slice:
        """The rows of a run."""
        return slice(int(self.rows[run]), int(self.rows[run + 1]))

    def timed(self, run: int) -> bool:
        """Whether it is recorded when each task of the run started: it can be replayed then."""
        span = self.span(run)
        return span.stop > span.start and not np.isnan(self.started[span]).any()

    def peak(self, run: int) -> float:
        """Most tasks of a run that ran at once; inf where it is not recorded when they started."""
        if not self.timed(run):
            return np.inf
        work = self._work(run)
        start, end = self.started[work], (self.started + self.actual)[work]
        # Who ends when another begins makes room for it, within what clocks resolve.
        moments = np.concatenate((start, end - SHORTEST))
        change = np.concatenate((np.ones(len(start)), -np.ones(len(end))))
        order = np.lexsort((change, moments))
        return float(np.cumsum(change[order]).max(initial=1.0))

    def end(self, run: int) -> float:
        """When a run was over (s from its start); NaN where it is not recorded."""
        span = self.span(run)
        return float((self.started + self.actual)[span].max()) if self.timed(run) else np.nan

    def network(self, run: int) -> Network:
        """The network of a run's records."""
        span = self.span(run)
        inside = (self.head >= span.start) & (self.head < span.stop)
        return Network.build(
            self.tasks[span], self.tail[inside] - span.start, self.head[inside] - span.start
        )

    def fitting(self, run: int) -> float:
        """Tasks of a run that its resources sufficed for, else most that ran at once."""
        slots = slots_of(self.taken[self._work(run)], self.there[run])
        return self.peak(run) if slots is None or np.isinf(slots) else slots

    def _work(self, run: int) -> Ints:
        """The rows of a run that are work."""
        span = self.span(run)
        rows: Ints = span.start + np.flatnonzero(~self.instant[span])
        return rows

    def capacity(self, run: int) -> tuple[float, Network]:
        """Slots of a run, and the network that goes with them.

        Where tasks took different amounts no number of slots stands for what there was:
        units went from task to task then, in the order in which they ran.
        """
        span, network = self.span(run), self.network(run)
        slots = slots_of(self.taken[self._work(run)], self.there[run])
        if not self.timed(run) or slots is not None:
            return float(self.slots[run]), network
        start = self.started[span]
        problem = Problem.build(
            network,
            self.actual[span],
            np.where(self.instant[span, None], 0.0, self.taken[span]),
            self.there[run],
            resources=self.resources,
        )
        went = Schedule(
            problem=problem,
            starts=start,
            # Who begins when another ends has its units, within what clocks resolve.
            finishes=start + np.maximum(self.actual[span] - SHORTEST, 0.0),
            fixed=np.zeros(len(network), dtype=np.bool_),
        )
        try:
            return np.inf, network.extended(*partial_order(went))
        except CycleError:
            # Something began before what it depends on had ended: it waited for nothing.
            return float(self.slots[run]), network

    def where(self, keep: Callable[[int], bool]) -> History:
        """The history of some of the runs: those whose index `keep` says yes to."""
        runs = [r for r in range(len(self.keys)) if keep(r)]
        return self._of_rows(runs, np.isin(self.run, runs))

    def _of_rows(self, runs: list[int], mask: Bools) -> History:
        """The history of these runs, of which the rows of `mask` are kept."""
        place = np.cumsum(mask) - 1
        arcs = mask[self.head] & mask[self.tail]
        sizes = np.bincount(self.run[mask], minlength=len(self.keys))[runs]
        return History(
            keys=tuple(self.keys[r] for r in runs),
            plans=tuple(self.plans[r] for r in runs),
            slots=self.slots[runs],
            rows=np.concatenate(([0], np.cumsum(sizes))).astype(np.int64),
            categories=self.categories,
            category=self.category[mask],
            tasks=tuple(t for t, kept in zip(self.tasks, mask.tolist(), strict=True) if kept),
            planned=self.planned[mask],
            actual=self.actual[mask],
            started=self.started[mask],
            instant=self.instant[mask],
            tail=place[self.tail[arcs]],
            head=place[self.head[arcs]],
            told=tuple(self.told[r] for r in runs),
            resources=self.resources,
            taken=self.taken[mask],
            there=self.there[runs],
        )

    def without(self, keys: Collection[str]) -> History:
        """The history without the runs of these keys."""
        return self.where(lambda r: self.keys[r] not in keys)


def _instant(task: PastTask) -> bool:
    return task.planned is not None and task.planned <= 0


def _planned(runs: Sequence[PastRun]) -> Floats:
    """Planned durations of all records, those that are not known filled in."""
    typical: dict[tuple[str, str], list[float]] = {}
    for run in runs:
        for task in run.tasks:
            if task.planned is None:
                typical.setdefault((run.plan, task.category), [])
    if typical:
        for run in runs:
            for task in run.tasks:
                if (run.plan, task.category) in typical and not _instant(task):
                    typical[run.plan, task.category].append(max(task.actual, SHORTEST))
    medians = {key: float(np.median(values)) for key, values in typical.items()}
    return np.array(
        [
            medians[run.plan, t.category] if t.planned is None else max(t.planned, 0.0)
            for run in runs
            for t in run.tasks
        ],
        dtype=np.float64,
    )


def _arcs(kept: Sequence[Sequence[PastTask]], rows: Ints) -> dict[str, Any]:
    """Arcs between records."""
    tails: list[int] = []
    heads: list[int] = []
    for tasks, first in zip(kept, rows.tolist(), strict=False):
        place: dict[str, list[int]] = {}
        for k, task in enumerate(tasks, first):
            place.setdefault(task.id, []).append(k)
        for k, task in enumerate(tasks, first):
            for before in task.after:
                found = place.get(before, [])
                if len(found) > MANY:
                    # Items of a mapped task: the one that ended last is what was waited for.
                    ends = [
                        (tasks[i - first].started or 0.0) + tasks[i - first].actual for i in found
                    ]
                    found = [found[ends.index(max(ends))]]
                tails += found
                heads += [k] * len(found)
    return {"tail": np.array(tails, dtype=np.int64), "head": np.array(heads, dtype=np.int64)}


def _resources(runs: Sequence[PastRun], flat: Sequence[PastTask]) -> dict[str, Any]:
    """What could run short: resources of which a run says how many there were."""
    names = tuple(dict.fromkeys(name for run in runs for name in run.capacities))
    taken = [[t.resources.get(name, 0.0) for name in names] for t in flat]
    there = [[run.capacities.get(name, np.inf) for name in names] for run in runs]
    return {
        "resources": names,
        "taken": np.array(taken, dtype=np.float64).reshape(len(flat), len(names)),
        "there": np.array(there, dtype=np.float64).reshape(len(runs), len(names)),
    }


NO_HISTORY = History()
"""Of a plan that was never run."""

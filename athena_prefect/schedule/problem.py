"""What a scheduler needs to know of a plan, as arrays: activities, demands, capacities."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from athena_prefect.errors import InfeasibleError, PlanError, UnknownNameError
from athena_prefect.plan.graph import Bools, Floats, Ints, Network
from athena_prefect.plan.model import DEFAULT_MODE

if TYPE_CHECKING:
    from athena_prefect.plan.estimate import Estimate
    from athena_prefect.plan.model import Plan, PlanTask, ResolvedMode

RUNNER = "(runner)"
"""Name of the runner's slots among the resources; no resource of a plan can be called so."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Problem:
    """Activities to be scheduled under resources that they share (multi-mode RCPSP, modes chosen).

    An activity is a task, or one item of a mapped task. Several items are followed
    by a join, which takes neither time nor resources and ends when the task does.
    An activity of no duration takes no resources. Times are in seconds.
    """

    network: Network
    """Activities and their precedence arcs."""
    estimates: Floats
    """Optimistic, likely and pessimistic duration, shape (n, 3); NaN where nothing is known."""
    durations: Floats
    """Planned durations: PERT means, shape (n,); NaN where nothing is known."""
    demands: Floats
    """Units that an activity takes while it runs, shape (n, resources)."""
    capacities: Floats
    """Units that there are, shape (resources,)."""
    resources: tuple[str, ...]
    """Names of the resources."""
    task_ids: tuple[str, ...]
    modes: tuple[str, ...]
    """Mode of each task."""
    rows: Ints
    """Task t's activities are ``rows[t]:rows[t + 1]``; the last of them ends when the task does."""
    items: Ints
    """Items of each task: 1 where it is not mapped."""

    @classmethod
    def of(
        cls,
        plan: Plan,
        *,
        modes: Mapping[str, str] | None = None,
        items: Mapping[str, int] | None = None,
        skipped: Collection[str] = (),
        estimates: Mapping[str, Estimate] | None = None,
    ) -> Problem:
        """The problem of scheduling `plan`.

        `modes`: task → mode, else the default one. `items`: mapped task → known
        number of items, else the expected one; without items only its join is left.
        `skipped` tasks are left out, and nothing waits for them. `estimates`: task →
        what has been learned of one item's duration, instead of the plan's estimate.
        Raises UnknownNameError.
        """
        for name in (*(modes or ()), *(items or ()), *skipped, *(estimates or ())):
            plan.get_task(name)
        return _Reading(plan, modes or {}, items or {}, frozenset(skipped), estimates or {}).problem

    @classmethod
    def build(
        cls,
        network: Network,
        estimates: ArrayLike,
        demands: ArrayLike,
        capacities: ArrayLike,
        *,
        resources: Sequence[str] | None = None,
    ) -> Problem:
        """A problem without a plan: one activity a task.

        `estimates`: durations of shape (n,), or three-point ones of shape (n, 3).
        Raises PlanError where shapes or values do not fit.
        """
        given = np.asarray(estimates, dtype=np.float64)
        points = np.repeat(given[:, None], 3, axis=1) if given.ndim == 1 else given
        capacity = np.asarray(capacities, dtype=np.float64)
        count = len(network)
        demand = np.asarray(demands, dtype=np.float64).reshape(count, len(capacity))
        if points.shape != (count, 3) or not _durations(points):
            raise PlanError(
                f"{count} activities need durations of shape ({count},) or ({count}, 3), "
                "0 ≤ optimistic ≤ likely ≤ pessimistic < ∞, NaN where nothing is known"
            )
        return cls(
            network=network,
            estimates=points,
            durations=mean(points),
            demands=demand,
            capacities=capacity,
            resources=tuple(resources or (f"r{k}" for k in range(len(capacity)))),
            task_ids=network.ids,
            modes=(DEFAULT_MODE,) * count,
            rows=np.arange(count + 1),
            items=np.ones(count, dtype=np.int64),
        )

    def __len__(self) -> int:
        """Number of activities."""
        return len(self.durations)

    def with_capacities(self, capacities: Mapping[str, float]) -> Problem:
        """This problem with other amounts of some resources. Raises UnknownNameError."""
        changed = self.capacities.copy()
        for name, amount in capacities.items():
            if name not in self.resources:
                raise UnknownNameError("resource", name, self.resources)
            changed[self.resources.index(name)] = amount
        return replace(self, capacities=changed)

    def with_factors(self, factors: Mapping[str, float]) -> Problem:
        """This problem with some tasks that take so many times as long. Raises UnknownNameError."""
        if not factors:
            return self
        estimates, durations = self.estimates.copy(), self.durations.copy()
        for name, factor in factors.items():
            pieces = slice(self.activities(name).start, self.activities(name).stop)
            estimates[pieces] *= factor
            durations[pieces] *= factor
        return replace(self, estimates=estimates, durations=durations)

    @cached_property
    def task_of(self) -> Ints:
        """Index of each activity's task, shape (n,)."""
        return np.repeat(np.arange(len(self.task_ids)), np.diff(self.rows))

    @cached_property
    def task_index(self) -> Mapping[str, int]:
        """Task id → index."""
        return {name: i for i, name in enumerate(self.task_ids)}

    def activities(self, task_id: str) -> range:
        """The activities that are items of the task, by map index. Raises UnknownNameError."""
        t = self._task(task_id)
        return range(int(self.rows[t]), int(self.rows[t] + self.items[t]))

    def end_of(self, task_id: str) -> int:
        """The activity that ends when the task does. Raises UnknownNameError."""
        return int(self.rows[self._task(task_id) + 1]) - 1

    def _task(self, task_id: str) -> int:
        try:
            return self.task_index[task_id]
        except KeyError:
            raise UnknownNameError("task", task_id, self.task_ids) from None

    @cached_property
    def ends(self) -> Ints:
        """Of each task the activity that ends when it does."""
        return self.rows[1:] - 1

    @cached_property
    def uncertain(self) -> Bools:
        """The activities whose duration is not one number."""
        spread: Bools = self.estimates[:, 2] > self.estimates[:, 0]
        return spread

    @cached_property
    def unknown(self) -> tuple[str, ...]:
        """The tasks of whose duration nothing is known."""
        tasks = np.unique(self.task_of[np.isnan(self.durations)])
        return tuple(self.task_ids[t] for t in tasks.tolist())

    def require_durations(self) -> None:
        """Raises PlanError, naming the tasks, where durations are not known."""
        if self.unknown:
            raise PlanError(unknown_reason(self.unknown))

    def require_capacity(self) -> None:
        """Raises InfeasibleError for an activity that takes more than there is."""
        needs, have = np.nonzero(self.demands > self.capacities + slack_of(self.capacities))
        for i, r in zip(needs.tolist(), have.tolist(), strict=True):
            if self.durations[i] > 0:
                raise InfeasibleError(
                    f"{self.network.ids[i]!r} needs {self.demands[i, r]:g} of "
                    f"{self.resources[r]!r}, of which there is {self.capacities[r]:g}"
                )


def _durations(points: Floats) -> bool:
    low, likely, high = points.T
    return not ((low < 0) | (low > likely) | (likely > high) | np.isinf(high)).any()


def mean(estimates: Floats) -> Floats:
    """PERT means (o + 4m + p) / 6 of estimates of shape (n, 3); one number is kept as it is."""
    low, likely, high = estimates.T
    result: Floats = np.where(low == high, low, (low + 4 * likely + high) / 6)
    return result


def slack_of(capacities: Floats) -> Floats:
    """Units that adding up demands can be off by: demands like 0.1 are not exact in binary."""
    result: Floats = 1e-9 * np.maximum(1.0, capacities)
    return result


def unknown_reason(tasks: Sequence[str]) -> str:
    """Why figures are null where durations are not known."""
    named = ", ".join(tasks[:5]) + (f" and {len(tasks) - 5} more" if len(tasks) > 5 else "")
    return (
        f"no duration is known of {named}: there is no history yet, "
        "and the plan gives neither an estimate nor a fallback"
    )


class _Reading:
    """A plan being turned into arrays."""

    def __init__(
        self,
        plan: Plan,
        modes: Mapping[str, str],
        items: Mapping[str, int],
        skipped: frozenset[str],
        estimates: Mapping[str, Estimate],
    ) -> None:
        self.tasks = [t for t in plan.tasks if t.id not in skipped]
        self.modes = [t.mode(modes.get(t.id, DEFAULT_MODE)) for t in self.tasks]
        self.items = [self._items(t, items) for t in self.tasks]
        sizes = [count if count == 1 else count + 1 for count in self.items]
        self.rows = np.concatenate(([0], np.cumsum(sizes))).astype(np.int64)
        self.resources = (*plan.resources, RUNNER)
        self.capacities = [*(r.capacity for r in plan.resources.values()), plan.runner.max_workers]
        self.learned = estimates

    @staticmethod
    def _items(task: PlanTask, items: Mapping[str, int]) -> int:
        return items.get(task.id, task.expected_items) if task.map_over is not None else 1

    @property
    def problem(self) -> Problem:
        estimates, demands = self._work()
        return Problem(
            network=self._network(),
            estimates=estimates,
            durations=mean(estimates),
            demands=demands,
            capacities=np.array(self.capacities, dtype=np.float64),
            resources=self.resources,
            task_ids=tuple(t.id for t in self.tasks),
            modes=tuple(m.name for m in self.modes),
            rows=self.rows,
            items=np.array(self.items, dtype=np.int64),
        )

    def _work(self) -> tuple[Floats, Floats]:
        count = int(self.rows[-1])
        estimates = np.zeros((count, 3))
        demands = np.zeros((count, len(self.resources)))
        column = {name: k for k, name in enumerate(self.resources)}
        for task, mode, start, items in zip(
            self.tasks, self.modes, self.rows.tolist(), self.items, strict=False
        ):
            pieces = slice(start, start + items)
            estimates[pieces] = self._points(task, mode)
            demands[pieces, column[RUNNER]] = 1.0
            for name, amount in mode.resources.items():
                demands[pieces, column[name]] = amount
        return estimates, demands

    def _points(self, task: PlanTask, mode: ResolvedMode) -> tuple[float, float, float]:
        estimate = self.learned.get(task.id, mode.estimate)
        if estimate is None:
            return (np.nan, np.nan, np.nan)
        three = (estimate.optimistic, estimate.likely, estimate.pessimistic)
        low, likely, high = (d.total_seconds() for d in three)
        return low, likely, high

    def _network(self) -> Network:
        index = {t.id: i for i, t in enumerate(self.tasks)}
        row = self.rows.tolist()
        ids: list[str] = []
        tails: list[int] = []
        heads: list[int] = []
        lags: list[float] = []
        hard: list[bool] = []
        for t, task in enumerate(self.tasks):
            first, end = row[t], row[t + 1] - 1
            # Items start after what the task waits for; where there are none, the join does.
            fronts = range(first, max(first + self.items[t], first + 1))
            ids += [f"{task.id}[{k}]" for k in range(end - first)] + [task.id]
            if end > first:
                tails += fronts
                heads += [end] * len(fronts)
                lags += [0.0] * len(fronts)
                hard += [True] * len(fronts)
            for arc in task.upstream:
                if arc.task in index:
                    tails += [row[index[arc.task] + 1] - 1] * len(fronts)
                    heads += fronts
                    lags += [arc.lag.total_seconds()] * len(fronts)
                    hard += [arc.hard] * len(fronts)
        return Network.build(ids, tails, heads, lag=lags, hard=hard)

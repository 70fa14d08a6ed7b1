"""Resource-feasible schedules: serial generation and forward-backward improvement."""

from __future__ import annotations

from dataclasses import dataclass, replace
from heapq import heapify, heappop, heappush

import numpy as np
from numpy.typing import ArrayLike

from athena_prefect.errors import PlanError
from athena_prefect.plan.graph import Bools, Floats
from athena_prefect.schedule.passes import TOLERANCE, backward
from athena_prefect.schedule.problem import Problem, slack_of
from athena_prefect.schedule.profile import CapacityProfile
from athena_prefect.schedule.schedule import Schedule


def serial_generation(
    problem: Problem,
    *,
    release: ArrayLike | None = None,
    fixed_starts: Floats | None = None,
    priority: Floats | None = None,
) -> Schedule:
    """The active schedule that serial generation makes (Kolisch 1996).

    Of the activities whose predecessors are placed, the one of least `priority`
    (by default the latest finish time without resources) is placed as early as
    precedence, capacities and its `release` (seconds, one or shape (n,)) allow.
    `fixed_starts`: where it is not NaN the activity stands there, whatever it
    breaks. Raises InfeasibleError where an activity takes more than there is, and
    PlanError where a duration is not known.
    """
    problem.require_durations()
    count = len(problem)
    floor = np.broadcast_to(np.asarray(0.0 if release is None else release, np.float64), (count,))
    given = np.full(count, np.nan) if fixed_starts is None else fixed_starts
    fixed: Bools = ~np.isnan(given)
    _require_capacity(problem, fixed)
    if priority is None:
        priority = -backward(problem.network, problem.durations)
    if priority.shape != (count,):
        raise PlanError(f"{count} activities, but priorities of shape {priority.shape}")
    starts = _Generation(problem, floor, given).run(priority)
    return Schedule(
        problem=problem, starts=starts, finishes=starts + problem.durations, fixed=fixed
    )


def _require_capacity(problem: Problem, fixed: Bools) -> None:
    if fixed.any():
        demands = np.where(fixed[:, None], 0.0, problem.demands)
        problem = replace(problem, demands=demands)
    problem.require_capacity()


@dataclass(slots=True)
class _Generation:
    """One run of serial generation."""

    problem: Problem
    floor: Floats
    fixed: Floats

    def run(self, priority: Floats) -> Floats:
        network = self.problem.network
        place = np.empty(len(network), dtype=np.int64)
        sequence = np.lexsort((network.rank, priority))
        place[sequence] = np.arange(len(network))
        profiles = [
            CapacityProfile(capacity, slack)
            for capacity, slack in zip(
                self.problem.capacities.tolist(),
                slack_of(self.problem.capacities).tolist(),
                strict=True,
            )
        ]
        takes = self._takes(profiles)
        starts: list[float] = self.fixed.tolist()
        self._place_fixed(starts, takes)
        self._place_rest(starts, takes, place.tolist(), sequence.tolist())
        return np.array(starts, dtype=np.float64)

    def _takes(self, profiles: list[CapacityProfile]) -> list[list[tuple[CapacityProfile, float]]]:
        """Of each activity the profiles that it takes from, and how much.

        Resources that suffice for all activities at once are left out.
        """
        problem = self.problem
        demands = np.where(problem.durations[:, None] > 0, problem.demands, 0.0)
        scarce = demands.sum(axis=0) > problem.capacities
        takes: list[list[tuple[CapacityProfile, float]]] = [[] for _ in range(len(problem))]
        rows, columns = np.nonzero(demands * scarce)
        amounts = demands[rows, columns].tolist()
        for i, r, amount in zip(rows.tolist(), columns.tolist(), amounts, strict=True):
            takes[i].append((profiles[r], amount))
        return takes

    def _place_fixed(
        self, starts: list[float], takes: list[list[tuple[CapacityProfile, float]]]
    ) -> None:
        for i in np.flatnonzero(~np.isnan(self.fixed)).tolist():
            start, finish = starts[i], starts[i] + float(self.problem.durations[i])
            for profile, amount in takes[i]:
                profile.take(start, finish, amount)

    def _place_rest(
        self,
        starts: list[float],
        takes: list[list[tuple[CapacityProfile, float]]],
        place: list[int],
        sequence: list[int],
    ) -> None:
        network = self.problem.network
        waits = np.diff(network.pred_ptr).tolist()
        rows, heads, lags = (
            network.succ_ptr.tolist(),
            network.succ.tolist(),
            network.succ_lag.tolist(),
        )
        durations = self.problem.durations.tolist()
        ready: list[float] = self.floor.tolist()
        free = np.isnan(self.fixed).tolist()
        eligible = [place[i] for i, count in enumerate(waits) if not count]
        heapify(eligible)
        while eligible:
            i = sequence[heappop(eligible)]
            duration = durations[i]
            if free[i]:
                starts[i] = _placed(ready[i], duration, takes[i])
            finish = starts[i] + duration
            for arc in range(rows[i], rows[i + 1]):
                head = heads[arc]
                begin = finish + lags[arc]
                if begin > ready[head]:
                    ready[head] = begin
                waits[head] -= 1
                if not waits[head]:
                    heappush(eligible, place[head])


def _placed(after: float, duration: float, takes: list[tuple[CapacityProfile, float]]) -> float:
    """Place an activity as early as all its resources allow; its start."""
    start = after
    agreed = 0
    while agreed < len(takes):
        for profile, amount in takes:
            moment = profile.earliest(start, duration, amount)
            agreed = agreed + 1 if moment == start else 1
            start = moment
            if agreed >= len(takes):
                break
    finish = start + duration
    for profile, amount in takes:
        profile.take(start, finish, amount)
    return start


def improved(
    schedule: Schedule, *, release: ArrayLike | None = None, rounds: int = 100
) -> Schedule:
    """Forward-backward improvement until it gains nothing more (Li, Willis 1992).

    All activities that are not fixed are moved to the right from the end, then to
    the left again in the order that results. `release` as for the first
    generation. Never worse than `schedule`.
    """
    fixed_starts = np.where(schedule.fixed, schedule.starts, np.nan)
    mirror = _mirror(schedule)
    best = schedule
    for _ in range(rounds):
        right = serial_generation(mirror, priority=-best.finishes)
        left = serial_generation(
            schedule.problem,
            release=release,
            fixed_starts=fixed_starts,
            priority=-right.finishes,
        )
        if left.makespan >= best.makespan - TOLERANCE:
            break
        best = left
    return best


def _mirror(schedule: Schedule) -> Problem:
    """The problem with time running backwards; what is fixed takes neither time nor resources."""
    problem = schedule.problem
    return replace(
        problem,
        network=problem.network.reversed(),
        durations=np.where(schedule.fixed, 0.0, problem.durations),
    )

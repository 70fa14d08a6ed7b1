"""A schedule as a partial order: precedence that keeps every resource within its capacity."""

from __future__ import annotations

from collections import OrderedDict
from heapq import heappop, heappush
from typing import NamedTuple

import numpy as np

from athena_prefect.plan.graph import Ints
from athena_prefect.schedule.problem import slack_of
from athena_prefect.schedule.schedule import Schedule


class ResourceArcs(NamedTuple):
    """Arcs without lag beside the network's own: units pass from ``pred[k]`` to ``succ[k]``."""

    pred: Ints
    succ: Ints

    @classmethod
    def none(cls) -> ResourceArcs:
        """No arcs: resources never bind."""
        return cls(np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64))


def partial_order(schedule: Schedule) -> ResourceArcs:
    """Resource arcs that keep the schedule feasible whatever the durations turn out to be.

    Chaining (Policella, Smith, Cesta, Oddi 2004): every unit of a resource goes
    from activity to activity in the order of the schedule, and who gets it waits
    for who had it. Units come first from direct predecessors and from those that
    are waited for anyhow, then from the unused, then from who finished first,
    which leaves the most slack. What runs may hold more than there is; whoever comes
    after that waits for all whose units paid it back, since they may end later than
    expected. No arc leads to an activity that has started. The
    earliest starts under all arcs are never later than the schedule's.
    """
    problem = schedule.problem
    ptr, preds = problem.network.pred_ptr.tolist(), problem.network.pred.tolist()
    waits_for: list[dict[int, None]] = [
        dict.fromkeys(preds[ptr[i] : ptr[i + 1]]) for i in range(len(problem))
    ]
    before = [len(w) for w in waits_for]
    demands = np.where(problem.durations[:, None] > 0, problem.demands, 0.0)
    capacities, slack = problem.capacities, slack_of(problem.capacities)
    sequence = np.lexsort((problem.network.rank, schedule.starts))
    for r in np.flatnonzero(demands.sum(axis=0) > capacities).tolist():
        users = sequence[demands[sequence, r] > 0]
        _chain(
            list(zip(users.tolist(), demands[users, r].tolist(), strict=True)),
            schedule,
            float(capacities[r]),
            float(slack[r]),
            waits_for,
        )
    fixed = schedule.fixed.tolist()
    found = [
        (tail, head)
        for head, tails in enumerate(waits_for)
        if not fixed[head]
        for tail in list(tails)[before[head] :]
    ]
    if not found:
        return ResourceArcs.none()
    pred, succ = np.array(found, dtype=np.int64).T
    return ResourceArcs(pred.copy(), succ.copy())


def _chain(
    users: list[tuple[int, float]],
    schedule: Schedule,
    capacity: float,
    slack: float,
    waits_for: list[dict[int, None]],
) -> None:
    """Hand the units of one resource from user to user; `waits_for` gets the arcs."""
    starts, finishes = schedule.starts.tolist(), schedule.finishes.tolist()
    running: list[tuple[float, int, float]] = []
    free: OrderedDict[int, float] = OrderedDict()  # by finish, the earliest first
    unused = capacity
    payers: list[int] = []
    for user, demand in users:
        while running and running[0][0] <= starts[user]:
            _, owner, units = heappop(running)
            # What runs may hold more than there is; what comes back pays for that first.
            debt = min(units, max(0.0, -unused))
            unused += debt
            if debt > slack:
                payers.append(owner)
            if units - debt > slack:
                free[owner] = units - debt
        needed = demand
        waits_for[user].update(dict.fromkeys(p for p in payers if p not in waits_for[user]))
        for owner in [o for o in waits_for[user] if o in free]:
            needed -= _hand_over(free, owner, needed, slack)
            if needed <= slack:
                break
        if needed > slack and unused > 0:
            taken = min(needed, unused)
            unused -= taken
            needed -= taken
        while needed > slack and free:
            owner = next(iter(free))
            needed -= _hand_over(free, owner, needed, slack)
            waits_for[user][owner] = None
        if needed > slack:
            unused -= needed
        heappush(running, (finishes[user], user, demand))


def _hand_over(free: OrderedDict[int, float], owner: int, needed: float, slack: float) -> float:
    """Take up to `needed` units of `owner`'s; how many it were."""
    units = free[owner]
    if units - needed > slack:
        free[owner] = units - needed
        return needed
    del free[owner]
    return units

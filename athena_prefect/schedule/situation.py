"""Where a run stands, as a longest-path problem: what is fixed, what varies, how far."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from athena_prefect.errors import PlanError
from athena_prefect.plan.graph import Bools, Floats, Network
from athena_prefect.schedule.beta_pert import remaining_row
from athena_prefect.schedule.partial_order import ResourceArcs
from athena_prefect.schedule.passes import forward
from athena_prefect.schedule.problem import Problem

NEVER = -np.inf
"""Lag of an arc that does not count."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Situation:
    """What is left of a problem at a moment, with the bounds of all its outcomes.

    Arrays are of shape (n,) or, for arcs, in the order of ``network.pred``. Seconds.
    """

    problem: Problem
    network: Network
    """Precedence and resource arcs."""
    now: float
    lag: Floats
    """Lag of each arc; −inf where it does not count: into what has begun, to or from what is
    left out."""
    left_out: Bools
    remaining: dict[int, Floats]
    """Quantiles of the durations of what runs and is uncertain."""
    uncertain: Bools
    """The activities whose duration varies."""
    durations: Floats
    """Durations of all others."""
    least_start: Floats
    """Earliest start there may be."""
    least: Floats
    """Earliest finish there may be."""
    most: Floats
    """Latest finish there may be."""

    @classmethod
    def of(
        cls,
        problem: Problem,
        arcs: ResourceArcs,
        *,
        now: float,
        started: Floats | None = None,
        finished: Floats | None = None,
        left_out: Bools | None = None,
        release: Floats | None = None,
        network: Network | None = None,
    ) -> Situation:
        """The situation at `now`; see `simulation.simulate` for the arguments."""
        count = len(problem)
        done_at = _moments(finished, count, "finished")
        began_at = np.where(np.isnan(done := _moments(started, count, "started")), done_at, done)
        out = np.zeros(count, dtype=np.bool_) if left_out is None else left_out
        begun: Bools = ~np.isnan(began_at)
        if (done_at < began_at).any():
            raise PlanError("an activity finished before it started")
        running = begun & np.isnan(done_at)
        network = _turned(problem, arcs, network, running, begun | out)
        certain, remaining = _durations(problem, now - began_at, running & ~out)
        certain = np.where(begun & ~running, done_at - began_at, certain)
        certain[out] = 0.0
        uncertain = problem.uncertain & ~begun & ~out
        spread = np.stack((certain, certain), axis=1)
        spread[uncertain] = problem.estimates[uncertain][:, [0, 2]]
        for i, row in remaining.items():
            spread[i] = row[0], row[-1]
            uncertain[i] = True
        floor = np.maximum(now, 0.0 if release is None else release)
        floor = np.where(begun, began_at, floor)
        live: Bools = ~(begun[network.heads] | out[network.heads] | out[network.pred])
        lag = np.where(live, network.pred_lag, NEVER)
        starts, finishes = forward(network, spread, floor=floor, lag=lag)
        return cls(
            problem=problem,
            network=network,
            now=now,
            lag=lag,
            left_out=out,
            remaining=remaining,
            uncertain=uncertain,
            durations=certain,
            least_start=starts[:, 0],
            least=finishes[:, 0],
            most=finishes[:, 1],
        )

    @property
    def varying(self) -> Bools:
        """The activities whose finish differs between runs."""
        mask: Bools = (self.most > self.least) & ~self.left_out
        return mask

    @property
    def ends(self) -> Bools:
        """The activities that nothing waits for and that are not left out."""
        waited = np.zeros(len(self.problem), dtype=np.bool_)
        waited[self.network.pred[self.lag > NEVER]] = True
        mask: Bools = ~(waited | self.left_out)
        return mask


def _moments(given: Floats | None, count: int, name: str) -> Floats:
    if given is None:
        return np.full(count, np.nan)
    if given.shape != (count,):
        raise PlanError(f"{count} activities, but `{name}` of shape {given.shape}; NaN means not")
    return given


def _turned(
    problem: Problem, arcs: ResourceArcs, network: Network | None, running: Bools, over: Bools
) -> Network:
    """The network with all arcs; who overtook holds the units, and the overtaken waits for it."""
    overtaken = running[arcs.succ] & ~over[arcs.pred]
    if overtaken.any():
        tails = np.where(overtaken, arcs.succ, arcs.pred)
        heads = np.where(overtaken, arcs.pred, arcs.succ)
        # What runs waits for nothing, so without the arcs into it there is no cycle.
        tail, head, lag, hard = problem.network.arcs
        keep, more = ~running[head], ~running[heads]
        return Network.build(
            problem.network.ids,
            np.concatenate((tail[keep], tails[more])),
            np.concatenate((head[keep], heads[more])),
            lag=np.concatenate((lag[keep], np.zeros(more.sum()))),
            hard=np.concatenate((hard[keep], np.ones(more.sum(), dtype=np.bool_))),
        )
    return problem.network.extended(*arcs) if network is None else network


def _durations(
    problem: Problem, elapsed: Floats, running: Bools
) -> tuple[Floats, dict[int, Floats]]:
    """Durations, where they are certain, and the quantiles of what runs and is uncertain."""
    durations = problem.durations.copy()
    remaining: dict[int, Floats] = {}
    for i in np.flatnonzero(running).tolist():
        row = remaining_row(problem.estimates[i], float(elapsed[i]))
        durations[i] = row[0]
        if row[0] < row[-1]:
            remaining[i] = row
    return durations, remaining

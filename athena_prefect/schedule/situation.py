"""Where a run stands, as a longest-path problem: what is fixed, what may vary, and how far."""

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
    """A reference run of what is left of a problem, and the bounds of all other runs.

    Arrays are of shape (n,) or, for arcs, in the order of ``network.pred``.
    """

    problem: Problem
    network: Network
    """Precedence and resource arcs."""
    lag: Floats
    """Lag of each arc; −inf where it does not count: into what has begun, to or from what is
    left out."""
    left_out: Bools
    durations: Floats
    """Durations in the reference run."""
    remaining: dict[int, Floats]
    """Quantiles of the durations of what runs and is uncertain."""
    uncertain: Bools
    """The activities whose duration varies between runs."""
    starts: Floats
    finishes: Floats
    slack: Floats
    """Seconds by which each arc does not bind in the reference run; inf where it does not count."""
    least_start: Floats
    """Least deviation of a start from the reference run."""
    least: Floats
    """Least deviation of a finish."""
    most: Floats
    """Largest deviation of a finish."""

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
        durations, remaining = _durations(problem, now - began_at, running & ~out)
        durations = np.where(begun & ~running, done_at - began_at, durations)
        durations = np.where(out, 0.0, durations)
        floor = np.maximum(now, 0.0 if release is None else release)
        floor = np.where(begun, began_at, floor)
        live: Bools = ~(begun[network.heads] | out[network.heads] | out[network.pred])
        lag = np.where(live, network.pred_lag, NEVER)
        starts, finishes = forward(network, durations, floor=floor, lag=lag)
        slack = starts[network.heads] - (finishes[network.pred] + lag)
        uncertain = problem.uncertain & ~begun & ~out
        shortest = np.where(uncertain, problem.estimates[:, 0] - durations, 0.0)
        longest = np.where(uncertain, problem.estimates[:, 2] - durations, 0.0)
        for i, row in remaining.items():
            shortest[i], longest[i] = row[0] - durations[i], row[-1] - durations[i]
            uncertain[i] = True
        early = np.where(begun | out, 0.0, floor - starts)
        least_start, least = forward(network, shortest, floor=early, lag=-slack)
        _, most = forward(network, longest, floor=early, lag=-slack)
        return cls(
            problem=problem,
            network=network,
            lag=lag,
            left_out=out,
            durations=durations,
            remaining=remaining,
            uncertain=uncertain,
            starts=starts,
            finishes=finishes,
            slack=slack,
            least_start=least_start,
            least=least,
            most=most,
        )

    @property
    def varying(self) -> Bools:
        """The activities whose finish differs between runs."""
        mask: Bools = self.most > self.least
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
    """Durations of the reference run, and the rest of what runs and is uncertain."""
    durations = problem.durations.copy()
    remaining: dict[int, Floats] = {}
    for i in np.flatnonzero(running).tolist():
        row = remaining_row(problem.estimates[i], float(elapsed[i]))
        durations[i] = row[0] if row[0] == row[-1] else row.mean()
        if row[0] < row[-1]:
            remaining[i] = row
    return durations, remaining

"""How a schedule fares when durations are not what they are planned to be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np

from athena_prefect.plan.graph import Floats
from athena_prefect.schedule.beta_pert import LEVELS, quantiles, remaining_row
from athena_prefect.schedule.partial_order import ResourceArcs
from athena_prefect.schedule.passes import forward
from athena_prefect.schedule.rest import Rest
from athena_prefect.schedule.schedule import Schedule
from athena_prefect.schedule.simulation import simulate
from athena_prefect.schedule.situation import NEVER

CELLS = 1_000_000
"""Samples of all activities together in one simulation: some 15 ms of work."""
LEAST, MOST = 200, 2_000
"""Scenarios of one schedule: the standard error of a probability is at most 3.5 points with
the least and 1.1 with the most."""
QUANTILES = (0.1, 0.5, 0.8, 0.9, 0.95)
"""Of the finish, that are told."""
OFTEN = 0.5
"""Criticality index from which a task is taken to set the finish: in every second scenario."""


class Scenario(StrEnum):
    """A named course of events."""

    BEST = "best"
    """Every task takes its P10 duration."""
    NOMINAL = "nominal"
    """Every task takes its P50 duration."""
    WORST = "worst"
    """Every task takes its P95 duration: none of the others ends later but `RECOVERY`."""
    EDGE = "edge"
    """The tasks that set the finish in most scenarios take their P95 durations, the rest P50."""
    RECOVERY = "recovery"
    """The open task that sets the finish most often fails once, at its end, and is done again."""


@dataclass(frozen=True, kw_only=True)
class Robustness:
    """What a simulation of a schedule says; seconds from the start of the run."""

    quantiles: Mapping[str, float]
    """Finish: p10, p50, p80, p90, p95."""
    accepted: float
    """Finish at the accept quantile: what can be promised."""
    p_deadline: float | None
    """P(finish ≤ deadline); None without a deadline."""
    samples: int
    certain: bool
    """Nothing varies: every figure is exact."""
    criticality: Mapping[str, float] = field(default_factory=dict)
    """Open task → share of the scenarios in which it is on a longest path; empty if not asked."""
    late: Mapping[str, float] = field(default_factory=dict)
    """Open task → P(finish > its limit), where limits were given."""
    finishes: Floats = field(default_factory=lambda: np.zeros(0), repr=False, compare=False)
    """Sorted finishes of the scenarios."""
    forecast_p50: float | None = None
    """P50 as forecasts reckon it, where the others rest on more; None: it is the same."""

    @property
    def p50(self) -> float:
        """Median finish."""
        return self.quantiles["p50"]

    def probability(self, moment: float) -> float:
        """P(finish ≤ moment)."""
        count = np.searchsorted(self.finishes, moment + 1e-6, side="right")
        return float(count) / len(self.finishes)


def quantiles_of(finishes: Floats) -> dict[str, float]:
    """The `QUANTILES` of simulated finishes, by name."""
    return {f"p{100 * q:g}": float(np.quantile(finishes, q)) for q in QUANTILES}


def samples_for(activities: int) -> int:
    """Scenarios for a schedule of so many activities."""
    return min(max(CELLS // max(activities, 1), LEAST), MOST)


def assess(
    rest: Rest,
    schedule: Schedule,
    arcs: ResourceArcs,
    *,
    accept_quantile: float,
    seed: int,
    running: Mapping[int, float] | None = None,
    left_out: np.ndarray | None = None,
    samples: int | None = None,
    criticality: bool = False,
    limits: Floats | None = None,
) -> Robustness:
    """Simulate a schedule on its partial order; the same seed gives the same luck.

    `running`: activities that have begun and not ended → their expected end, which is
    conditioned on the time that they have taken.
    """
    problem = schedule.problem
    begun = ~rest.free
    still = np.zeros(len(problem), dtype=np.bool_)
    still[list(running or {})] = True
    simulation = simulate(
        problem,
        arcs,
        samples=samples or samples_for(len(problem)),
        rng=np.random.default_rng(seed),
        now=rest.now,
        started=np.where(begun, rest.starts, np.nan),
        finished=np.where(begun & ~still, rest.starts + problem.durations, np.nan),
        left_out=left_out,
        release=rest.release,
        criticality=criticality,
        limits=limits,
    )
    certain = bool(simulation.makespans[0] == simulation.makespans[-1])
    return Robustness(
        quantiles={f"p{100 * q:g}": simulation.quantile(q) for q in QUANTILES},
        accepted=simulation.quantile(accept_quantile),
        p_deadline=None if rest.deadline is None else simulation.probability(rest.deadline),
        samples=1 if certain else simulation.samples,
        certain=certain,
        criticality=_by_task(rest, simulation.criticality),
        late=_by_task(rest, simulation.late),
        finishes=simulation.makespans,
    )


def _by_task(rest: Rest, values: Floats | None) -> dict[str, float]:
    """The greatest value of each open task's activities."""
    if values is None:
        return {}
    problem, found = rest.problem, dict[str, float]()
    for i in np.flatnonzero(~np.isnan(values)).tolist():
        task = problem.task_ids[int(problem.task_of[i])]
        found[task] = max(found.get(task, 0.0), float(values[i]))
    return found


def named_scenarios(
    rest: Rest,
    schedule: Schedule,
    arcs: ResourceArcs,
    criticality: Mapping[str, float],
    *,
    running: Mapping[int, float] | None = None,
) -> dict[Scenario, float]:
    """The finish in each of the five named scenarios, in seconds from the start of the run."""
    problem = schedule.problem
    critical = np.array([criticality.get(t, 0.0) for t in problem.task_ids])[problem.task_of]
    open_ = rest.free.copy()
    open_[list(running or {})] = True
    medians = _durations(rest, schedule, 0.5, running or {})
    edge = np.where(critical >= OFTEN, _durations(rest, schedule, 0.95, running or {}), medians)
    again = medians.copy()
    candidates = np.where(open_, critical, -1.0)
    if open_.any():
        # The longest of those that are critical most often: its failure costs most.
        first = np.lexsort((-medians, -candidates))[0]
        again[first] += problem.durations[first] if rest.free[first] else medians[first]
    durations = {
        Scenario.BEST: _durations(rest, schedule, 0.1, running or {}),
        Scenario.NOMINAL: medians,
        Scenario.WORST: _durations(rest, schedule, 0.95, running or {}),
        Scenario.EDGE: edge,
        Scenario.RECOVERY: again,
    }
    network = problem.network.extended(*arcs)
    lag = np.where(rest.free[network.heads], network.pred_lag, NEVER)
    return {
        name: float(forward(network, lengths, floor=rest.floor, lag=lag)[1].max(initial=rest.now))
        for name, lengths in durations.items()
    }


def _durations(
    rest: Rest, schedule: Schedule, quantile: float, running: Mapping[int, float]
) -> Floats:
    """The quantile of every duration; what has ended keeps its own."""
    problem = schedule.problem
    lengths = np.where(rest.free, quantiles(problem.estimates, quantile), problem.durations)
    for i in running:
        row = remaining_row(problem.estimates[i], rest.now - float(rest.starts[i]))
        lengths[i] = row[min(int(quantile * LEVELS), LEVELS - 1)]
    return lengths

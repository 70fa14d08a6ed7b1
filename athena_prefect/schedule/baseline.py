"""The plan of one run before it starts: what everything later is held against."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from athena_prefect.errors import InfeasibleError
from athena_prefect.schedule.partial_order import ResourceArcs, partial_order
from athena_prefect.schedule.problem import Problem, unknown_reason
from athena_prefect.schedule.schedule import Schedule, ScheduledTask, first_of_rows
from athena_prefect.schedule.simulation import Simulation, simulate
from athena_prefect.schedule.solver import improved, serial_generation

if TYPE_CHECKING:
    from athena_prefect.plan.estimate import Estimate
    from athena_prefect.plan.model import Plan

QUANTILES = (0.1, 0.5, 0.8, 0.9, 0.95)
"""Quantiles of the finish that are kept besides the accepted one."""
TASK_FIELDS = tuple(f.name for f in fields(ScheduledTask))
IMPROVED = 1000
"""Activities up to which the schedule is improved: beyond, it takes more than 0.1 s."""


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """The accepted schedule of one plan run; times in seconds from the start of the run.

    Figures that need a duration nobody knows are None, and `reasons` says why.
    """

    tasks: Mapping[str, ScheduledTask] = field(default_factory=dict)
    """Planned start and finish of each task, with PERT means for durations."""
    makespan: float | None = None
    """Planned finish of all, with PERT means for durations."""
    p50: float | None = None
    """P50 finish of the simulation: the baseline finish."""
    accepted: float | None = None
    """Finish at `accept_quantile`: what is promised."""
    p_deadline: float | None = None
    """P(deadline) then; None without a deadline."""
    accept_quantile: float
    quantiles: Mapping[str, float] = field(default_factory=dict)
    """Finish quantiles of the simulation, ``p10`` … ``p95``."""
    p50_starts: Mapping[str, float] = field(default_factory=dict)
    """P50 start of each task."""
    p50_finishes: Mapping[str, float] = field(default_factory=dict)
    """P50 finish of each task."""
    resource_arcs: tuple[tuple[int, int], ...] = ()
    """Arcs between activities of `problem` that keep resources within capacity."""
    modes: Mapping[str, str] = field(default_factory=dict)
    """Task → mode, where it is not the default one."""
    items: Mapping[str, int] = field(default_factory=dict)
    """Mapped task → items that were planned with."""
    skipped: tuple[str, ...] = ()
    """Tasks that were left out."""
    seed: int
    samples: int
    reasons: tuple[str, ...] = ()
    """Why figures are None."""
    history: Mapping[str, Any] = field(default_factory=dict)
    """What of finished runs the figures rest on; where on the plan's estimates, `without` says
    why."""

    @property
    def known(self) -> bool:
        """Whether there are figures."""
        return self.p50 is not None

    @property
    def arcs(self) -> ResourceArcs:
        """The resource arcs as arrays."""
        if not self.resource_arcs:
            return ResourceArcs.none()
        pred, succ = np.array(self.resource_arcs, dtype=np.int64).T
        return ResourceArcs(pred.copy(), succ.copy())

    def problem(self, plan: Plan, *, estimates: Mapping[str, Estimate] | None = None) -> Problem:
        """The problem whose activities `resource_arcs` speak of."""
        return Problem.of(
            plan, modes=self.modes, items=self.items, skipped=self.skipped, estimates=estimates
        )

    def as_dict(self) -> dict[str, Any]:
        """The baseline as JSON-able data, which `from_dict` reads back."""
        data = {**self.__dict__}
        # By hand: `asdict` copies each value and takes ten times as long.
        data["tasks"] = {
            name: {f: getattr(task, f) for f in TASK_FIELDS} for name, task in self.tasks.items()
        }
        data["resource_arcs"] = [list(arc) for arc in self.resource_arcs]
        for name in ("quantiles", "p50_starts", "p50_finishes", "modes", "items", "history"):
            data[name] = dict(data[name])
        for name in ("skipped", "reasons"):
            data[name] = list(data[name])
        return data

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """The baseline that `as_dict` wrote."""
        return cls(
            **{
                **data,
                "tasks": {name: ScheduledTask(**task) for name, task in data["tasks"].items()},
                "resource_arcs": tuple((int(a), int(b)) for a, b in data["resource_arcs"]),
                "skipped": tuple(data["skipped"]),
                "reasons": tuple(data["reasons"]),
            }
        )


def make_baseline(
    plan: Plan,
    *,
    seed: int,
    samples: int,
    modes: Mapping[str, str] | None = None,
    items: Mapping[str, int] | None = None,
    skipped: Collection[str] = (),
    estimates: Mapping[str, Estimate] | None = None,
    deadline: float | None = None,
) -> Baseline:
    """The baseline of a run of `plan`: a feasible schedule, its partial order, its quantiles.

    The same seeded simulation, made at the start of the run with the same arcs,
    gives the same finish: the deviation is 0 then by construction. `modes`, `items`,
    `skipped` and `estimates` as in `Problem.of`; `deadline` in seconds from the start.
    Where a duration is not known, or a task needs more than there is, the figures are
    None and `reasons` says why.
    """
    problem = Problem.of(plan, modes=modes, items=items, skipped=skipped, estimates=estimates)
    quantile = plan.replanning.policy.accept_quantile
    mapped = [t for t in problem.task_ids if plan.get_task(t).map_over is not None]
    frame = Baseline(
        accept_quantile=quantile,
        modes={t: m for t, m in (modes or {}).items() if t in problem.task_index},
        items={t: int(problem.items[problem.task_index[t]]) for t in mapped},
        skipped=tuple(t for t in plan.task_ids if t not in problem.task_index),
        seed=seed,
        samples=samples,
    )
    if problem.unknown:
        return replace(frame, reasons=(unknown_reason(problem.unknown),))
    try:
        schedule = feasible_schedule(problem)
    except InfeasibleError as error:
        return replace(frame, reasons=(str(error),))
    arcs = partial_order(schedule)
    simulation = simulate(
        problem, arcs, samples=samples, rng=np.random.default_rng(seed), keep=True
    )
    chance = None if deadline is None else simulation.probability(deadline)
    return _filled(replace(frame, p_deadline=chance), schedule, arcs, simulation)


def feasible_schedule(problem: Problem) -> Schedule:
    """The schedule of serial generation, improved where that is quick."""
    schedule = serial_generation(problem)
    return improved(schedule) if len(problem) <= IMPROVED else schedule


def _filled(
    frame: Baseline, schedule: Schedule, arcs: ResourceArcs, simulation: Simulation
) -> Baseline:
    problem = schedule.problem
    starts = first_of_rows(problem, simulation.start_p50)
    finishes = simulation.finish_p50[problem.ends]
    return replace(
        frame,
        tasks=schedule.tasks,
        makespan=schedule.makespan,
        p50=simulation.quantile(0.5),
        accepted=simulation.quantile(frame.accept_quantile),
        quantiles={f"p{100 * q:g}": simulation.quantile(q) for q in QUANTILES},
        p50_starts=dict(zip(problem.task_ids, starts.tolist(), strict=True)),
        p50_finishes=dict(zip(problem.task_ids, finishes.tolist(), strict=True)),
        resource_arcs=tuple(zip(arcs.pred.tolist(), arcs.succ.tolist(), strict=True)),
    )

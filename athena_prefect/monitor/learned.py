"""What a history teaches of the runs of a plan: estimates, baselines, scenarios."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from functools import cached_property

import numpy as np

from athena_prefect.errors import PlanError
from athena_prefect.monitor.capacity import slots_of
from athena_prefect.monitor.chain import JOIN, Chain
from athena_prefect.monitor.conformal import Calibration, calibration_of, stretched
from athena_prefect.monitor.course import Course, Stage
from athena_prefect.monitor.forecast import QUANTILES, quantile_of
from athena_prefect.monitor.history import SHORTEST, History
from athena_prefect.monitor.knowledge import Knowledge
from athena_prefect.monitor.rest import Scenarios, Work, scenarios
from athena_prefect.plan.estimate import Estimate, LearnedEstimate
from athena_prefect.plan.graph import Bools, Floats, Ints, Network
from athena_prefect.plan.model import DEFAULT_MODE, Plan
from athena_prefect.schedule.baseline import Baseline, make_baseline
from athena_prefect.schedule.problem import unknown_reason

ESTIMATES = "from the plan's estimates"
"""What a forecast rests on where there is no history."""
SAMPLES = 400
"""Scenarios of a forecast from history: the median is off by a sixteenth of the spread."""


CELLS = 1_000_000
"""Drawn durations of one forecast: some 100 ms of work at 10,000 open tasks."""
THREE = (0.05, 0.5, 0.95)
"""Quantiles that stand for the three points of what was learned."""


def samples_for(activities: int) -> int:
    """Scenarios of a forecast of so many activities: 100 to `SAMPLES`.

    The standard error of a probability is at most 2.5 points with 400, 5 with 100.
    """
    return min(max(CELLS // max(activities, 1), 100), SAMPLES)


def _three(seconds: Floats) -> Estimate:
    low, likely, high = (timedelta(seconds=float(s)) for s in seconds)
    return Estimate(optimistic=low, likely=likely, pessimistic=high)


@dataclass(frozen=True, kw_only=True, eq=False)
class LearnedSimulation:
    """Scenarios of a run from history; seconds from its start. Like `Simulation`."""

    makespans: Floats
    """Finish of the run in each scenario, ascending."""
    late: Floats | None
    """P(finish > limit) of each activity, where limits were given."""
    drawn: Scenarios
    nodes: Ints
    """The activities that are open, in the rows of `drawn`."""
    start: Floats
    """Start of each activity, where it has begun; seconds."""
    finish: Floats
    """Finish of each activity, where it has ended; seconds."""
    waiting: Bools
    """Of `nodes` those that have not begun."""
    now: float
    start_samples: None = None
    """Not kept: the P50 starts are all that is asked for."""

    @cached_property
    def finish_p50(self) -> Floats:
        """P50 finish of each activity."""
        found = self.finish.copy()
        if len(self.nodes):
            found[self.nodes] = np.median(self.drawn.finishes, axis=1)
        return found

    @cached_property
    def start_p50(self) -> Floats:
        """P50 start of each activity."""
        found = self.start.copy()
        if self.waiting.any():
            begun = self.drawn.finishes[self.waiting] - self.drawn.lengths[self.waiting]
            found[self.nodes[self.waiting]] = np.maximum(np.median(begun, axis=1), self.now)
        return found


@dataclass(frozen=True, kw_only=True, eq=False)
class Learned:
    """What a history teaches of the runs of a plan; made once, used for many forecasts."""

    history: History
    plan: str
    told: Calibration | None = None
    """The calibration, where it was made before and kept."""

    @classmethod
    def of(cls, history: History, plan: str) -> Learned:
        """What `history` teaches of `plan`; kept with the history."""
        found: Learned = history.memo.setdefault(("learned", plan), cls(history=history, plan=plan))
        return found

    def __str__(self) -> str:
        runs = self.history.of_plan(self.plan)
        records = int(np.diff(self.history.rows)[runs].sum())
        return (
            f"from {len(runs):,} run{'' if len(runs) == 1 else 's'}, "
            f"{records:,} record{'' if records == 1 else 's'}"
        )

    @cached_property
    def knowledge(self) -> Knowledge:
        """Slowness, shapes and spreads."""
        return Knowledge(self.history, self.plan)

    @cached_property
    def calibration(self) -> Calibration:
        """What forecasts of the finished runs would have been off by."""
        return self.told or calibration_of(self.history, self.plan)

    def estimates(self, plan: Plan) -> dict[str, Estimate]:
        """Three-point estimates of the tasks of `plan` that leave theirs to be learned."""
        found = {}
        for task in plan.tasks:
            if isinstance(task.duration, LearnedEstimate):
                durations = self.history.durations(task.group, self.plan)
                if len(durations):
                    found[task.id] = _three(np.quantile(durations, THREE))
        return found

    def posterior_estimates(
        self, chain: Chain, course: Course, *, seed: int
    ) -> dict[str, Estimate]:
        """Three-point estimates of all open tasks by their posterior, calibrated."""
        kept, work = work_of(chain, course, self.history, self.plan)
        drawn = self.drawn(work, samples_for(len(kept)), np.random.default_rng(seed))
        found: dict[str, Estimate] = {}
        for node, lengths in zip(kept[drawn.nodes].tolist(), drawn.lengths, strict=True):
            task_id, index = chain.items[node]
            plain = chain.mode_of(task_id) == DEFAULT_MODE and index != JOIN
            if plain and course.stage[node] == Stage.WAITING:
                found.setdefault(task_id, _three(np.quantile(lengths, THREE)))
        return found

    def baseline(
        self, plan: Plan, *, seed: int, samples: int, deadline: float | None = None
    ) -> Baseline:
        """The baseline of a run of `plan`, its finish by the forecast from history.

        The same forecast at the start of the run gives the same finish. Planned starts and
        durations are the plan's own, where it has any.
        """
        made, ends, _ = self._before(plan, seed, samples)
        if deadline is None or not made.known:
            return made
        return replace(made, p_deadline=float((ends <= deadline + SHORTEST).mean()))

    def before(self, plan: Plan, *, seed: int) -> tuple[Baseline, Floats, dict[str, Estimate]]:
        """Of a run of `plan` its baseline, its finishes (s), and what its tasks may take."""
        made, ends, chain = self._before(plan, seed, SAMPLES)
        if not made.known:
            return made, ends, self.estimates(plan)
        return made, ends, self.posterior_estimates(chain, chain.course(), seed=seed)

    def _before(self, plan: Plan, seed: int, samples: int) -> tuple[Baseline, Floats, Chain]:
        estimates = self.estimates(plan)
        made = make_baseline(plan, seed=seed, samples=samples, estimates=estimates)
        if not made.known:
            return made, np.zeros(0), Chain.of(plan, made, estimates=estimates)
        chain = Chain.of(plan, made, estimates=estimates)
        course = chain.course()
        found = self.simulated(
            chain,
            course,
            samples=samples_for(len(chain.problem)),
            rng=np.random.default_rng(seed),
        )
        with_history = replace(
            made,
            p50=quantile_of(found.makespans, 0.5),
            accepted=quantile_of(found.makespans, made.accept_quantile),
            quantiles={name: quantile_of(found.makespans, q) for name, q in QUANTILES.items()},
            history={"basis": str(self), "calibration": self.calibration.as_dict()},
        )
        return with_history, found.makespans, chain

    def drawn(self, work: Work, samples: int, rng: np.random.Generator) -> Scenarios:
        """Scenarios of the rest, made right by the calibration; the same ranks, other times."""
        raw = scenarios(self.knowledge, work, samples, rng)
        if not len(raw.nodes):
            return raw
        ends = stretched(raw, work, self.calibration, self.knowledge.fresh(work.open_work))
        factor = (ends - work.now) / np.maximum(raw.ends - work.now, SHORTEST)
        # In place: of 10,000 activities these are arrays of 8 MB each.
        finishes, lengths = raw.finishes, raw.lengths
        finishes -= work.now
        finishes *= factor
        finishes += work.now
        lengths *= factor
        return replace(raw, ends=ends)

    def simulated(
        self,
        chain: Chain,
        course: Course,
        *,
        samples: int,
        rng: np.random.Generator,
        latest: Floats | None = None,
    ) -> LearnedSimulation:
        """Scenarios of what is left, from where `course` stands; see `Chain.simulated`."""
        kept, work = work_of(chain, course, self.history, self.plan)
        drawn = self.drawn(work, samples, rng)
        nodes = kept[drawn.nodes]
        late = None
        if latest is not None:
            late = np.where(course.finish > latest, 1.0, 0.0)
            late[nodes] = (drawn.finishes > latest[nodes, None]).mean(axis=1)
        return LearnedSimulation(
            makespans=np.sort(drawn.ends),
            late=late,
            drawn=drawn,
            nodes=nodes,
            start=course.start.copy(),
            finish=course.finish.copy(),
            waiting=course.stage[nodes] == Stage.WAITING,
            now=work.now,
        )


def work_of(chain: Chain, course: Course, history: History, plan: str) -> tuple[Ints, Work]:
    """The open and the ended work of a run, and the nodes of the chain that it is."""
    problem = chain.problem
    dead = course.stage == Stage.DEAD
    kept = np.flatnonzero(~dead)
    done = (course.stage == Stage.DONE)[kept]
    running = (course.stage == Stage.RUNNING)[kept]
    joins = chain.joins[kept]
    for k in np.flatnonzero(joins).tolist():
        done[k] |= course.is_past(int(kept[k]))
    slots, network = capacity_of(chain)
    network = without(network, dead)
    names, codes = chain.groups
    used, category = np.unique(codes[kept], return_inverse=True)
    categories = tuple(names[c] for c in used.tolist())
    planned = problem.durations[kept]
    for n in np.flatnonzero(np.isnan(planned)).tolist():
        learnt = history.typical(categories[category[n]], plan)
        if learnt is None:
            if not done[n]:
                raise PlanError(unknown_reason((chain.items[kept[n]][0],)))
            learnt = float(course.finish[kept[n]] - course.start[kept[n]])
        planned[n] = learnt
    instant = joins | (planned <= 0)
    return kept, Work(
        plan=plan,
        network=network,
        categories=categories,
        category=category.astype(np.int64),
        planned=np.where(instant, 0.0, np.maximum(planned, SHORTEST)),
        start=np.where(done | running, course.start[kept], np.nan),
        finish=np.where(done, course.finish[kept], np.nan),
        now=course.now,
        slots=slots,
        instant=instant,
    )


def capacity_of(chain: Chain) -> tuple[float, Network]:
    """Slots and the network: without resource arcs where all work takes equally much.

    Where demands differ, the order of the schedule in force keeps every resource within
    its capacity, whatever the durations.
    """
    problem = chain.problem
    slots = slots_of(problem.demands[problem.durations != 0], problem.capacities)
    return (np.inf, chain.network) if slots is None else (slots, problem.network)


def without(network: Network, dead: Bools) -> Network:
    """The network without some nodes; nothing waits for them."""
    if not dead.any():
        return network
    place = np.cumsum(~dead) - 1
    tail, head, lag, hard = network.arcs
    keep = ~dead[tail] & ~dead[head]
    ids = tuple(i for i, gone in zip(network.ids, dead.tolist(), strict=True) if not gone)
    return Network.build(ids, place[tail[keep]], place[head[keep]], lag=lag[keep], hard=hard[keep])

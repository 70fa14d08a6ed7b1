"""PlanOrchestrator: generate, verify, simulate, refine, for a plan or for what is left of one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import numpy as np

from athena_prefect.assumptions.validator import AssumptionValidator
from athena_prefect.errors import InfeasibleError, PlanError
from athena_prefect.learning.memory import MemoryPolicy, Recalled, estimates_with
from athena_prefect.monitor.monitor import ExecutionMonitor
from athena_prefect.plan.estimate import Estimate
from athena_prefect.plan.graph import Network
from athena_prefect.plan.policy import ReplanningPolicy
from athena_prefect.replanning.engine import AdaptiveReplanningEngine
from athena_prefect.schedule.answer import Answer, Objective, Outcome
from athena_prefect.schedule.generate import generate, generate_exactly
from athena_prefect.schedule.problem import Problem
from athena_prefect.schedule.proposal import (
    Phase6Orchestrator,
    Proposal,
    claim_of,
    running_of,
)
from athena_prefect.schedule.rest import Rest
from athena_prefect.schedule.robustness import Robustness, assess
from athena_prefect.schedule.standing import NO_LEVERS, Levers, Standing, choice_of, rest_of
from athena_prefect.schedule.verification import Verification, verify

__all__ = ["Phase6Orchestrator", "PlanOrchestrator", "engine_of"]

AFTER_S = 30e-6
"""Seconds that proving and simulating a schedule takes an activity: measured, at 10,000 of them."""
MOST_AFTER = 0.4
"""Share of a proposal's budget that is kept for that at most."""
ROUNDS = 3
"""Times that a proposal is made: each later one aims earlier by what the simulation said."""


@dataclass(frozen=True, kw_only=True)
class PlanOrchestrator:
    """Proposals within a time budget; fulfils `Phase6Orchestrator`.

    `clock` gives seconds from any origin, such as `time.perf_counter`: the core
    reads none itself.
    """

    clock: Callable[[], float]
    policy: ReplanningPolicy = ReplanningPolicy()  # noqa: RUF009 - frozen
    workers: int = 2
    """Threads of the constraint solver."""
    lessons: tuple[Recalled, ...] = ()
    """What earlier runs taught (`learning.memory.recall`): the sure ones change estimates."""
    memory: MemoryPolicy = MemoryPolicy()  # noqa: RUF009 - frozen

    def informed(self, standing: Standing) -> Standing:
        """`standing` with the estimates that lessons give for what has not begun.

        An estimate that it has already, from the history itself, stays.
        """
        learned, _ = self._learned(standing)
        if all(t in standing.estimates for t in learned):
            return standing
        return replace(standing, estimates={**learned, **standing.estimates})

    def _learned(self, standing: Standing) -> tuple[dict[str, Estimate], tuple[str, ...]]:
        if not self.lessons:
            return {}, ()
        found, used = estimates_with(standing.plan, self.lessons, self.memory)
        given = standing.estimates
        open_ = {t: e for t, e in found.items() if not standing.begun(t) and given.get(t, e) == e}
        told = (str(r) for r in used if any(t in open_ for t in r.tasks))
        return open_, tuple(told)

    def generate(
        self,
        standing: Standing,
        levers: Levers = NO_LEVERS,
        *,
        objective: Objective = Objective.TARDINESS,
        budget_s: float | None = None,
        seed: int = 0,
        exactly: bool = False,
    ) -> Answer:
        """A schedule of what is left; where there is none, the answer says why.

        The answer says which `lessons` its estimates rest on. `exactly`: with every lever
        pulled, none left to judgement.
        """
        _, told = self._learned(standing)
        try:
            rest = rest_of(self.informed(standing), levers)
        except (PlanError, InfeasibleError) as error:
            return Answer(rest=_nothing(), status=Outcome.INFEASIBLE, conflict=str(error))
        if objective is Objective.TARDINESS and rest.deadline is None and not rest.due:
            objective = Objective.MAKESPAN
        budget = self.policy.budget_s if budget_s is None else budget_s
        if exactly:
            choice = choice_of(rest, levers)
            answer = generate_exactly(rest, choice, objective, budget_s=budget, clock=self.clock)
            return replace(answer, lessons=told) if told else answer
        answer = generate(
            rest,
            objective,
            budget_s=budget,
            seed=seed,
            clock=self.clock,
            workers=self.workers,
        )
        return replace(answer, lessons=told) if told else answer

    def verify(
        self, standing: Standing, answer: Answer, levers: Levers = NO_LEVERS
    ) -> Verification:
        """What speaks against an answer, found by code that the solver does not share."""
        shape = Proposal(
            standing=self.informed(standing),
            levers=levers,
            answer=answer,
            verification=Verification(),
        )
        return self._verified(shape).verification

    def _verified(self, shape: Proposal) -> Proposal:
        claim = claim_of(
            shape.standing, shape.answer, shape.levers, shape.plan, shape.modes, spans=shape.spans
        )
        return shape.found(verification=verify(claim))

    def simulate(
        self, standing: Standing, answer: Answer, *, seed: int = 0, criticality: bool = False
    ) -> Robustness:
        """How an answer fares when durations vary. Raises PlanError where it has no schedule."""
        standing = self.informed(standing)
        if answer.schedule is None:
            raise PlanError(f"there is no schedule to simulate: {answer.conflict}")
        return assess(
            answer.rest,
            answer.schedule,
            answer.arcs,
            accept_quantile=self.policy.accept_quantile,
            seed=seed,
            running=running_of(standing, answer),
            left_out=answer.left_out,
            criticality=criticality,
        )

    def propose(
        self,
        standing: Standing,
        levers: Levers = NO_LEVERS,
        *,
        objective: Objective = Objective.TARDINESS,
        budget_s: float | None = None,
        seed: int = 0,
        exactly: bool = False,
    ) -> Proposal:
        """Generate, verify and simulate; while the deadline is not sure enough, aim earlier.

        Each round aims at the deadline less what the simulation needs beyond the
        schedule. The best of at most `ROUNDS` is returned: feasible first, then sure
        enough, then likeliest. `exactly`: with every lever pulled, none left to judgement;
        one round.
        """
        budget = self.policy.budget_s if budget_s is None else budget_s
        if exactly:
            return self._once(standing, levers, objective, budget, seed, exactly=True)
        standing = self.informed(standing)
        until = self.clock() + budget
        best = self._once(standing, levers, objective, budget, seed)
        if objective is Objective.MAKESPAN:
            return best  # there is nothing earlier to aim at
        aimed = standing
        for _ in range(ROUNDS - 1):
            left = until - self.clock()
            tighter = self._tightened(aimed, standing, best)
            if tighter is None or left < 0.2 * budget:
                break
            aimed = tighter
            found = self._once(aimed, levers, objective, left, seed, real=standing)
            if not _better(found, best):
                break
            best = found
        return best

    def _once(
        self,
        standing: Standing,
        levers: Levers,
        objective: Objective,
        budget: float,
        seed: int,
        real: Standing | None = None,
        exactly: bool = False,
    ) -> Proposal:
        after = min(AFTER_S * _size(standing), MOST_AFTER * budget)
        answer = self.generate(
            standing, levers, objective=objective, budget_s=budget - after, seed=seed,
            exactly=exactly,
        )  # fmt: skip
        if real is not None:
            answer = replace(answer, rest=replace(answer.rest, deadline=real.deadline))
            standing = real
        shape = Proposal(
            standing=standing, levers=levers, answer=answer, verification=Verification()
        )
        if answer.schedule is None:
            return shape
        robust = self.simulate(standing, answer, seed=seed)
        return self._verified(shape).found(robustness=robust)

    def _tightened(self, aimed: Standing, standing: Standing, best: Proposal) -> Standing | None:
        """The same run with an earlier deadline; None where that is of no use."""
        sure, robust = self.policy.min_probability, best.robustness
        if standing.deadline is None or robust is None or not best.feasible:
            return None
        if robust.certain or (robust.p_deadline or 0.0) >= sure:
            return None
        planned = best.answer.makespan
        assert planned is not None and aimed.deadline is not None
        needed = float(np.quantile(robust.finishes, sure)) - planned
        earlier = standing.deadline - max(needed, 0.0)
        if earlier >= aimed.deadline - 1e-6:
            return None
        return replace(standing, deadline=earlier)


def _size(standing: Standing) -> int:
    """Activities of a run, as the plan expects them."""
    tasks = (t for t in standing.plan.tasks if t.id not in standing.left_out)
    return sum(
        1 if t.map_over is None else standing.items.get(t.id, t.expected_items) for t in tasks
    )


def _better(one: Proposal, other: Proposal) -> bool:
    if one.feasible != other.feasible:
        return one.feasible
    if one.robustness is None or other.robustness is None:
        return one.robustness is not None
    return (one.robustness.p_deadline or 0.0) > (other.robustness.p_deadline or 0.0)


def _nothing() -> Rest:
    """The rest of a plan that cannot be read as one."""
    network = Network.build([], [], [])
    return Rest(problem=Problem.build(network, np.zeros(0), np.zeros((0, 1)), [1.0]))


def engine_of(
    monitor: ExecutionMonitor,
    *,
    clock: Callable[[], float],
    lessons: tuple[Recalled, ...] = (),
    changeovers: Sequence[timedelta] = (),
    replanned_at: datetime | None = None,
) -> AdaptiveReplanningEngine:
    """The replanning engine of the run that a monitor watches; `clock` as of `PlanOrchestrator`.

    Its revisions rest on `lessons`; `changeovers` and `replanned_at` are the engine's own.
    """
    planner = PlanOrchestrator(clock=clock, policy=monitor.policy)
    return AdaptiveReplanningEngine(
        monitor,
        AssumptionValidator(monitor.plan, monitor),
        planner,
        taught=replace(planner, lessons=lessons),
        changeovers=changeovers,
        replanned_at=replanned_at,
        seed=monitor.baseline.seed,
    )

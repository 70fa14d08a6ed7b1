"""A plan before any run: what the simulation says, and which assumption would hurt most."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from athena_prefect.monitor.deadlines import next_deadline
from athena_prefect.orchestrator import PlanOrchestrator
from athena_prefect.plan.model import Assumption, Plan
from athena_prefect.schedule.proposal import Proposal
from athena_prefect.schedule.standing import Standing
from athena_prefect.service.replanning import Hurt, SimulatedPlan, planner


def simulated(plan: Plan, *, now: datetime, seed: int) -> SimulatedPlan:
    """The plan simulated as if it started at `now`."""
    until = next_deadline(plan.deadline, now)
    deadline = None if until is None else (until - now) / timedelta(seconds=1)
    standing = Standing(plan=plan, deadline=deadline)
    orchestrator = planner(plan)
    answer = orchestrator.generate(standing, seed=seed)
    if answer.schedule is None:
        return SimulatedPlan(
            name=plan.name, tasks=len(plan.tasks), deadline=deadline, p_deadline=None,
            quantiles={}, accepted=None, samples=0, scenarios={}, criticality={},
            reason=answer.conflict,
        )  # fmt: skip
    robust = orchestrator.simulate(standing, answer, seed=seed, criticality=True)
    proposal = Proposal(
        standing=standing,
        answer=answer,
        verification=orchestrator.verify(standing, answer),
        robustness=robust,
    )
    hurts = [_hurt(a, standing, orchestrator, robust.p50, seed) for a in plan.assumptions]
    ranked = sorted(
        hurts,
        key=lambda h: (
            h.finish is None,
            -(h.finish.total_seconds() if h.finish else 0.0),
            h.assumption_id,
        ),
    )
    return SimulatedPlan(
        name=plan.name,
        tasks=len(plan.tasks),
        deadline=deadline,
        p_deadline=robust.p_deadline,
        quantiles=dict(robust.quantiles),
        accepted=robust.accepted,
        samples=robust.samples,
        scenarios={str(k): v for k, v in proposal.scenarios.items()},
        criticality=dict(sorted(robust.criticality.items(), key=lambda pair: (-pair[1], pair[0]))),
        assumptions=tuple(ranked),
    )


def _hurt(
    assumption: Assumption,
    standing: Standing,
    orchestrator: PlanOrchestrator,
    p50: float,
    seed: int,
) -> Hurt:
    struck = _violated(assumption, standing)
    name = assumption.id
    if isinstance(struck, str):
        return Hurt(assumption_id=name, finish=None, p_deadline=None, reason=struck)
    answer = orchestrator.generate(struck, budget_s=0.0, seed=seed)
    if answer.schedule is None:
        return Hurt(assumption_id=name, finish=None, p_deadline=0.0, reason=answer.conflict)
    robust = orchestrator.simulate(struck, answer, seed=seed)
    return Hurt(
        assumption_id=name,
        finish=timedelta(seconds=robust.p50 - p50),
        p_deadline=robust.p_deadline,
    )


def _violated(assumption: Assumption, standing: Standing) -> Standing | str:
    """The standing with the effect of the assumption; a reason where that cannot be told."""
    effect = assumption.effect
    if effect is None:
        return "the plan declares no effect"
    affected = assumption.affects
    if effect.block:
        return f"blocks {', '.join(affected)}: the run would not get past them"
    if effect.mode is not None:
        return replace(standing, only_mode=dict.fromkeys(affected, effect.mode))
    if effect.duration_factor is not None:
        return replace(standing, factors=dict.fromkeys(affected, effect.duration_factor))
    said = effect.capacity or {}
    if any(amount == "observed" for amount in said.values()):
        return "how much there would be is known only when it is observed"
    return replace(
        standing, capacities={n: float(a) for n, a in said.items() if not isinstance(a, str)}
    )

"""A plan before any run: what the simulation says, and which assumption would hurt most."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from athena_prefect.monitor.deadlines import next_deadline
from athena_prefect.monitor.history import NO_HISTORY, History
from athena_prefect.monitor.learned import ESTIMATES, Learned
from athena_prefect.orchestrator import PlanOrchestrator
from athena_prefect.plan.estimate import Estimate
from athena_prefect.plan.model import Assumption, Plan
from athena_prefect.schedule.proposal import Proposal
from athena_prefect.schedule.standing import Standing
from athena_prefect.service.following import utc_now
from athena_prefect.service.results import _Answer

if TYPE_CHECKING:
    from athena_prefect.learning.memory import Recalled
    from athena_prefect.settings import AthenaSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Hurt(_Answer):
    """What an assumption that does not hold would do to a plan that has not begun."""

    assumption_id: str
    finish: timedelta | None
    """By how much the P50 finish would move; None where that cannot be told."""
    p_deadline: float | None
    reason: str = ""
    """Why there is no figure."""
    blocks: bool = False
    """Whether the goals would not be reached at all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedPlan(_Answer):
    """A plan run in simulation; seconds from the start."""

    name: str
    tasks: int
    as_of: datetime
    """The start that it is simulated for."""
    deadline: float | None
    p_deadline: float | None
    quantiles: dict[str, float]
    accepted: float | None
    samples: int
    scenarios: dict[str, float]
    """Finish in the named scenarios: best, nominal, worst, edge, recovery."""
    criticality: dict[str, float]
    """Task → share of the scenarios in which it is on a longest path."""
    assumptions: tuple[Hurt, ...] = ()
    """What hurts most first."""
    reason: str = ""
    """Why there are no figures."""
    basis: str = ESTIMATES
    """What the quantiles rest on: so many finished runs and records, or the plan's estimates."""
    lessons: tuple[str, ...] = ()
    """What was learned from earlier runs, also of other plans, and changed estimates."""
    until: datetime | None = None
    """The deadline as a moment, for a run that starts at `as_of`."""
    deadline_is: str = ""
    """A deadline of the clock, by its own clock; empty of one that counts from the start."""


def simulate_plan(
    file: Path | Plan,
    *,
    now: datetime | None = None,
    seed: int = 0,
    settings: AthenaSettings | None = None,
) -> SimulatedPlan:
    """Simulate a plan before it runs. Raises PlanDocumentError, StorageError.

    With `settings` from its finished runs, where their database has enough of them.
    """
    plan = file if isinstance(file, Plan) else Plan.load(file)
    moment = now or utc_now()
    history = None if settings is None else finished(plan, moment, settings)
    lessons = () if settings is None else lessons_for(plan, moment, settings)
    return simulated(plan, now=moment, seed=seed, history=history, lessons=lessons)


def finished(plan: Plan, before: datetime, settings: AthenaSettings) -> History:
    """What was over before, of this plan and of others. Raises StorageError."""
    from athena_prefect.storage.db import Database
    from athena_prefect.storage.forecast_history import runs_before

    if not _there(settings):
        return NO_HISTORY  # to look at a plan makes no database
    return runs_before(Database.open(settings), settings.namespace, plan.name, before)


def lessons_for(plan: Plan, now: datetime, settings: AthenaSettings) -> tuple[Recalled, ...]:
    """What is recalled for a plan, the surest first. Raises StorageError."""
    from athena_prefect.service.remembering import recalled

    return recalled(plan, settings=settings, now=now) if _there(settings) else ()


def _there(settings: AthenaSettings) -> bool:
    """Whether there is a database, or may be one."""
    from athena_prefect.storage.engine import parse_url

    file = parse_url(settings.database_url).database
    return not settings.database_url.startswith("sqlite") or bool(file and Path(file).exists())


def planner(plan: Plan, lessons: tuple[Recalled, ...] = ()) -> PlanOrchestrator:
    """The orchestrator of this process, by its own clock, with what is recalled for the plan."""
    return PlanOrchestrator(clock=time.perf_counter, policy=plan.replanning.policy, lessons=lessons)


def simulated(
    plan: Plan,
    *,
    now: datetime,
    seed: int,
    history: History | None = None,
    lessons: tuple[Recalled, ...] = (),
) -> SimulatedPlan:
    """The plan simulated as if it started at `now`."""
    least = plan.replanning.policy.forecast_runs
    if history is None or least is None or len(history.of_plan(plan.name)) < least:
        return _simulated(plan, {}, now=now, seed=seed, lessons=lessons)
    return _learned(plan, Learned.of(history, plan.name), now, seed)


def _learned(plan: Plan, learned: Learned, now: datetime, seed: int) -> SimulatedPlan:
    """The finish by what finished runs teach; what is critical and what hurts likewise."""
    made, ends, estimates = learned.before(plan, seed=seed)
    found = _simulated(plan, estimates, now=now, seed=seed)
    if found.reason or not made.known:
        return found
    limit = found.deadline
    return replace(
        found,
        quantiles=dict(made.quantiles),
        accepted=made.accepted,
        p_deadline=None if limit is None else float((ends <= limit).mean()),
        samples=len(ends),
        basis=str(learned),
    )


def _simulated(
    plan: Plan,
    estimates: Mapping[str, Estimate],
    *,
    now: datetime,
    seed: int,
    lessons: tuple[Recalled, ...] = (),
) -> SimulatedPlan:
    until = next_deadline(plan.deadline, now)
    deadline = None if until is None else (until - now) / timedelta(seconds=1)
    standing = Standing(plan=plan, deadline=deadline, estimates=estimates)
    orchestrator = planner(plan, lessons)
    standing = orchestrator.informed(standing)
    answer = orchestrator.generate(standing, seed=seed)
    if answer.schedule is None:
        return SimulatedPlan(
            name=plan.name, tasks=len(plan.tasks), as_of=now, deadline=deadline, p_deadline=None,
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
    ranked = sorted(hurts, key=_how_much)
    return SimulatedPlan(
        name=plan.name,
        tasks=len(plan.tasks),
        as_of=now,
        deadline=deadline,
        until=until,
        deadline_is=_clock_of(plan, until),
        p_deadline=robust.p_deadline,
        quantiles=dict(robust.quantiles),
        accepted=robust.accepted,
        samples=robust.samples,
        scenarios={str(k): v for k, v in proposal.scenarios.items()},
        criticality=dict(sorted(robust.criticality.items(), key=lambda pair: (-pair[1], pair[0]))),
        assumptions=tuple(ranked),
        lessons=answer.lessons,
    )


def _clock_of(plan: Plan, until: datetime | None) -> str:
    """The next deadline of the clock in its own zone; empty where it counts from the start."""
    said = plan.deadline
    if said is None or said.at is None or until is None:
        return ""
    return f"{until.astimezone(ZoneInfo(said.timezone)):%a %Y-%m-%d %H:%M} {said.timezone}"


def _how_much(hurt: Hurt) -> tuple[bool, bool, float, str]:
    """What sorts the worst first: no way to the goals, then the latest finish, then unknown."""
    later = hurt.finish.total_seconds() if hurt.finish is not None else 0.0
    return not hurt.blocks, hurt.finish is None, -later, hurt.assumption_id


def _hurt(
    assumption: Assumption,
    standing: Standing,
    orchestrator: PlanOrchestrator,
    p50: float,
    seed: int,
) -> Hurt:
    name = assumption.id
    effect = assumption.effect
    if effect is not None and effect.block:
        return _blocking(assumption, standing)
    struck = _violated(assumption, standing)
    if isinstance(struck, str):
        return Hurt(assumption_id=name, finish=None, p_deadline=None, reason=struck)
    answer = orchestrator.generate(struck, budget_s=0.0, seed=seed)
    if answer.schedule is None:
        return Hurt(
            assumption_id=name, finish=None, blocks=True,
            p_deadline=None if standing.deadline is None else 0.0,
            reason=f"leaves no way to the goals: {answer.conflict}",
        )  # fmt: skip
    robust = orchestrator.simulate(struck, answer, seed=seed)
    return Hurt(
        assumption_id=name,
        finish=timedelta(seconds=robust.p50 - p50),
        p_deadline=robust.p_deadline,
    )


def _blocking(assumption: Assumption, standing: Standing) -> Hurt:
    """What an assumption whose effect blocks tasks would do."""
    needed = [t for t in assumption.affects if t in standing.plan.required]
    named = ", ".join(needed or assumption.affects)
    if not needed:
        return Hurt(
            assumption_id=assumption.id, finish=None, p_deadline=None,
            reason=f"blocks {named}, which no goal needs",
        )  # fmt: skip
    return Hurt(
        assumption_id=assumption.id, finish=None, blocks=True,
        p_deadline=None if standing.deadline is None else 0.0,
        reason=f"blocks {named}: the goals would not be reached",
    )  # fmt: skip


def _violated(assumption: Assumption, standing: Standing) -> Standing | str:
    """The standing with the effect of the assumption; a reason where that cannot be told."""
    effect = assumption.effect
    if effect is None:
        return "the plan declares no effect"
    affected = assumption.affects
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

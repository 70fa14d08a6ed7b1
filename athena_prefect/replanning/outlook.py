"""What becomes of a run that carries on: its finish, and whether float takes an effect up."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

import numpy as np

from athena_prefect.monitor.chain import medians_of
from athena_prefect.monitor.deviation import PlanDeviation
from athena_prefect.plan.graph import Floats
from athena_prefect.replanning.picture import Picture, Reach
from athena_prefect.schedule.answer import Answer
from athena_prefect.schedule.overruns import overruns_of
from athena_prefect.schedule.partial_order import ResourceArcs
from athena_prefect.schedule.passes import TOLERANCE, backward, forward
from athena_prefect.schedule.problem import Problem
from athena_prefect.schedule.proposal import Phase6Orchestrator, running_of
from athena_prefect.schedule.robustness import Robustness, assess
from athena_prefect.schedule.situation import NEVER
from athena_prefect.schedule.standing import Standing


@dataclass(frozen=True, kw_only=True)
class Outlook:
    """What becomes of the run when nothing is changed; seconds from the start of the run."""

    robustness: Robustness | None
    """None where it never finishes; `reason` says why."""
    p50: float | None
    slip: float | None
    """(P50 − P50 at acceptance) / that P50."""
    p_deadline: float | None
    at_risk: tuple[str, ...]
    reason: str = ""
    finishes: Floats = field(default_factory=lambda: np.zeros(0), repr=False, compare=False)


def outlook(
    view: Picture,
    orchestrator: Phase6Orchestrator,
    deviation: PlanDeviation,
    accepted_p50: float | None,
    *,
    seed: int,
) -> Outlook:
    """What becomes of the run when it carries on under the violations in force.

    Without violations and failures that is what the monitor forecasts.
    """
    finish = deviation.estimated_completion
    if not view.reaches and not view.failed and finish is not None:
        p50 = (finish - view.monitor.started) / timedelta(seconds=1)
        return Outlook(
            robustness=None,
            p50=p50,
            slip=deviation.slip,
            p_deadline=deviation.deadline_probability,
            at_risk=deviation.tasks_at_risk,
        )
    standing = view.carried_on()
    stopped = view.stopped(standing)
    if stopped:
        causes = [t for t in view.failed if t in stopped] or sorted(stopped)
        place = view.plan.task_ids.index
        return Outlook(
            robustness=None,
            p50=None,
            slip=None,
            p_deadline=None if deviation.deadline is None else 0.0,
            at_risk=tuple(sorted({*stopped, *deviation.tasks_at_risk}, key=place)),
            reason=f"{', '.join(causes)} cannot be done as things stand",
        )
    answer = orchestrator.generate(standing, budget_s=0.0, seed=seed)
    if answer.schedule is None and np.isnan(standing.problem.durations).any():
        # Nobody knows how long it takes: that is no reason to call it late.
        return Outlook(
            robustness=None, p50=None, slip=None, p_deadline=None,
            at_risk=deviation.tasks_at_risk, reason=answer.conflict,
        )  # fmt: skip
    if answer.schedule is None:
        return Outlook(
            robustness=None, p50=None, slip=None,
            p_deadline=None if deviation.deadline is None else 0.0,
            at_risk=view.unfinished, reason=answer.conflict,
        )  # fmt: skip
    limits = _latest(standing, answer.schedule.problem, answer.arcs)
    robust = assess(
        answer.rest,
        answer.schedule,
        answer.arcs,
        accept_quantile=view.policy.accept_quantile,
        seed=seed,
        running=running_of(standing, answer),
        limits=limits,
    )
    risky = {t for t, p in robust.late.items() if p > view.policy.risk_probability}
    risky |= set(view.failed) | set(standing.left_out & set(view.unfinished))
    open_ = set(view.unfinished)
    slip = None
    if accepted_p50:
        slip = (robust.p50 - accepted_p50) / accepted_p50
    return Outlook(
        robustness=robust,
        p50=robust.p50,
        slip=slip,
        p_deadline=None if deviation.deadline is None else robust.p_deadline,
        at_risk=tuple(t for t in view.plan.task_ids if t in risky and t in open_),
        finishes=robust.finishes,
    )


def _latest(standing: Standing, problem: Problem, arcs: ResourceArcs) -> Floats | None:
    """Latest finish of each activity, reckoned back from the deadline or what stands for it."""
    if standing.deadline is None:
        return None
    network = problem.network.extended(*arcs)
    return np.asarray(standing.deadline - backward(network, medians_of(problem.estimates)))


def beyond_float(view: Picture, orchestrator: Phase6Orchestrator, *, seed: int) -> frozenset[str]:
    """The violations whose effects delay a task that they reach by more than its float.

    Each against the same run under all the others.
    """
    some = [r for r in view.reaches if r.violation.replanning_required and r.effect and r.tasks]
    blocking = {r.id for r in some if r.effect is not None and r.effect.block}
    others = [r for r in some if r.id not in blocking]
    if not others:
        return frozenset(blocking)
    with_it = _going_on(view, view.carried_on())
    struck = orchestrator.generate(with_it, budget_s=0.0, seed=seed)
    return frozenset(
        blocking
        | {r.id for r in others if _exceeds(view, orchestrator, r, with_it, struck, seed=seed)}
    )


def _going_on(view: Picture, standing: Standing) -> Standing:
    """As if what failed went on, so that there is a schedule to look at."""
    if not view.failed:
        return standing
    return view.done_again(standing, view.standing.again, view.standing.left_out)


def _exceeds(
    view: Picture,
    orchestrator: Phase6Orchestrator,
    reach: Reach,
    with_it: Standing,
    struck: Answer,
    *,
    seed: int,
) -> bool:
    without = _going_on(view, view.carried_on([r for r in view.reaches if r is not reach]))
    calm = orchestrator.generate(without, budget_s=0.0, seed=seed)
    if calm.schedule is None or struck.schedule is None:
        return struck.schedule is None
    problem = calm.schedule.problem
    network = problem.network.extended(*calm.arcs)
    lag = np.where(calm.rest.free[network.heads], network.pred_lag, NEVER)
    _, finish = forward(network, problem.durations, floor=calm.rest.floor, lag=lag)
    latest = float(finish.max(initial=0.0)) - backward(network, problem.durations)
    by_task = dict(zip(problem.task_ids, latest[problem.ends].tolist(), strict=True))
    if any(p > view.policy.risk_probability for p in _overruns(with_it, without, reach.tasks)):
        return True
    ends = struck.schedule.tasks
    return any(
        t in by_task and t in ends and ends[t].finish > by_task[t] + TOLERANCE for t in reach.tasks
    )


def _overruns(struck: Standing, calm: Standing, tasks: Sequence[str]) -> Iterator[float]:
    """How likely tasks are to run past their time-outs, where they would not without the effect.

    No float helps a task that is ended for its time-out.
    """
    modes = {t: struck.mode_of(t) for t in tasks}
    before = overruns_of(calm, calm.plan, modes, {})
    after = overruns_of(struck, struck.plan, modes, {})
    yield from (after[t] for t in tasks if after.get(t, 0.0) > before.get(t, 0.0))

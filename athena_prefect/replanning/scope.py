"""What each strategy may change of the rest of a run."""

from __future__ import annotations

from collections.abc import Sequence

from athena_prefect.plan.policy import ReplanningPolicy
from athena_prefect.replanning.evaluation import AdaptiveReplanning
from athena_prefect.replanning.levers import levers_of
from athena_prefect.replanning.need import Need
from athena_prefect.replanning.picture import Picture
from athena_prefect.schedule.standing import Levers


def levers_within(strategy: AdaptiveReplanning, need: Need, policy: ReplanningPolicy) -> Levers:
    """The levers of a strategy, for what the run calls for.

    LOCAL: those of one task. SEGMENT: of the next unstarted ones that its reasons reach.
    Else of all that is unfinished.
    """
    view = need.view
    if strategy is AdaptiveReplanning.LOCAL:
        task = _adjusted(need, policy)
        return levers_of_task(view, task, policy) if task else Levers()
    if strategy is AdaptiveReplanning.SEGMENT:
        named = {t for r in need.reasons for t in r.tasks} | set(need.ahead.at_risk)
        return levers_of_segment(view, tuple(named), policy.segment_tasks, policy)[1]
    return levers_of_all(view, policy)


def levers_of_task(view: Picture, task: str, policy: ReplanningPolicy) -> Levers:
    """Of one task: its mode, time-out, relaxed criteria and own soft dependencies."""
    return levers_of(view.plan, view.standing, (task,), drop=False, policy=policy)


def levers_of_segment(
    view: Picture, named: Sequence[str], most: int, policy: ReplanningPolicy
) -> tuple[Sequence[str], Levers]:
    """The first `most` unstarted tasks that depend on `named`, or are of them; their levers."""
    cone = view.cone(named)
    scope = [t for t in view.unstarted if t in cone][:most]
    return scope, levers_of(view.plan, view.standing, scope, drop=True, policy=policy)


def levers_of_all(view: Picture, policy: ReplanningPolicy) -> Levers:
    """Of all that is unfinished."""
    return levers_of(view.plan, view.standing, view.unfinished, drop=True, policy=policy)


def _adjusted(need: Need, policy: ReplanningPolicy) -> str | None:
    """The task that a LOCAL adjusts: one that is named, else a critical one, with a lever."""
    view = need.view
    named = [t for r in need.reasons for t in r.tasks if t in view.unstarted]
    path = view.monitor.get_critical_path()
    critical = [t.id for t in path if t.id in view.unstarted]
    for task in dict.fromkeys((*named, *critical, *need.ahead.at_risk, *view.unstarted)):
        if levers_of_task(view, task, policy):
            return task
    return None

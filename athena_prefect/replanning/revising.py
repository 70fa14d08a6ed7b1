"""From a proposal to the revision that a run may adopt, with all that is said of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from statistics import median
from typing import Any

from athena_prefect.replanning.evaluation import AdaptiveReplanning
from athena_prefect.replanning.foreseen import foreseen
from athena_prefect.replanning.picture import Picture
from athena_prefect.replanning.results import ReplanResult
from athena_prefect.schedule.proposal import Proposal, stability


def median_of(spans: Sequence[timedelta]) -> timedelta | None:
    """The median; None of nothing."""
    if not spans:
        return None
    return timedelta(seconds=median(v.total_seconds() for v in spans))


def result_of(
    view: Picture,
    proposal: Proposal,
    strategy: AdaptiveReplanning,
    reason: str,
    *,
    changeovers: Sequence[timedelta] = (),
    due: bool = False,
) -> ReplanResult:
    """The revision behind a proposal; the plan in force where that did not pass verification.

    `due`: somebody asks for a deadline, whatever the plan's.
    """
    monitor, passed = view.monitor, proposal.feasible
    # What does not get to the goals promises nothing, however early it would be over.
    robust = proposal.robustness if passed else None
    deadline = monitor.deadline
    confidence = p_deadline = None
    if robust is not None:
        kept_to = robust.probability(robust.accepted) * proposal.within_timeouts
        confidence = proposal.success if due or deadline is not None else kept_to
        if deadline is not None:
            # The plan's own: what later figures of the run are held against.
            p_deadline = robust.probability((deadline - monitor.started) / timedelta(seconds=1))
    end = monitor.accepted_p50 or proposal.answer.makespan or 0.0
    old = dict(monitor.accepted_starts)
    result = ReplanResult(
        original_plan=view.plan,
        new_plan=proposal.plan if passed else view.plan,
        changes=tuple(str(c) for c in proposal.changes) if passed else (),
        verification_passed=passed,
        confidence=confidence,
        implementation_time=median_of(changeovers),
        learning=_observed(view) | {"lessons": list(proposal.answer.lessons)},
        strategy=strategy,
        reason=reason,
        revision=monitor.state.revision + 1,
        modes=proposal.modes,
        details=proposal.changes if passed else (),
        finish=None if robust is None else monitor.moment(robust.p50),
        accepted_finish=None if robust is None else monitor.moment(robust.accepted),
        p_deadline=p_deadline,
        why_not=proposal.why_not,
        stability=stability(proposal.standing, old, end, proposal) if passed else None,
        proposal=proposal,
    )
    if not passed:
        return result
    told = {**result.acceptance, "modes": dict(result.modes)}
    return replace(result, foreseen=foreseen(monitor, result.new_plan, told, view.now))


def _observed(view: Picture) -> dict[str, Any]:
    """What was seen in this run that the plan did not know."""
    late = {
        r.task_id: r.deviation
        for r in view.monitor.records
        if r.deviation is not None and abs(r.deviation) > 1e-9
    }
    return {
        "violated": [r.id for r in view.reaches],
        "failed": list(view.failed),
        "deviations": late,
    }

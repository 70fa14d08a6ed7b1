"""Checks to add where attempts fail, and to make seldom or drop where they find nothing."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import numpy as np

from athena_prefect.learning.arcs import SAME
from athena_prefect.learning.blame import Blame
from athena_prefect.learning.bottlenecks import words
from athena_prefect.learning.gains import (
    WORTH,
    Budget,
    counted,
    gains_of,
    measured,
    percent,
)
from athena_prefect.learning.past import Past
from athena_prefect.learning.records import RunRecord
from athena_prefect.learning.results import Recommendation
from athena_prefect.learning.statistics import beta_below
from athena_prefect.plan.model import Assumption, Plan
from athena_prefect.plan.scalars import Criticality
from athena_prefect.plan.units import format_duration

NEVER = 0.05
"""P(violated) below which a check, with 95 % confidence, may be made half as often."""


def failing(blames: Sequence[Blame]) -> Iterator[Recommendation]:
    """Checks for what tasks need, where failed attempts delayed the runs."""
    lost: dict[str, list[float]] = defaultdict(list)
    for one in blames:
        for i in np.flatnonzero(one.retries > SAME).tolist():
            lost[one.past.tasks[i]].append(float(one.retries[i]))
    whole = sum(b.past.makespan for b in blames)
    for task, seconds in lost.items():
        if sum(seconds) < WORTH * whole:
            continue
        mean = sum(seconds) / len(blames)
        yield Recommendation(
            recommendation_id=f"check:{task}",
            area="checks",
            suggestion=f"Check what {task} needs before it starts",
            rationale=(
                f"failed attempts at {task} delayed {len(seconds)} of {counted(len(blames))}"
            ),
            potential_benefit=(
                f"up to {percent(sum(seconds) / whole)} faster: {words(mean)} a run went to "
                "attempts that failed"
            ),
            implementation_effort="moderate",
            confidence=((len(seconds) + 0.5) / (len(blames) + 1.0) if len(blames) > 1 else None),
            benefit=timedelta(seconds=round(mean, 6)),
            samples=len(blames),
            affected_tasks=(task,),
        )


def checks(runs: Sequence[RunRecord], plan: Plan) -> Iterator[Recommendation]:
    """Checks that never found anything: made half as often."""
    made: dict[str, int] = defaultdict(int)
    bad: dict[str, int] = defaultdict(int)
    for run in runs:
        for check in run.checks:
            made[check.assumption_id] += 1
            bad[check.assumption_id] += check.holds is not True
    for assumption in plan.assumptions:
        name, count = assumption.assumption_id, made[assumption.assumption_id]
        if bad[name] or not count or not _may_relax(assumption):
            continue
        # P(violated) with no violation in n checks is Beta(1/2, n + 1/2) (Jeffreys).
        sure = float(beta_below(NEVER, 0.5, count + 0.5))
        if sure < 0.95:
            continue
        assert assumption.validation_frequency is not None
        wider = assumption.validation_frequency * 2
        yield Recommendation(
            recommendation_id=f"seldom:{name}",
            area="checks",
            suggestion=f"Check {name} every {format_duration(wider)} only",
            rationale=f"all {count} checks found that it holds",
            potential_benefit=f"{count // 2} of {count} checks less",
            implementation_effort="trivial",
            confidence=sure,
            benefit=timedelta(0),
            samples=count,
            affected_tasks=tuple(assumption.affects),
            patch={"assumptions": {name: {"validation_frequency": format_duration(wider)}}},
        )


def idle(blames: Sequence[Blame], plan: Plan, budget: Budget) -> Iterator[Recommendation]:
    """Checks before tasks that never failed and held the tasks back: dropped.

    The benefit is that of replays in which the tasks are not held back. Where something
    else may hold one back, another milestone or a lag, nothing is said.
    """
    made: dict[str, int] = defaultdict(int)
    bad: dict[str, int] = defaultdict(int)
    for one in blames:
        for check in one.past.run.checks:
            made[check.assumption_id] += 1
            bad[check.assumption_id] += check.holds is not True
    before = [m.before for a in plan.assumptions for m in a.milestones if m.before]
    for assumption in plan.assumptions:
        name = assumption.assumption_id
        if bad[name] or not made[name] or assumption.criticality in CAREFUL:
            continue
        sure = float(beta_below(NEVER, 0.5, made[name] + 0.5))
        own = [m.before for m in assumption.milestones if m.before and before.count(m.before) == 1]
        if sure < 0.95 or not own or not budget.allows("idle checks", blames):
            continue
        gains = gains_of(blames, budget, change=lambda run, own=own: _unheld(run, own))  # type: ignore[misc]
        if gains is None or gains.share < WORTH:
            continue
        kept = [
            m.model_dump(mode="json", exclude_defaults=True)
            for m in assumption.milestones if m.before not in own
        ]  # fmt: skip
        rest = kept or assumption.validation_frequency
        found = measured(
            f"drop:{name}",
            "checks",
            f"Do not check {name} before {', '.join(own)}",
            f"all {made[name]} checks found that it holds, and {', '.join(own)} waited for them",
            gains,
            effort="easy",
            tasks=tuple(own),
            patch={"assumptions": {name: {"milestones": kept}}} if rest else {},
        )
        least = None if gains.confidence is None else min(gains.confidence, sure)
        yield replace(found, confidence=least)


def _unheld(run: Past, tasks: Sequence[str]) -> Mapping[str, Any]:
    holds = run.hold.copy()
    for task in tasks:
        holds[list(run.nodes_of.get(task, ()))] = 0.0
    return {"holds": holds}


CAREFUL = (Criticality.HIGH, Criticality.CRITICAL)
"""Criticalities of which no check is made seldom, or dropped."""


def _may_relax(assumption: Assumption) -> bool:
    return bool(assumption.validation_frequency) and assumption.criticality not in CAREFUL

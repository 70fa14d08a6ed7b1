"""Checks to add where attempts fail, and to make seldom where they never find anything."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import timedelta

import numpy as np

from athena_prefect.learning.arcs import SAME
from athena_prefect.learning.blame import Blame
from athena_prefect.learning.bottlenecks import words
from athena_prefect.learning.gains import WORTH, counted, percent
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


def _may_relax(assumption: Assumption) -> bool:
    careful = (Criticality.HIGH, Criticality.CRITICAL)
    return bool(assumption.validation_frequency) and assumption.criticality not in careful

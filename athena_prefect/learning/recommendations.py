"""What to change in the next plan, each with what it would have gained in the runs that were.

Every benefit is measured by replaying past runs with the change (`replay`), every
confidence is computed from how many of them it helped, and is None where there was
only one. A patch is what `athena learn PLAN --apply` writes into the plan.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from athena_prefect.learning.apart import apart
from athena_prefect.learning.blame import Blame, blame
from athena_prefect.learning.buffers import buffers
from athena_prefect.learning.checks import checks, failing, idle
from athena_prefect.learning.gains import Budget
from athena_prefect.learning.missing import hidden
from athena_prefect.learning.past import past
from athena_prefect.learning.policy import LearningPolicy
from athena_prefect.learning.records import RunRecord
from athena_prefect.learning.reshaping import demands, parallel, resources
from athena_prefect.learning.results import ExecutionPattern, Recommendation
from athena_prefect.learning.slowed import slowed


def recommendations(
    runs: Sequence[RunRecord],
    context: Mapping[str, Any] | None = None,
    *,
    policy: LearningPolicy | None = None,
    blames: Sequence[Blame] | None = None,
    patterns: Sequence[ExecutionPattern] = (),
) -> tuple[Recommendation, ...]:
    """What `runs`, the oldest first, teach for the next plan, the most of it first.

    `context`: `fixed`, the resources whose capacity cannot be changed, `areas`, the
    areas that are asked for, by default all. `patterns`: what recurs, of which
    interactions and contention are kept apart. Of runs of several plans each plan has its own.
    """
    given = context or {}
    fixed = frozenset(given.get("fixed", ()))
    rules = policy or LearningPolicy()
    seen = [b.past for b in blames] if blames is not None else [p for r in runs if (p := past(r))]
    told = list(blames) if blames is not None else [blame(p) for p in seen]
    found: list[Recommendation] = []
    budget = Budget()
    for name in dict.fromkeys(p.run.plan_name for p in seen):
        own = [b for b in told if b.past.run.plan_name == name]
        plan = next((b.past.run.plan for b in reversed(own) if b.past.run.plan), None)
        found += buffers(own, plan, rules)
        if plan is not None:
            found += parallel(own, plan, budget)
            found += resources(own, plan, fixed, budget)
            found += demands(own, plan, budget)
            found += hidden(own, plan, budget)
            found += idle(own, plan, budget)
            failing_beside = list(apart(own, plan, patterns, budget))
            found += failing_beside
            kept = {frozenset(r.affected_tasks) for r in failing_beside}
            found += slowed(own, plan, patterns, budget, rules, kept)
            found += checks([r for r in runs if r.plan_name == name], plan)
        found += failing(own)
    areas = given.get("areas")
    ranked = sorted(found, key=lambda r: (-_seconds(r.benefit), r.recommendation_id))
    return tuple(r for r in ranked if areas is None or r.area in areas)


def _seconds(benefit: timedelta | None) -> float:
    return 0.0 if benefit is None else benefit.total_seconds()

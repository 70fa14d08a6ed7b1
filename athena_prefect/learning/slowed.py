"""Tasks that slow one another down: kept apart, or given machines of their own.

What the pattern says a task takes longer beside the other is taken off what it took
where it met it. Kept apart, the two take less and one waits for the other: whether
that is shorter is what a replay says. On machines of their own neither waits.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from athena_prefect.learning.blame import Blame
from athena_prefect.learning.gains import WORTH, Budget, Gains, gains_of, measured
from athena_prefect.learning.pair import Order, Pair
from athena_prefect.learning.past import Past
from athena_prefect.learning.policy import LearningPolicy
from athena_prefect.learning.results import ExecutionPattern, PatternKind, Recommendation
from athena_prefect.plan.graph import Bools, Floats
from athena_prefect.plan.model import Plan


@dataclass(frozen=True, slots=True, kw_only=True)
class _Slowed:
    """Two sorts of tasks of which one slows the other down, or each the other."""

    pair: Pair
    patterns: tuple[tuple[Pair, ExecutionPattern], ...]
    """Who is slowed down, beside whom, and by how much."""
    touching: float
    """Overlap, as a share of a task's duration, that is none."""

    def alone(self, run: Past) -> Floats:
        """What each node would have taken without those that it met."""
        lengths = run.actual.copy()
        for pair, pattern in self.patterns:
            within = float(pattern.data.get("within", 1.0))
            met = _met(run, pair.subjects, pair.beside, within, self.touching)
            lengths[met] = run.actual[met] / (1.0 + (pattern.size or 0.0))
        return lengths

    def changed(self, apart: bool, order: Order, run: Past) -> Mapping[str, Any]:
        """How a replay runs them without slowing one another down."""
        kept = self.pair.kept_apart(run, order) if apart else {}
        return {**kept, "durations": self.alone(run)}

    @property
    def orders(self) -> tuple[Order, ...]:
        """The ways to keep them apart: of two single tasks either may be the first."""
        if len(self.pair.subjects) != 1 or len(self.pair.beside) != 1:
            return (None,)
        one, other = self.pair.subjects[0], self.pair.beside[0]
        return (None,) if one == other else ((one, other), (other, one))


def slowed(
    blames: Sequence[Blame],
    plan: Plan,
    patterns: Sequence[ExecutionPattern],
    budget: Budget,
    policy: LearningPolicy,
    kept: Collection[frozenset[str]] = (),
) -> Iterator[Recommendation]:
    """What to do about each pair that slows itself down, where it is measured to gain.

    `kept`: tasks that are to be kept apart already, for another reason.
    """
    for case in _cases(plan, patterns, policy):
        if frozenset((*case.pair.subjects, *case.pair.beside)) in kept:
            continue
        if not budget.allows("slowed", blames):
            return
        tried: list[tuple[float, Gains, Order]] = []
        for order in case.orders:
            if tried and not budget.allows("slowed", blames):
                break
            gains = gains_of(blames, budget, change=partial(case.changed, True, order))
            if gains is not None:
                tried.append((gains.mean, gains, order))
        apart = max(tried, key=lambda t: t[0], default=None)
        if apart is not None and apart[1].share >= WORTH:
            yield _said(
                case, "slowed", "dependencies", case.pair.words(apart[2]), apart[1],
                effort="moderate", patch=case.pair.patch(apart[2]),
            )  # fmt: skip
        gains = gains_of(blames, budget, change=partial(case.changed, False, None))
        # What costs machines has to gain more than what costs none.
        least = max(apart[1].share, 0.0) if apart is not None else 0.0
        if gains is not None and gains.share >= least + WORTH:
            yield _said(
                case, "elsewhere", "resources", case.pair.words_of_machines(), gains, effort="hard"
            )


def _said(
    case: _Slowed,
    name: str,
    area: str,
    suggestion: str,
    gains: Gains,
    *,
    effort: str,
    patch: Mapping[str, Any] | None = None,
) -> Recommendation:
    told = [pattern for _, pattern in case.patterns]
    found = measured(
        f"{name}:{told[0].subject}:{told[0].beside}",
        area,
        suggestion,
        f"{'; '.join(p.description for p in told)}; by the plan they may run at once",
        gains,
        effort=effort,
        tasks=tuple(dict.fromkeys((*case.pair.subjects, *case.pair.beside))),
        patch=patch,
        data={"slower": {p.subject: p.size for p in told}},
    )
    # No surer than the slowing down itself.
    sure = [c for c in (found.confidence, *(p.confidence for p in told)) if c is not None]
    return replace(found, confidence=min(sure) if found.confidence is not None else None)


def _cases(
    plan: Plan, patterns: Sequence[ExecutionPattern], policy: LearningPolicy
) -> list[_Slowed]:
    """The pairs, those that slow one another down as one."""
    found: dict[frozenset[frozenset[str]], _Slowed] = {}
    for pattern in patterns:
        of_plan = pattern.plan in ("", plan.name)
        if pattern.kind is not PatternKind.CONTENTION or not of_plan or (pattern.size or 0) <= 0:
            continue
        pair = Pair.of(pattern, plan)
        if pair is None:
            continue
        key = frozenset({frozenset(pair.subjects), frozenset(pair.beside)})
        if key in found:
            first = found[key]
            found[key] = replace(first, patterns=(*first.patterns, (pair, pattern)))
        else:
            found[key] = _Slowed(pair=pair, patterns=((pair, pattern),), touching=policy.touching)
    return list(found.values())


def _met(
    run: Past, subjects: Sequence[str], beside: Sequence[str], within: float, touching: float
) -> Bools:
    """Nodes of `subjects` beside which another ran, or began in the share `within` of them.

    Counted: who had begun by then, less who had ended before.
    """
    ends = run.finishes
    starts = ends - run.actual
    work = run.actual > 0
    met = np.zeros(len(run.tasks), dtype=np.bool_)
    own, others = (
        np.array([i for t in tasks for i in run.nodes_of.get(t, ()) if work[i]], dtype=np.int64)
        for tasks in (subjects, beside)
    )
    touch = touching * run.actual[own]
    since = starts[own] + touch
    until = np.minimum(starts[own] + np.maximum(within * run.actual[own], touch), ends[own] - touch)
    begun = np.searchsorted(np.sort(starts[others]), until, "right")
    gone = np.searchsorted(np.sort(ends[others]), since, "right")
    met[own] = begun - gone - np.isin(own, others) > 0
    return met

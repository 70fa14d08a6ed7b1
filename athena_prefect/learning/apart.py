"""Tasks that fail beside one another, kept apart: by a dependency, or by a resource they share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from athena_prefect.learning.arcs import SAME
from athena_prefect.learning.blame import Blame
from athena_prefect.learning.bottlenecks import words
from athena_prefect.learning.gains import WORTH, Budget, counted, gains_of, measured
from athena_prefect.learning.pair import Order, Pair, begun
from athena_prefect.learning.past import Past
from athena_prefect.learning.results import ExecutionPattern, PatternKind, Recommendation
from athena_prefect.plan.graph import Bools
from athena_prefect.plan.model import Plan


def apart(
    blames: Sequence[Blame], plan: Plan, patterns: Sequence[ExecutionPattern], budget: Budget
) -> Iterator[Recommendation]:
    """One change for each interaction that recurs: what fails beside something no longer meets it.

    The benefit is that of replays in which the two are kept apart and the attempts
    that failed beside it did not fail; runs that failed for good are counted.
    """
    for pattern in patterns:
        if pattern.kind is not PatternKind.INTERACTION:
            continue
        if pattern.plan not in ("", plan.name):
            continue
        pair = Pair.of(pattern, plan)
        if pair is None or not budget.allows("apart", blames):
            continue
        order = pair.order(blames)
        gains = gains_of(blames, budget, change=partial(_without_failures, pair, order))
        lost = sum(_lost(pair, b.past) for b in blames)
        if gains is None or (gains.share < WORTH and not lost):
            continue
        found = measured(
            f"apart:{pattern.subject}:{pattern.beside}",
            "dependencies",
            pair.words(order),
            f"{pattern.description}; by the plan they may run at once",
            gains,
            effort="moderate",
            tasks=tuple(dict.fromkeys((*pair.subjects, *pair.beside))),
            patch=pair.patch(order),
            data={"failed_runs": lost, "risk": pattern.size},
        )
        benefit = found.potential_benefit
        if lost:
            saved = f"{lost} of {counted(len(blames))} would not have failed"
            cost = words(abs(gains.mean))
            benefit = f"{saved}; {benefit}" if gains.mean >= 0 else f"{saved}, each {cost} longer"
        yield replace(
            found, potential_benefit=benefit, confidence=pattern.confidence, samples=pattern.runs
        )


def _without_failures(pair: Pair, order: Order, run: Past) -> Mapping[str, Any]:
    """How a replay keeps them apart, without the attempts that failed beside one another."""
    retries = np.where(_met(pair, run), 0.0, run.retries)
    return {**pair.kept_apart(run, order), "retries": retries}


def _met(pair: Pair, run: Past) -> Bools:
    """Nodes of what fails whose first attempt began while something beside it ran."""
    starts, ends = begun(run), run.finishes
    met = np.zeros(len(run.tasks), dtype=np.bool_)
    others = [i for t in pair.beside for i in run.nodes_of.get(t, ()) if run.actual[i] > 0]
    for task in pair.subjects:
        for i in run.nodes_of.get(task, ()):
            met[i] = any(
                j != i and starts[j] < starts[i] + SAME and ends[j] > starts[i] for j in others
            )
    return met


def _lost(pair: Pair, run: Past) -> bool:
    """Whether a task failed for good in the run after it had met the other."""
    bad = {t.task_id for t in run.run.tasks if t.outcome is not None and not t.outcome.good}
    good = {t.task_id for t in run.run.tasks if t.outcome is not None and t.outcome.good}
    met = _met(pair, run)
    return any(met[i] for t in (bad - good) & set(pair.subjects) for i in run.nodes_of[t])

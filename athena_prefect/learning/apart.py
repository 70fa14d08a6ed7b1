"""Tasks that fail beside one another, kept apart: by a dependency, or by a resource they share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from athena_prefect.learning.arcs import SAME
from athena_prefect.learning.blame import Blame
from athena_prefect.learning.bottlenecks import words
from athena_prefect.learning.gains import WORTH, Budget, counted, gains_of, measured
from athena_prefect.learning.neighbours import ANYTHING
from athena_prefect.learning.past import Past
from athena_prefect.learning.results import ExecutionPattern, PatternKind, Recommendation
from athena_prefect.plan.graph import Bools, Floats
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
        pair = _Pair.of(pattern, plan)
        if pair is None or not budget.allows("apart", blames):
            continue
        order = pair.order(blames)
        gains = gains_of(blames, budget, change=lambda run, p=pair, o=order: p.changes(run, o))  # type: ignore[misc]
        lost = sum(pair.lost(b.past) for b in blames)
        if gains is None or (gains.share < WORTH and not lost):
            continue
        found = measured(
            f"apart:{pattern.subject}:{pattern.beside}",
            "dependencies",
            pair.words(order),
            f"{pattern.description}; by the plan they may run at once",
            gains,
            effort="moderate",
            tasks=tuple(dict.fromkeys((*pair.failing, *pair.beside))),
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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pair:
    """Tasks that fail, and those beside which they do."""

    plan: Plan
    failing: tuple[str, ...]
    beside: tuple[str, ...]
    names: tuple[str, str]
    alone: bool = False
    """Whether they fail beside anything, one another too, and so have to run alone."""

    @classmethod
    def of(cls, pattern: ExecutionPattern, plan: Plan) -> _Pair | None:
        """The pair of a pattern; None where the plan never lets them run at once."""
        known = set(plan.task_ids)
        failing = tuple(t for t in pattern.affected_tasks if t in known)
        alone = pattern.beside == ANYTHING
        beside = tuple(t.id for t in plan.tasks if alone or t.group == pattern.beside)
        order = _ancestors(plan, {*failing, *beside})
        if alone:
            # What one waits for, or what waits for it, never runs beside it.
            beside = tuple(
                b for b in beside
                if any(a != b and a not in order[b] and b not in order[a] for a in failing)
            )  # fmt: skip
        open_ = any(
            a != b and a not in order[b] and b not in order[a] for a in failing for b in beside
        )
        if not open_:
            return None
        return cls(
            plan=plan,
            failing=failing,
            beside=beside,
            names=(pattern.subject, "" if alone else pattern.beside),
            alone=alone,
        )

    def order(self, blames: Sequence[Blame]) -> tuple[str, str] | None:
        """(before, after) as it mostly was, where it is one task beside one; None otherwise."""
        if len(self.failing) != 1 or len(self.beside) != 1:
            return None
        one, other = self.failing[0], self.beside[0]
        first = 0
        for blame in blames:
            run = blame.past
            if one in run.nodes_of and other in run.nodes_of:
                begun = _begun(run)
                first += 1 if begun[run.nodes_of[one][0]] < begun[run.nodes_of[other][0]] else -1
        return (one, other) if first > 0 else (other, one)

    @property
    def takes(self) -> tuple[int, Mapping[str, int]]:
        """Capacity of the resource that keeps them apart, and what each task takes of it.

        Where they fail beside their own kind it has one unit. Else the tasks of the side
        that has more take one each and may run beside one another; those of the other
        side take all; what fails beside anything takes all itself.
        """
        others = tuple(t for t in self.beside if t not in self.failing)
        if not others:
            return 1, dict.fromkeys(self.failing, 1)
        few, many = sorted((self.failing, others), key=len)
        if self.alone:
            few, many = self.failing, others
        return len(many), {**dict.fromkeys(many, 1), **dict.fromkeys(few, len(many))}

    @property
    def resource(self) -> str:
        """A name that the plan does not have yet."""
        name = "apart_" + "_".join(n for n in dict.fromkeys(self.names) if n)
        clean = "".join(c if c.isalnum() or c == "_" else "_" for c in name)
        while clean in self.plan.resources:
            clean += "_"
        return clean

    def changes(self, run: Past, order: tuple[str, str] | None) -> Mapping[str, Any]:
        """How a replay keeps them apart, without the attempts that failed beside one another."""
        retries = np.where(self._met(run), 0.0, run.retries)
        if order is not None:
            there = order[0] in run.nodes_of and order[1] in run.nodes_of
            return {"further": (order,) if there else (), "retries": retries}
        capacity, takes = self.takes
        amounts = np.array([float(takes.get(t, 0)) for t in run.names_of_tasks])[run.codes]
        amounts[run.actual <= 0] = 0.0
        return {"shared": (float(capacity), amounts), "retries": retries}

    def _met(self, run: Past) -> Bools:
        """Nodes of what fails whose first attempt began while something beside it ran."""
        begun, ends = _begun(run), run.finishes
        met = np.zeros(len(run.tasks), dtype=np.bool_)
        others = [i for t in self.beside for i in run.nodes_of.get(t, ()) if run.actual[i] > 0]
        for task in self.failing:
            for i in run.nodes_of.get(task, ()):
                met[i] = any(
                    j != i and begun[j] < begun[i] + SAME and ends[j] > begun[i] for j in others
                )
        return met

    def lost(self, run: Past) -> bool:
        """Whether a task failed for good in the run after it had met the other."""
        bad = {t.task_id for t in run.run.tasks if t.outcome is not None and not t.outcome.good}
        good = {t.task_id for t in run.run.tasks if t.outcome is not None and t.outcome.good}
        met = self._met(run)
        return any(met[i] for t in (bad - good) & set(self.failing) for i in run.nodes_of[t])

    def patch(self, order: tuple[str, str] | None) -> Mapping[str, Any]:
        """The change of the plan."""
        if order is not None:
            before, after = order
            kept = [
                d.model_dump(mode="json", exclude_defaults=True)
                for d in self.plan.get_task(after).depends_on
            ]
            return {"tasks": {after: {"depends_on": [*kept, {"task": before}]}}}
        capacity, takes = self.takes
        tasks = {
            t: {"resources": {**self.plan.get_task(t).resources, self.resource: n}}
            for t, n in takes.items()
        }
        return {"resources": {self.resource: {"capacity": capacity}}, "tasks": tasks}

    def words(self, order: tuple[str, str] | None) -> str:
        """The change in a sentence."""
        if order is not None:
            return f"Let {order[1]} depend on {order[0]}, so that they never run at once"
        one, other = self.names
        if self.alone:
            return f"Let {one} run alone, with a resource {self.resource} that it takes all of"
        what = f"{one} tasks" if one == other else f"{one} and {other}"
        return f"Keep {what} apart with a resource {self.resource}, so that they never run at once"


def _begun(run: Past) -> Floats:
    """Start of each node's first attempt."""
    started: Floats = run.finishes - run.actual - run.retries
    return started


def _ancestors(plan: Plan, tasks: set[str]) -> Mapping[str, set[str]]:
    """Task → all that it waits for, of these."""
    found: dict[str, set[str]] = {}
    for task in tasks:
        seen: set[str] = set()
        todo = [task]
        while todo:
            for d in plan.get_task(todo.pop()).upstream:
                if d.task not in seen:
                    seen.add(d.task)
                    todo.append(d.task)
        found[task] = seen
    return found

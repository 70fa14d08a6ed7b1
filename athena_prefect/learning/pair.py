"""Two sorts of tasks that do one another no good, and what keeps them apart: a dependency, or a
resource that they share.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from athena_prefect.learning.blame import Blame
from athena_prefect.learning.neighbours import ANYTHING
from athena_prefect.learning.past import Past
from athena_prefect.learning.results import ExecutionPattern
from athena_prefect.plan.graph import Floats
from athena_prefect.plan.model import Plan

Order = tuple[str, str] | None
"""Which of two tasks runs before which; None where a resource keeps them apart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Tasks that something befalls, and those beside which it does."""

    plan: Plan
    subjects: tuple[str, ...]
    beside: tuple[str, ...]
    names: tuple[str, str]
    alone: bool = False
    """Whether it is anything else beside which it does, one another too: they have to run alone."""

    @classmethod
    def of(cls, pattern: ExecutionPattern, plan: Plan) -> Pair | None:
        """The pair of a pattern; None where the plan never lets them run at once."""
        known = set(plan.task_ids)
        subjects = tuple(t for t in pattern.affected_tasks if t in known)
        alone = pattern.beside == ANYTHING
        beside = tuple(t.id for t in plan.tasks if alone or t.group == pattern.beside)
        order = _ancestors(plan, {*subjects, *beside})

        def meet(a: str, b: str) -> bool:
            # Items of one mapped task run beside one another.
            if a == b:
                return plan.get_task(a).map_over is not None
            return a not in order[b] and b not in order[a]

        if alone:
            # What one waits for, or what waits for it, never runs beside it.
            beside = tuple(b for b in beside if any(meet(a, b) for a in subjects))
        if not any(meet(a, b) for a in subjects for b in beside):
            return None
        return cls(
            plan=plan,
            subjects=subjects,
            beside=beside,
            names=(pattern.subject, "" if alone else pattern.beside),
            alone=alone,
        )

    def order(self, blames: Sequence[Blame]) -> Order:
        """(before, after) as it mostly was, where it is one task beside one; None otherwise."""
        if len(self.subjects) != 1 or len(self.beside) != 1:
            return None
        one, other = self.subjects[0], self.beside[0]
        if one == other:
            return None
        first = 0
        for blame in blames:
            run = blame.past
            if one in run.nodes_of and other in run.nodes_of:
                starts = begun(run)
                first += 1 if starts[run.nodes_of[one][0]] < starts[run.nodes_of[other][0]] else -1
        return (one, other) if first > 0 else (other, one)

    @property
    def takes(self) -> tuple[int, Mapping[str, int]]:
        """Capacity of the resource that keeps them apart, and what each task takes of it.

        Where it is their own kind it has one unit. Else the tasks of the side
        that has more take one each and may run beside one another; those of the other
        side take all; what has to run alone takes all itself.
        """
        others = tuple(t for t in self.beside if t not in self.subjects)
        if not others:
            return 1, dict.fromkeys(self.subjects, 1)
        few, many = sorted((self.subjects, others), key=len)
        if self.alone:
            few, many = self.subjects, others
        return len(many), {**dict.fromkeys(many, 1), **dict.fromkeys(few, len(many))}

    @property
    def resource(self) -> str:
        """A name that the plan does not have yet."""
        name = "apart_" + "_".join(n for n in dict.fromkeys(self.names) if n)
        clean = "".join(c if c.isalnum() or c == "_" else "_" for c in name)
        while clean in self.plan.resources:
            clean += "_"
        return clean

    def kept_apart(self, run: Past, order: Order) -> Mapping[str, Any]:
        """How a replay keeps them apart."""
        if order is not None:
            there = order[0] in run.nodes_of and order[1] in run.nodes_of
            return {"further": (order,) if there else ()}
        capacity, takes = self.takes
        amounts = np.array([float(takes.get(t, 0)) for t in run.names_of_tasks])[run.codes]
        amounts[run.actual <= 0] = 0.0
        return {"shared": (float(capacity), amounts)}

    def patch(self, order: Order) -> Mapping[str, Any]:
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

    def words(self, order: Order) -> str:
        """The change in a sentence."""
        if order is not None:
            return f"Let {order[1]} depend on {order[0]}, so that they never run at once"
        one, other = self.names
        if self.alone:
            return f"Let {one} run alone, with a resource {self.resource} that it takes all of"
        what = f"{one} tasks" if set(self.subjects) == set(self.beside) else f"{one} and {other}"
        return f"Keep {what} apart with a resource {self.resource}, so that they never run at once"

    def words_of_machines(self) -> str:
        """That they share none any more."""
        one, other = self.names
        if self.alone:
            return f"Run {one} on machines of its own, such as a deployment in another work pool"
        if set(self.subjects) == set(self.beside):
            return f"Spread {one} tasks over more machines, such as a deployment in a larger pool"
        return (
            f"Run {one} and {other} on different machines, one of them as a deployment in "
            "another work pool"
        )


def begun(run: Past) -> Floats:
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

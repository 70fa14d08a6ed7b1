"""Every defect of a whole plan, each with its place: references, cycles, capacities.

What one field or one object can tell is checked where it is made
(`athena_prefect.plan.model`). Here stands what needs the rest of the plan.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from athena_prefect.errors import Defect, PlanDocumentError
from athena_prefect.plan.graph import find_cycle
from athena_prefect.plan.scalars import nearest
from athena_prefect.plan.templates import RUN_NAMES, references

if TYPE_CHECKING:
    from athena_prefect.plan.assumption import Assumption
    from athena_prefect.plan.model import Plan
    from athena_prefect.plan.task import Mode, PlanTask

Loc = tuple[str | int, ...]
"""Keys and indices that lead to a part of the document."""

MOST_CYCLES = 20
"""Cycles named in one report: enough to mend a document, short enough to read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A defect before it has a file and a line. `related`: the other place it speaks of."""

    loc: Loc
    message: str
    remedy: str = ""
    related: Loc | None = None


@dataclass(frozen=True, kw_only=True)
class Lost:
    """What a document with shape errors could not say; nothing follows from its absence.

    `locs` are the parts that were taken out, `names` all words that stand in them.
    """

    locs: frozenset[Loc] = field(default_factory=frozenset)
    names: frozenset[str] = field(default_factory=frozenset)

    @cached_property
    def touched(self) -> frozenset[Loc]:
        """Every part that lacks something, down to what was taken out."""
        return frozenset(loc[:i] for loc in self.locs for i in range(len(loc) + 1))


NOTHING_LOST = Lost()


def dotted(loc: Loc) -> str:
    """`loc` as people write it: ``tasks[2].duration``."""
    text = ""
    for step in loc:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text


def check(plan: Plan) -> None:
    """Raises PlanDocumentError with all whole-plan defects; a sound plan passes."""
    found = findings(plan)
    if found:
        raise PlanDocumentError(placeless(found, f"plan {plan.name!r}"))


def placeless(found: Iterable[Finding], file: str) -> Iterator[Defect]:
    """Findings of a plan without a text, as defects (line 0)."""
    for one in found:
        other = f" (first: {dotted(one.related)})" if one.related else ""
        yield Defect(
            file=file,
            line=0,
            column=0,
            field=dotted(one.loc),
            message=one.message + other,
            remedy=one.remedy,
        )


def findings(plan: Plan, lost: Lost = NOTHING_LOST) -> list[Finding]:
    """All whole-plan defects in document order; `lost` is what is not held against it."""
    whole = _Whole(plan, lost)
    return [
        *whole.duplicates(((("tasks", i, "id"), t.id) for i, t in enumerate(plan.tasks)), "task"),
        *whole.goals(),
        *(f for i, t in enumerate(plan.tasks) for f in whole.task(("tasks", i), t)),
        *whole.cycles(),
        *whole.duplicates(
            ((("assumptions", i, "id"), a.id) for i, a in enumerate(plan.assumptions)),
            "assumption",
        ),
        *(f for i, a in enumerate(plan.assumptions) for f in whole.assumption(i, a)),
    ]


class _Whole:
    """One plan under inspection."""

    def __init__(self, plan: Plan, lost: Lost) -> None:
        self.plan = plan
        self.lost = lost
        self.tasks: dict[str, PlanTask] = {t.id: t for t in plan.tasks}

    def unknown(
        self, loc: Loc, kind: str, name: str, known: Collection[str], section: Loc
    ) -> Iterator[Finding]:
        """A finding where `name` is not known, nor perhaps declared in what was lost."""
        if name in known or name in self.lost.names or section in self.lost.locs:
            return
        close = nearest(name, known)
        if close:
            remedy = f"did you mean {close!r}?"
        elif known and len(known) <= 8:
            remedy = f"known are {', '.join(known)}"
        else:
            remedy = f"declare it under {dotted(section)}"
        yield Finding(loc=loc, message=f"no {kind} {name!r}", remedy=remedy)

    def duplicates(self, named: Iterable[tuple[Loc, str]], kind: str) -> Iterator[Finding]:
        """A finding for each name after its first."""
        first: dict[str, Loc] = {}
        for loc, name in named:
            if name in first:
                yield Finding(
                    loc=loc,
                    message=f"{kind} {name!r} is there twice",
                    remedy="each name once",
                    related=first[name],
                )
            first.setdefault(name, loc)

    def goals(self) -> Iterator[Finding]:
        goals = self.plan.goals
        places = [(("goals", i), goal) for i, goal in enumerate(goals)]
        yield from self.duplicates(places, "goal")
        for loc, goal in places:
            yield from self.unknown(loc, "task", goal, self.tasks, ("tasks",))
            if goal in self.tasks and self.tasks[goal].optional:
                yield Finding(
                    loc=loc,
                    message=f"goal {goal!r} is optional",
                    remedy="a goal is never left out: take it from goals, or make it not optional",
                )
        feeds = {d.task for t in self.plan.tasks for d in t.upstream}
        last = [t for t in self.plan.tasks if t.id not in feeds]
        if last and not goals and not self.lost.locs and all(t.optional for t in last):
            yield Finding(
                loc=("goals",),
                message="every last task is optional, so nothing is required",
                remedy="name the goals, or make one last task not optional",
            )

    def task(self, loc: Loc, task: PlanTask) -> Iterator[Finding]:
        yield from self.upstream(loc, task)
        yield from self.optional_results(loc, task)
        yield from self.mapping(loc, task)
        yield from self.work(loc, task)
        yield from self.demands((*loc, "resources"), task.resources)
        yield from self.modes(loc, task)
        for name in ("timeout", "deadline"):
            value = getattr(task, name)
            if value is not None and not value:
                yield _zero((*loc, name), f"a {name}")
        criteria = task.success_criteria
        if criteria and not criteria.fields and (*loc, "success_criteria") not in self.lost.touched:
            yield Finding(
                loc=(*loc, "success_criteria"),
                message="asks nothing of the result",
                remedy="name a field of it, e.g. {rows: {min: 100}}",
            )

    def upstream(self, loc: Loc, task: PlanTask) -> Iterator[Finding]:
        """References to other tasks: known, not to itself, each dependency once."""
        places: list[tuple[Loc, str]] = [
            ((*loc, "depends_on", i), d.task) for i, d in enumerate(task.depends_on)
        ]
        yield from self.duplicates(places, "dependency")
        places += [((*loc, "inputs", name), source) for name, source in task.inputs.items()]
        if task.when:
            places.append(((*loc, "when", "task"), task.when.task))
        for place, name in places:
            if name == task.id:
                yield Finding(
                    loc=place,
                    message=f"task {name!r} depends on itself",
                    remedy="name another task, or take this out",
                )
            yield from self.unknown(place, "task", name, self.tasks, ("tasks",))

    def optional_results(self, loc: Loc, task: PlanTask) -> Iterator[Finding]:
        if (*loc, "optional") in self.lost.touched or task.id not in self.plan.required:
            return
        taken: list[tuple[Loc, str]] = [((*loc, "inputs", k), v) for k, v in task.inputs.items()]
        if task.when:
            taken.append(((*loc, "when", "task"), task.when.task))
        for place, name in taken:
            source = self.tasks.get(name)
            if source and source.optional:
                yield Finding(
                    loc=place,
                    message=f"required task {task.id!r} takes the result of optional {name!r}",
                    remedy=f"make {name!r} not optional, {task.id!r} optional, "
                    "or let it only depend on it",
                )

    def mapping(self, loc: Loc, task: PlanTask) -> Iterator[Finding]:
        if task.map_over is not None:
            place, section = (*loc, "map_over"), (*loc, "inputs")
            yield from self.unknown(place, "input", task.map_over, task.inputs, section)
        elif task.expected_items > 1 and (*loc, "map_over") not in self.lost.touched:
            yield Finding(
                loc=(*loc, "expected_items"),
                message="the task is not mapped",
                remedy="add map_over: NAME OF AN INPUT, or take expected_items out",
            )

    def work(self, loc: Loc, work: PlanTask | Mode) -> Iterator[Finding]:
        """What a task or one of its modes calls, and with what."""
        if work.call is not None and work.deployment is not None:
            yield Finding(
                loc=(*loc, "deployment"),
                message="both call and deployment",
                remedy="give one of the two",
                related=(*loc, "call"),
            )
        yield from self.templates((*loc, "with"), work.with_)

    def templates(self, loc: Loc, value: object) -> Iterator[Finding]:
        for reference in references(value):
            place = (*loc, *reference.path)
            if reference.template is None:
                yield Finding(
                    loc=place,
                    message=reference.problem,
                    remedy="write e.g. {{ parameters.folder }}, {{ run.logical_date }}, "
                    "{{ secret.api-key }}, {{ variable.region }}",
                )
            elif reference.template.namespace == "parameters":
                known, section = self.plan.parameters, ("parameters",)
                name = reference.template.name
                yield from self.unknown(place, "parameter", name, known, section)
            elif reference.template.namespace == "run" and reference.template.name not in RUN_NAMES:
                yield Finding(
                    loc=place,
                    message=f"a run has no {reference.template.name!r}",
                    remedy=f"it has {', '.join(RUN_NAMES)}",
                )

    def demands(self, loc: Loc, demands: Mapping[str, float]) -> Iterator[Finding]:
        """Demands for known resources, within their capacity: else it could never start."""
        for name, amount in demands.items():
            place, known = (*loc, name), self.plan.resources
            yield from self.unknown(place, "resource", name, known, ("resources",))
            if name in known and amount > known[name].capacity:
                yield Finding(
                    loc=place,
                    message=f"needs {amount:g} of {name!r}, of which there is "
                    f"{known[name].capacity:g}",
                    remedy="it could never start: ask for less, or raise the capacity",
                )

    def modes(self, loc: Loc, task: PlanTask) -> Iterator[Finding]:
        places: list[tuple[Loc, str]] = [
            ((*loc, "modes", i, "name"), m.name) for i, m in enumerate(task.modes)
        ]
        yield from self.duplicates(places, "mode")
        for i, mode in enumerate(task.modes):
            place = (*loc, "modes", i)
            if mode.name == "default":
                yield Finding(
                    loc=(*place, "name"),
                    message="'default' is the mode that the task's own fields describe",
                    remedy="give it another name",
                )
            yield from self.work(place, mode)
            yield from self.demands((*place, "resources"), mode.resources)

    def cycles(self) -> Iterator[Finding]:
        index = {t.id: i for i, t in enumerate(self.plan.tasks)}
        for cycle in self.cyclic:
            yield Finding(
                loc=("tasks", min(index[t] for t in cycle)),
                message="dependency cycle: " + " -> ".join(cycle),
                remedy="take out one of these dependencies",
            )

    @cached_property
    def cyclic(self) -> tuple[tuple[str, ...], ...]:
        """Cycles that share no task, each from a task back to it, in the order of work."""
        left = dict.fromkeys(self.tasks)
        arcs = [(d.task, t.id) for t in self.plan.tasks for d in t.upstream if d.task != t.id]
        found: list[tuple[str, ...]] = []
        while len(found) < MOST_CYCLES and (cycle := find_cycle(tuple(left), arcs)):
            found.append(cycle)
            left = {task: None for task in left if task not in cycle}
        return tuple(found)

    def assumption(self, index: int, assumption: Assumption) -> Iterator[Finding]:
        loc: Loc = ("assumptions", index)
        affected: list[tuple[Loc, str]] = [
            ((*loc, "affects", i), t) for i, t in enumerate(assumption.affects)
        ]
        yield from self.duplicates(affected, "task")
        for place, name in affected:
            yield from self.unknown(place, "task", name, self.tasks, ("tasks",))
        for i, milestone in enumerate(assumption.milestones):
            for side in ("before", "after"):
                name = getattr(milestone, side)
                if name is not None:
                    place = (*loc, "milestones", i, side)
                    yield from self.unknown(place, "task", name, self.tasks, ("tasks",))
        frequency = assumption.validation_frequency
        if frequency is not None and not frequency:
            yield _zero((*loc, "validation_frequency"), "a frequency")
        if assumption.check:
            yield from self.templates((*loc, "check"), assumption.check.options)
        yield from self.effect(loc, assumption)

    def effect(self, loc: Loc, assumption: Assumption) -> Iterator[Finding]:
        effect = assumption.effect
        if effect is None:
            return
        if not assumption.affects and (*loc, "affects") not in self.lost.touched:
            yield Finding(
                loc=(*loc, "effect"),
                message="an effect on no task",
                remedy="name the tasks under affects",
            )
        for name in effect.capacity or ():
            place = (*loc, "effect", "capacity", name)
            known = self.plan.resources
            yield from self.unknown(place, "resource", name, known, ("resources",))
        if effect.mode is None:
            return
        for name in assumption.affects:
            task = self.tasks.get(name)
            if task and effect.mode not in (*task.mode_names, *self.lost.names):
                modes = ", ".join(m.name for m in task.modes) or "none"
                yield Finding(
                    loc=(*loc, "effect", "mode"),
                    message=f"task {name!r} has no mode {effect.mode!r} (its modes: {modes})",
                    remedy="declare it there, or take the task from affects",
                )


def _zero(loc: Loc, what: str) -> Finding:
    return Finding(loc=loc, message=f"{what} of zero", remedy="write e.g. 10m, or take it out")

"""Random plans part of which has run, as a planner gets them."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from athena_prefect.plan.model import Plan
from athena_prefect.schedule.standing import Item, Levers, Span, Standing


@st.composite
def plans(draw: st.DrawFn, *, least: int = 1, most: int = 7, uncertain: bool = False) -> Plan:
    """Plans with whole seconds, one resource, modes, soft dependencies, optional tasks."""
    size = draw(st.integers(least, most))
    capacity = draw(st.integers(1, 4))
    tasks: list[dict[str, Any]] = []
    for k in range(size):
        before = draw(st.sets(st.integers(0, k - 1), max_size=2)) if k else set()
        task: dict[str, Any] = {
            "id": f"t{k}",
            "duration": _duration(draw, uncertain),
            "resources": {"cpu": draw(st.integers(0, capacity))},
            "depends_on": [
                {
                    "task": f"t{j}",
                    "kind": draw(st.sampled_from(["hard", "soft"])),
                    "lag": draw(st.integers(0, 2)),
                }
                for j in sorted(before)
            ],
        }
        if draw(st.booleans()):
            task["modes"] = [
                {
                    "name": "other",
                    "duration": draw(st.integers(0, 5)),
                    "resources": {"cpu": draw(st.integers(0, capacity))},
                    "quality": 0.9,
                }
            ]
        if k < size - 1 and draw(st.integers(0, 3)) == 0:
            task |= {"optional": True, "value": 0.5}
        tasks.append(task)
    return Plan.model_validate(
        {
            "name": "random",
            "resources": {"cpu": {"capacity": capacity, "cost_per_hour": 1.0}},
            "runner": {"max_workers": draw(st.integers(1, 3))},
            "tasks": tasks,
        }
    )


def _duration(draw: st.DrawFn, uncertain: bool) -> Any:
    low = draw(st.integers(0, 5))
    if not uncertain or draw(st.booleans()):
        return low
    likely = low + draw(st.integers(0, 3))
    return {
        "optimistic": low, "likely": likely, "pessimistic": likely + draw(st.integers(0, 4)),
    }  # fmt: skip


@st.composite
def standings(draw: st.DrawFn, *, uncertain: bool = False) -> Standing:
    """A run in which the first tasks of the document, in order, have run or run."""
    plan = draw(plans(uncertain=uncertain))
    spans: dict[Item, Span] = {}
    over: set[Item] = set()
    at = 0.0
    for task in plan.tasks[: draw(st.integers(0, len(plan.tasks)))]:
        lag = max((d.lag.total_seconds() for d in task.upstream), default=0.0)
        end = at + lag + draw(st.integers(0, 6))
        spans[task.id, None] = (at + lag, end)
        over.add((task.id, None))
        at = end
    running: bool = draw(st.booleans())
    if over and running:
        over.discard(list(spans)[-1])
        last = list(spans)[-1]
        at = max(spans[last][0], at - 1)
        spans[last] = (spans[last][0], max(at, spans[last][1]))
    capacities = {"cpu": draw(st.integers(0, 4)) + 0.0} if draw(st.integers(0, 3)) == 0 else {}
    free = [t.id for t in plan.tasks if (t.id, None) not in spans]
    factors = {t: 1.5 for t in draw(st.sets(st.sampled_from(free), max_size=2))} if free else {}
    return Standing(
        plan=plan,
        now=at,
        spans=spans,
        over=frozenset(over),
        previous={(t, None): at + k for k, t in enumerate(free)},
        previous_makespan=at + 10.0,
        deadline=draw(st.none() | st.integers(0, 30).map(float)),
        capacities=capacities,
        factors=factors,
    )


def all_levers(plan: Plan) -> Levers:
    """Everything that a plan declares."""
    return Levers(
        modes={t.id: tuple(m.name for m in t.modes) for t in plan.tasks if t.modes},
        droppable=frozenset(t.id for t in plan.tasks if t.optional),
        soft=frozenset((d.task, t.id) for t in plan.tasks for d in t.upstream if not d.hard),
    )

"""Plans and half-run runs of any size, for the charts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

from athena_prefect.journal.events import (
    RunEvent,
    RunEventKind,
    TaskEvent,
    TaskEventKind,
    TaskOutcome,
)
from athena_prefect.journal.state import ExecutionState, evolve, fold
from athena_prefect.plan.model import Plan, PlanTask
from athena_prefect.report.view import RunView, Span, build

RUN = UUID(int=7)
START = datetime(2026, 3, 2, 4, 0, tzinfo=UTC)


def plan_of(count: int, *, width: int = 4) -> Plan:
    """`count` tasks in layers of `width`, each after the one above it and its neighbour."""
    tasks = []
    for i in range(count):
        above = [i - width, i - width + 1] if i >= width else []
        tasks.append(
            {
                "id": f"step_{i:03d}_{'load extract hash publish'.split()[i % 4]}",
                "category": "load extract hash publish".split()[i % 4],
                "duration": 5 + (i * 7) % 11,
                "resources": {"cpu": 1 + i % 2},
                "depends_on": [
                    f"step_{j:03d}_{'load extract hash publish'.split()[j % 4]}" for j in above
                ],
            }
        )
    return Plan.model_validate(
        {"name": "made-up", "tasks": tasks, "resources": {"cpu": {"capacity": 2 * width}}}
    )


def earliest(plan: Plan) -> dict[str, Span]:
    """Planned times: as early as the arcs allow."""
    found: dict[str, Span] = {}
    for task in plan.tasks:
        begin = max((found[d.task][1] for d in task.upstream), default=0.0)
        assert task.planned_duration is not None
        found[task.id] = (begin, begin + task.planned_duration.total_seconds())
    return found


def event(
    task: PlanTask, kind: TaskEventKind, at: float, outcome: TaskOutcome | None = None
) -> TaskEvent:
    """One event of the run, `at` seconds after its start."""
    data = {"allocated": dict(task.resources)} if kind is TaskEventKind.STARTED else {}
    return TaskEvent(
        plan_run=RUN, task_id=task.id, kind=kind, at=START + timedelta(seconds=at),
        source=f"run-{task.id}", outcome=outcome, data=data,
    )  # fmt: skip


def half_run(
    plan: Plan, *, share: float = 0.5, late: float = 1.15
) -> tuple[ExecutionState, datetime]:
    """The state of a run in which everything takes `late` times as long, and its now."""
    spans = earliest(plan)
    now = max(s[1] for s in spans.values()) * share * late
    state = fold([RunEvent(plan_run=RUN, kind=RunEventKind.STARTED, at=START)])
    for i, task in enumerate(plan.tasks):
        begin, end = (t * late for t in spans[task.id])
        if begin <= now:
            state = evolve(state, event(task, TaskEventKind.STARTED, begin))
        if end <= now:
            outcome = TaskOutcome.PARTIAL if i % 17 == 16 else TaskOutcome.SUCCESS
            state = evolve(state, event(task, TaskEventKind.ENDED, end, outcome))
    return state, START + timedelta(seconds=now)


def view_of(count: int, *, width: int = 4) -> RunView:
    """A half-run run of `count` tasks with a forecast, a deadline and a critical path."""
    plan = plan_of(count, width=width)
    spans = earliest(plan)
    finish = max(s[1] for s in spans.values())
    state, now = half_run(plan)
    path = []
    task = max(spans, key=lambda t: spans[t][1])
    while task:
        path.append(task)
        before = [d.task for d in plan.get_task(task).upstream]
        task = max(before, key=lambda t: spans[t][1], default="")
    return build(
        plan,
        planned=spans,
        state=state,
        now=now,
        deadline=finish * 1.25,
        planned_finish=finish,
        finish=(finish * 1.1, finish * 1.15, finish * 1.22),
        forecasts={t: (b * 1.1, b * 1.15, b * 1.22) for t, (_, b) in spans.items()},
        forecast_starts={t: a * 1.15 for t, (a, _) in spans.items()},
        critical=path,
    )

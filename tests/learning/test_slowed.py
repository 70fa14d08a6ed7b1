"""What slows one another down is kept apart or moved, where that is measured to help."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from athena_prefect.journal.events import TaskOutcome
from athena_prefect.learning.learner import ExecutionLearner
from athena_prefect.learning.past import past
from athena_prefect.learning.records import TaskRecord
from athena_prefect.learning.replay import as_it_was, replayed
from athena_prefect.learning.results import Recommendation
from athena_prefect.plan.editing import edited
from athena_prefect.plan.model import Plan
from tests.learning.runs import T0, H, plan_of, record, run_of

HOUR = 3600.0


def made(plan: Plan, run: int, task: str, start: float, hours: float, **more: Any) -> TaskRecord:
    return TaskRecord(
        task_id=task, run=f"r{run:02}", plan="p", category=plan.get_task(task).group,
        planned_start=T0, planned_duration=plan.get_task(task).planned_duration,
        actual_start=T0 + start * H, actual_duration=hours * H,
        outcome=TaskOutcome.SUCCESS, **more,
    )  # fmt: skip


def runs_of(plan: Plan, slower: tuple[float, float], later: float = 3.0) -> list[TaskRecord]:
    """Forty runs of `a` and `b` of an hour each; in half of them they begin at once, and take
    so many times as long; in the others `b` is `later`.
    """
    rng = np.random.default_rng(8)
    found = []
    for run in range(40):
        meet = run % 2 == 0
        for task, factor in zip("ab", slower, strict=True):
            begin = later if task == "b" and not meet else 0.0
            noise = float(np.exp(rng.normal(0, 0.05)))
            found.append(made(plan, run, task, begin, noise * (factor if meet else 1.0)))
    return found


def told(plan: Plan, records: list[TaskRecord]) -> dict[str, Recommendation]:
    found = ExecutionLearner(plan=plan).generate_recommendations(records)
    own = [r for r in found if r.recommendation_id.startswith(("slowed:", "elsewhere:"))]
    return {r.recommendation_id.partition(":")[0]: r for r in own}


def two(**more: Any) -> Plan:
    tasks = [{"id": "a", "duration": "1h"}, {"id": "b", "duration": "1h"}]
    return plan_of(tasks=tasks, runner={"max_workers": 4}, **more)


def test_two_tasks_that_slow_one_another_down_a_lot_run_one_after_the_other() -> None:
    plan = two()
    records = runs_of(plan, (2.5, 2.5))
    found = told(plan, records)
    # One after the other they take 2 h and not the longer of twice 2.5, in half of the runs.
    hours = {(r.run, r.task_id): (r.actual_duration or H) / H for r in records}
    each = [(hours[f"r{k:02}", "a"], hours[f"r{k:02}", "b"]) for k in range(0, 40, 2)]
    saved = sum(max(a, b) - (a + b) / 2.5 for a, b in each) / 40
    apart = found["slowed"]
    assert apart.benefit is not None
    assert apart.benefit.total_seconds() == pytest.approx(saved * HOUR, rel=0.2)
    assert apart.area == "dependencies" and apart.implementation_effort == "moderate"
    (changed,) = apart.patch["tasks"].values()
    assert len(changed["depends_on"]) == 1 and set(apart.affected_tasks) == {"a", "b"}
    text = "name: p\ntasks:\n  - {id: a, duration: 1h}\n  - {id: b, duration: 1h}\n"
    assert edited(text, [apart.patch]).count("depends_on") == 1
    # On machines of their own 1 h, at the price of machines.
    moved = found["elsewhere"]
    assert moved.benefit is not None and not moved.patch
    assert moved.benefit.total_seconds() == pytest.approx(0.75 * HOUR, rel=0.2)
    assert moved.area == "resources" and moved.implementation_effort == "hard"
    assert moved.suggestion == (
        "Run b and a on different machines, one of them as a deployment in another work pool"
    )
    # Both are told of one pair, with the words and sizes of either's pattern.
    assert set(apart.data["slower"]) == {"a", "b"}
    assert all(size == pytest.approx(1.5, rel=0.15) for size in apart.data["slower"].values())
    assert apart.rationale.count("longer while") == 2
    # Half of the runs gain: no surer than that.
    assert apart.confidence is not None and 0.3 < apart.confidence < 0.7


def test_where_waiting_costs_more_than_it_saves_only_machines_help() -> None:
    plan = two()
    found = told(plan, runs_of(plan, (1.5, 1.5)))
    assert set(found) == {"elsewhere"}
    assert found["elsewhere"].benefit is not None
    assert found["elsewhere"].benefit.total_seconds() == pytest.approx(0.25 * HOUR, rel=0.25)


def test_one_that_is_slowed_down_waits_where_the_other_has_time() -> None:
    """`b` may as well run after `a`, while `rest` runs: what `a` takes less is gained in full."""
    plan = plan_of(
        tasks=[
            {"id": "a", "duration": "1h"},
            {"id": "b", "duration": "1h"},
            {"id": "rest", "duration": "3h", "depends_on": ["a"]},
        ],
        runner={"max_workers": 4},
    )
    records = runs_of(plan, (1.6, 1.0), later=1.2)
    ends = {r.run: r.actual_duration / H for r in records if r.task_id == "a" and r.actual_duration}
    records += [
        made(plan, run, "rest", hours, 3.0) for run in range(40) for hours in [ends[f"r{run:02}"]]
    ]
    found = told(plan, records)
    assert set(found) == {"slowed"}, "machines would gain no more"
    assert found["slowed"].patch == {"tasks": {"b": {"depends_on": [{"task": "a"}]}}}
    assert found["slowed"].benefit is not None
    assert found["slowed"].benefit.total_seconds() == pytest.approx(0.3 * HOUR, rel=0.25)
    assert found["slowed"].data["slower"].keys() == {"a"}


def test_what_the_plan_keeps_apart_or_what_gains_nothing_is_not_told() -> None:
    plan = two()
    assert told(plan, runs_of(plan, (1.0, 1.0))) == {}
    after = plan_of(
        tasks=[
            {"id": "a", "duration": "1h"},
            {"id": "b", "duration": "1h", "depends_on": [{"task": "a", "kind": "soft"}]},
        ]
    )
    assert told(after, runs_of(after, (2.5, 2.5))) == {}


def test_two_that_are_kept_apart_for_failing_are_told_of_once() -> None:
    plan = two()
    rng = np.random.default_rng(11)
    records: list[TaskRecord] = []
    for one in runs_of(plan, (2.5, 2.5)):
        if one.task_id == "b" and int(one.run[1:]) % 2 == 0 and rng.random() < 0.9:
            again = replace(one, attempt=2, actual_start=(one.actual_start or T0) + 4 * H)
            records += [replace(one, outcome=TaskOutcome.FAILURE), again]
        else:
            records.append(one)
    found = ExecutionLearner(plan=plan).generate_recommendations(records)
    ids = [r.recommendation_id for r in found]
    assert "apart:b:a" in ids
    assert not [name for name in ids if name.startswith(("slowed:", "elsewhere:"))]


def test_several_tasks_share_a_resource() -> None:
    plan = plan_of(
        runner={"max_workers": 4},
        tasks=[
            {"id": "import", "duration": "1h"},
            {"id": "t1", "duration": "1h", "category": "query"},
            {"id": "t2", "duration": "1h", "category": "query"},
        ],
    )
    rng = np.random.default_rng(9)
    records = []
    for run in range(40):
        meet = run % 2 == 0
        for task in ("import", "t1", "t2"):
            noise = float(np.exp(rng.normal(0, 0.05)))
            begin = 3.0 if task == "import" and not meet else 0.0
            records.append(made(plan, run, task, begin, noise * (3.0 if meet else 1.0)))
    found = told(plan, records)["slowed"]
    ((name, limit),) = found.patch["resources"].items()
    assert limit == {"capacity": 2}
    takes = {t: change["resources"][name] for t, change in found.patch["tasks"].items()}
    assert takes == {"import": 2, "t1": 1, "t2": 1}
    # 2 h and not 3, in half of the runs.
    assert found.benefit is not None
    assert found.benefit.total_seconds() == pytest.approx(0.5 * HOUR, rel=0.2)


def test_a_replay_with_other_durations() -> None:
    plan = two()
    run = past(run_of(plan, record("a", (0, 1), (0, 2)), record("b", (0, 1), (0, 1))))
    assert run is not None and as_it_was(run) == 2 * HOUR
    assert replayed(run, durations=run.actual / 2) == HOUR

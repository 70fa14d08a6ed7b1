"""The baseline: deviation 0 at the start by construction, and honest about what is not known."""

from __future__ import annotations

import json
from datetime import timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from athena_prefect.plan.model import Estimate, Plan
from athena_prefect.schedule.baseline import Baseline, make_baseline
from athena_prefect.schedule.feasibility import check
from athena_prefect.schedule.simulation import simulate

POINTS = st.lists(st.integers(0, 60), min_size=3, max_size=3).map(sorted)


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    count = draw(st.integers(1, 6))
    tasks = []
    for i in range(count):
        low, likely, high = draw(POINTS)
        feeds = draw(st.sets(st.sampled_from(range(i)), max_size=2)) if i else set()
        tasks.append(
            {
                "id": f"t{i}",
                "duration": {"optimistic": low, "likely": likely, "pessimistic": high},
                "inputs": {f"x{j}": f"t{j}" for j in feeds},
                "resources": {"cpu": draw(st.integers(0, 2))},
                **({"map_over": f"x{min(feeds)}", "expected_items": 3} if feeds else {}),
            }
        )
    return Plan(
        name="p", resources={"cpu": {"capacity": 2}}, runner={"max_workers": 2}, tasks=tasks
    )


@given(plans(), st.integers(0, 5))
def test_the_forecast_at_the_start_is_the_baseline(plan: Plan, seed: int) -> None:
    baseline = make_baseline(plan, seed=seed, samples=40)
    again = Baseline.from_dict(json.loads(json.dumps(baseline.as_dict())))
    assert again == baseline
    problem = again.problem(plan)
    forecast = simulate(
        problem, again.arcs, samples=again.samples, rng=np.random.default_rng(again.seed)
    )
    assert forecast.quantile(0.5) == baseline.p50 == baseline.quantiles["p50"]
    assert forecast.quantile(0.9) == baseline.accepted == baseline.quantiles["p90"]


@given(plans())
def test_planned_times_are_feasible_and_within_the_plan(plan: Plan) -> None:
    baseline = make_baseline(plan, seed=0, samples=10)
    assert list(baseline.tasks) == list(plan.task_ids)
    assert max(t.finish for t in baseline.tasks.values()) == baseline.makespan
    for task in plan.tasks:
        scheduled = baseline.tasks[task.id]
        for arc in task.upstream:
            assert baseline.tasks[arc.task].finish <= scheduled.start + 1e-6
        if task.map_over is None:
            assert task.planned_duration is not None
            mean = task.planned_duration.total_seconds()
            assert scheduled.duration == pytest.approx(mean, abs=1e-6)
    assert list(baseline.quantiles.values()) == sorted(baseline.quantiles.values())


def test_one_number_durations_are_exact() -> None:
    # Scenario 2 of the specification: 24 h, whatever the seed.
    def task(
        name: str, hours: float, cpu: int, *after: str, soft: tuple[str, ...] = ()
    ) -> dict[str, object]:
        arcs = [*after, *({"task": t, "kind": "soft"} for t in soft)]
        return {"id": name, "duration": f"{hours}h", "resources": {"cpu": cpu}, "depends_on": arcs}

    plan = Plan(
        name="p",
        resources={"cpu": {"capacity": 8}},
        tasks=[
            task("t1", 2, 3),
            task("t2", 2, 3, "t1"),
            task("t3", 3, 3, "t2"),
            task("t4", 5, 3, "t3"),
            task("t5", 4.5, 3, "t4"),
            task("t6", 4.5, 3, "t4"),
            task("t7", 3, 1, "t4", soft=("t5", "t6")),
            task("t8", 4.5, 3, "t5", "t6", "t7"),
        ],
    )
    baseline = make_baseline(plan, seed=3, samples=20)
    assert baseline.p50 == baseline.accepted == baseline.makespan == 24 * 3600
    assert baseline.p50_starts["t8"] == baseline.tasks["t8"].start == 19.5 * 3600
    assert check(baseline.problem(plan), [t.start for t in baseline.tasks.values()]) == ()


def test_unknown_durations_give_no_figures_but_the_reason() -> None:
    plan = Plan(name="p", tasks=[{"id": "a"}, {"id": "b", "duration": 3}])
    baseline = make_baseline(plan, seed=0, samples=10)
    assert not baseline.known
    assert baseline.p50 is baseline.accepted is baseline.makespan is None
    assert "no duration is known of a" in baseline.reasons[0]
    assert not baseline.arcs.pred.size
    assert Baseline.from_dict(baseline.as_dict()) == baseline
    second = timedelta(seconds=1)
    learned = {"a": Estimate(optimistic=second, likely=second, pessimistic=second)}
    assert make_baseline(plan, seed=0, samples=10, estimates=learned).p50 == 3.0
    assert make_baseline(plan, seed=0, samples=10, skipped=["a"]).p50 == 3.0


def test_what_can_never_start_gives_the_conflict() -> None:
    # Each demand fits its plan's capacity, or the plan could not be; a mode may not.
    plan = Plan(
        name="p",
        resources={"cpu": {"capacity": 2}},
        tasks=[{"id": "a", "duration": 1, "resources": {"cpu": 2}}],
    )
    object.__setattr__(plan.resources["cpu"], "capacity", 1.0)
    baseline = make_baseline(plan, seed=0, samples=10)
    assert baseline.reasons == ("'a' needs 2 of 'cpu', of which there is 1",)

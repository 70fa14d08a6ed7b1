"""Shares of a delay: they add up, and fall to what caused it."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest

from athena_prefect.journal.events import TaskOutcome
from athena_prefect.learning.blame import blame, moving
from athena_prefect.learning.bottlenecks import bottlenecks
from athena_prefect.learning.past import past
from athena_prefect.plan.graph import Network
from athena_prefect.schedule.passes import forward
from tests.learning.runs import H, S, plan_of, random_plan, record, run_of, simulated


@pytest.mark.parametrize("seed", range(12))
def test_a_run_is_reproduced_and_its_shares_add_up(seed: int) -> None:
    rng = np.random.default_rng(seed)
    plan = random_plan(rng, 40)
    factors = {t.id: float(np.exp(rng.normal(0.1, 0.4))) for t in plan.tasks}
    holds = {t.id: float(rng.exponential(40)) for t in plan.tasks if rng.random() < 0.1}
    run = simulated(plan, factors, holds=holds)
    planned = max((t.planned_start - run.started) / S + t.planned_duration / S for t in run.tasks)  # type: ignore[operator]
    actual = max((t.actual_start - run.started) / S + t.actual_duration / S for t in run.tasks)  # type: ignore[operator]
    found = past(run)
    assert found is not None
    assert found.planned_makespan == pytest.approx(planned, abs=1e-3)
    assert found.makespan == pytest.approx(actual, abs=1e-3)
    one = blame(found)
    total = sum(float(part.sum()) for part in (one.duration, one.queue, one.hold, one.retries))
    total += float(one.cut.sum()) + sum(one.soft.values())
    assert total == pytest.approx(actual - planned, abs=0.05)
    told = bottlenecks([run])
    assert sum(b.impact_duration / S for b in told) == pytest.approx(actual - planned, abs=0.1)
    if actual - planned > 1:
        assert sum(b.share or 0.0 for b in told) == pytest.approx(1.0, abs=1e-3)


def test_the_shares_of_a_longest_way_are_the_integral_of_its_slope() -> None:
    rng = np.random.default_rng(1)
    count = 30
    tails, heads = [], []
    for i in range(2, count):
        for j in set(rng.integers(0, i, size=2).tolist()):
            tails.append(j)
            heads.append(i)
    network = Network.build([str(i) for i in range(count)], tails, heads)
    base, moved = rng.uniform(1, 10, count), rng.uniform(-1, 5, count)
    shares = moving(network, base, moved)
    ends = [forward(network, base + t * moved)[1].max() for t in (0.0, 1.0)]
    assert shares.sum() == pytest.approx(ends[1] - ends[0], abs=1e-6)
    # Against many small steps: on each, what the chain of the moment adds.
    steps = np.zeros(count)
    for t in (np.arange(4000) + 0.5) / 4000:
        weights = base + t * moved
        starts, finish = forward(network, weights)
        node = int(finish.argmax())
        while True:
            steps[node] += moved[node] / 4000
            before = network.pred[network.pred_ptr[node] : network.pred_ptr[node + 1]]
            if not len(before):
                break
            node = int(before[finish[before].argmax()])
            assert starts is not None
    assert shares == pytest.approx(steps, abs=0.02)


def test_an_estimate_that_was_wrong_has_all_of_the_delay() -> None:
    plan = plan_of(tasks=[{"id": "a", "duration": "2h"}, {"id": "b", "duration": "1h",
                                                          "depends_on": ["a"]}])  # fmt: skip
    (found,) = bottlenecks([run_of(plan, record("a", (0, 2), (0, 3)), record("b", (2, 1), (3, 1)))])
    assert found.type == "estimation" and found.affected_tasks == ("a",)
    assert found.impact_duration == H and found.share == pytest.approx(1.0)
    assert "a took 1h longer than planned and delayed the finish by 1h" in found.description


def test_a_task_beside_the_critical_chain_delays_nothing() -> None:
    plan = plan_of(tasks=[{"id": "long", "duration": "9h"}, {"id": "side", "duration": "1h"}])
    run = run_of(plan, record("long", (0, 9), (0, 9)), record("side", (0, 1), (0, 5)))
    assert bottlenecks([run]) == ()


def test_contention_names_the_resource_that_was_taken() -> None:
    plan = plan_of(
        resources={"cpu": {"capacity": 2}, "memory": {"capacity": 64}},
        tasks=[
            {"id": "a", "duration": "1h", "resources": {"cpu": 2, "memory": 1}},
            {"id": "b", "duration": "2h"},
            {"id": "c", "duration": "1h", "resources": {"cpu": 2}, "depends_on": ["b"]},
        ],
    )
    # `a` was to be over before `c` is ready, and still has all of the resource.
    (found,) = bottlenecks([simulated(plan, {"a": 3.0})])
    assert found.bottleneck_id == "resource:cpu" and found.affected_tasks == ("c",)
    assert found.impact_duration == H and found.share == pytest.approx(1.0)


def test_a_wait_that_the_plans_resources_do_not_explain_is_told_as_such() -> None:
    plan = plan_of(
        resources={"cpu": {"capacity": 4}},
        tasks=[{"id": n, "duration": "1h", "resources": {"cpu": 2}} for n in "abcd"],
    )
    (found,) = bottlenecks([simulated(plan, {}, capacities={"cpu": 2})])
    assert found.bottleneck_id == "resource:(unknown)" and found.impact_duration == 2 * H
    assert "something else held them" in found.root_cause


def test_who_waits_for_a_resource_as_planned_passes_lateness_on() -> None:
    plan = plan_of(
        resources={"cpu": {"capacity": 1}},
        tasks=[{"id": n, "duration": "1h", "resources": {"cpu": 1}} for n in "ab"],
    )
    found = bottlenecks([simulated(plan, {"a": 2.0})])
    assert [(b.type, b.affected_tasks) for b in found] == [("estimation", ("a",))]


def test_failed_attempts_and_outside_waits_are_blockers() -> None:
    plan = plan_of(tasks=[{"id": "a", "duration": "1h"}, {"id": "b", "duration": "1h",
                                                          "depends_on": ["a"]}])  # fmt: skip
    run = run_of(
        plan,
        record("a", (0, 1), (0, 0.5), outcome=TaskOutcome.FAILURE, attempt=1,
               queue_time=timedelta(0)),
        record("a", (0, 1), (0.75, 1), attempt=2),
        record("b", (1, 1), (2, 1), queue_time=timedelta(0)),
    )  # fmt: skip
    found = {b.bottleneck_id: b for b in bottlenecks([run])}
    assert found["external:failures a"].impact_duration == 0.75 * H
    assert found["external:hold b"].impact_duration == 0.25 * H
    assert sum(b.share or 0 for b in found.values()) == pytest.approx(1.0)


def test_waiting_over_a_soft_dependency_for_a_late_task_is_the_dependencys() -> None:
    plan = plan_of(tasks=[
        {"id": "a", "duration": "1h"}, {"id": "b", "duration": "1h"},
        {"id": "c", "duration": "1h", "depends_on": ["a", {"task": "b", "kind": "soft"}]},
    ])  # fmt: skip
    run = run_of(
        plan, record("a", (0, 1), (0, 1)), record("b", (0, 1), (0, 3)), record("c", (1, 1), (3, 1))
    )
    (found,) = [b for b in bottlenecks([run]) if b.type == "dependency"]
    assert found.affected_tasks == ("c",) and found.data["subject"] == "b -> c"
    # Without it the run ends with b, after 3 hours: one of its two hours of delay is saved.
    assert found.impact_duration == H


def test_a_dependency_that_was_dropped_made_up_time() -> None:
    plan = plan_of(tasks=[
        {"id": "a", "duration": "2h"},
        {"id": "c", "duration": "2h", "depends_on": [{"task": "a", "kind": "soft"}]},
    ])  # fmt: skip
    run = run_of(plan, record("a", (0, 2), (0, 2)), record("c", (2, 2), (0, 3)))
    found = {b.bottleneck_id: b for b in bottlenecks([run])}
    assert sum(b.impact_duration / H for b in found.values()) == pytest.approx(-1.0)
    assert found["dependency:cut c"].impact_duration < timedelta(0)
    assert found["estimation:c"].share is None, "the run was early"


def test_several_runs_are_told_of_together() -> None:
    plan = plan_of(tasks=[{"id": "a", "duration": "1h"}])
    runs = [
        run_of(plan, record("a", (0, 1), (0, 2), run="r1")),
        run_of(plan, record("a", (0, 1), (0, 4), run="r2")),
    ]
    (found,) = bottlenecks(runs)
    assert found.impact_duration == 2 * H and found.samples == 2 and found.run == ""


def test_without_a_plan_the_planned_times_say_what_waits_for_what() -> None:
    runs = [record(f"t{i}", (i, 1), (i * 1.5, 1.5)) for i in range(4)]
    found = bottlenecks([run_of(None, *runs)])
    assert {b.type for b in found} == {"estimation"} and len(found) == 4
    assert "the plan is not known" in found[0].root_cause
    assert bottlenecks([]) == ()


def test_mapped_tasks_are_told_of_once() -> None:
    plan = plan_of(tasks=[
        {"id": "list", "duration": "1h", "call": "m:f"},
        {"id": "hash", "duration": "1h", "call": "m:g", "inputs": {"x": "list"}, "map_over": "x",
         "expected_items": 2},
        {"id": "end", "duration": "1h", "depends_on": ["hash"]},
    ])  # fmt: skip
    run = run_of(
        plan, record("list", (0, 1), (0, 1)), record("hash", (1, 1), (1, 1), map_index=0),
        record("hash", (1, 1), (1, 3), map_index=1), record("end", (2, 1), (4, 1)),
    )  # fmt: skip
    (found,) = bottlenecks([run])
    assert found.bottleneck_id == "estimation:hash" and found.impact_duration == 2 * H


def test_a_baseline_that_rests_on_history_is_what_a_run_is_measured_against() -> None:
    plan = plan_of(
        resources={"cpu": {"capacity": 4}},
        tasks=[
            {"id": "a", "duration": "2h", "resources": {"cpu": 1}},
            {"id": "b", "duration": "1h", "resources": {"cpu": 1}, "depends_on": ["a"]},
        ],
    )
    # Earlier runs taught that `a` takes 3 hours: so the baseline has `b` start, and so it came.
    run = run_of(plan, record("a", (0, 2), (0, 3)), record("b", (3, 1), (3, 1)))
    assert bottlenecks([run]) == ()
    late = run_of(plan, record("a", (0, 2), (0, 4)), record("b", (3, 1), (4, 1)))
    (found,) = bottlenecks([late])
    assert (found.type, found.impact_duration) == ("estimation", H)
    assert "its estimate is 3h" in found.root_cause


def test_what_nobody_had_estimated_is_put_down_to_nobody() -> None:
    plan = plan_of(tasks=[{"id": "a", "duration": "learned"}])
    begun = record("a", (0, 1), (0, 5))
    unknown = replace(begun, planned_duration=None, planned_start=None, deviation=None)
    assert bottlenecks([run_of(plan, unknown)]) == ()

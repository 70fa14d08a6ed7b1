"""Recommendations: what is measured by replaying runs, and how sure it is."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pytest

from athena_prefect.journal.events import TaskOutcome
from athena_prefect.learning.past import past
from athena_prefect.learning.recommendations import recommendations
from athena_prefect.learning.records import CheckRecord, RunRecord
from athena_prefect.learning.replay import as_it_was, replayed
from athena_prefect.plan.model import Plan
from tests.learning.runs import T0, H, S, plan_of, random_plan, record, run_of, simulated


@pytest.mark.parametrize("seed", range(6))
def test_a_replay_of_a_run_that_was_not_changed_is_the_run(seed: int) -> None:
    rng = np.random.default_rng(seed)
    plan = random_plan(rng, 60)
    factors = {t.id: float(np.exp(rng.normal(0, 0.3))) for t in plan.tasks}
    found = past(simulated(plan, factors))
    assert found is not None
    # It starts tasks in the order of the run, which its dispatcher did not have to.
    assert as_it_was(found) == pytest.approx(found.makespan, rel=0.03)
    assert replayed(found, capacities={"cpu": 1000.0, "(runner)": 1000.0}) <= as_it_was(found)


def test_a_buffer_is_overrun_over_utilisation_and_of_one_run_an_observation() -> None:
    plan = plan_of(
        resources={"cpu": {"capacity": 4}},
        tasks=[{"id": "t3", "duration": "2h", "resources": {"cpu": 4}}],
    )
    used = {"resources_planned": {"cpu": 4}, "resources_used": {"cpu": 3.6}}
    (found,) = recommendations([run_of(plan, record("t3", (0, 2), (0, 2.2), **used))])
    assert found.suggestion == "11 % buffer for t3"
    assert found.data["buffer"] == pytest.approx(0.10 / 0.90)
    assert found.confidence is None and found.samples == 1
    assert found.patch == {"tasks": {"t3": {"duration": "2h13m20s"}}}
    # Off by 1 min 20 s instead of 12 min.
    assert found.benefit == timedelta(seconds=640)


def test_a_buffer_over_many_runs_has_a_confidence_and_noise_has_none() -> None:
    rng = np.random.default_rng(5)
    plan = plan_of(tasks=[{"id": "slow", "duration": "1h"}, {"id": "noisy", "duration": "1h"}])
    runs = [
        run_of(
            plan,
            record("slow", (0, 1), (0, 1.3 * float(np.exp(rng.normal(0, 0.05)))), run=f"r{i}"),
            record("noisy", (0, 1), (0, float(np.exp(rng.normal(0, 0.4)))), run=f"r{i}"),
        )
        for i in range(12)
    ]
    found = recommendations(runs)
    assert [r.affected_tasks for r in found] == [("slow",)]
    assert found[0].confidence is not None and 0.9 < found[0].confidence < 1.0
    assert found[0].data["buffer"] == pytest.approx(0.3, abs=0.05)


def test_a_soft_dependency_is_dropped_where_that_is_measured_to_help() -> None:
    plan = plan_of(
        resources={"cpu": {"capacity": 2}},
        tasks=[
            {"id": "a", "duration": "4h", "resources": {"cpu": 1}},
            {"id": "b", "duration": "3h", "resources": {"cpu": 1},
             "depends_on": [{"task": "a", "kind": "soft"}]},
        ],
    )  # fmt: skip
    found = recommendations([simulated(plan, {}), simulated(plan, {}, run="r2")])
    (drop,) = [r for r in found if r.area == "parallelization"]
    assert drop.benefit == 3 * H and drop.samples == 2
    assert drop.confidence == pytest.approx(2.5 / 3)
    assert drop.potential_benefit.startswith("43 % faster: 3h a run")
    assert drop.patch == {"tasks": {"b": {"depends_on": []}}}


def test_a_soft_dependency_that_resources_make_useless_to_drop_is_kept() -> None:
    plan = plan_of(
        resources={"cpu": {"capacity": 1}},
        tasks=[
            {"id": "a", "duration": "4h", "resources": {"cpu": 1}},
            {"id": "b", "duration": "3h", "resources": {"cpu": 1},
             "depends_on": [{"task": "a", "kind": "soft"}]},
        ],
    )  # fmt: skip
    found = recommendations([simulated(plan, {})])
    assert [r for r in found if r.area == "parallelization"] == []


def test_more_of_a_resource_is_priced_and_what_is_fixed_stays() -> None:
    plan = plan_of(
        resources={"cpu": {"capacity": 2, "cost_per_hour": 0.5}},
        tasks=[{"id": n, "duration": "2h", "resources": {"cpu": 2}} for n in "ab"],
    )
    runs = [simulated(plan, {"a": 2.0})]
    (more,) = [r for r in recommendations(runs) if r.area == "resources"]
    assert more.suggestion == "4 instead of 2 of cpu"
    assert more.implementation_effort == "hard"
    assert more.benefit == 2 * H and more.data["cost"] == pytest.approx(0.5 * 2 * 6)
    assert more.patch == {"resources": {"cpu": {"capacity": 4}}}
    assert [r for r in recommendations(runs, {"fixed": ["cpu"]}) if r.area == "resources"] == []
    assert {r.area for r in recommendations(runs, {"areas": ["estimation"]})} == {"estimation"}


def test_demands_that_were_never_used_are_lowered() -> None:
    plan = plan_of(
        resources={"cpu": {"capacity": 4}},
        tasks=[{"id": n, "duration": "1h", "resources": {"cpu": 4}} for n in "ab"],
    )
    used = {"resources_planned": {"cpu": 4}, "resources_used": {"cpu": 1.91}}
    runs = [
        run_of(plan, record("a", (0, 1), (0, 1), run=f"r{i}", queue_time=0 * S, **used),
               record("b", (1, 1), (1, 1), run=f"r{i}", queue_time=1 * H, **used))
        for i in range(3)
    ]  # fmt: skip
    found = {r.recommendation_id: r for r in recommendations(runs)}
    assert found["demand:a"].suggestion == "Plan a with 2 instead of 4 cpu"
    assert found["demand:a"].potential_benefit.startswith("50 % less resources for a")
    assert found["demand:a"].confidence == pytest.approx(3 / 4)


def test_what_is_waited_for_without_being_in_the_plan_is_recommended() -> None:
    plan = plan_of(tasks=[{"id": "lock", "duration": "2h"}, {"id": "load", "duration": "1h"}])
    runs = [
        run_of(plan, record("lock", (0, 2), (0, 2 + 0.1 * i), run=f"r{i}"),
               record("load", (0, 1), (2 + 0.1 * i, 1), run=f"r{i}", queue_time=0 * S))
        for i in range(3)
    ]  # fmt: skip
    found = {r.recommendation_id: r for r in recommendations(runs)}
    hidden = found["depend:lock->load"]
    assert hidden.area == "dependencies" and hidden.samples == 3
    # Replayed with the dependency the runs end when they did: it waited anyway.
    assert hidden.benefit == 0 * S
    assert hidden.patch == {"tasks": {"load": {"depends_on": [{"task": "lock"}]}}}


def test_checks_are_added_where_attempts_fail_and_made_seldom_where_all_is_well() -> None:
    plan = plan_of(
        tasks=[{"id": "a", "duration": "1h"}],
        assumptions=[
            {"id": "disk", "description": "room", "validation_frequency": "30s",
             "check": {"kind": "disk_free", "path": "."}, "expected_value": 1, "affects": ["a"]},
        ],
    )  # fmt: skip
    checks = tuple(CheckRecord(assumption_id="disk", at=T0, holds=True) for _ in range(80))
    run = run_of(
        plan, record("a", (0, 1), (0, 1), outcome=TaskOutcome.FAILURE, queue_time=0 * S),
        record("a", (0, 1), (1, 1), attempt=2), checks=checks,
    )  # fmt: skip
    found = {r.recommendation_id: r for r in recommendations([run])}
    assert found["check:a"].benefit == H and found["check:a"].confidence is None
    assert found["seldom:disk"].patch == {"assumptions": {"disk": {"validation_frequency": "1m"}}}
    assert found["seldom:disk"].confidence is not None and found["seldom:disk"].confidence > 0.99
    bad = (*checks, CheckRecord(assumption_id="disk", at=T0, holds=False))
    again = recommendations([run_of(plan, *run.tasks, checks=bad)])
    assert "seldom:disk" not in {r.recommendation_id for r in again}


def test_a_check_that_never_failed_and_holds_a_task_back_is_dropped() -> None:
    def plan(criticality: str) -> Plan:
        return plan_of(
            tasks=[{"id": "a", "duration": "1h"}, {"id": "b", "duration": "1h",
                                                   "depends_on": ["a"]}],
            assumptions=[
                {"id": "disk", "description": "room", "criticality": criticality,
                 "milestones": [{"before": "b"}, {"at": "start"}],
                 "check": {"kind": "disk_free", "path": "."}, "expected_value": 1},
            ],
        )  # fmt: skip

    def runs(of: Plan, count: int) -> list[RunRecord]:
        good = CheckRecord(assumption_id="disk", at=T0, holds=True)
        return [
            run_of(of, record("a", (0, 1), (0, 1), run=f"r{i}", queue_time=0 * S),
                   record("b", (1, 1), (1.5, 1), run=f"r{i}", queue_time=0 * S), checks=(good,) * 2)
            for i in range(count)
        ]  # fmt: skip

    found = {r.recommendation_id: r for r in recommendations(runs(plan("medium"), 40))}
    drop = found["drop:disk"]
    assert drop.benefit == 0.5 * H and drop.affected_tasks == ("b",)
    assert drop.patch == {"assumptions": {"disk": {"milestones": [{"at": "start"}]}}}
    assert drop.confidence is not None and drop.confidence > 0.9
    for seldom in (runs(plan("medium"), 3), runs(plan("critical"), 40)):
        assert "drop:disk" not in {r.recommendation_id for r in recommendations(seldom)}


def test_nothing_is_recommended_out_of_nothing() -> None:
    assert recommendations([]) == ()
    plan = plan_of(tasks=[{"id": "a", "duration": "1h"}])
    assert recommendations([run_of(plan, record("a", (0, 1), (0, 1)))]) == ()

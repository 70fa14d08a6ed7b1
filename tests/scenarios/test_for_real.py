"""Scenarios 2 and 3 with real Prefect runs, on a time scale: what is decided and what runs."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from athena_prefect.journal.events import RunEvent, RunEventKind, TaskOutcome
from athena_prefect.journal.state import TaskState
from athena_prefect.plan.model import Plan
from athena_prefect.runtime import replanner
from athena_prefect.runtime.recorder import recording_of
from athena_prefect.settings import AthenaSettings
from athena_prefect.storage.db import database_for
from athena_prefect.storage.plans import PlanStore
from athena_prefect.storage.replans import replanning_events
from tests.runtime.support import Run, run
from tests.scenarios.test_adjustment_and_deviation import eight_tasks
from tests.scenarios.test_replanning import deviated

pytestmark = [pytest.mark.prefect, pytest.mark.usefixtures("prefect_api")]

PATIENT = {"timeout": "5m"}
"""Of a check: a busy machine takes longer to begin the first one than a healthy system."""


def scaled(document: dict[str, Any], hour: float, took: dict[str, float]) -> dict[str, Any]:
    """The document with hours of so many seconds, its tasks taking what is planned, or `took`."""
    scale = hour / 3600
    for task in document["tasks"]:
        planned = task["duration"]
        task["duration"] = planned * scale
        task["call"] = "deeds:take"
        task["with"] = {"seconds": took.get(task["id"], planned / 3600) * hour}
        for mode in task.get("modes", ()):
            hours = float(str(mode["duration"]).removesuffix("h"))
            mode |= {
                "duration": hours * hour,
                "call": "deeds:take",
                "with": {"seconds": hours * hour},
            }
    if "deadline" in document:
        document["deadline"] = float(str(document["deadline"]).removesuffix("h")) * hour
    document["replanning"] = {"cooldown": 0, "max_replans": 1}
    return document


def revised(done: Run) -> list[RunEvent]:
    journal = recording_of(AthenaSettings(), done.plan).open_journal()
    events = [e.event for e in journal.read(done.plan_run)]
    return [e for e in events if isinstance(e, RunEvent) and e.kind is RunEventKind.REVISED]


def adopted(plan_run: UUID) -> list[tuple[str, str]]:
    """Strategy and outcome of what became a new plan."""
    database = database_for(AthenaSettings().database_url)
    ids = [d.id for d in PlanStore(database).decisions(plan_run=plan_run)]
    return [
        (e.strategy, e.outcome)
        for e in replanning_events(database, ids)
        if e.new_plan_id is not None
    ]


def once(state: TaskState) -> bool:
    return [a.outcome for a in state.attempts] == [TaskOutcome.SUCCESS]


def test_scenario_2_in_one_process() -> None:
    document = eight_tasks()
    document["name"] = "mid-execution-for-real"
    document["assumptions"] = [
        {"id": "resources_available", "milestones": [{"after": "t4"}], "expected_value": 8,
         "sense": "at_least", "affects": ["t5", "t6", "t8"],
         "check": {"kind": "function", "call": "deeds:five"} | PATIENT,
         "effect": {"capacity": {"cpu": "observed"}}}
    ]  # fmt: skip
    # t4 takes 6.5 h instead of 5 h.
    plan = scaled(document, 1.5, {"t4": 6.5})
    # A busy machine adds to that lateness: by itself it is no reason for the one replan.
    plan["replanning"] |= {"policy": {"tolerated_slip": 0.2, "segment_slip": 0.2}}
    done = run(Plan.model_validate(plan))
    assert done.final.is_completed(), done.final
    state = done.state
    assert all(once(state.task(f"t{k}")) for k in range(1, 9))
    # Once, and again after half a minute where the rest takes a busy machine so long.
    checks = state.checks["resources_available"]
    assert {(c.verdict, c.data["value"]) for c in checks} == {("violated", 5)}

    assert state.revision == 2 and state.replans == 1
    (change,) = revised(done)
    assert change.data["strategy"] == "segment"
    assert "t7 no longer waits for" in " ".join(change.data["changes"])
    assert adopted(done.plan_run) == [("segment", "adopted")]
    # t1 to t4 ran by the first revision, the last by the second.
    by = {t: state.task(t).attempts[0].data["revision"] for t in done.plan.task_ids}
    assert [by[f"t{k}"] for k in range(1, 5)] == [1, 1, 1, 1] and by["t7"] == by["t8"] == 2
    # Side by side as far as five units go: never t5 with t6, t7 with one of them.
    spans = {t: (state.task(t).attempts[0].started, state.task(t).attempts[0].ended) for t in by}
    assert not _overlap(spans["t5"], spans["t6"])
    assert _overlap(spans["t7"], spans["t5"]) or _overlap(spans["t7"], spans["t6"])


def test_scenario_3_in_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    # All three checks are to be known when t3's failure is judged, however busy the machine is.
    monkeypatch.setattr(replanner, "CHECKS_SECONDS", 300.0)
    document = deviated()
    document["name"] = "critical-deviation-for-real"
    for assumption in document["assumptions"]:
        check = {"kind": "function", "call": "deeds:no"} | PATIENT
        assumption |= {"expected_value": True, "check": check}
    plan = scaled(document, 1.0, {})
    # That a busy machine is late is no reason for the one replan: t3's failure is.
    late = {"tolerated_slip": 0.5, "segment_slip": 1, "probability_drop": 1}
    plan["replanning"] |= {"policy": late}
    plan["tasks"][2]["call"] = "deeds:fail_after"
    done = run(Plan.model_validate(plan))
    assert done.final.is_completed(), done.final
    state = done.state
    assert {n: c[0].verdict for n, c in state.checks.items()} == dict.fromkeys(
        ("requirements_stable", "reviewers_available", "test_env_ready"), "violated"
    )
    assert state.revision == 2 and state.replans == 1
    (change,) = revised(done)
    assert change.data["strategy"] == "full"
    assert set(change.data["changes"]) == {
        "t3 is done again in mode rework",
        "t7 in mode container instead of default",
        "t5 no longer waits for t4",
        "t9 no longer waits for t8",
    }
    assert "t3 failed, which is required, and can be done in mode rework" in change.data["reason"]
    assert adopted(done.plan_run) == [("full", "adopted")]
    # The promise: 39 h of a second, what had passed beyond the plan added.
    assert change.data["p50"] >= 39
    failed, again = state.task("t3").attempts
    assert (failed.outcome, failed.data["mode"]) == (TaskOutcome.FAILURE, "default")
    assert (again.outcome, again.data["mode"]) == (TaskOutcome.SUCCESS, "rework")
    others = [t for t in done.plan.task_ids if t != "t3"]
    assert all(once(state.task(t)) for t in others), "no success started again"
    assert state.task("t7").attempts[0].data["mode"] == "container"
    for first, second in (("t4", "t5"), ("t8", "t9")):
        one, other = (state.task(t).attempts[0] for t in (first, second))
        assert _overlap((one.started, one.ended), (other.started, other.ended)), first


def _overlap(one: tuple[Any, Any], other: tuple[Any, Any]) -> bool:
    # By more than the moment in which a task's end and the next one's start are written.
    both = min(one[1], other[1]) - max(one[0], other[0])
    return bool(both > timedelta(milliseconds=200))

"""Scenarios 2 and 3 of the specification, as far as the monitor goes."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from athena_prefect.journal.events import TaskOutcome


def _task(task_id: str, hours: float, cpu: float, *upstream: Any, **values: Any) -> dict[str, Any]:
    return {
        "id": task_id,
        "category": task_id,
        "duration": hours * 3600,
        "resources": {"cpu": cpu},
        "depends_on": list(upstream),
        **values,
    }


def _soft(task_id: str) -> dict[str, str]:
    return {"task": task_id, "kind": "soft"}


def eight_tasks() -> dict[str, Any]:
    return {
        "name": "mid-execution",
        "resources": {"cpu": {"capacity": 8}},
        "tasks": [
            _task("t1", 2, 3),
            _task("t2", 2, 3, "t1"),
            _task("t3", 3, 3, "t2"),
            _task("t4", 5, 3, "t3"),
            _task("t5", 4.5, 3, "t4"),
            _task("t6", 4.5, 3, "t4"),
            _task("t7", 3, 1, "t4", _soft("t5"), _soft("t6")),
            _task("t8", 4.5, 3, "t5", "t6", "t7"),
        ],
        "replanning": {"cooldown": 0},
    }


def test_scenario_2_up_to_the_shortfall(drive: Callable[..., Any]) -> None:
    run = drive(eight_tasks())
    start = run.monitor.get_plan_deviation()
    assert run.hours(start.baseline_finish) == 24.0
    assert run.hours(start.accepted_finish) == 24.0
    # t5 and t6 run beside each other: both are on a critical path.
    assert start.critical_path == ("t1", "t2", "t3", "t4", "t5", "t6", "t7", "t8")

    at = run.chain(("t1", 2), ("t2", 2), ("t3", 3), ("t4", 6.5))
    assert at == 13.5
    deviation = run.monitor.get_plan_deviation()
    assert (deviation.completed_tasks, deviation.total_tasks) == (4, 8)
    assert run.monitor.records[-1].deviation == pytest.approx(0.30)
    # The lateness of t4 alone.
    assert run.hours(deviation.estimated_completion) == pytest.approx(25.5)
    assert deviation.slip == pytest.approx(0.0625)
    assert deviation.deviation_severity == "low" and deviation.tasks_at_risk == ()
    assert deviation.critical_path == ("t5", "t6", "t7", "t8")


def ten_tasks() -> dict[str, Any]:
    hours = [3, 3, 4, 5, 5, 4, 4, 4, 4, 4]
    upstream: dict[int, list[Any]] = {k: [f"t{k - 1}"] for k in range(2, 11)}
    upstream[5] = [_soft("t4"), "t3"]
    upstream[6] = ["t4", "t5"]
    upstream[9] = [_soft("t8"), "t7"]
    upstream[10] = ["t8", "t9"]
    return {
        "name": "critical-deviation",
        "deadline": "41h",
        "resources": {"workers": {"capacity": 2}},
        "tasks": [
            {
                "id": f"t{k}",
                "category": f"t{k}",
                "duration": hours[k - 1] * 3600,
                "resources": {"workers": 1},
                "depends_on": upstream.get(k, []),
                "modes": [{"name": "rework", "duration": "6h"}] if k == 3 else [],
            }
            for k in range(1, 11)
        ],
        "replanning": {"cooldown": 0},
    }


def test_scenario_3_up_to_the_failure(drive: Callable[..., Any]) -> None:
    run = drive(ten_tasks())
    start = run.monitor.get_plan_deviation()
    assert run.hours(start.baseline_finish) == 40.0
    assert start.deadline_probability == 1.0 and start.confidence == 1.0

    at = run.chain(("t1", 3), ("t2", 3))
    run.start("t3", at)
    run.end("t3", 10.0, TaskOutcome.FAILURE)
    deviation = run.monitor.get_plan_deviation()
    assert deviation.blocked and "t3 failed" in deviation.reason
    assert deviation.estimated_completion is None and deviation.time_deviation is None
    assert deviation.slip is None and deviation.confidence is None
    assert deviation.deviation_severity == "critical", "as it stands it never finishes"
    assert deviation.tasks_at_risk == tuple(f"t{k}" for k in range(3, 11))
    assert (deviation.completed_tasks, deviation.total_tasks) == (2, 10)
    assert run.monitor.predict_completion_time() == (None, None)
    forecast = run.monitor.forecast()
    assert not forecast.quantiles and forecast.p_deadline is None
    assert forecast.reason == deviation.reason


def test_scenario_3_goes_on_where_the_failed_task_is_done_another_way(
    drive: Callable[..., Any],
) -> None:
    run = drive(ten_tasks())
    at = run.chain(("t1", 3), ("t2", 3))
    run.start("t3", at)
    run.end("t3", 10.0, TaskOutcome.FAILURE)
    run.monitor.record_task_start("t3", run.at(10.0), {"workers": 1}, mode="rework")
    deviation = run.monitor.get_plan_deviation()
    # t3 again in 6 h, then t4…t10 in a chain: 16 + 5 + 5 + 4 + 4 + 4 + 4 + 4.
    assert run.hours(deviation.estimated_completion) == pytest.approx(46.0)
    assert not deviation.blocked and deviation.deadline_probability == 0.0
    assert deviation.time_deviation == timedelta(hours=6)


def test_an_optional_task_that_fails_does_not_block_the_plan(drive: Callable[..., Any]) -> None:
    document = eight_tasks()
    document["tasks"].append(_task("extra", 1, 1, "t1", optional=True))
    document["tasks"].append(_task("after", 9, 1, "extra", optional=True))
    run = drive(document)
    run.chain(("t1", 2))
    run.start("t2", 2.0)
    run.start("extra", 2.0)
    run.end("extra", 2.5, TaskOutcome.FAILURE)
    deviation = run.monitor.get_plan_deviation()
    assert not deviation.blocked and deviation.slip == 0.0
    assert deviation.tasks_at_risk == ("extra", "after")
    assert run.hours(deviation.estimated_completion) == 24.0

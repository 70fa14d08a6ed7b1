"""Scenario 1 of the specification, nominal runs, and delays of every size."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from athena_prefect.journal.events import TaskOutcome


def chain_of_five(**values: Any) -> dict[str, Any]:
    names = ["t1", "t2", "t3", "t4", "t5"]
    return {
        "name": "nominal",
        "resources": {"cpu": {"capacity": 4}, "memory": {"capacity": 8}},
        "tasks": [
            {
                "id": name,
                "duration": "2h",
                "category": name,
                "resources": {"cpu": 4, "memory": 8},
                "depends_on": names[i - 1 : i] if i else [],
            }
            for i, name in enumerate(names)
        ],
        "replanning": {"cooldown": 0},
        **values,
    }


def test_scenario_1_nominal_execution(drive: Callable[..., Any]) -> None:
    run = drive(chain_of_five())
    at_the_start = run.monitor.get_plan_deviation()
    assert at_the_start.time_deviation == timedelta(0), "0 at the start, by construction"
    assert run.hours(at_the_start.baseline_finish) == 10.0

    at = run.chain(("t1", 2), ("t2", 2))
    run.start("t3", at)
    run.end("t3", at + 2.2, used={"cpu": 3.6, "memory": 7.2})
    record = run.monitor.records[-1]
    assert record.deviation == pytest.approx(0.10)
    assert run.chain(("t4", 2), ("t5", 2), since=at + 2.2) == pytest.approx(10.2)

    deviation = run.monitor.get_plan_deviation()
    assert run.hours(deviation.estimated_completion) == pytest.approx(10.2)
    assert deviation.time_deviation == timedelta(minutes=12)
    assert deviation.time_deviation_percent == pytest.approx(0.02)
    assert deviation.deviation_severity == "low"
    assert deviation.tasks_at_risk == () and deviation.critical_path == ()
    assert (deviation.completed_tasks, deviation.total_tasks) == (5, 5)
    assert deviation.completion_rate == 1.0 and deviation.finished
    # 0.4 of 20 planned cpu over five tasks, 0.8 of 40 of memory.
    assert deviation.resource_deviation == {
        "cpu": pytest.approx(-0.02),
        "memory": pytest.approx(-0.02),
    }


def test_a_finished_plan_read_later_is_no_later(drive: Callable[..., Any]) -> None:
    run = drive(chain_of_five())
    run.chain(*((f"t{i}", 2.0) for i in range(1, 6)))
    before = run.monitor.get_plan_deviation()
    run.clock.advance(timedelta(hours=9))
    assert run.monitor.get_plan_deviation() == before
    assert before.time_deviation == timedelta(0)


@pytest.mark.parametrize("deadline", [None, "10h"])
def test_nominal_all_on_time(drive: Callable[..., Any], deadline: str | None) -> None:
    run = drive(chain_of_five(**({"deadline": deadline} if deadline else {})))
    at = 0.0
    for i in range(1, 6):
        run.start(f"t{i}", at)
        deviation = run.monitor.get_plan_deviation()
        assert deviation.critical_path == tuple(f"t{k}" for k in range(i, 6))
        at += 2
        run.end(f"t{i}", at)
        deviation = run.monitor.get_plan_deviation()
        assert deviation.time_deviation == timedelta(0) and deviation.slip == 0.0
        assert deviation.tasks_at_risk == () and deviation.deviation_severity == "low"
        assert deviation.completion_rate == pytest.approx(i / 5)
        assert deviation.confidence == 1.0
        value = run.monitor.earned_value()
        assert (value.spi, value.spi_t) == (1.0, 1.0)


# One of five tasks of 2 h is late by a share of its own: a tenth of that for a
# delay of the whole.
@pytest.mark.parametrize(
    ("delay", "slip", "severity"),
    [(0.05, 0.01, "low"), (0.20, 0.04, "low"), (0.60, 0.12, "medium"), (2.00, 0.40, "high")],
)
def test_one_task_is_late(
    drive: Callable[..., Any], delay: float, slip: float, severity: str
) -> None:
    run = drive(chain_of_five())
    run.chain(("t1", 2.0 * (1 + delay)))
    deviation = run.monitor.get_plan_deviation()
    assert deviation.slip == pytest.approx(slip)
    assert deviation.time_deviation_percent == pytest.approx(slip)
    assert deviation.deviation_severity == severity
    # What is beyond the tolerated slip of 0.10 puts the rest at risk.
    rest = ("t2", "t3", "t4", "t5")
    assert deviation.tasks_at_risk == (rest if slip > 0.10 else ())


@pytest.mark.parametrize(
    ("delay", "severity"),
    [(0.05, "low"), (0.20, "medium"), (0.60, "critical"), (2.00, "critical")],
)
def test_every_task_is_late(drive: Callable[..., Any], delay: float, severity: str) -> None:
    run = drive(chain_of_five())
    end = run.chain(*((f"t{i}", 2.0 * (1 + delay)) for i in range(1, 6)))
    deviation = run.monitor.get_plan_deviation()
    assert run.hours(deviation.estimated_completion) == pytest.approx(end)
    assert deviation.slip == pytest.approx(delay)
    assert deviation.deviation_severity == severity
    records = run.monitor.records
    assert [r.deviation for r in records] == [pytest.approx(delay)] * 5, "not clamped"


def test_a_delay_is_seen_while_the_task_still_runs(drive: Callable[..., Any]) -> None:
    run = drive(chain_of_five(deadline="11h"))
    run.start("t1", 0.0)
    run.clock.move_to(run.at(3.5))
    deviation = run.monitor.get_plan_deviation()
    # Past its duration, t1 is forecast to end now: 3.5 h and four times 2 h.
    assert run.hours(deviation.estimated_completion) == pytest.approx(11.5)
    assert deviation.deadline_probability == 0.0
    assert deviation.deviation_severity == "critical"
    assert deviation.tasks_at_risk == ("t1", "t2", "t3", "t4", "t5")


def test_time_made_good_is_seen(drive: Callable[..., Any]) -> None:
    run = drive(chain_of_five(deadline="10h"))
    at = run.chain(("t1", 3.0))
    late = run.monitor.get_plan_deviation()
    assert late.deadline_probability == 0.0 and late.deviation_severity == "critical"
    run.chain(("t2", 1.0), since=at)
    deviation = run.monitor.get_plan_deviation()
    assert deviation.time_deviation == timedelta(0) and deviation.deadline_probability == 1.0
    assert deviation.deviation_severity == "low" and deviation.tasks_at_risk == ()


def test_a_failed_attempt_with_a_retry_left_only_costs_time(drive: Callable[..., Any]) -> None:
    document = chain_of_five()
    document["tasks"][1]["retries"] = 1
    run = drive(document)
    at = run.chain(("t1", 2))
    run.start("t2", at)
    run.end("t2", at + 1, TaskOutcome.FAILURE)
    deviation = run.monitor.get_plan_deviation()
    assert not deviation.blocked
    assert run.hours(deviation.estimated_completion) == pytest.approx(11.0)
    assert deviation.tasks_at_risk == ("t2",), "it failed; the rest is late by 0.10, as tolerated"
    run.chain(("t2", 2), ("t3", 2), ("t4", 2), ("t5", 2), since=at + 1)
    deviation = run.monitor.get_plan_deviation()
    assert (deviation.completed_tasks, deviation.slip) == (5, pytest.approx(0.1))
    assert len(run.monitor.records) == 6, "a retry does not overwrite the first attempt"

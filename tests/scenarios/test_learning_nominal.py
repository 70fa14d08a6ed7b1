"""What scenario 1 of the specification teaches, word and figure."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from athena_prefect.learning.frame import History
from athena_prefect.learning.learner import ExecutionLearner
from athena_prefect.learning.records import run_record
from tests.scenarios.test_nominal_and_delays import chain_of_five


def driven(drive: Callable[..., Any]) -> Any:
    run = drive(chain_of_five())
    at = run.chain(("t1", 2), ("t2", 2))
    run.start("t3", at)
    run.end("t3", at + 2.2, used={"cpu": 3.6, "memory": 7.2})
    run.chain(("t4", 2), ("t5", 2), since=at + 2.2)
    return run


def test_scenario_1_teaches_an_11_percent_buffer_for_t3(drive: Callable[..., Any]) -> None:
    run = driven(drive)
    learner = ExecutionLearner(None, None, plan=run.plan)
    (found,) = learner.generate_recommendations(run.monitor.records, {})
    assert found.suggestion == "11 % buffer for t3"
    assert found.area == "estimation"
    assert found.data["buffer"] == pytest.approx(0.10 / 0.90)
    assert found.samples == 1
    assert found.confidence is None, "one sample: an observation"
    assert found.benefit is not None and found.benefit > timedelta(0)
    (slow,) = learner.identify_bottlenecks(run.monitor.records)
    assert (slow.type, slow.affected_tasks) == ("estimation", ("t3",))
    assert slow.impact_duration == timedelta(minutes=12)
    assert slow.share == pytest.approx(1.0)


def test_columns_teach_the_same_as_records(drive: Callable[..., Any]) -> None:
    run = driven(drive)
    record = run_record(run.plan, run.monitor.records, started=run.at(0))
    learner = ExecutionLearner(plan=run.plan)
    (found,) = learner.generate_recommendations(History.of([record]))
    assert found.suggestion == "11 % buffer for t3"
    (slow,) = learner.identify_bottlenecks()
    assert slow.impact_duration == timedelta(minutes=12)

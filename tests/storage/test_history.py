"""Finished runs read for learning: what was written, and nothing that does not count."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import numpy as np
import pytest

from athena_prefect.journal.events import CheckEvent, RunEvent, RunEventKind, TaskOutcome
from athena_prefect.learning.frame import History
from athena_prefect.learning.learner import ExecutionLearner
from athena_prefect.learning.records import RunRecord, TaskRecord
from athena_prefect.monitor.recorded import PastForecast, source_of
from athena_prefect.plan.model import Plan
from athena_prefect.storage.db import Database
from athena_prefect.storage.history import StoredHistory
from athena_prefect.storage.plans import PlanStore
from athena_prefect.storage.records import ExecutionRecords
from athena_prefect.storage.sql_journal import SqlJournal
from athena_prefect.storage.validations import Validations

START = datetime(2026, 5, 4, 4, 0, 0, 250_000, tzinfo=UTC)


def plan_of(name: str) -> Plan:
    return Plan.model_validate(
        {
            "name": name,
            "resources": {"cpu": {"capacity": 4}},
            "tasks": [
                {"id": "a", "duration": "60s", "category": "load", "resources": {"cpu": 2}},
                {"id": "b", "duration": "30s", "depends_on": ["a"]},
            ],
        }
    )


def attempts(day: int) -> list[TaskRecord]:
    begun = START + timedelta(days=day)
    return [
        TaskRecord(
            task_id="a",
            actual_start=begun,
            actual_duration=timedelta(seconds=66.5 + day),
            planned_duration=timedelta(seconds=60),
            queue_time=timedelta(seconds=1.5),
            outcome=TaskOutcome.SUCCESS,
            resources_planned={"cpu": 2.0},
            resources_used={"cpu": 1.5, "rows": 1000.0 + day},
            source="s1",
        ),
        TaskRecord(
            task_id="b",
            map_index=0,
            actual_start=begun + timedelta(seconds=70),
            actual_duration=timedelta(seconds=3),
            planned_duration=timedelta(seconds=30),
            outcome=TaskOutcome.SUCCESS,
            cached=True,
        ),
        TaskRecord(task_id="b", map_index=1, actual_start=begun + timedelta(seconds=71)),
    ]


def stored(database: Database, name: str, day: int, *, status: str = "completed") -> UUID:
    run, begun = uuid4(), START + timedelta(days=day)
    store = PlanStore(database)
    store.open_run(run, plan_of(name), started=begun)
    ExecutionRecords(database).write(run, attempts(day))
    store.set_run_status(
        run, status, ended=begun + timedelta(seconds=100) if status == "completed" else None
    )
    return run


def test_it_is_what_records_in_memory_are(database: Database) -> None:
    runs = [stored(database, "p", day) for day in range(3)]
    read = StoredHistory(database).history("p")
    made = History.of(
        RunRecord(
            run=str(run),
            plan_name="p",
            started=START + timedelta(days=day),
            plan=plan_of("p"),
            tasks=tuple(attempts(day)),
        )
        for day, run in enumerate(runs)
    )
    assert [r.run for r in read.runs] == [str(r) for r in runs]
    assert read.tasks == made.tasks and read.categories == ("load", "b")
    for name in ("run", "task", "item", "attempt", "outcome", "kept"):
        assert getattr(read, name).tolist() == getattr(made, name).tolist(), name
    for name in ("started", "ended", "duration", "planned", "queued"):
        assert np.allclose(getattr(read, name), getattr(made, name), atol=2e-6, equal_nan=True)
    for name in ("resources_planned", "resources_used"):
        one, other = getattr(read, name), getattr(made, name)
        assert one.keys() == other.keys()
        assert all(np.array_equal(one[k], other[k], equal_nan=True) for k in one)
    assert read.quantities == ("rows",)
    assert read.succeeded.sum() == 3 and read.censored.sum() == 3
    assert read.documents()["p"] == plan_of("p")


def test_the_newest_runs_of_a_plan_and_no_live_one(database: Database) -> None:
    for day in range(4):
        stored(database, "p", day)
    stored(database, "p", 5, status="running")
    stored(database, "other", 6)
    source = StoredHistory(database)
    newest = source.history("p", runs=2)
    assert [r.started for r in newest.runs] == [START + timedelta(days=d) for d in (2, 3)]
    assert len(source.history().runs) == 5
    assert len(StoredHistory(database, live=True).history("p").runs) == 5
    assert len(StoredHistory(database, namespace="prod").history()) == 0


def test_checks_and_forecasts_come_with_their_runs(database: Database) -> None:
    run = stored(database, "p", 0)
    check = CheckEvent(
        plan_run=run,
        assumption_id="disk",
        check_id="1",
        at=START,
        verdict="violated",
        data={"value": 3},
    )
    unknown = CheckEvent(
        plan_run=run, assumption_id="disk", check_id="2", at=START, verdict="unknown"
    )
    Validations(database).write(run, [check, unknown])
    quantiles = {"p10": 80.0, "p50": 100.0, "p90": 120.0}
    SqlJournal(database).append(
        RunEvent(
            plan_run=run,
            kind=RunEventKind.BASELINED,
            at=START,
            data={"quantiles": quantiles, "p50": 100.0},
        )
    )
    later = PastForecast(
        at=60.0, share_done=0.6, quantiles={0.1: 85.0, 0.5: 95.0, 0.9: 99.0}, from_history=True
    )
    SqlJournal(database).append(
        RunEvent(
            plan_run=run,
            kind=RunEventKind.FORECAST,
            at=START + timedelta(seconds=60),
            source=source_of(0.5),
            data={**later.as_dict(), "basis": "from 5 runs, 10 records"},
        )
    )
    history = StoredHistory(database).history("p")
    seen, not_made = history.runs[0].checks
    assert (seen.holds, seen.observed, not_made.holds) == (False, 3, None)
    first, second = history.runs[0].forecasts
    assert first.quantiles[0.9] == START + timedelta(seconds=120)
    assert (first.share_done, first.from_history) == (0.0, False)
    assert second.quantiles[0.9] == START + timedelta(seconds=99)
    assert (second.at, second.share_done, second.from_history) == (
        START + timedelta(seconds=60), 0.6, True,
    )  # fmt: skip
    metrics = ExecutionLearner(source=StoredHistory(database)).compute_estimation_accuracy()
    assert metrics.assumption_validity_rate == 0
    assert metrics.calibration is not None
    assert metrics.calibration.forecasts == 2
    assert metrics.calibration.coverage == 0.5
    assert metrics.calibration.coverage_by_share == {"0": 1.0, "0.5": 0.0}
    assert metrics.avg_duration_error == pytest.approx(6.5 / 60)


def test_what_a_plan_promised_when_it_was_revised_is_a_forecast(database: Database) -> None:
    run = stored(database, "p", 0)
    PlanStore(database).save_run_revision(run, 2, plan_of("p"), figures={"p50": 90.0})
    (forecast,) = StoredHistory(database).history("p").runs[0].forecasts
    assert forecast.quantiles == {0.5: START + timedelta(seconds=90)}


def test_a_database_without_runs_has_no_history(database: Database) -> None:
    history = StoredHistory(database).history()
    assert len(history) == 0 and history.plans == ()
    assert ExecutionLearner().compute_estimation_accuracy(history).tasks_analyzed == 0


def test_the_newest_runs_come_with_their_attempts_for_replays(database: Database) -> None:
    runs = [stored(database, "p", day) for day in range(3)]
    stored(database, "other", 1)
    found = StoredHistory(database).recent("p", runs=2)
    assert [r.run for r in found] == [str(r) for r in runs[1:]]
    first = found[0].tasks[0]
    assert first.actual_start == START + timedelta(days=1)
    assert first.actual_duration == timedelta(seconds=67.5)
    assert (first.category, first.plan, first.run) == ("load", "p", str(runs[1]))
    assert first.resources_used == {"cpu": 1.5, "rows": 1001.0}
    assert found[0].tasks[1].cached and found[0].tasks[1].map_index == 0
    learner = ExecutionLearner(source=StoredHistory(database), plan=plan_of("p"))
    (slow,) = [b for b in learner.identify_bottlenecks() if b.affected_tasks == ("a",)]
    assert slow.type == "estimation" and slow.samples == 3

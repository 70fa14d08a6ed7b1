"""Finished runs read for forecasts: the plan's own and others', none that ended too late."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID, uuid4

import numpy as np

from athena_prefect.journal.events import TaskOutcome
from athena_prefect.learning.records import TaskRecord
from athena_prefect.monitor.context import ExecutionContext, Remembering, VirtualClock
from athena_prefect.monitor.monitor import ExecutionMonitor
from athena_prefect.plan.model import Plan
from athena_prefect.report.figures import ReadOnly
from athena_prefect.service.simulating import simulate_plan
from athena_prefect.settings import AthenaSettings
from athena_prefect.storage.db import Database
from athena_prefect.storage.forecast_history import runs_before
from athena_prefect.storage.plans import PlanStore
from athena_prefect.storage.records import ExecutionRecords
from athena_prefect.storage.sql_journal import SqlJournal

START = datetime(2026, 5, 4, 4, tzinfo=UTC)


def plan_of(name: str) -> Plan:
    return Plan.model_validate(
        {
            "name": name,
            "runner": {"max_workers": 2},
            "tasks": [
                {"id": "a", "duration": "60s", "category": "load"},
                {"id": "b", "duration": "30s", "depends_on": ["a"], "category": "save"},
            ],
        }
    )


def record(
    task: str, begin: datetime, seconds: float, planned: float, attempt: int, good: bool
) -> TaskRecord:
    return TaskRecord(
        task_id=task,
        attempt=attempt,
        actual_start=begin,
        actual_duration=timedelta(seconds=seconds),
        planned_duration=timedelta(seconds=planned),
        outcome=TaskOutcome.SUCCESS if good else TaskOutcome.FAILURE,
        source=f"s{attempt}",
    )


def stored(database: Database, name: str, day: int, *, status: str = "completed") -> UUID:
    run, begun = uuid4(), START + timedelta(days=day)
    store = PlanStore(database)
    store.open_run(run, plan_of(name), started=begun)
    ExecutionRecords(database).write(
        run,
        [
            record("a", begun, 5.0, 60.0, 1, False),
            record("a", begun + timedelta(seconds=10), 90.0 + day, 60.0, 2, True),
            record("b", begun + timedelta(seconds=100 + day), 45.0, 30.0, 1, True),
        ],
    )
    store.set_run_status(run, status, ended=begun + timedelta(seconds=145 + day))
    return run


def test_it_is_what_finished_before_the_run_began(database: Database) -> None:
    own = [stored(database, "p", day) for day in range(4)]
    other = stored(database, "q", 1)
    stored(database, "p", 2, status="failed")
    later = stored(database, "p", 9)
    run = uuid4()
    PlanStore(database).open_run(run, plan_of("p"), started=START + timedelta(days=6))
    journal = SqlJournal(database)
    found = journal.finished_runs(run)
    assert found.keys == (str(other), *map(str, own))
    assert str(later) not in found.keys
    assert found.tasks[:2] == ("a", "b")
    assert found.categories == ("load", "save")
    assert np.allclose(found.actual[2:4], [90.0, 45.0]), "the attempt in force, without the failed"
    assert np.allclose(found.planned[2:4], [60.0, 30.0])
    assert np.allclose(found.started[2:4], [10.0, 100.0])
    assert found.slots.tolist() == [2.0] * 5
    assert found.network(1).pred.tolist() == [0]
    assert found.resources == ("(runner)",) and found.there.tolist() == [[2.0]] * 5
    assert str(found) == "5 runs, 10 records"
    assert len(SqlJournal(database).finished_runs(uuid4())) == 0


def test_no_planned_time_is_told_from_no_estimate(database: Database) -> None:
    run, begun = uuid4(), START
    store = PlanStore(database)
    store.open_run(run, plan_of("p"), started=begun)
    none = replace(record("b", begun, 4.0, 0.0, 1, True), planned_duration=None)
    ExecutionRecords(database).write(run, [record("a", begun, 0.5, 0.0, 1, True), none])
    store.set_run_status(run, "completed", ended=begun + timedelta(seconds=4))
    found = runs_before(database, "default", "p", START + timedelta(days=1))
    assert dict(zip(found.tasks, found.instant.tolist(), strict=True)) == {"a": True, "b": False}
    assert dict(zip(found.tasks, found.planned.tolist(), strict=True)) == {"a": 0.0, "b": 4.0}


def test_a_plan_is_simulated_from_its_finished_runs(tmp_path: Path) -> None:
    settings = AthenaSettings(home=tmp_path)
    plan, now = plan_of("p"), START + timedelta(days=6)
    assert simulate_plan(plan, now=now, settings=settings).basis == "from the plan's estimates"
    assert not (tmp_path / "athena.db").exists(), "looking makes no database"
    for day in range(4):
        stored(Database.open(settings), "p", day)
    found = simulate_plan(plan, now=now, settings=settings)
    assert found.basis == "from 4 runs, 8 records"
    # The plan says 90 s; runs took 137 on average.
    assert 125 < found.quantiles["p50"] < 150
    assert found.accepted is not None and found.accepted >= found.quantiles["p50"]
    assert set(found.criticality) == {"a", "b"}


def test_a_monitor_on_the_journal_rests_on_it(database: Database) -> None:
    for day in range(4):
        stored(database, "p", day)
    run, begun = uuid4(), START + timedelta(days=6)
    PlanStore(database).open_run(run, plan_of("p"), started=begun)
    journal = SqlJournal(database)
    context = ExecutionContext(
        plan_run=run, clock=VirtualClock(begun), started_at=begun, journal=journal
    )
    first = ExecutionMonitor(plan_of("p"), context).get_plan_deviation()
    assert first.basis == "from 4 runs, 8 records"
    assert first.estimated_completion is not None
    # The plan says 90 s; runs took 137 on average.
    assert 125 < (first.estimated_completion - begun).total_seconds() < 150
    reading = ReadOnly(journal)
    assert isinstance(reading, Remembering)
    context = ExecutionContext(
        plan_run=run, clock=VirtualClock(begun), started_at=begun, journal=reading
    )
    assert ExecutionMonitor(plan_of("p"), context).get_plan_deviation() == first

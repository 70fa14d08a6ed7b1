"""Plans, their revisions and their runs, on both databases."""

from __future__ import annotations

import threading
from datetime import timedelta
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from athena_prefect.errors import StorageError, UnknownNameError, UnknownRunError
from athena_prefect.monitor.records import TaskExecutionRecord
from athena_prefect.plan.document import load
from athena_prefect.plan.model import Plan
from athena_prefect.storage.db import Database
from athena_prefect.storage.plans import PlanStore
from athena_prefect.storage.records import ExecutionRecords
from tests.storage.facts import NOW

FULL = Path(__file__).parents[1] / "plan" / "full.yaml"


def plan(seconds: int = 10, name: str = "nightly") -> Plan:
    return Plan.model_validate(
        {"name": name, "tasks": [{"id": "a", "duration": seconds}, {"id": "b"}]}
    )


@pytest.fixture
def store(database: Database) -> PlanStore:
    return PlanStore(database)


def test_a_plan_comes_back_as_it_was_stored(store: PlanStore) -> None:
    full = load(FULL)
    decision = store.register(full, author="ada", reason="first")
    assert store.plan(full.name) == full
    assert store.plan(decision.id) == full
    assert (decision.author, decision.reason, decision.revision) == ("ada", "first", 1)


def test_the_same_document_is_the_same_decision_and_a_changed_one_the_next(
    store: PlanStore,
) -> None:
    first = store.register(plan(10))
    assert store.register(plan(10), reason="again") == first
    second = store.register(plan(20))
    assert (second.revision, second.plan_id) == (2, first.plan_id)
    assert store.register(plan(10)).revision == 3, "back again is a decision too"
    assert [d.revision for d in store.decisions("nightly")] == [3, 2, 1]


def test_namespaces_keep_plans_apart(store: PlanStore) -> None:
    store.register(plan(10), namespace="dev")
    store.register(plan(20), namespace="prod")
    assert store.plan("nightly", namespace="prod") == plan(20)
    assert [d.namespace for d in store.decisions(namespace="dev")] == ["dev"]
    with pytest.raises(UnknownNameError):
        store.plan("nightly")


def test_an_unknown_plan_names_the_nearest(store: PlanStore) -> None:
    store.register(plan())
    with pytest.raises(UnknownNameError, match="did you mean 'nightly'"):
        store.plan("nightyl")
    with pytest.raises(UnknownNameError):
        store.plan(4711)


def test_two_that_register_at_once_make_one_revision(store: PlanStore) -> None:
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(store.register(plan()).id)) for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 6 and len(set(found)) == 1


def test_a_run_is_opened_once_and_keeps_what_it_began_with(store: PlanStore) -> None:
    run, flow = uuid4(), uuid4()
    opened = store.open_run(
        run, plan(10), started=NOW, flow_run_id=flow, parameters={"x": 1}, logical_date=NOW
    )
    store.set_run_status(run, "failed", reason="b failed", ended=NOW + timedelta(hours=1))
    assert store.run(run).ended_at == NOW + timedelta(hours=1)
    again = store.open_run(run, plan(99), started=NOW + timedelta(days=1))
    assert again == opened
    assert again.status == "running" and again.ended_at is None and again.reason == ""
    assert store.revision(run) == plan(10), "not the edited document"
    assert (again.parameters, again.logical_date, again.started_at) == ({"x": 1}, NOW, NOW)


def test_a_stored_plan_knows_its_file(store: PlanStore) -> None:
    full = load(FULL)
    assert store.open_run(uuid4(), full, started=NOW).source == full.source
    assert store.revision(store.runs()[0].plan_run).source == full.source


def test_a_run_is_found_by_its_beginning_and_by_its_flow_run(store: PlanStore) -> None:
    one = UUID("aaaa1111-0000-4000-8000-000000000000")
    two = UUID("aaaa2222-0000-4000-8000-000000000000")
    flow = uuid4()
    store.open_run(one, plan(), started=NOW, flow_run_id=flow)
    store.open_run(two, plan(), started=NOW + timedelta(seconds=1))
    assert store.run("aaaa1").plan_run == one
    assert store.run("AAAA2222-00").plan_run == two
    assert store.run(str(flow)).plan_run == one
    with pytest.raises(UnknownRunError, match="several") as several:
        store.run("aaaa")
    assert set(several.value.as_dict()["candidates"]) == {str(one), str(two)}
    with pytest.raises(UnknownRunError, match=f"did you mean {one}"):
        store.run("aaab1111")
    with pytest.raises(UnknownRunError, match="athena runs"):
        store.run("%' OR 1=1")


def test_runs_are_listed_newest_first(store: PlanStore) -> None:
    ids = [uuid4() for _ in range(3)]
    for i, run in enumerate(ids):
        store.open_run(run, plan(), started=NOW + timedelta(minutes=i))
    store.open_run(uuid4(), plan(name="other"), started=NOW)
    assert [r.plan_run for r in store.runs(plan="nightly", limit=2)] == ids[:0:-1]
    store.set_run_status(ids[2], "completed", ended=NOW)
    assert [r.plan_run for r in store.live_runs("nightly")] == ids[1::-1]
    assert len(store.runs("default")) == 4 and store.runs("prod") == ()
    with pytest.raises(UnknownRunError):
        store.set_run_status(uuid4(), "failed")


def test_of_two_replans_of_one_run_one_is_stored(store: PlanStore) -> None:
    run = uuid4()
    store.open_run(run, plan(10), started=NOW, figures={"p50": 10.0})
    errors: list[StorageError] = []

    def replan(seconds: int) -> None:
        try:
            store.save_run_revision(run, 2, plan(seconds), reason="late")
        except StorageError as error:
            errors.append(error)

    threads = [threading.Thread(target=replan, args=(s,)) for s in (20, 30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(errors) == 1 and "another replan was faster" in str(errors[0])
    assert store.run(run).revision == 2
    assert store.revision(run) in (plan(20), plan(30))
    assert store.revision(run, 1) == plan(10)
    assert store.figures(run, 1) == {"p50": 10.0}
    assert store.figures(run, 2) is None
    with pytest.raises(StorageError):
        store.save_run_revision(run, 5, plan(20))
    with pytest.raises(UnknownNameError):
        store.revision(run, 9)
    for number in (None, 1):
        with pytest.raises(UnknownRunError):
            store.revision(uuid4(), number)
    with pytest.raises(UnknownRunError):
        store.save_run_revision(uuid4(), 2, plan())


def test_any_decision_of_a_lineage_stands_for_the_revision_in_force(store: PlanStore) -> None:
    run = uuid4()
    first = store.open_run(run, plan(10), started=NOW).decision_id
    second = store.save_run_revision(run, 2, plan(20)).id
    assert store.plan(first) == store.plan(second) == plan(20)
    assert store.run_of_decision(first).plan_run == run
    of_plan = store.decisions("nightly")[-1]
    assert of_plan.plan_run is None
    assert store.run_of_decision(of_plan.id).plan_run == run
    other = uuid4()
    store.open_run(other, plan(10), started=NOW)
    with pytest.raises(UnknownRunError, match="several live runs") as several:
        store.run_of_decision(of_plan.id)
    assert set(several.value.as_dict()["candidates"]) == {str(run), str(other)}
    for one in (run, other):
        store.set_run_status(one, "completed")
    with pytest.raises(UnknownRunError, match="no live run"):
        store.run_of_decision(of_plan.id)
    assert [d.revision for d in store.decisions(plan_run=run)] == [2, 1]


def record(attempt: int = 1, index: int | None = None, used: float = 1.0) -> TaskExecutionRecord:
    return TaskExecutionRecord(
        task_id="a",
        map_index=index,
        attempt=attempt,
        source="task run",
        planned_start=NOW,
        actual_start=NOW + timedelta(seconds=attempt),
        planned_duration=timedelta(seconds=10),
        actual_duration=timedelta(seconds=10, microseconds=1),
        outcome=None,
        resources_planned={"cpu": 1.0},
        resources_used={"cpu": used},
        deviation=None,
        confidence=None,
    )


def test_records_are_one_row_an_attempt_however_often_they_are_written(
    store: PlanStore, database: Database
) -> None:
    run, records = uuid4(), ExecutionRecords(database)
    opened = store.open_run(run, plan(), started=NOW)
    rows = [record(), record(2), record(1, index=0), record(1, index=1)]
    assert records.write(run, rows) == 4
    assert records.write(run, [record(used=2.0), {"task_id": "b", "attempt": 1}]) == 2
    assert records.write(run, []) == 0
    found = {(r.task_id, r.map_index, r.attempt): r for r in records.read(run)}
    assert len(found) == 5
    first = found["a", None, 1]
    assert first.resources_used == {"cpu": 2.0}
    assert first.actual_duration == timedelta(seconds=10, microseconds=1)
    assert (first.planned_start, first.outcome, first.task_run_id) == (NOW, None, "task run")
    assert (first.plan_id, first.revision) == (opened.decision_id, 1)
    assert found["b", None, 1].planned_duration is None
    assert len(records.history("nightly")) == 5
    assert len(records.history("nightly", limit=2)) == 2
    assert records.history("nightly", namespace="prod") == ()
    with pytest.raises(UnknownRunError):
        records.write(uuid4(), rows)

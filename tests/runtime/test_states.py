"""Every state that a task can come to is recorded, once an attempt, as Prefect's API has it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from prefect.client.orchestration import get_client

from athena_prefect.journal.events import TaskOutcome
from athena_prefect.journal.state import Status
from athena_prefect.runtime.reconcile import attempts_in, item_of, missing_events, task_runs_of
from athena_prefect.runtime.recorder import recording_of
from athena_prefect.settings import AthenaSettings
from tests.runtime.support import Run, plan_of, run

pytestmark = pytest.mark.prefect

S, F, P, B = (
    TaskOutcome.SUCCESS,
    TaskOutcome.FAILURE,
    TaskOutcome.PARTIAL,
    TaskOutcome.BLOCKED,
)
RELAXED = {"rows": {"min": 100}, "relaxed": {"rows": {"min": 50}}}

EXPECTED: dict[tuple[str, int | None], list[tuple[str, TaskOutcome]]] = {
    ("facts", None): [("Completed", S)],
    ("numbers", None): [("Completed", S)],
    ("square", 0): [("Completed", S)],
    ("square", 1): [("Completed", S)],
    ("square", 2): [("Completed", S)],
    ("total", None): [("Completed", S)],
    ("later", None): [("Completed", S)],
    ("never", None): [("TimedOut", F)],
    ("fail", None): [("Failed", F)],
    ("after_fail", None): [("NotReady", B)],
    ("after_that", None): [("NotReady", B)],
    ("crash", None): [("Crashed", F)],
    ("part", None): [("Completed", P)],
    ("relaxed", None): [("Completed", P)],
    ("strict", None): [("Failed", F)],
    ("unpicklable", None): [("Failed", F)],
    ("flaky", None): [("Retrying", F), ("Retrying", F), ("Completed", S)],
    ("delayed", None): [("Retrying", F), ("Retrying", F), ("Completed", S)],
    ("gives_up", None): [("Retrying", F), ("Failed", F)],
    ("overdue", None): [("TimedOut", F)],
    ("killed", None): [("TimedOut", F)],
    ("own_process", None): [("Completed", S)],
    ("ready_made", None): [("Completed", S)],
    ("cached", None): [("Completed", S)],
    ("cached_again", None): [("Cached", S)],
    ("after_skip", None): [("Completed", S)],
    ("nothing", None): [("Completed", S)],
    ("sum_of_nothing", None): [("Completed", S)],
}


@pytest.fixture(scope="module")
def everything(prefect_api: str, tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = str(tmp_path_factory.mktemp("flaky"))
    flaky = {"call": "third_time", "retries": 2}
    plan = plan_of(
        {"id": "facts", "call": "facts", "with": {"folder": "{{ parameters.folder }}"}},
        {"id": "numbers", "call": "numbers", "depends_on": ["facts"]},
        {
            "id": "square",
            "call": "square",
            "inputs": {"x": "numbers"},
            "map_over": "x",
            "expected_items": 3,
            "with": {"plus": 1},
            "resources": {"cpu": 1},
        },
        {"id": "total", "call": "total", "inputs": {"xs": "square"}},
        {"id": "later", "call": "later"},
        {"id": "never", "call": "never", "timeout": "200ms"},
        {"id": "fail", "call": "fail"},
        {"id": "after_fail", "call": "one", "depends_on": ["fail"]},
        {"id": "after_that", "call": "one", "depends_on": ["after_fail"]},
        {"id": "crash", "call": "crash"},
        {"id": "part", "call": "part"},
        {"id": "relaxed", "call": "facts", "success_criteria": RELAXED},
        {"id": "strict", "call": "facts", "success_criteria": {"rows": {"min": 100}}},
        {"id": "unpicklable", "call": "lambda_"},
        {"id": "flaky", "with": {"folder": folder, "name": "a"}, **flaky},
        {"id": "delayed", "with": {"folder": folder, "name": "b"}, **flaky, "retry_delay": "100ms"},
        {"id": "gives_up", "call": "fail", "retries": 1},
        {"id": "overdue", "call": "hang", "with": {"seconds": 2}, "timeout": "300ms", "retries": 1},
        {
            "id": "killed",
            "call": "hang",
            "with": {"seconds": 60},
            "timeout": "2s",
            "isolation": "process",
        },
        {"id": "own_process", "call": "process_id", "isolation": "process"},
        {"id": "ready_made", "call": "ready_made", "inputs": {"x": "total"}},
        {"id": "cached", "call": "cached"},
        {"id": "cached_again", "call": "cached", "depends_on": ["cached"]},
        {
            "id": "unwanted",
            "call": "one",
            "when": {"task": "facts", "field": "changed", "is": False},
        },
        {"id": "takes_unwanted", "call": "square", "inputs": {"x": "unwanted"}},
        {"id": "after_skip", "call": "one", "depends_on": ["unwanted"]},
        {"id": "nothing", "call": "nothing"},
        {"id": "over_nothing", "call": "square", "inputs": {"x": "nothing"}, "map_over": "x"},
        {"id": "sum_of_nothing", "call": "total", "inputs": {"xs": "over_nothing"}},
        name="everything",
        resources={"cpu": {"capacity": 2}},
        parameters={"folder": {"type": "string", "default": "data"}},
        runner={"kind": "threads", "max_workers": 8},
        goals=["total"],
    )
    return run(plan)


def test_each_attempt_has_exactly_one_record(everything: Run) -> None:
    found = {
        item: [(a.state_name, a.outcome) for a in task.attempts]
        for item, task in everything.state.tasks.items()
        if task.attempts
    }
    assert found == EXPECTED
    for task in everything.state.tasks.values():
        for attempt in task.attempts:
            blocked = attempt.outcome is B
            assert (attempt.started is None) is blocked, attempt
            assert attempt.ended is not None


def test_tasks_that_never_ran_say_why(everything: Run) -> None:
    state = everything.state
    assert state.status("unwanted") is state.status("takes_unwanted") is Status.SKIPPED
    assert "facts.changed" in state.task("unwanted").skip_reason
    assert "unwanted" in state.task("takes_unwanted").skip_reason
    assert state.status("over_nothing") is Status.SUCCESS


def test_results_and_usage_are_kept(everything: Run) -> None:
    assert everything.value("total") == 2 + 5 + 10
    assert everything.value("ready_made") == 18
    assert everything.value("sum_of_nothing") == 0
    assert everything.value("part") == [1]
    assert everything.value("facts")["folder"] == "data"
    facts = everything.state.task("facts").in_force
    part = everything.state.task("part").in_force
    assert facts is not None
    assert part is not None
    assert facts.data["used"] == {"cpu": 0.5}
    assert part.data["share"] == 0.25
    own = everything.state.task("own_process").in_force
    assert own is not None
    assert own.data["used"] == {"cpu": 2.0}


def test_a_cached_success_is_marked(everything: Run) -> None:
    again = everything.state.task("cached_again").in_force
    assert again is not None
    assert again.data["cached"] is True
    assert everything.value("cached_again") == everything.value("cached")


def test_the_flow_is_done_because_its_goal_is(everything: Run) -> None:
    assert everything.final.is_completed()
    assert "fail" in everything.final.message
    assert everything.state.end_status == "completed"


def test_the_api_knows_nothing_that_the_journal_does_not(everything: Run) -> None:
    plan = everything.plan
    with get_client(sync_client=True) as client:
        flow_run = everything.final.state_details.flow_run_id
        wanted = sum(len(t.attempts) for t in everything.state.tasks.values())
        seen: dict[Any, Any] = {}
        for _ in range(1200):  # records reach the API behind the run's back
            seen = {r.id: r for r in task_runs_of(client, [flow_run])}
            states = {i: client.read_task_run_states(i) for i in seen}
            if sum(len(attempts_in(s)) for s in states.values()) == wanted:
                break
            time.sleep(0.2)
        state = everything.state
        for task_run in seen.values():
            item = item_of(task_run.name, plan)
            assert item is not None, task_run.name
            told = attempts_in(states[task_run.id])
            known = [a for a in state.task(*item).attempts if a.source == str(task_run.id)]
            assert len(told) == len(known), (item, told, known)
            assert (
                missing_events(everything.plan_run, item, task_run, states[task_run.id], state)
                == []
            )


def test_a_journal_that_lost_everything_is_rebuilt_from_the_api(everything: Run) -> None:
    from athena_prefect.journal.state import ExecutionState, fold

    rebuilt = ExecutionState()
    with get_client(sync_client=True) as client:
        for task_run in task_runs_of(client, [everything.final.state_details.flow_run_id]):
            item = item_of(task_run.name, everything.plan)
            assert item is not None
            states = client.read_task_run_states(task_run.id)
            events = missing_events(everything.plan_run, item, task_run, states, rebuilt)
            rebuilt = fold(events, rebuilt)
    ours = {"part", "relaxed"}  # partial is our word; the API calls it completed
    taken_back = {"overdue"}  # Prefect saw the late body complete
    for item, attempts in EXPECTED.items():
        if item[0] in ours | taken_back:
            continue
        outcomes = [a.outcome for a in rebuilt.task(*item).attempts]
        assert outcomes == [o for _, o in attempts], item


def test_edges_are_drawn_in_the_ui(everything: Run) -> None:
    with get_client(sync_client=True) as client:
        runs = list(task_runs_of(client, [everything.final.state_details.flow_run_id]))
    by_name = {r.name: r for r in runs}
    ids = {r.id: r.name for r in runs}

    def upstream(name: str) -> set[str]:
        inputs = by_name[name].task_inputs.values()
        return {ids[i.id] for found in inputs for i in found if hasattr(i, "id") and i.id in ids}

    assert upstream("total") == {"square[0]", "square[1]", "square[2]"}
    assert upstream("numbers") == {"facts"}
    assert upstream("square[1]") == {"numbers"}
    assert upstream("after_fail") == {"fail"}


def test_nothing_is_spooled_when_the_database_is_there(everything: Run) -> None:
    folder = Path(recording_of(AthenaSettings(), everything.plan).spool)
    assert not [p for p in folder.rglob("*.jsonl") if p.stat().st_size]

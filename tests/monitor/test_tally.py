"""The running tally says of every task what the fold says, at the cost of one event."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from athena_prefect.journal.events import (
    Event,
    RunEvent,
    RunEventKind,
    TaskEvent,
    TaskEventKind,
    TaskOutcome,
)
from athena_prefect.journal.state import ExecutionState, Status, evolve, fold
from athena_prefect.monitor.accepted import still_to_redo
from athena_prefect.monitor.tally import Tally
from athena_prefect.plan.model import Plan

T0 = datetime(2026, 1, 5, 8, tzinfo=UTC)
PLAN = Plan.model_validate(
    {
        "name": "small",
        "resources": {"cpu": {"capacity": 4}, "disk": {"capacity": 2}},
        "tasks": [
            {"id": "a", "duration": 1, "resources": {"cpu": 2}, "retries": 1},
            {"id": "b", "duration": 1, "inputs": {"x": "a"}, "map_over": "x", "expected_items": 3},
            {"id": "c", "duration": 1, "depends_on": ["b"]},
            {"id": "d", "duration": 1, "depends_on": [{"task": "a", "kind": "soft"}, "e"]},
            {"id": "e", "duration": 1, "optional": True},
            {"id": "f", "duration": 1, "depends_on": ["e"], "optional": True},
        ],
        "goals": ["c"],
    }
)


@st.composite
def events(draw: st.DrawFn) -> TaskEvent:
    kind = draw(st.sampled_from(list(TaskEventKind)))
    task = draw(st.sampled_from("abc"))
    return TaskEvent(
        plan_run=UUID(int=1),
        task_id=task,
        map_index=draw(st.sampled_from([None, 0, 1, 2])) if task == "b" else None,
        kind=kind,
        at=T0 + timedelta(seconds=draw(st.integers(0, 9))),
        source=draw(st.sampled_from(["1", "2"])),
        outcome=draw(st.sampled_from(list(TaskOutcome))) if kind is TaskEventKind.ENDED else None,
        data={"items": draw(st.integers(0, 3))} if kind is TaskEventKind.EXPANDED else {},
    )


def tallied(happened: list[TaskEvent]) -> tuple[ExecutionState, Tally]:
    state, tally = ExecutionState(), Tally(PLAN)
    for event in happened:
        state = evolve(state, event)
        tally.update(state, (event.task_id, event.map_index))
    return state, tally


@given(st.lists(events(), max_size=40))
def test_it_says_of_every_task_what_the_fold_says(happened: list[TaskEvent]) -> None:
    state, tally = tallied(happened)
    for task in PLAN.task_ids:
        if any(e.task_id == task for e in happened):
            folded = state.status(task)
            if task == "b" and state.task(task).items is None:
                # Its items run before it is known how many they are.
                assert tally.status(task) in (folded, Status.RUNNING)
            else:
                assert tally.status(task) is folded
    good = [t for t in PLAN.task_ids if tally.status(t).good]
    skipped = [t for t in PLAN.task_ids if tally.status(t) is Status.SKIPPED]
    assert tally.completed == len(good)
    assert tally.total == len(PLAN.tasks) - len(skipped)
    assert tally.running == {i for i, t in state.tasks.items() if t.status is Status.RUNNING}


@given(st.lists(events(), max_size=40))
def test_what_is_stopped_follows_from_the_statuses_alone(happened: list[TaskEvent]) -> None:
    state, tally = tallied(happened)
    fresh = Tally(PLAN)
    for item in state.tasks:
        fresh.update(state, item)
    assert fresh.stopped == tally.stopped and fresh.blocked == tally.blocked


def event(kind: TaskEventKind, task: str, at: float = 0, **values: Any) -> TaskEvent:
    values = {"source": "s", **values}
    return TaskEvent(
        plan_run=UUID(int=1), task_id=task, kind=kind, at=T0 + timedelta(seconds=at), **values
    )


def ran(task: str, outcome: TaskOutcome, source: str = "s", **values: Any) -> list[TaskEvent]:
    return [
        event(TaskEventKind.STARTED, task, source=source),
        event(TaskEventKind.ENDED, task, 1, source=source, outcome=outcome, **values),
    ]


def test_a_required_task_blocks_the_plan_when_its_tries_are_used_up() -> None:
    failed = ran("a", TaskOutcome.FAILURE)
    _, tally = tallied(failed)
    assert not tally.blocked and not tally.stopped, "one try is left"
    _, tally = tallied([*failed, *ran("a", TaskOutcome.FAILURE, "t")])
    assert tally.blocked == "a failed; b, c cannot start"
    assert set(tally.stopped) == {"a", "b", "c"}, "a soft dependency holds nothing up"
    assert tally.why_stopped("a") == "a failed"
    assert tally.why_stopped("c") and not tally.why_stopped("d")
    _, tally = tallied(
        [*failed, *ran("a", TaskOutcome.FAILURE, "t"), *ran("a", TaskOutcome.SUCCESS, "u")]
    )
    assert not tally.blocked and not tally.stopped


def test_prefects_failure_is_final_since_prefect_made_the_retries() -> None:
    _, tally = tallied(ran("a", TaskOutcome.FAILURE, state_name="Failed"))
    assert tally.blocked
    _, tally = tallied(ran("a", TaskOutcome.BLOCKED, state_name="NotReady"))
    assert tally.blocked == "a is blocked; b, c cannot start"


def test_what_is_not_required_blocks_nothing() -> None:
    _, tally = tallied(ran("e", TaskOutcome.FAILURE))
    assert set(tally.stopped) == {"e", "d", "f"} and not tally.blocked


def test_resource_deviation_is_over_what_was_measured() -> None:
    _, tally = tallied([])
    assert tally.resource_deviation() == {"cpu": None, "disk": None}
    first = ran("a", TaskOutcome.FAILURE, data={"used": {"cpu": 3, "disk": 1, "gpu": 1}})
    _, tally = tallied(first)
    assert tally.resource_deviation() == {"cpu": 0.5, "disk": None}, "disk was not planned for a"
    _, tally = tallied([*first, *ran("a", TaskOutcome.SUCCESS, "t", data={"used": {"cpu": 1}})])
    assert tally.resource_deviation()["cpu"] == -0.5, "the attempt in force counts, once"


def test_events_of_tasks_that_the_plan_does_not_have_are_passed_over() -> None:
    state = fold(ran("gone", TaskOutcome.FAILURE))
    tally = Tally(PLAN)
    assert not tally.update(state, ("gone", None))
    assert tally.total == 6


def test_what_an_earlier_revision_does_again_is_no_dead_end_by_a_later_one() -> None:
    happened = [*ran("e", TaskOutcome.FAILURE), *ran("c", TaskOutcome.FAILURE)]
    state, tally = tallied(happened)
    tally.reopen(["c"], state)
    tally.reopen(["e"], state)
    assert tally.is_reopened("c") and tally.is_reopened("e")
    assert not tally.stopped and tally.blocked == ""
    state, again = tallied(happened)
    again.reopen(["e"], state)
    assert "c" in again.stopped, "nobody does that again"


def test_what_a_revision_does_again_waits_for_that_until_it_begins() -> None:
    def revised(number: int, second: int, *again: str) -> RunEvent:
        return RunEvent(
            plan_run=UUID(int=1), kind=RunEventKind.REVISED, at=T0 + timedelta(seconds=second),
            source=str(number), data={"revision": number, "again": list(again)},
        )  # fmt: skip

    both = [*ran("c", TaskOutcome.FAILURE), *ran("e", TaskOutcome.FAILURE)]
    happened: list[Event] = [*both, revised(2, 2, "c"), revised(3, 3, "e")]
    assert still_to_redo(fold(happened)) == {"c", "e"}
    begun = event(TaskEventKind.STARTED, "c", 4, source="again")
    assert still_to_redo(fold([*happened, begun])) == {"e"}
    assert not still_to_redo(fold(both))


def test_a_long_list_of_waiting_tasks_is_cut() -> None:
    names = [f"n{k}" for k in range(9)]
    chain = Plan.model_validate(
        {
            "name": "chain",
            "tasks": [
                {"id": n, "duration": 1, "depends_on": names[i - 1 : i] if i else []}
                for i, n in enumerate(names)
            ],
        }
    )
    tally = Tally(chain)
    tally.update(fold(ran("n0", TaskOutcome.FAILURE)), ("n0", None))
    assert tally.blocked == "n0 failed; n1, n2, n3, n4, n5 and 3 more cannot start"

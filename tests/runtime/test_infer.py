"""A plan out of recorded runs: what was seen, no more, and what is not known said."""

from __future__ import annotations

import time
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from prefect import flow, task
from prefect.cache_policies import NO_CACHE

from athena_prefect import attach, service
from athena_prefect.errors import InputError, UnknownNameError
from athena_prefect.plan.model import Plan
from athena_prefect.runtime.afterwards import wait_for_afterwards
from athena_prefect.runtime.infer import RecordedTask, estimate, infer
from tests.runtime.support import state_of

T0 = datetime(2026, 1, 5, 8, tzinfo=UTC)


def call(
    name: str, at: float = 0, seconds: float | None = 1, function: str = "", **took: Any
) -> RecordedTask:
    """One task run; `took` are the calls whose results it was given."""
    return RecordedTask(
        id=uuid4(),
        name=name,
        function=function or name,
        named=bool(function),
        started=T0 + timedelta(seconds=at),
        seconds=seconds,
        took={
            argument: tuple(c.id for c in (calls if isinstance(calls, list) else [calls]))
            for argument, calls in took.items()
        },
    )


def test_durations_are_the_shortest_the_median_and_the_longest_that_were_seen() -> None:
    assert estimate([3.0004, 1, 2, 9]) == {"optimistic": 1, "likely": 2.5, "pessimistic": 9}
    assert estimate([2, 2]) == 2
    assert estimate([]) is None
    runs = [[call("a", seconds=s)] for s in (1, 4, 2)] + [[call("a", seconds=None)]]
    duration = infer("f", runs).plan.get_task("a").duration
    assert duration == Plan.model_validate(
        {"name": "p", "tasks": [{"id": "a", "duration": {"optimistic": 1, "likely": 2,
                                                         "pessimistic": 4}}]}
    ).get_task("a").duration  # fmt: skip


def test_what_never_succeeded_has_no_duration() -> None:
    assert infer("f", [[call("a", seconds=None)]]).plan.get_task("a").planned_duration is None


def test_calls_that_each_took_a_result_are_items_and_others_are_said() -> None:
    source = call("list")
    items = [call("work", 1 + i, x=source, y=source) for i in range(3)]
    end = call("end", 9, xs=items)
    alone = [call("ping", 10 + i) for i in range(2)]
    found = infer("f", [[source, *items, end, *alone]])
    work = found.plan.get_task("work")
    assert (dict(work.inputs), work.map_over, work.expected_items) == ({"y": "list"}, "y", 3)
    assert [d.task for d in found.plan.get_task("end").upstream] == ["work"]
    assert found.plan.get_task("ping").map_over is None
    assert any("ping was called 2 times a run" in n for n in found.notes)
    assert any("a lower bound" in n for n in found.notes)


def test_tasks_called_by_turns_make_no_circle() -> None:
    one = call("a")
    two = call("b", 1, x=one)
    three = call("a", 2, x=two)
    found = infer("f", [[one, two, three]])
    assert [d.task for d in found.plan.get_task("b").upstream] == ["a"]
    assert found.plan.get_task("a").upstream == ()
    assert any("called by turns" in n for n in found.notes)


def test_names_that_are_others_each_time_are_their_function_s() -> None:
    days = [[call(f"day {d}", function="load_day"), call("to-db", function="store")] for d in "123"]
    found = infer("my flow", days)
    assert (found.plan.name, set(found.plan.task_ids)) == ("my_flow", {"load_day", "to-db"})


def test_what_was_not_always_called_is_said() -> None:
    found = infer("f", [[call("a"), call("rare", 1)], [call("a")]])
    assert found.plan.task_ids == ("a", "rare")
    assert "rare was called in 1 of 2 runs" in found.notes


@task(cache_policy=NO_CACHE)
def numbers() -> list[int]:
    return [1, 2, 3]


@task(cache_policy=NO_CACHE)
def double(x: Any) -> int:
    time.sleep(0.01)
    return int(x) * 2


@task(name="Add them up", cache_policy=NO_CACHE)
def total(xs: Any) -> int:
    return sum(xs)


@pytest.mark.prefect
def test_a_flow_is_attached_to_the_plan_of_its_own_history(
    prefect_api: str, tmp_path: Path
) -> None:
    name = f"inferred-{uuid4().hex[:8]}"

    @flow(name=name)
    def recorded() -> int:
        return total(double.map(numbers()))

    with pytest.raises(UnknownNameError, match="no flow"):
        service.infer(name)
    assert recorded() == 12
    file = tmp_path / "plan.yaml"
    for _ in range(1200):  # task runs come to the API in their own time
        found = service.infer(name)
        if (found.tasks, found.dependencies) == (3, 2):
            break
        time.sleep(0.2)
    found = service.infer(name, output=file)
    assert (found.runs, found.tasks, found.dependencies) == (1, 3, 2)
    with pytest.raises(InputError, match="is there already"):
        service.infer(name, output=file)
    plan = Plan.load(file)
    assert plan.task_ids == ("numbers", "double", "add_them_up")
    assert plan.get_task("double").expected_items == 3
    final = attach(recorded, plan)(return_state=True)
    assert wait_for_afterwards(240)
    flow_run = UUID(str(final.state_details.flow_run_id))
    state = state_of(plan, flow_run)
    assert [str(state.status(t)) for t in plan.task_ids] == ["success"] * 3
    assert state.unplanned == ()


def test_without_a_server_it_is_said_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    # A test with a server may have come before.
    monkeypatch.setattr("athena_prefect.runtime.watching.connected", lambda: nullcontext(None))
    with pytest.raises(InputError, match="PREFECT_API_URL"):
        service.infer("any")
    with pytest.raises(InputError, match="one run or more"):
        service.infer("any", most=0)

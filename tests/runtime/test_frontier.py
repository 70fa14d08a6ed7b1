"""What can start, what is skipped and what is blocked."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from athena_prefect.journal.events import TaskEvent, TaskEventKind, TaskOutcome
from athena_prefect.journal.state import ExecutionState, fold
from athena_prefect.plan.model import Plan
from athena_prefect.runtime.frontier import Frontier, Verdict, input_revisions

RUN = UUID(int=1)
START = datetime(2026, 11, 2, 4, tzinfo=UTC)


def plan(**second: Any) -> Plan:
    return Plan.model_validate(
        {"name": "p", "tasks": [{"id": "a"}, {"id": "b", **second}, {"id": "c"}]}
    )


def ended(task: str, outcome: TaskOutcome, minutes: float = 1) -> list[TaskEvent]:
    common: dict[str, Any] = {"plan_run": RUN, "task_id": task, "source": task}
    return [
        TaskEvent(kind=TaskEventKind.STARTED, at=START, **common),
        TaskEvent(
            kind=TaskEventKind.ENDED,
            at=START + timedelta(minutes=minutes),
            outcome=outcome,
            **common,
        ),
    ]


def skipped(task: str) -> list[TaskEvent]:
    return [
        TaskEvent(plan_run=RUN, task_id=task, kind=TaskEventKind.SKIPPED, at=START, source=task)
    ]


SOFT = {"depends_on": [{"task": "a", "kind": "soft"}]}
TAKES = {"inputs": {"x": "a"}}


@pytest.mark.parametrize(
    ("second", "events", "verdict"),
    [
        ({}, [], Verdict.START),
        ({"depends_on": ["a"]}, [], Verdict.WAIT),
        ({"depends_on": ["a"]}, ended("a", TaskOutcome.SUCCESS), Verdict.START),
        ({"depends_on": ["a"]}, ended("a", TaskOutcome.PARTIAL), Verdict.START),
        ({"depends_on": ["a"]}, ended("a", TaskOutcome.FAILURE), Verdict.BLOCK),
        ({"depends_on": ["a"]}, ended("a", TaskOutcome.BLOCKED), Verdict.BLOCK),
        ({"depends_on": ["a"]}, skipped("a"), Verdict.START),
        (TAKES, skipped("a"), Verdict.SKIP),
        ({"when": {"task": "a", "is": 1}}, skipped("a"), Verdict.SKIP),
        (SOFT, [], Verdict.WAIT),
        (SOFT, ended("a", TaskOutcome.FAILURE), Verdict.START),
    ],
)
def test_verdicts(second: dict[str, Any], events: list[TaskEvent], verdict: Verdict) -> None:
    p = plan(**second)
    answer = Frontier(p, {}).readiness(
        p.get_task("b"), fold(events), set(), START + timedelta(hours=1)
    )
    assert answer.verdict is verdict


def test_a_lag_runs_from_the_end_of_what_is_waited_for() -> None:
    p = plan(depends_on=[{"task": "a", "lag": "5m"}])
    state = fold(ended("a", TaskOutcome.SUCCESS, minutes=10))
    frontier = Frontier(p, {})
    due = START + timedelta(minutes=15)
    early = frontier.readiness(p.get_task("b"), state, set(), due - timedelta(seconds=1))
    assert (early.verdict, early.not_before) == (Verdict.WAIT, due)
    assert frontier.readiness(p.get_task("b"), state, set(), due).verdict is Verdict.START


def test_the_most_critical_comes_first_then_document_order() -> None:
    p = plan()
    frontier = Frontier(p, {"a": 5.0, "b": 1.0, "c": 5.0})
    assert sorted(p.task_ids, key=frontier.rank) == ["b", "a", "c"]


def test_the_cone_of_a_task_is_all_that_follows_from_it() -> None:
    diamond = Plan.model_validate(
        {"name": "p", "tasks": [
            {"id": "a"}, {"id": "b", "depends_on": ["a"]}, {"id": "c", "depends_on": ["a"]},
            {"id": "d", "depends_on": ["b", "c"]}, {"id": "aside"},
        ]}
    )  # fmt: skip
    frontier = Frontier(diamond, {})
    assert frontier.cone("a") == {"b", "c", "d"} and frontier.cone("c") == {"d"}
    assert frontier.cone("d") == frontier.cone("aside") == set()


def test_an_invalidated_ancestor_makes_another_input_revision() -> None:
    p = plan(depends_on=["a"])
    events = [
        *ended("a", TaskOutcome.SUCCESS),
        TaskEvent(
            plan_run=RUN,
            task_id="a",
            kind=TaskEventKind.INVALIDATED,
            at=START,
            source="x",
            data={"reason": "by hand"},
        ),
    ]
    assert input_revisions(p, ExecutionState()) == {"a": 1, "b": 1, "c": 1}
    assert input_revisions(p, fold(events)) == {"a": 2, "b": 2, "c": 1}


def test_a_failed_task_that_is_tried_again_blocks_nothing_yet() -> None:
    p = plan(depends_on=["a"])
    state = fold(ended("a", TaskOutcome.FAILURE))
    answer = Frontier(p, {}).readiness(p.get_task("b"), state, {"a", "b"}, START)
    assert answer.verdict is Verdict.WAIT

"""What has to change, from what is and what should be."""

from __future__ import annotations

import json
from dataclasses import replace

from athena_prefect.runtime.deployment.changes import Action, compare
from athena_prefect.runtime.deployment.desired import desired_state
from athena_prefect.runtime.deployment.state import DatabaseBlock, Masked, ServerState
from tests.runtime.deployment.support import flow, plan, target

STATE = desired_state(
    [flow(plan(schedule={"cron": "0 4 * * *"}))], target(environment={"A": "1"}), watch={}
)


def test_what_is_as_it_should_be_needs_no_change() -> None:
    assert compare(STATE, STATE) == ()


def test_what_is_missing_is_made_in_order_of_need() -> None:
    changes = compare(STATE, ServerState())
    assert {c.action for c in changes} == {Action.CREATE}
    kinds = [c.kind for c in changes]
    # Runs of a deployment need the block; the automation needs nobody.
    assert kinds == sorted(kinds, key=["plan", "block", "deployment", "automation"].index)


def test_what_should_not_be_there_is_removed_last_and_backwards() -> None:
    gone = compare(ServerState(), STATE)
    assert [(c.action, c.name) for c in gone] == [
        (Action.REMOVE, c.name) for c in reversed(compare(STATE, ServerState()))
    ]


def test_a_difference_names_its_field_and_both_values() -> None:
    first, *rest = STATE.deployments
    changed = replace(
        first,
        schedules={},
        job_variables={"env": {**first.job_variables["env"], "A": "2"}, "working_dir": "/tmp"},
    )
    (change,) = compare(STATE, replace(STATE, deployments=(changed, *rest)))
    assert change.action is Action.UPDATE
    assert [d.as_dict() for d in change.differences] == [
        {
            "field": "schedules.plan",
            "is_now": None,
            "should_be": {"cron": "0 4 * * *", "timezone": "UTC"},
        },
        {"field": "job_variables.env.A", "is_now": "2", "should_be": "1"},
        {"field": "job_variables.working_dir", "is_now": "/tmp", "should_be": None},
    ]
    json.dumps(change.as_dict())


def test_a_continuation_keeps_what_a_replan_wrote() -> None:
    plan_itself, continuation, watcher = STATE.deployments
    rewritten = replace(
        continuation, parameters={"plan_run": "1"}, version="r3", tags=("revision:3",)
    )
    actual = replace(STATE, deployments=(plan_itself, rewritten, watcher))
    assert compare(STATE, actual) == ()
    moved = replace(actual, deployments=(plan_itself, replace(rewritten, pool="x"), watcher))
    (change,) = compare(STATE, moved)
    assert [d.field for d in change.differences] == ["pool"]


def test_another_password_is_a_change_that_shows_none() -> None:
    before, after = (
        ServerState(blocks=(DatabaseBlock(name="athena", url=Masked(url), durable="process"),))
        for url in ("postgresql://me:first@db/a", "postgresql://me:second@db/a")
    )
    (change,) = compare(after, before)
    said = json.dumps(change.as_dict())
    assert "postgresql://me:***@db/a" in said
    assert "first" not in said and "second" not in said

"""People are asked by a form in Prefect's UI, and answer there or elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas import filters
from pydantic import ValidationError

from athena_prefect.journal.events import CheckEvent
from athena_prefect.journal.state import ExecutionState, evolve
from athena_prefect.plan.model import Assumption
from athena_prefect.runtime.deployment.names import plan_tag
from athena_prefect.runtime.questions import TAG, form_of, standing_answer, value_of
from athena_prefect.runtime.recorder import recording_of
from athena_prefect.runtime.telling import Deriver
from athena_prefect.settings import AthenaSettings
from tests.runtime.support import Run, plan_of
from tests.runtime.test_control import beside, until

NOW = datetime(2026, 1, 5, 8, tzinfo=UTC)


def assumption(**fields: Any) -> Assumption:
    return Assumption.model_validate({"id": "asked", **fields})


@pytest.mark.parametrize(
    ("expected", "given", "value"),
    [
        (None, "yes", True), (True, "no", False), (0.8, 0.75, 0.75), (3, 4, 4.0),
        ({"min": 2}, 1.5, 1.5), ({"one_of": ["red", "green"]}, "green", "green"),
        ("ready", "true", "true"), ({"one_of": [1, 2]}, "2", 2),
        ({"max_age": "1h"}, "2026-01-05T08:00:00+00:00", "2026-01-05T08:00:00+00:00"),
    ],
)  # fmt: skip
def test_the_form_is_typed_as_what_is_expected(expected: Any, given: Any, value: Any) -> None:
    asked = assumption(expected_value=expected)
    answer: Any = form_of(asked)(value=given)
    assert value_of(asked, answer.value) == value
    assert answer.name == "" and answer.remark == ""


@pytest.mark.parametrize(
    ("expected", "given"),
    [(None, "perhaps"), (True, True), (0.8, "much"), ({"one_of": ["red"]}, "blue")],
)
def test_the_form_refuses_what_is_of_another_type(expected: Any, given: Any) -> None:
    with pytest.raises(ValidationError):
        form_of(assumption(expected_value=expected))(value=given)


def test_an_answer_stands_for_its_frequency() -> None:
    asked = assumption(validation_frequency="1h")
    answer = CheckEvent(
        plan_run=uuid4(), assumption_id="asked", check_id="answer|1", at=NOW, verdict="holds"
    )
    state = evolve(ExecutionState(), answer)
    assert standing_answer(asked, state, NOW + timedelta(minutes=59)) == answer
    assert standing_answer(asked, state, NOW + timedelta(minutes=61)) is None
    assert standing_answer(assumption(), state, NOW + timedelta(days=9)) == answer


# -- on a real server -----------------------------------------------------------------------


def questions(client: SyncPrefectClient, plan_run: UUID) -> list[Any]:
    chosen = filters.FlowRunFilter(
        tags=filters.FlowRunFilterTags(all_=[TAG, f"plan-run:{plan_run}"])
    )
    return client.read_flow_runs(flow_run_filter=chosen)


def open_question(client: SyncPrefectClient, plan_run: UUID, word: str) -> Any:
    """The paused flow run that asks for an assumption; waits until it is there."""
    return awaited(
        lambda: next(
            (
                q
                for q in questions(client, plan_run)
                if f"assumption:{word}" in q.tags and q.state and q.state.is_paused()
            ),
            None,
        )
    )


def awaited(found: Callable[[], Any]) -> Any:
    end = time.monotonic() + 240  # more than a loaded machine needs
    while time.monotonic() < end:
        if value := found():
            return value
        time.sleep(0.1)
    raise AssertionError("it never came to that")


@pytest.mark.prefect
@pytest.mark.usefixtures("prefect_api")
def test_a_person_answers_in_the_form_and_the_held_task_goes_on() -> None:
    plan = plan_of(
        {"id": "first", "call": "one"},
        {"id": "ship", "call": "one", "depends_on": ["first"]},
        name="with-a-form",
        assumptions=[
            {"id": "reviewers", "description": "Enough reviewers are there", "affects": ["ship"],
             "expected_value": 0.8, "sense": "at_least", "effect": {"block": True},
             "milestones": [{"at": "start"}], "impact": "Nobody signs"},
            {"id": "signed", "affects": ["ship"], "milestones": [{"at": "start"}]},
        ],
    )  # fmt: skip
    refused: list[str] = []

    def person(plan_run: UUID) -> None:
        with get_client(sync_client=True) as client:
            said = CheckEvent(
                plan_run=plan_run, assumption_id="reviewers", check_id="asked|elsewhere",
                at=datetime.now(UTC), verdict="violated", data={"value": 0.2, "reason": "0.2"},
            )  # fmt: skip
            recording_of(AthenaSettings(), plan).open_journal().append(said)
            form = open_question(client, plan_run, "reviewers")
            assert plan_tag(plan.name) not in form.tags, "a question is no run of the plan"
            keys = form.state.state_details.run_input_keyset
            text = client.read_flow_run_input(form.id, keys["description"])
            assert "Enough reviewers are there" in text and "ship" in text
            # As the page does: what is not of the form's type is refused, and it stays open.
            for wrong in ({"value": "many"}, {}, {"value": 1, "other": 2}):
                refused.append(client.resume_flow_run(form.id, run_input=wrong).status.value)
            client.resume_flow_run(form.id, run_input={"value": 0.9, "name": "Kim"})
            until(plan, plan_run, lambda s: s.status("ship").good)

    done = beside(plan, person)
    assert done.final.is_completed(), done.final.message
    assert refused == ["REJECT"] * 3
    checks = done.state.checks["reviewers"]
    answer = next(c for c in checks if c.check_id.startswith("answer|"))
    assert (answer.verdict, answer.data["value"]) == ("holds", 0.9)
    assert (answer.data["method"], answer.data["author"]) == ("manual", "Kim")
    ship = done.state.task("ship").attempts
    assert len(ship) == 1 and ship[0].started is not None and ship[0].started >= answer.at
    with get_client(sync_client=True) as client:
        ended = {q.name: q.state.name for q in questions(client, done.plan_run)}
    assert ended == {
        "with-a-form: reviewers?": "Answered", "with-a-form: signed?": "Settled"
    }, "what nobody answered is not asked when the run is over"  # fmt: skip


@pytest.mark.prefect
@pytest.mark.usefixtures("prefect_api")
def test_an_answer_expires_and_people_are_reminded(tmp_path: Path) -> None:
    plan = plan_of(
        {"id": "long", "call": "wait_for_file", "with": {"path": str(tmp_path / "go")}},
        name="with-a-reminder",
        assumptions=[{"id": "asked", "validation_frequency": "5s"}],
    )  # fmt: skip

    def person(plan_run: UUID) -> None:
        with get_client(sync_client=True) as client:
            form = open_question(client, plan_run, "asked")
            client.resume_flow_run(form.id, run_input={"value": "yes"})
            until(plan, plan_run, lambda s: ("holds", "unknown") in pairwise(
                str(c.verdict) for c in s.checks.get("asked", ())))  # fmt: skip
            again = open_question(client, plan_run, "asked")
            assert again.id != form.id
            (tmp_path / "go").touch()

    done = beside(plan, person)
    assert done.final.is_completed(), done.final.message
    told = _told(done)
    held = told.index(("athena.assumption.checked", "holds"))
    assert ("athena.assumption.reminder", "unknown") in told[held:]


def _told(done: Run) -> list[tuple[str, str]]:
    journal = recording_of(AthenaSettings(), done.plan).open_journal()
    entries = journal.read(done.plan_run)
    found = Deriver(done.plan, done.plan_run, "default").take(entries)
    return [
        (e.event, e.figures["verdict"])
        for _, e in found
        if e.event.startswith("athena.assumption.")
    ]

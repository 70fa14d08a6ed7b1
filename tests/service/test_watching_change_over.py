"""Watching a run that changes over: what it waits for is started, once, whoever looks."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterId
from prefect.states import Crashed, Failed

from athena_prefect.journal.events import RunEvent, RunEventKind
from athena_prefect.replanning.asked import Answered, answered_event, open_question
from athena_prefect.runtime.asking import CARRY_ON, ask
from athena_prefect.runtime.continuing import revised_event
from athena_prefect.settings import AthenaSettings
from athena_prefect.storage.lease import Leases
from tests.service.test_watching import Scene, put, state_of

pytestmark = [pytest.mark.prefect, pytest.mark.usefixtures("prefect_api")]


@pytest.fixture
def scene(settings: AthenaSettings) -> Scene:
    return Scene(settings)


def deployment(flow: str, name: str) -> UUID:
    with get_client(sync_client=True) as client:
        return client.create_deployment(client.create_flow_from_name(flow), name, tags=["athena"])


def runs_of(deployment_id: UUID, run: UUID) -> list[Any]:
    with get_client(sync_client=True) as client:
        chosen = DeploymentFilter(id=DeploymentFilterId(any_=[deployment_id]))
        found = client.read_flow_runs(deployment_filter=chosen)
    return [r for r in found if r.parameters.get("plan_run") == str(run)]


def store(scene: Scene, run: UUID) -> dict[str, Any]:
    figures = {"modes": {}, "strategy": "full", "continuation": True}
    scene.store.save_run_revision(run, 2, scene.plan, reason="a test", figures=figures)
    return figures


def revise(scene: Scene, run: UUID) -> None:
    """What the replanning flow has stored and brought into force."""
    figures = store(scene, run)
    at = datetime.now(UTC)
    scene.journal.append(revised_event(run, 2, figures, author="", reason="a test", at=at))


def test_a_revision_that_waits_for_its_continuation_gets_it_once(scene: Scene) -> None:
    run = scene.live()
    revise(scene, run)
    there = deployment(scene.plan.name, f"{scene.plan.name}.continuation")
    assert [r.status for r in scene.watch()] == ["continued"]
    assert [r.status for r in scene.watch()] == ["continued"]
    (made,) = runs_of(there, run)
    assert made.parameters == {"plan_run": str(run), "revision": 2}
    with get_client(sync_client=True) as client:
        found = client.read_deployment(there)
    assert found.parameters == made.parameters
    assert found.version is not None and found.version.endswith("-r2")
    assert "revision:2" in found.tags
    # One that died before it took the run up is started again.
    put(made.id, Crashed())
    assert [r.status for r in scene.watch()] == ["resumed"]
    assert state_of(made.id) == "AwaitingRetry"
    assert len(runs_of(there, run)) == 1


def test_a_flow_run_that_died_is_superseded_by_its_continuation(scene: Scene) -> None:
    """The list of runs shows no crash for a plan that goes on."""
    run = scene.live()
    put(run, Crashed(message="killed"))
    revise(scene, run)
    there = deployment(scene.plan.name, f"{scene.plan.name}.continuation")
    assert [r.status for r in scene.watch()] == ["continued"]
    (made,) = runs_of(there, run)
    with get_client(sync_client=True) as client:
        state = client.read_flow_run(run).state
    assert state is not None and state.is_completed() and state.name == "Superseded"
    assert "by revision 2, which goes on" in str(state.message) and str(made.id) in str(
        state.message
    )


def test_a_continuation_that_cannot_go_on_is_told(scene: Scene) -> None:
    run = scene.live()
    revise(scene, run)
    (found,) = scene.watch()
    assert found.status == "interrupted" and "--resume" in found.remedy
    assert any("no deployment" in reason for reason in found.breaches)
    there = deployment(scene.plan.name, f"{scene.plan.name}.continuation")
    assert [r.status for r in scene.watch()] == ["continued"]
    (made,) = runs_of(there, run)
    put(made.id, Failed(message="it cannot be loaded"))
    (found,) = scene.watch()
    assert found.status == "interrupted" and str(made.id) in found.remedy


def test_what_was_stored_by_a_process_that_died_is_brought_into_force(scene: Scene) -> None:
    run = scene.live()
    store(scene, run)
    there = deployment(scene.plan.name, f"{scene.plan.name}.continuation")
    later = datetime.now(UTC) + timedelta(minutes=1)
    assert [r.status for r in scene.watch(clock=lambda: later)] == ["continued"]
    (revised,) = scene.events(run, RunEventKind.REVISED)
    assert revised.data["revision"] == 2 and revised.data["continuation"] is True
    assert len(runs_of(there, run)) == 1


def test_a_run_that_waits_for_the_replanning_flow_gets_it(scene: Scene) -> None:
    run = scene.live()
    there = deployment("replan", "replan")
    asked = datetime.now(UTC)
    scene.journal.append(
        RunEvent(plan_run=run, kind=RunEventKind.PROPOSED, at=asked, source="p",
                 data={"handed_over": True, "reason": "a test"})
    )  # fmt: skip
    leases = Leases(scene.database)
    lease = leases.acquire(run, "a test", ttl=timedelta(minutes=10))
    try:
        assert [r.status for r in scene.watch()] == ["running"], "the automation may still do it"
        later = asked + timedelta(minutes=2)
        for _ in range(2):
            assert [r.status for r in scene.watch(clock=lambda: later)] == ["replanning"]
        (made,) = runs_of(there, run)
        assert made.parameters["trigger"] == "watch-plan"
        scene.journal.append(
            RunEvent(plan_run=run, kind=RunEventKind.NOT_REPLANNED, at=later, source="n",
                     data={"position": scene.journal.last_position(run), "reason": "a test"})
        )  # fmt: skip
        much = later + timedelta(minutes=5)
        assert [r.status for r in scene.watch(clock=lambda: much)] == ["running"]
    finally:
        leases.release(lease)
    assert len(runs_of(there, run)) == 1


def asked_about(scene: Scene, run: UUID, until: datetime) -> tuple[UUID, str]:
    """People are asked, in a flow run that waits; its id and its first choice."""
    options = [
        {"option_id": 0, "title": "Extend the timeline", "kind": "extend", "changes": [],
         "timeline_impact": 0.0, "samples": 1, "success_probability": 1.0, "cost_impact": 0.0}
    ]  # fmt: skip
    with get_client(sync_client=True) as client:
        form = ask(
            client, plan=scene.plan.name, plan_run=run, text="which?", options=list(options),
            recommended=0, within=timedelta(hours=1),
        )  # fmt: skip
    data = {
        "strategy": "segment", "revision": 1, "options": options, "recommended": 0,
        "flow_run": str(form.flow_run), "until": until.isoformat(), "reason": "a test",
    }  # fmt: skip
    scene.journal.append(
        RunEvent(
            plan_run=run,
            kind=RunEventKind.ASKED,
            at=datetime.now(UTC),
            source=str(form.flow_run),
            data=data,
        )
    )
    return form.flow_run, next(iter(form.choices))


@pytest.mark.parametrize("unanswered", ["carry_on", "recommended"])
def test_nobody_has_answered_in_time_and_the_process_is_dead(
    settings: AthenaSettings, unanswered: str
) -> None:
    scene = Scene(settings, replanning={"decide": "ask", "unanswered": unanswered})
    run = scene.live()  # nobody holds its lease
    now = datetime.now(UTC)
    form, first = asked_about(scene, run, now + timedelta(minutes=5))
    scene.watch()
    assert not scene.events(run, RunEventKind.ANSWERED), "there is time left"
    later = now + timedelta(minutes=6)
    for _ in range(2):
        scene.watch(clock=lambda: later)
    (answered,) = scene.events(run, RunEventKind.ANSWERED)
    assert answered.data["unanswered"] is True
    assert (answered.data["wish"] is None) == (unanswered == "carry_on")
    with get_client(sync_client=True) as client:
        flow_run = client.read_flow_run(form)
        assert flow_run.state is not None and not flow_run.state.is_paused()
        inputs = client.filter_flow_run_input(form, key_prefix="", limit=10, exclude_keys=set())
    said = [i.decoded_value for i in inputs if i.key.endswith("response")]
    assert [s["choice"] for s in said] == [first if unanswered == "recommended" else CARRY_ON]


def test_an_answer_whose_flow_died_gets_another_flow_and_a_settled_form_is_closed(
    scene: Scene,
) -> None:
    run = scene.live()
    there = deployment("replan", "replan")
    now = datetime.now(UTC)
    form, _ = asked_about(scene, run, now + timedelta(hours=1))
    question = open_question(scene.journal.read(run))
    assert question is not None
    answer = Answered(wish=None, author="kim")
    scene.journal.append(answered_event(run, question, answer, at=now))
    put(form, Crashed())
    for _ in range(2):
        scene.watch(clock=lambda: now)
    (made,) = runs_of(there, run)
    assert made.parameters["trigger"] == "answer"
    other, _ = asked_about(scene, run, now + timedelta(hours=1))
    scene.journal.append(
        RunEvent(plan_run=run, kind=RunEventKind.NOT_REPLANNED, at=now, source="n", data={})
    )
    scene.watch()
    assert state_of(other) == "Settled"

"""A deployed run leaves what it found to the replanning flow, and sees to it where none comes."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from uuid import UUID

import pytest
from prefect.client.orchestration import get_client

from athena_prefect.journal.events import RunEvent, RunEventKind
from athena_prefect.runtime import replan_handing_over
from athena_prefect.runtime.handing_over import HandingOver
from athena_prefect.runtime.session import recording_of
from athena_prefect.settings import AthenaSettings
from tests.runtime.test_control import beside, until
from tests.runtime.test_replan_asking import form_of
from tests.runtime.test_replanner import of_kind, with_a_way_on

pytestmark = [pytest.mark.prefect, pytest.mark.usefixtures("prefect_api")]


def left_to_a_flow(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the run were deployed, and no worker took the replanning flow up within a second."""
    monkeypatch.setattr(HandingOver, "possible", lambda _: True)
    monkeypatch.setattr(replan_handing_over, "HANDED_OVER_SECONDS", 1.0)


def test_where_no_flow_asks_in_time_the_run_asks_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    left_to_a_flow(monkeypatch)
    plan = with_a_way_on("asks-itself", decide="ask")

    def act(plan_run: UUID) -> None:
        form = form_of(plan_run)
        (handed, asked) = of_kind(plan, plan_run, RunEventKind.PROPOSED)
        assert handed.data["handed_over"] is True and "handed_over" not in asked.data
        with get_client(sync_client=True) as client:
            keys = form.state.state_details.run_input_keyset
            schema = json.loads(client.read_flow_run_input(form.id, keys["schema"]))
            first = schema["properties"]["choice"]["enum"][0]
            client.resume_flow_run(form.id, run_input={"choice": first, "name": "Ada"})

    done = beside(plan, act)
    assert done.final.is_completed(), done.final
    assert done.state.revision == 2 and done.state.acceptance["author"] == "Ada (claimed)"


@pytest.mark.parametrize("unanswered", ["carry_on", "recommended"])
def test_where_no_flow_takes_the_default_the_run_does(
    monkeypatch: pytest.MonkeyPatch, unanswered: str
) -> None:
    left_to_a_flow(monkeypatch)
    monkeypatch.setattr(replan_handing_over, "HANDED_OVER_SECONDS", 3.0)
    plan = with_a_way_on(f"deserted-{unanswered.replace('_', '-')}", decide="ask",
                         unanswered=unanswered)  # fmt: skip

    def act(plan_run: UUID) -> None:
        until(plan, plan_run, lambda _: bool(of_kind(plan, plan_run, RunEventKind.PROPOSED)))
        proposed = of_kind(plan, plan_run, RunEventKind.PROPOSED)[0].data
        asked = {
            **{k: proposed[k] for k in ("options", "recommended", "strategy", "reason")},
            "revision": 1, "flow_run": str(UUID(int=1)), "until": datetime.now(UTC).isoformat(),
        }  # fmt: skip
        recording_of(AthenaSettings(), plan).open_journal().append(
            RunEvent(plan_run=plan_run, kind=RunEventKind.ASKED, at=datetime.now(UTC),
                     source="question-1-1", data=asked)
        )  # fmt: skip

    done = beside(plan, act)
    (answered,) = of_kind(plan, done.plan_run, RunEventKind.ANSWERED)
    assert answered.data["unanswered"] is True
    if unanswered == "recommended":
        assert done.final.is_completed(), done.final
        assert done.state.revision == 2 and done.state.acceptance["author"] == "unanswered"
    else:
        assert done.final.is_failed() and done.state.revision == 1
        (declined,) = of_kind(plan, done.plan_run, RunEventKind.NOT_REPLANNED)
        assert declined.data["reason"] == "nobody answered in time"

"""Events to Prefect: the same fact is the same event, and nobody needs to listen."""

from __future__ import annotations

import logging
import time
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest

from athena_prefect.errors import NaiveDatetimeError
from athena_prefect.runtime.events import PlanEvent, Sender, emit

AT = datetime(2026, 11, 24, 4, 0, tzinfo=UTC)


def event(**more: Any) -> PlanEvent:
    fields: dict[str, Any] = {
        "event": "athena.plan.at-risk",
        "plan": "nightly",
        "key": "deadline:1",
        "at": AT,
        "plan_run": UUID(int=1),
    }
    return PlanEvent(**{**fields, **more})


def test_the_id_is_that_of_the_fact() -> None:
    same = event(at=AT.replace(hour=5), figures={"p": 0.1}, revision=2)
    assert same.id == event().id
    others = [
        event(key="deadline:2"),
        event(event="athena.plan.deviated"),
        event(plan_run=UUID(int=2)),
        event(plan_run=None),
        event(plan_run=None, namespace="dev"),
    ]
    assert len({e.id for e in [event(), *others]}) == 6


def test_it_shows_on_the_page_of_its_run() -> None:
    flow_run = uuid4()
    told = event(flow_run_id=flow_run, revision=1, figures={"p_deadline": None}).as_prefect()
    assert told["resource"]["prefect.resource.id"] == "athena.plan.nightly"
    assert told["related"][0]["prefect.resource.id"] == f"prefect.flow-run.{flow_run}"
    assert told["payload"] == {
        "plan": "nightly",
        "namespace": "default",
        "plan_run": str(UUID(int=1)),
        "revision": 1,
        "p_deadline": None,
    }


def test_a_naive_moment_is_refused() -> None:
    with pytest.raises(NaiveDatetimeError):
        event(at=datetime(2026, 1, 1))


class Deaf(Sender):
    """A sender whose server is away until it is told otherwise."""

    away = True

    def _post(self, events: list[dict[str, Any]], client: Any) -> None:
        if self.away:
            raise ConnectionError("no route")


def test_a_dead_server_is_said_once_and_fails_nobody(caplog: pytest.LogCaptureFixture) -> None:
    sender = Deaf()
    with caplog.at_level(logging.INFO):
        assert not sender.send([event()])
        assert not emit("athena.plan.started", "nightly", key="k", at=AT, sender=sender)
        sender.away = False
        assert sender.send([event()])
        assert sender.send([])
    assert [r.levelname for r in caplog.records] == ["WARNING", "INFO"]


@pytest.mark.prefect
def test_told_twice_it_arrives_once(prefect_api: str) -> None:
    from prefect.client.orchestration import get_client

    run = uuid4()
    for _ in range(2):
        assert emit(
            "athena.assumption.violated", "events-test", key="disk:1", at=datetime.now(UTC),
            plan_run=run, figures={"observed": 3},
        )  # fmt: skip
    assert emit("athena.assumption.recovered", "events-test", key="disk:2", at=datetime.now(UTC))
    with get_client(sync_client=True) as client:
        found: list[dict[str, Any]] = []
        for _ in range(2400):  # more than a loaded machine needs
            answer = client.request(
                "POST",
                "/events/filter",
                json={"filter": {"resource": {"id": ["athena.plan.events-test"]}}},
            )
            found = answer.json()["events"]
            if len(found) >= 2:  # in order: by then the first has arrived, once or twice
                break
            time.sleep(0.1)
    assert sorted(e["event"] for e in found) == [
        "athena.assumption.recovered",
        "athena.assumption.violated",
    ]

"""The command line of deploying: what it passes on, what it shows, what it refuses."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest

from athena_prefect import service
from athena_prefect.runtime.deployment.changes import Action, Change, Difference
from athena_prefect.service.deploying import Deployed
from tests.cli.conftest import Athena

CHANGES = (
    Change(action=Action.CREATE, kind="block", name="athena"),
    Change(
        action=Action.UPDATE,
        kind="deployment",
        name="orders/orders",
        differences=(Difference(field="limit", is_now=None, should_be=1),),
    ),
)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What the service was asked; it answers with two changes, then with none."""
    seen: list[dict[str, Any]] = []

    def answer(what: str) -> Any:
        def use_case(first: Any, *more: Any, **named: Any) -> Deployed:
            seen.append({"what": what, "first": first, "options": more, **named})
            return Deployed(
                plans=("orders",), namespace="default", pool="default",
                dry_run=named["dry_run"], changes=CHANGES if len(seen) == 1 else (),
                notes=("a note",),
            )  # fmt: skip

        return use_case

    for what in ("deploy", "undeploy"):
        monkeypatch.setattr(service, what, answer(what), raising=False)
    return seen


def test_deploying_shows_what_changed(athena: Athena, asked: list[dict[str, Any]]) -> None:
    told = athena("deploy", "plan.yaml", "--pool", "default", "--dry-run")
    assert told.code == 0
    assert "create  block" in told.out
    assert "limit: null → 1" in told.out
    assert "2 changes would be made" in told.out
    assert asked[0]["dry_run"] is True
    assert "nothing to change" in athena("deploy", "plan.yaml", "--pool", "default").out


def test_its_options_reach_the_service(athena: Athena, asked: list[dict[str, Any]]) -> None:
    athena(
        "deploy", "plan.yaml", "--pool", "docks", "--image", "audit:3", "--queue", "q",
        "--job-variable", "networks=[\"a\"]", "--job-variable", "name=x",
        "--watch-every", "5m", "--directory", "/app",
    )  # fmt: skip
    (options,) = asked[0]["options"]
    assert options.job_variables == {"networks": ["a"], "name": "x"}
    assert (options.pool, options.image, options.queue) == ("docks", "audit:3", "q")
    assert options.watch_every == timedelta(minutes=5)
    assert options.directory == "/app"


def test_json_has_every_difference(athena: Athena, asked: list[dict[str, Any]]) -> None:
    told = json.loads(athena("undeploy", "orders", "--json").out)
    assert asked[0]["what"] == "undeploy"
    assert told["changes"][1] == {
        "action": "update",
        "kind": "deployment",
        "name": "orders/orders",
        "differences": [{"field": "limit", "is_now": None, "should_be": 1}],
    }
    assert told["notes"] == ["a note"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["deploy", "plan.yaml", "--pool", "p", "--job-variable", "x"], "NAME=VALUE"),
        (["deploy", "plan.yaml", "--pool", "p", "--watch-every", "0s"], "zero"),
        (["deploy", "plan.yaml", "--pool", "p", "--watch-every", "soon"], "write e.g. 60s"),
        (["undeploy"], "name the plans"),
        (["undeploy", "--all", "orders"], "name the plans"),
    ],
)
def test_what_makes_no_sense_is_refused(
    athena: Athena, asked: list[dict[str, Any]], words: list[str], message: str
) -> None:
    told = athena(*words)
    assert told.code == 2
    assert message in told.err
    assert asked == []


def test_without_a_server_it_says_how_to_have_one(
    athena: Athena, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("athena_prefect.runtime.connection.configured_api_url", lambda: None)
    for words in (["deploy", "plan.yaml", "--pool", "p"], ["undeploy", "orders"]):
        told = athena(*words)
        assert told.code == 2
        assert "prefect server start" in told.err

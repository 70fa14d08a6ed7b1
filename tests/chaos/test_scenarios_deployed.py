"""The specification's second and third scenario, deployed: an hour is three seconds."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from athena_prefect.journal.events import RunEvent, RunEventKind
from athena_prefect.journal.state import ExecutionState, fold_entries
from athena_prefect.plan.model import Plan
from athena_prefect.plan.units import parse_duration
from athena_prefect.runtime.recorder import recording_of
from tests.chaos.deployed import Installation, wait_for
from tests.chaos.support import starts
from tests.scenarios.test_replanning import deviated, shortfall

pytestmark = [
    pytest.mark.prefect,
    pytest.mark.slow,
    pytest.mark.skipif(
        not os.environ.get("ATHENA_SLOW_TESTS"), reason="takes minutes: set ATHENA_SLOW_TESTS=1"
    ),
]

SECOND = 3.0 / 3600
"""Seconds here for a second of the scenario."""
ON_TIME = 0.85
"""What a body takes of its planned time: the rest is for Prefect, on a busy machine."""
CHANGE_OVERS = {"max_replans": 1, "cooldown": 0}


def _seconds(value: Any) -> float:
    if isinstance(value, int | float):
        return float(value)
    return parse_duration(value).total_seconds()


def deployed(
    document: dict[str, Any], folder: Path, *, lasts: Mapping[str, float], fails: str = ""
) -> dict[str, Any]:
    """The scenario's document with bodies that write down what they do, on the time scale.

    `lasts` has hours for those that do not take what was planned.
    """
    for task in document["tasks"]:
        for mode in (task, *task.get("modes", ())):
            planned = _seconds(mode["duration"])
            mode["duration"] = planned * SECOND
            hours = lasts.get(task["id"]) if mode is task else None
            took = planned * SECOND * ON_TIME if hours is None else hours * 3600 * SECOND
            mode["with"] = {"folder": str(folder), "name": task["id"], "seconds": took}
            mode["call"] = "deeds:note"
        if task["id"] == fails:
            task["call"] = "deeds:note_and_fail"
    if "deadline" in document:
        document["deadline"] = _seconds(document["deadline"]) * SECOND
    document["replanning"] = CHANGE_OVERS
    return document


class Scenario:
    """A scenario's plan, deployed and run to its end."""

    def __init__(self, installation: Installation, name: str, document: dict[str, Any]) -> None:
        plan = Plan.load(installation.write(name, document | {"name": name}))
        assert plan.source is not None
        installation.deploy(plan.source)
        with installation.client() as client:
            deployment = client.read_deployment_by_name(f"{name}/{name}")
            self.run = UUID(str(client.create_flow_run_from_deployment(deployment.id).id))
        self.journal = recording_of(installation.settings, plan).open_journal()
        try:
            wait_for(f"the end of {name}", lambda: self.state.end_status, 480)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{installation.words()}") from None

    @property
    def state(self) -> ExecutionState:
        return fold_entries(self.journal.read(self.run))

    def of_kind(self, kind: RunEventKind) -> list[RunEvent]:
        events = [e.event for e in self.journal.read(self.run)]
        return [e for e in events if isinstance(e, RunEvent) and e.kind is kind]


def test_scenario_2_replans_the_segment(installation: Installation, tmp_path: Path) -> None:
    document = deployed(shortfall(), tmp_path, lasts={"t4": 6.5})
    (assumption,) = document["assumptions"]
    assumption["check"] = {"kind": "function", "call": "deeds:given", "with": {"value": 5}}
    # Held back until it is known: on this scale t5 and t6 would have begun before.
    assumption["milestones"] = [{"before": "t5"}, {"before": "t6"}]
    found = Scenario(installation, "scenario-2", document)
    state = found.state
    assert state.end_status == "completed", state.end_reason
    (revised,) = found.of_kind(RunEventKind.REVISED)
    assert revised.data["strategy"] == "segment" and revised.data["continuation"] is True
    soft = {"t7 no longer waits for t5", "t7 no longer waits for t6"}
    assert revised.data["changes"] and set(revised.data["changes"]) <= soft
    assert state.revision == 2
    assert dict(starts(tmp_path)) == dict.fromkeys((f"t{k}" for k in range(1, 9)), 1)
    assert len(found.of_kind(RunEventKind.SUPERSEDED)) == 1


def test_scenario_3_replans_all(installation: Installation, tmp_path: Path) -> None:
    document = deployed(deviated(), tmp_path, lasts={}, fails="t3")
    for assumption in document["assumptions"]:
        assumption["check"] = {"kind": "function", "call": "deeds:given", "with": {"value": False}}
        assumption["expected_value"] = True
    found = Scenario(installation, "scenario-3", document)
    state = found.state
    assert state.end_status == "completed", state.end_reason
    (revised,) = found.of_kind(RunEventKind.REVISED)
    assert revised.data["strategy"] == "full" and revised.data["continuation"] is True
    assert set(revised.data["changes"]) == {
        "t3 is done again in mode rework",
        "t7 in mode container instead of default",
        "t5 no longer waits for t4",
        "t9 no longer waits for t8",
    }
    assert revised.data["again"] == ["t3"]
    assert state.revision == 2
    once = {f"t{k}": 1 for k in range(1, 11)}
    assert dict(starts(tmp_path)) == once | {"t3": 2}
    assert [a.data["mode"] for a in state.task("t3").attempts] == ["default", "rework"]
    assert state.task("t7").attempts[0].data["mode"] == "container"
    (superseded,) = found.of_kind(RunEventKind.SUPERSEDED)
    later = {t for t in once if state.task(t).attempts[-1].started > superseded.at}  # type: ignore[operator]
    assert later == {f"t{k}" for k in range(3, 11)}, "the continuation ran what was left"

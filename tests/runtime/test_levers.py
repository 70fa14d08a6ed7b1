"""The dispatcher does what a revision says: other calls, limits, time-outs, criteria, order."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from uuid import UUID

import pytest

from athena_prefect.journal.events import RunEventKind, TaskOutcome
from athena_prefect.plan.model import Plan
from athena_prefect.service.showing import choose, look
from athena_prefect.settings import AthenaSettings
from athena_prefect.storage.db import database_for
from athena_prefect.storage.plans import PlanStore
from tests.runtime.support import plan_of, run
from tests.runtime.test_control import beside, until
from tests.runtime.test_replanner import of_kind

pytestmark = [pytest.mark.prefect, pytest.mark.usefixtures("prefect_api")]


def stored(plan_run: UUID, number: int) -> Plan:
    return PlanStore(database_for(AthenaSettings().database_url)).revision(plan_run, number)


def test_another_mode_is_another_call_with_other_arguments_and_resources() -> None:
    plan = plan_of(
        {
            "id": "enter",
            "call": "leak",
            "with": {"password": "x"},
            "duration": "50ms",
            "resources": {"cpu": 1},
            "modes": [
                {"name": "other", "call": "deeds:log_in", "with": {"password": "four"},
                 "duration": "60ms", "resources": {"cpu": 2}},
            ],
        },
        name="mode-is-real",
        resources={"cpu": {"capacity": 2}},
    )  # fmt: skip
    done = run(plan)
    assert done.final.is_completed(), done.final
    first, second = done.state.task("enter").attempts
    assert (first.data["mode"], first.data["allocated"]) == ("default", {"cpu": 1.0})
    assert (second.data["mode"], second.data["allocated"]) == ("other", {"cpu": 2.0})
    assert done.value("enter") == "logged in with 4 characters"


def test_an_extended_time_out_holds(tmp_path: Path) -> None:
    plan = plan_of(
        {"id": "long", "call": "note", "duration": "100ms", "timeout": "3s", "rerunnable": True,
         "with": {"folder": str(tmp_path), "name": "long", "seconds": 4.5}},
        {"id": "last", "call": "one", "duration": "50ms", "depends_on": ["long"]},
        name="more-time",
        # It is the time-out that is answered, not that the run is late long before.
        replanning={"policy": {"tolerated_slip": 99, "segment_slip": 99}},
    )  # fmt: skip
    done = run(plan)
    assert done.final.is_completed(), done.final
    first, second = done.state.task("long").attempts
    assert first.timed_out and not second.timed_out
    assert second.outcome is TaskOutcome.SUCCESS and second.data["revision"] == 2
    assert stored(done.plan_run, 2).get_task("long").timeout == timedelta(seconds=6)
    (revised,) = of_kind(plan, done.plan_run, RunEventKind.REVISED)
    assert "long may take 6s instead of 3s" in revised.data["changes"]


def test_criteria_order_and_capacity_follow_the_revisions(tmp_path: Path) -> None:
    """`hold` ends only when `beside` has begun, which waits for it, and for its cpu."""
    plan = plan_of(
        {"id": "hold", "call": "wait_for_file", "with": {"path": str(tmp_path / "log")},
         "duration": "20s", "resources": {"cpu": 1}},
        {"id": "beside", "call": "note", "with": {"folder": str(tmp_path), "name": "beside"},
         "duration": "20s", "resources": {"cpu": 1},
         "depends_on": [{"task": "hold", "kind": "soft"}]},
        {"id": "count", "call": "facts", "duration": "1s", "depends_on": ["hold", "beside"],
         "success_criteria": {"rows": {"min": 100}, "relaxed": {"rows": {"min": 50}}}},
        name="loosened",
        deadline="30s",
        resources={"cpu": {"capacity": 1, "max_capacity": 2, "cost_per_hour": 1.0}},
        replanning={"decide": "advise"},
    )  # fmt: skip

    def act(plan_run: UUID) -> None:
        until(plan, plan_run, lambda s: s.baseline is not None)
        name, settings = str(plan_run), AthenaSettings()

        def take(wanted: set[str]) -> None:
            found = look(name, settings=settings, strategy="full")
            option = next((o for o in found.options if set(o.changes) == wanted), None)
            assert option is not None, [o.changes for o in found.options]
            assert choose(name, option.option_id, settings=settings).answered

        take({"count: relaxed success criteria"})
        take({"beside no longer waits for hold", "cpu: 2 instead of 1"})

    done = beside(plan, act)
    assert done.final.is_completed(), done.final
    state = done.state
    assert state.revision == 3
    hold, other = (state.task(t).in_force for t in ("hold", "beside"))
    assert hold is not None and other is not None
    assert hold.started is not None and hold.ended is not None
    assert other.started is not None
    assert hold.started < other.started < hold.ended, "side by side"
    # 70 rows: by revision 1 a partial success.
    assert state.task("count").in_force is not None
    assert [a.outcome for a in state.task("count").attempts] == [TaskOutcome.SUCCESS]
    assert stored(done.plan_run, 3).resources["cpu"].capacity == 2
    assert stored(done.plan_run, 2).get_task("count").success_criteria != (
        plan.get_task("count").success_criteria
    )

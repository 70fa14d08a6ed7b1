"""Tools on a run that Prefect runs: two clients, of both kinds, in other processes than its own."""

from __future__ import annotations

import asyncio
import os
from typing import Any
from uuid import UUID

import pytest

from athena_prefect.journal.events import CommandKind, RunEventKind
from athena_prefect.journal.state import Status
from athena_prefect.plan.model import Plan
from athena_prefect.settings import AthenaSettings
from athena_prefect.storage.db import database_for
from athena_prefect.storage.plans import PlanStore
from tests.mcp.support import ATHENA, Refused, fastmcp_client, http_server, reference_client
from tests.runtime.support import plan_of
from tests.runtime.test_control import beside, command, until
from tests.runtime.test_replanner import of_kind

pytestmark = [pytest.mark.prefect, pytest.mark.usefixtures("prefect_api"), pytest.mark.slow]


def with_two_ways_on() -> Plan:
    """A task fails; it may be done in another mode, with what follows or without the extra."""
    return plan_of(
        {"id": "first", "call": "one", "duration": "50ms"},
        {
            "id": "bad",
            "call": "leak",
            "with": {"password": "x"},
            "duration": "50ms",
            "depends_on": ["first"],
            "modes": [{"name": "other", "call": "deeds:log_in", "duration": "60ms"}],
        },
        {
            "id": "extra",
            "call": "one",
            "duration": "5s",
            "depends_on": ["bad"],
            "optional": True,
            "value": 0.2,
        },
        {"id": "last", "call": "one", "duration": "50ms", "depends_on": ["bad"]},
        name="agents-watch",
        replanning={"decide": "ask", "answer_within": "10m"},
        assumptions=[{"id": "open", "expected_value": True, "validation_method": "manual"}],
    )


def test_the_lifecycle_of_a_live_run() -> None:
    plan = with_two_ways_on()
    settings = AthenaSettings()
    outcomes: list[dict[str, Any] | Refused] = []

    async def agents(plan_run: UUID, url: str) -> None:
        from mcp import StdioServerParameters, stdio_client

        kept = {k: v for k, v in os.environ.items() if not k.startswith("ATHENA_MCP")}
        parameters = StdioServerParameters(
            command=ATHENA[0], args=list(ATHENA[1:]), env=kept | {"ATHENA_HOME": str(settings.home)}
        )
        async with (
            fastmcp_client(url) as one,
            reference_client(stdio_client(parameters)) as other,
        ):
            store = PlanStore(database_for(settings.database_url))
            registered = next(d for d in store.decisions(plan.name) if d.plan_run is None)
            begun = await one("start_execution_monitoring", plan_id=registered.id)
            assert begun["plan_run"] == str(plan_run), "the plan's live run is the answer"
            assert (begun["new"], begun["recorded_by"]) == (False, "prefect")
            live = begun["plan_id"]
            with pytest.raises(Refused, match="run by Prefect"):
                await other("record_task_event", plan_id=live, task_id="last", event_type="start")
            deviation = await other("get_plan_deviation", plan_id=registered.id)
            assert deviation["plan_id"] == live and "bad" in deviation["tasks_at_risk"]
            said = await other(
                "validate_assumption", plan_id=live, assumption_id="open",
                validation_data={"answer": True}, validation_method="manual", author="Ada",
            )  # fmt: skip
            assert said["valid"] is True and said["recorded"]
            need = await one("check_replanning_need", plan_id=live)
            assert need["strategy"] == "full" and "bad" in need["affected_tasks"]
            found = await one("generate_replanning_options", plan_id=live)
            ways = [o for o in found["options"] if o["kind"] != "abort"]
            assert len(ways) == 2, [o["title"] for o in found["options"]]

            async def choose(call: Any, way: dict[str, Any], who: str) -> None:
                try:
                    done = await call(
                        "execute_replan", plan_id=live, strategy="full", revision=1,
                        option_id=way["option_id"], title=way["title"],
                        idempotency_key=f"{plan_run}-{who}", author=who,
                    )  # fmt: skip
                    outcomes.append(done)
                except Refused as refused:
                    outcomes.append(refused)

            await asyncio.gather(choose(one, ways[0], "one"), choose(other, ways[1], "other"))
            won = [o for o in outcomes if not isinstance(o, Refused)]
            assert len(won) == 1, outcomes
            who, way = won[0]["author"], ways[0] if won[0]["author"] == "one" else ways[1]
            assert won[0]["executed"] and won[0]["revision"] == 2 and won[0]["changes"]
            again = await one(
                "execute_replan", plan_id=live, strategy="full", revision=1,
                option_id=way["option_id"], title=way["title"],
                idempotency_key=f"{plan_run}-{who}", author=who,
            )  # fmt: skip
            assert again["repeated"] and again["option"] == won[0]["option"]

    def act(plan_run: UUID) -> None:
        try:
            until(plan, plan_run, lambda s: s.status("bad") is Status.FAILURE)
            until(plan, plan_run, lambda _: bool(of_kind(plan, plan_run, RunEventKind.PROPOSED)))
            with http_server(settings) as url:
                asyncio.run(agents(plan_run, url))
        except BaseException:
            command(plan, plan_run, CommandKind.CANCEL)  # nobody else ends it
            raise

    done = beside(plan, act)
    assert done.final.is_completed(), done.final
    assert done.state.revision == 2 and done.state.status("last") is Status.SUCCESS
    (lost,) = [o for o in outcomes if isinstance(o, Refused)]
    assert lost.data["code"] in ("stale_revision", "run", "input")
    assert "revision 2" in lost.data["message"] or "no option" in lost.data["message"]
    (chosen,) = of_kind(plan, done.plan_run, RunEventKind.CHOSEN)
    assert chosen.data["author"] in ("one", "other")

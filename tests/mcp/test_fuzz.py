"""Every tool under calls made from its own schema: no crash, no trace, no change by a refusal.

`pytest tests/mcp/test_fuzz.py --mcp-calls 5000` makes that many calls; a short form runs
always.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from sqlalchemy import text

from athena_prefect.mcp.server import KINDS, make_server
from athena_prefect.settings import AthenaSettings
from athena_prefect.storage.db import Database
from athena_prefect.storage.tables import Base
from tests.mcp.schemas import arguments

CODES = {
    "internal", "invalid_arguments", "unknown_name", "unknown_run", "recording", "input",
    "stale_revision", "run", "plan", "infeasible", "naive_datetime",
}  # fmt: skip


class Fuzzed:
    """A server with a live run in it, its client, and what its tables hold."""

    def __init__(self, settings: AthenaSettings, plan_id: int) -> None:
        from fastmcp import Client

        self.database = Database.open(settings)
        self.loop = asyncio.new_event_loop()
        self.client = Client(make_server(settings))
        self.loop.run_until_complete(self.client.__aenter__())
        self.tools = {t.name: t for t in self.loop.run_until_complete(self.client.list_tools())}
        run = self.call("start_execution_monitoring", {"plan_id": plan_id})
        self.run_id = run.structured_content["plan_id"]
        self.calls = 0

    def call(self, name: str, given: dict[str, Any]) -> Any:
        return self.loop.run_until_complete(
            self.client.call_tool(name, given, raise_on_error=False)
        )

    def content(self) -> dict[str, Any]:
        """Every row of every table but the leases, which are taken to write and given back."""
        with self.database.reading() as connection:
            return {
                name: connection.execute(text(f'select * from "{name}"')).all()
                for name in Base.metadata.tables
                if "lease" not in name
            }

    def close(self) -> None:
        self.loop.run_until_complete(self.client.__aexit__(None, None, None))
        self.loop.close()


@pytest.fixture
def fuzzed(settings: AthenaSettings, plan_id: int) -> Iterator[Fuzzed]:
    """A server to throw calls at."""
    made = Fuzzed(settings, plan_id)
    yield made
    made.close()


@pytest.mark.parametrize("name", [k.name for k in KINDS])
def test_no_call_breaks_a_tool(
    name: str, fuzzed: Fuzzed, plan_id: int, request: pytest.FixtureRequest
) -> None:
    calls = request.config.getoption("--mcp-calls")
    known = {
        "plan_id": st.sampled_from([fuzzed.run_id, plan_id]),
        "task_id": st.sampled_from([f"t{n}" for n in range(1, 9)]),
        "assumption_id": st.just("resources_available"),
        "revision": st.integers(1, 3),
        "option_id": st.integers(0, 3),
        # Solving takes a tenth of a second: mostly it is refused before.
        "strategy": st.sampled_from(["full", "abort", "", "FULL"]),
    }

    @hypothesis_settings(
        max_examples=max(calls // len(KINDS), 1), deadline=None, database=None, derandomize=True,
        phases=[Phase.generate], suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(arguments(fuzzed.tools[name].input_schema, known))
    def one(made: dict[str, Any]) -> None:
        fuzzed.calls += 1
        before = fuzzed.content()
        result = fuzzed.call(name, made)
        told = result.content[0].text
        assert "Traceback" not in told and ".py" not in told
        if not result.is_error:
            assert result.structured_content["summary"]
            return
        assert fuzzed.content() == before, "a refused call changes nothing"
        data = json.loads(told)
        assert data["code"] in CODES - {"internal"}, data
        assert data["message"]

    one()
    still = fuzzed.call("get_plan_deviation", {"plan_id": fuzzed.run_id})
    assert not still.is_error

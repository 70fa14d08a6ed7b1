"""A run whose slot of its deployment is lost: Prefect's own ends, a plan's goes on."""

from __future__ import annotations

import logging
import time
from asyncio import CancelledError
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from prefect import Flow, flow, flow_engine
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import (
    ConcurrencyLimitStrategy,
    ConcurrencyOptions,
    FlowRun,
    State,
)
from prefect.flow_engine import run_flow
from prefect.states import Crashed, Pending

from athena_prefect.runtime.afterwards import wait_for_afterwards
from athena_prefect.runtime.compiler import compile_plan
from tests.runtime.support import PROJECT, plan_of, state_of

pytestmark = [pytest.mark.prefect, pytest.mark.usefixtures("prefect_api")]

PATIENCE = 60.0
"""Seconds that a flow would go on for: the engine gives up its slot after some four."""


@flow
def by_itself() -> None:
    """A flow of somebody else's, that would work until it is cancelled."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        time.sleep(0.05)


def without_its_slot(made: Flow[..., Any], name: str) -> FlowRun:
    """A run that is about to start and has lost its slot, as when an old crash is told late."""
    with get_client(sync_client=True) as client:
        deployment = client.create_deployment(
            flow_id=client.create_flow(made),
            name=name,
            concurrency_limit=1,
            concurrency_options=ConcurrencyOptions(
                collision_strategy=ConcurrencyLimitStrategy.ENQUEUE
            ),
        )
        run = client.create_flow_run_from_deployment(deployment)
        states: tuple[State, State] = (Pending(), Crashed())
        for state in states:
            client.set_flow_run_state(run.id, state)
        found = client.read_flow_run(run.id)
        assert found.state is not None
        assert found.state.state_details.deployment_concurrency_lease_id is not None
        return found


def state_now(run: UUID) -> Any:
    with get_client(sync_client=True) as client:
        return client.read_flow_run(run).state


def test_prefect_cancels_a_run_that_has_lost_its_slot() -> None:
    """Why plans' flows are told not to mind: should this pass no more, `slots` is needless."""
    run = without_its_slot(by_itself, "by-itself")
    with pytest.raises(CancelledError):
        run_flow(by_itself, flow_run=run, return_type="state")
    assert state_now(run.id).is_crashed()


class Lost(logging.Handler):
    """Makes a file when Prefect has said that the slot is lost."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.file = file

    def emit(self, record: logging.LogRecord) -> None:
        if "slots are no longer reserved" in record.getMessage():
            self.file.touch()


def test_the_run_of_a_plan_outlives_its_slot(tmp_path: Path) -> None:
    lost = Lost(tmp_path / "lost")
    task = {
        "id": "a", "call": "wait_for_file", "duration": "8s",
        "with": {"path": str(lost.file), "seconds": PATIENCE},
    }  # fmt: skip
    plan = plan_of(task, {"id": "b", "call": "one", "depends_on": ["a"]}, name="outlives")
    made = compile_plan(plan, root=PROJECT)
    run = without_its_slot(made, "outlives")
    logging.getLogger("prefect.flow_runs").addHandler(lost)
    try:
        final: Any = run_flow(made, flow_run=run, return_type="state")
    finally:
        logging.getLogger("prefect.flow_runs").removeHandler(lost)
    assert wait_for_afterwards(240)
    assert final.is_completed(), final
    assert lost.file.exists()
    assert state_now(run.id).is_completed()
    state = state_of(plan, run.id)
    assert state.end_status == "completed"
    assert [len(state.task(t).attempts) for t in ("a", "b")] == [1, 1]


def test_the_engine_is_changed_once() -> None:
    compile_plan(plan_of({"id": "a", "duration": "1s"}, name="once"), root=PROJECT)
    changed = vars(flow_engine)["maintain_concurrency_lease"]
    compile_plan(plan_of({"id": "a", "duration": "1s"}, name="twice"), root=PROJECT)
    assert vars(flow_engine)["maintain_concurrency_lease"] is changed

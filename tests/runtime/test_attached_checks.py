"""Assumptions beside a hand-written flow: checked, told, asked; the flow is left alone."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest
from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.runtime import flow_run

from athena_prefect import attach
from athena_prefect.journal.events import RunEvent, RunEventKind
from athena_prefect.journal.journal import MemoryJournal
from athena_prefect.journal.state import fold_entries
from athena_prefect.plan.model import Plan
from athena_prefect.runtime.recorder import recording_of
from athena_prefect.runtime.telling import Deriver
from athena_prefect.settings import AthenaSettings
from tests.runtime.test_attach import flow_run_of, journal_of

MEMORY = {"check": {"kind": "memory", "unit": "B"}, "expected_value": 1}
PLAN = Plan.model_validate(
    {
        "name": "attached-and-checked",
        "tasks": [{"id": "first"}, {"id": "second", "depends_on": ["first"]}],
        "assumptions": [
            {"id": "start", "milestones": [{"at": "start"}], **MEMORY},
            {"id": "disk", "milestones": [{"before": "second"}], "expected_value": 1,
             "check": {"kind": "disk_free", "path": ".", "unit": "B"}},
            {"id": "port", "milestones": [{"after": "first"}], "affects": ["second"],
             "check": {"kind": "tcp", "port": 1}, "effect": {"block": True}},
            {"id": "timed", "validation_frequency": "1s", **MEMORY},
            {"id": "last", "milestones": [{"after": "second"}], **MEMORY},
            {"id": "person"},
        ],
    }
)  # fmt: skip


@task(cache_policy=NO_CACHE)
def first() -> int:
    return 1


@task(cache_policy=NO_CACHE)
def second() -> int:
    # A busy machine may take longer for the checks than this flow for its work.
    journal, me = recording_of(AthenaSettings(), PLAN).open_journal(), UUID(str(flow_run.id))
    until = time.monotonic() + 120
    while time.monotonic() < until:
        if {"start", "disk", "port", "timed"} <= set(fold_entries(journal.read(me)).checks):
            break
        time.sleep(0.2)
    return 2


@pytest.mark.prefect
@pytest.mark.usefixtures("prefect_api")
def test_a_hand_written_flow_s_assumptions_are_checked_beside_it() -> None:
    @attach(PLAN)
    @flow
    def by_hand() -> int:
        return first() + second()

    final: Any = by_hand(return_state=True)
    assert final.is_completed(), final.message
    state = journal_of(PLAN, final)
    assert state.end_status == "completed", "what does not hold holds nothing back in it"
    found = {name: [c.verdict for c in checks] for name, checks in state.checks.items()}
    for name in ("start", "disk", "last"):
        assert found[name] == ["holds"], (name, state.checks[name])
    assert found["port"] == ["violated"]
    assert set(found["timed"]) == {"holds"}
    with get_client(sync_client=True) as client:
        chosen = FlowRunFilter(id=FlowRunFilterId(any_=[flow_run_of(final)]))
        names = {r.name for r in client.read_task_runs(flow_run_filter=chosen)}
    assert not any(n.startswith("check") for n in names), "its run has its own tasks and no others"
    assert not state.unplanned
    journal = recording_of(AthenaSettings(), PLAN).open_journal()
    entries = journal.read(flow_run_of(final))
    told = [e.event for _, e in Deriver(PLAN, flow_run_of(final), "default").take(entries)]
    assert told.count("athena.assumption.violated") == 1


def test_nothing_is_looked_for_without_assumptions() -> None:
    from types import SimpleNamespace

    from athena_prefect.journal.state import ExecutionState
    from athena_prefect.runtime.attached_checks import Onlooker

    journal = MemoryJournal()
    facts: Any = SimpleNamespace(
        plan=Plan.model_validate({"name": "bare", "tasks": [{"id": "a"}]}),
        plan_run=uuid4(),
        recorder=SimpleNamespace(journal=journal),
    )
    onlooker = Onlooker(facts, ExecutionState())
    assert onlooker.chores() == ()
    now = datetime.now(UTC)
    journal.append(RunEvent(plan_run=facts.plan_run, kind=RunEventKind.STARTED, at=now, source=""))
    onlooker.look()
    assert onlooker.state.started == now

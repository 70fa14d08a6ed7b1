"""A process's hold of a plan run: what it was asked for, the lease, the facts, start and end."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

from athena_prefect.journal.events import RunEvent, RunEventKind
from athena_prefect.journal.state import ExecutionState
from athena_prefect.plan.model import Plan
from athena_prefect.runtime.attempt import plain
from athena_prefect.runtime.checking import Checking
from athena_prefect.runtime.code_version import commit_of, uncommitted
from athena_prefect.runtime.ending import RunEnd
from athena_prefect.runtime.facts import RunFacts
from athena_prefect.runtime.parameters import parameter_value
from athena_prefect.runtime.profiling import tasks_to_profile
from athena_prefect.runtime.recorder import Recorder, recording_of
from athena_prefect.runtime.rows import Rows, jsonable
from athena_prefect.runtime.telling import Telling
from athena_prefect.runtime.watcher import Chore
from athena_prefect.settings import AthenaSettings

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.objects import FlowRun

    from athena_prefect.storage.lease import Lease

KEEP_SECONDS = 5.0
"""How often checks of assumptions are written to their table."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Compiled:
    """A plan and where it came from."""

    plan: Plan
    root: Path


@dataclass(slots=True, kw_only=True)
class Asked:
    """What a flow run's parameters ask for."""

    parameters: Mapping[str, Any]
    plan_run: UUID | None
    logical_date: datetime | None
    revision: int | None = None
    """The one that a continuation goes on by."""


@dataclass(slots=True, kw_only=True)
class RunHold:
    """One process's hold of a plan run, whether it dispatches its tasks or looks on."""

    compiled: Compiled
    asked: Asked
    settings: AthenaSettings
    client: SyncPrefectClient
    flow_run: FlowRun
    clock: Callable[[], datetime] = field(default=lambda: datetime.now(UTC))
    lease: Lease | None = None
    more: Mapping[str, Any] = field(default_factory=dict)
    """What the start of the run says besides."""
    rows: Rows = field(init=False)
    telling: Telling = field(init=False)

    @property
    def plan_run(self) -> UUID:
        """The id of the first flow run, unless the caller gave one."""
        return self.asked.plan_run or self.flow_run.id

    def __post_init__(self) -> None:
        self.rows = Rows(settings=self.settings, plan_run=self.plan_run, clock=self.clock)

    def _facts(self, recorder: Recorder, state: ExecutionState) -> RunFacts:
        plan = None
        if state.started is not None:
            # What is stored and not in force was left by a process that died.
            plan = self.rows.plan(state.revision) or self.rows.plan()
        plan = plan or self.compiled.plan
        now = self.clock()
        logical = plain(self.asked.logical_date or self.flow_run.expected_start_time or now)
        parameters = dict(self.asked.parameters)
        if state.started is not None:
            # The journal holds them as JSON; a date is to be a date again.
            kept = state.run_data.get("parameters", {})
            parameters |= {n: _again(plan, n, v) for n, v in kept.items()}
            logical = datetime.fromisoformat(
                state.run_data.get("logical_date", logical.isoformat())
            )
        facts = RunFacts(
            plan=plan,
            plan_run=self.plan_run,
            revision=state.revision,
            root=self.compiled.root,
            parameters=parameters,
            logical_date=logical,
            started_at=state.started or now,
            flow_run_id=self.flow_run.id,
            session=str(uuid4()),
            token=self.lease.token if self.lease else None,
            recorder=recorder,
            recording=recording_of(self.settings, plan),
            client=self.client,
            modes=dict(state.acceptance.get("modes") or {}),
            profiled=tasks_to_profile(plan, self.settings, now),
        )
        facts.keep_revision = partial(self.rows.keep_revision, facts)
        facts.keep_decision = partial(self.rows.keep_decision, facts)
        facts.recall = self.rows.recalled
        recorder.listen(facts.plan_run, facts.hear)
        return facts

    def _say_started(self, facts: RunFacts, state: ExecutionState) -> None:
        kind = RunEventKind.RESUMED if state.started is not None else RunEventKind.STARTED
        commit = commit_of(facts.root)
        facts.recorder.record(
            RunEvent(
                plan_run=facts.plan_run,
                kind=kind,
                at=facts.started_at if kind is RunEventKind.STARTED else self.clock(),
                source=facts.session if kind is RunEventKind.RESUMED else "",
                data={
                    "revision": facts.revision,
                    "flow_run_id": str(facts.flow_run_id),
                    "parameters": jsonable(facts.parameters),
                    "logical_date": facts.logical_date.isoformat(),
                    "scheduled_for": self._scheduled_for(),
                    "host": socket.gethostname(),
                    "plan": facts.plan.name,
                    "commit": commit,
                    "uncommitted": None if commit is None else uncommitted(facts.root),
                    **self.more,
                },
            ),
            token=facts.token,
        )

    def _scheduled_for(self) -> str | None:
        # Not the logical date: a run for last month's date is not a month late.
        expected = self.flow_run.expected_start_time
        return None if expected is None else plain(expected).isoformat()

    def _say_ended(self, facts: RunFacts, end: RunEnd) -> None:
        facts.recorder.record(
            RunEvent(
                plan_run=facts.plan_run,
                kind=RunEventKind.ENDED,
                at=self.clock(),
                source=facts.session,
                data={"status": end.status, "reason": end.reason},
            ),
            token=facts.token,
        )
        self.rows.end(facts, end)

    def _keeping(self, checking: Checking) -> tuple[Chore, ...]:
        if not checking.facts.plan.assumptions:
            return ()
        do = lambda: checking.keep(self.rows.database)  # noqa: E731 - what a chore is
        return (Chore(name="keeping validations", every=KEEP_SECONDS, do=do),)


def _again(plan: Plan, name: str, value: Any) -> Any:
    known = plan.parameters.get(name)
    return value if known is None or value is None else parameter_value(name, known, value)


def holder_name(flow_run_id: UUID) -> str:
    """Who holds a lease, for people and for telling whether that process still lives."""
    return f"flow run {flow_run_id} in process {os.getpid()} on {socket.gethostname()}"

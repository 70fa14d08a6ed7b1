"""What one look at the live runs finds, and what its steps share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

from athena_prefect.journal.events import Reporter, RunEvent, RunEventKind
from athena_prefect.journal.journal import Entry
from athena_prefect.journal.state import ExecutionState
from athena_prefect.monitor.breaches import AT_RISK, Finding, changes
from athena_prefect.plan.model import Criticality
from athena_prefect.service.following import Clock
from athena_prefect.service.results import _Answer

if TYPE_CHECKING:
    from athena_prefect.runtime.events import Sender
    from athena_prefect.runtime.watching import Api, FlowRunState
    from athena_prefect.settings import AthenaSettings
    from athena_prefect.storage.db import Database
    from athena_prefect.storage.decisions import RunRow
    from athena_prefect.storage.lease import Leases
    from athena_prefect.storage.plans import PlanStore
    from athena_prefect.storage.sql_journal import SqlJournal

MOST_RUNS = 1000
"""Rows of a list of runs or plans that one pass reads at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchedRun(_Answer):
    """What a pass found of one run and did about it."""

    plan_run: UUID
    plan: str
    status: str
    """running, starting, paused, interrupted, resumed, continued, asked, replanning, ended;
    not started, missed, skipped."""
    breaches: tuple[str, ...] = ()
    """What is late or about to be."""
    raised: tuple[str, ...] = ()
    """Of these, what this pass raised."""
    remedy: str = ""
    problem: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchPass(_Answer):
    """One look at everything that is live."""

    as_of: datetime
    api: bool
    """Whether Prefect's API was there; without it runs are only assessed."""
    runs: tuple[WatchedRun, ...] = ()
    problems: tuple[str, ...] = ()


@dataclass(slots=True, kw_only=True)
class Watch:
    """What all steps of one pass look with, and what they could not do."""

    settings: AthenaSettings
    database: Database
    store: PlanStore
    leases: Leases
    journal: SqlJournal
    api: Api | None
    clock: Clock
    sender: Sender
    grace: timedelta
    problems: list[str] = field(default_factory=list)

    def tell(self, make: Any, row: RunRow, plan: Any, *, assess: bool = False) -> None:
        """Raise what is late where asked to, and tell Prefect of a run whose process is gone."""
        telling = make(
            plan=plan,
            plan_run=row.plan_run,
            journal=self.journal,
            namespace=self.settings.namespace,
            clock=self.clock,
            client=None if self.api is None else self.api.client,
            sender=self.sender,
        )
        if assess:
            telling.assess()
        # While its own process lives, that tells of it.
        if self.api is not None and self.leases.current(row.plan_run) is None:
            if telling.tell(500):
                telling.mark()
            self.show(row, self.api)

    def show(self, row: RunRow, api: Api) -> None:
        """The dashboards of a run whose process is gone, as it stands or as it ended."""
        from athena_prefect.runtime.dashboard import publish
        from athena_prefect.service.reading import open_run

        status = open_run(str(row.plan_run), settings=self.settings, clock=self.clock).status()
        publish(status, client=api.client, namespace=self.settings.namespace)

    def raise_at_risk(self, plan_run: UUID, state: ExecutionState, reason: str) -> None:
        """Raise that a run's process is gone, where that was not raised yet."""
        finding = Finding(name="process", event=AT_RISK, level=Criticality.CRITICAL, reason=reason)
        self.journal.append(*changes([finding], state, plan_run, self.clock()))

    def ended(self, row: RunRow, status: str, reason: str) -> None:
        """Write that a run ended, which its own process did not."""
        now = self.clock()
        self.journal.append(
            RunEvent(
                plan_run=row.plan_run,
                kind=RunEventKind.ENDED,
                at=now,
                source="api",
                reported_by=Reporter.API,
                data={"status": status, "reason": reason},
            )
        )
        self.store.set_run_status(row.plan_run, status, reason=reason, ended=now)


def newest_flow_run_of(entries: Sequence[Entry]) -> UUID:
    """The flow run that last took the plan run up: there is one where a dispatcher ran it."""
    from athena_prefect.runtime.continuing import newest_flow_run

    found = newest_flow_run(entries)
    assert found is not None
    return found


def by_hand(row: RunRow) -> str:
    """The command that goes on with a run of a terminal."""
    return f"athena run {row.source or 'PLAN'} --resume {str(row.plan_run)[:8]}"


def in_the_ui(flow_run: FlowRunState) -> str:
    """What a person does about a deployed run."""
    return f"retry flow run {flow_run.flow_run_id} in Prefect's UI"

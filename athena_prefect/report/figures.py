"""The figures of a run that dashboards show, read from its journal; nothing is written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol
from uuid import UUID

from athena_prefect.journal.events import Event
from athena_prefect.journal.journal import Entry, Journal, Recorded
from athena_prefect.journal.state import ExecutionState, fold_entries
from athena_prefect.monitor.context import ExecutionContext, Remembering
from athena_prefect.monitor.deviation import PlanDeviation
from athena_prefect.monitor.history import NO_HISTORY, History
from athena_prefect.monitor.monitor import ExecutionMonitor
from athena_prefect.monitor.shared import SharedMonitor
from athena_prefect.monitor.table import TaskRow
from athena_prefect.plan.model import Plan
from athena_prefect.report.view import Interval, RunView, Span, build


class Figures(Protocol):
    """Where a run stands, as of a moment."""

    @property
    def plan(self) -> Plan:
        """The revision in force."""
        ...

    @property
    def plan_run(self) -> UUID:
        """The run."""
        ...

    @property
    def state(self) -> ExecutionState:
        """What its journal adds up to."""
        ...

    @property
    def view(self) -> RunView:
        """The picture of it."""
        ...

    @property
    def deviation(self) -> PlanDeviation | None:
        """How far off it is; None before its baseline is made."""
        ...

    @property
    def as_of(self) -> datetime:
        """When it was looked at."""
        ...

    @property
    def word(self) -> str:
        """Running, paused, or how it ended."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFigures:
    """Where a run stands, for the process that runs it."""

    plan: Plan
    plan_run: UUID
    state: ExecutionState
    view: RunView
    deviation: PlanDeviation | None
    as_of: datetime

    @property
    def word(self) -> str:
        """Not started, running, paused, or how it ended."""
        if self.state.end_status is not None:
            return self.state.end_status
        if self.state.started is None:
            return "not started"
        return "paused" if self.state.paused else "running"


@dataclass(frozen=True, slots=True)
class ReadOnly:
    """A journal that is only looked at: what a monitor would add to it is not written."""

    journal: Journal

    def append(self, *events: Event, token: int | None = None) -> tuple[Recorded, ...]:
        """Nothing is written."""
        return (Recorded.KNOWN,) * len(events)

    def read(self, plan_run: UUID, after: int = 0) -> Sequence[Entry]:
        """The entries behind position `after`."""
        return self.journal.read(plan_run, after)

    def finished_runs(self, plan_run: UUID) -> History:
        """What the journal knows of earlier runs."""
        if isinstance(self.journal, Remembering):
            return self.journal.finished_runs(plan_run)
        return NO_HISTORY


@dataclass(slots=True)
class FigureReader:
    """Reads the figures of one run again and again, each time only what is new.

    The monitor is `shared` with others of this process; until somebody has made one,
    it is the reader's own, from the first read after the run's baseline.
    """

    plan: Plan
    plan_run: UUID
    journal: Journal
    shared: SharedMonitor = field(default_factory=SharedMonitor)
    _own: ExecutionMonitor | None = None

    def read(self, now: datetime) -> RunFigures:
        """Where the run stands at `now`. Raises StorageUnavailableError."""
        with self.shared.using() as shared:
            monitor = shared or self._own
            if monitor is None:
                state = fold_entries(self.journal.read(self.plan_run))
                monitor = self._made(state, now)
                if monitor is None:
                    return self._figures(state, None, (), now)
            monitor.refresh()
            deviation = monitor.get_plan_deviation(now=now)
            return self._figures(monitor.state, deviation, monitor.task_table(now=now), now)

    def _figures(
        self,
        state: ExecutionState,
        deviation: PlanDeviation | None,
        table: Sequence[TaskRow],
        now: datetime,
    ) -> RunFigures:
        return RunFigures(
            plan=self.plan,
            plan_run=self.plan_run,
            state=state,
            view=view_of(self.plan, state, now, deviation, table),
            deviation=deviation,
            as_of=now,
        )

    def _made(self, state: ExecutionState, now: datetime) -> ExecutionMonitor | None:
        # The run's own process makes the baseline; until then there is nothing to compare with.
        if state.started is None or state.baseline is None:
            return None
        context = ExecutionContext(
            plan_run=self.plan_run,
            clock=lambda: now,
            started_at=state.started,
            journal=ReadOnly(self.journal),
        )
        self._own = ExecutionMonitor(self.plan, context)
        return self._own


def view_of(
    plan: Plan,
    state: ExecutionState,
    now: datetime,
    deviation: PlanDeviation | None,
    table: Sequence[TaskRow],
    *,
    planned_only: bool = False,
) -> RunView:
    """The picture of a run in seconds from its start; `planned_only`: of what it would be."""
    start = state.started
    if start is None or deviation is None:
        return build(plan, planned={}, state=state, now=now)

    def since(moment: datetime) -> float:
        return (moment - start).total_seconds()

    planned: Mapping[str, Span] = {
        r.task_id: (since(r.planned_start), since(r.planned_finish))
        for r in table
        if r.planned_start and r.planned_finish
    }
    # The monitor forecasts a task's median; the spread is that of the whole.
    forecasts: Mapping[str, Interval] = {
        r.task_id: (since(r.forecast_finish),) * 3 for r in table if r.forecast_finish
    }
    quantiles = {name: since(moment) for name, moment in deviation.quantiles.items()}
    finish = (
        (quantiles["p10"], quantiles["p50"], quantiles["p90"])
        if quantiles and not deviation.finished
        else None
    )
    base = deviation.baseline_finish
    if planned_only:
        return build(
            plan,
            planned=planned,
            deadline=since(deviation.deadline) if deviation.deadline else None,
            planned_finish=since(base) if base else None,
            critical=[r.task_id for r in table if r.critical],
        )
    return build(
        plan,
        planned=planned,
        state=state,
        now=now,
        deadline=since(deviation.deadline) if deviation.deadline else None,
        planned_finish=since(base) if base else None,
        finish=finish,
        forecasts=forecasts,
        forecast_starts={r.task_id: since(r.forecast_start) for r in table if r.forecast_start},
        critical=[r.task_id for r in table if r.critical],
        at_risk=deviation.tasks_at_risk,
    )

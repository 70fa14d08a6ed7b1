"""The figures of a run that dashboards show, read from its journal; nothing is written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol
from uuid import UUID

from athena_prefect.journal.events import Event
from athena_prefect.journal.journal import Entry, Journal, Recorded
from athena_prefect.journal.state import ExecutionState, fold_entries
from athena_prefect.monitor.context import ExecutionContext
from athena_prefect.monitor.deviation import PlanDeviation
from athena_prefect.monitor.monitor import ExecutionMonitor
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


@dataclass(slots=True)
class FigureReader:
    """Reads the figures of one run again and again, each time only what is new. For one thread."""

    plan: Plan
    plan_run: UUID
    journal: Journal
    _monitor: ExecutionMonitor | None = None

    def read(self, now: datetime) -> RunFigures:
        """Where the run stands at `now`. Raises StorageUnavailableError."""
        state = self._known(now)
        monitor = self._monitor
        if monitor is None:
            view = view_of(self.plan, state, now, None, ())
            return RunFigures(
                plan=self.plan, plan_run=self.plan_run, state=state, view=view,
                deviation=None, as_of=now,
            )  # fmt: skip
        deviation = monitor.get_plan_deviation(now=now)
        view = view_of(self.plan, monitor.state, now, deviation, monitor.task_table(now=now))
        return RunFigures(
            plan=self.plan, plan_run=self.plan_run, state=monitor.state, view=view,
            deviation=deviation, as_of=now,
        )  # fmt: skip

    def _known(self, now: datetime) -> ExecutionState:
        if self._monitor is not None:
            self._monitor.refresh()
            return self._monitor.state
        state = fold_entries(self.journal.read(self.plan_run))
        # The run's own process makes the baseline; until then there is nothing to compare with.
        if state.started is not None and state.baseline is not None:
            context = ExecutionContext(
                plan_run=self.plan_run,
                clock=lambda: now,
                started_at=state.started,
                journal=ReadOnly(self.journal),
            )
            self._monitor = ExecutionMonitor(self.plan, context)
        return state


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

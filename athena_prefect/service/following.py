"""One plan run, followed through its journal; nothing of Prefect is needed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from uuid import UUID

from athena_prefect.journal.events import Event
from athena_prefect.journal.journal import Journal
from athena_prefect.journal.state import ExecutionState, fold_entries
from athena_prefect.monitor.context import ExecutionContext
from athena_prefect.monitor.deviation import PlanDeviation
from athena_prefect.monitor.monitor import ExecutionMonitor
from athena_prefect.monitor.table import TaskRow
from athena_prefect.plan.model import Plan
from athena_prefect.report.figures import ReadOnly, view_of
from athena_prefect.service.results import RunStatus

__all__ = ["Clock", "FollowedRun", "ReadOnly", "utc_now", "view_of"]

Clock = Callable[[], datetime]


def utc_now() -> datetime:
    """The present."""
    return datetime.now(UTC)


@dataclass(slots=True)
class FollowedRun:
    """A plan run as its journal tells it. For one thread."""

    plan: Plan
    plan_run: UUID
    journal: Journal
    clock: Clock = utc_now
    dispatched: Callable[[], bool] | None = None
    """Whether some process runs it now; None where nobody needs to know."""
    revised: Callable[[], Plan] | None = None
    """The plan of the revision in force, for when that is another than `plan`."""
    events: list[Event] = field(default_factory=list)
    """Every event read so far, in the journal's order."""
    _position: int = 0
    _monitor: ExecutionMonitor | None = None
    _revision: int = 0
    """The one that the monitor was made for."""

    def poll(self) -> tuple[Event, ...]:
        """Read on; what is new. Raises StorageUnavailableError."""
        entries = self.journal.read(self.plan_run, self._position)
        if entries:
            self._position = entries[-1].position
        new = tuple(e.event for e in entries if not e.conflict)
        self.events.extend(new)
        return new

    def status(self) -> RunStatus:
        """Where the run stands now. Raises StorageUnavailableError."""
        now = self.clock()
        monitor = self._monitored()
        if monitor is None:
            state = fold_entries(self.journal.read(self.plan_run))
            return self._status(state, now, None, ())
        interrupted = self._interrupted(monitor)
        status = self._status(
            monitor.state,
            now,
            monitor.get_plan_deviation(now=now),
            monitor.task_table(now=now),
        )
        return replace(status, interrupted=interrupted, nothing_left=monitor.finished)

    def monitored(self) -> ExecutionMonitor | None:
        """The run's monitor, which only reads; None where there is no baseline yet."""
        return self._monitored()

    def _interrupted(self, monitor: ExecutionMonitor) -> bool:
        monitor.refresh()
        if self.dispatched is None or monitor.state.end_status is not None:
            return False
        # A run that somebody records by hand has no dispatcher.
        if not monitor.state.run_data.get("flow_run_id") or self.dispatched():
            return False
        # Its end may have come between the two looks.
        monitor.refresh()
        return monitor.state.end_status is None

    def _monitored(self) -> ExecutionMonitor | None:
        monitor = self._monitor
        if monitor is not None and self.revised is not None:
            monitor.refresh()
            if monitor.state.revision != self._revision:
                self.plan, self._monitor = self.revised(), None
        if self._monitor is None:
            state = fold_entries(self.journal.read(self.plan_run))
            # The run's own process makes the baseline first; until then nothing is known.
            if state.started is not None and (state.baseline is not None or state.ended):
                context = ExecutionContext(
                    plan_run=self.plan_run,
                    clock=self.clock,
                    started_at=state.started,
                    journal=ReadOnly(self.journal),
                )
                self._monitor = ExecutionMonitor(self.plan, context)
                self._revision = self._monitor.state.revision
        return self._monitor

    def _status(
        self,
        state: ExecutionState,
        now: datetime,
        deviation: PlanDeviation | None,
        table: Sequence[TaskRow],
    ) -> RunStatus:
        return RunStatus(
            plan=self.plan,
            plan_run=self.plan_run,
            state=state,
            view=view_of(self.plan, state, now, deviation, table),
            deviation=deviation,
            as_of=now,
        )

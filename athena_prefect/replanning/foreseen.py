"""What a monitor of the run forecasts as soon as a revision is in force.

Slip, and the fall of P(deadline), are told by forecasts. What they are held against has to
be a forecast, too, of the same run at the same moment: the planner's simulation draws other
scenarios, and what is promised rests on more than forecasts do (`own_pace`, `from_history`).
It is kept with the revision, so that nobody reckons it a second time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from athena_prefect.journal.events import RunEvent, RunEventKind
from athena_prefect.journal.journal import MemoryJournal
from athena_prefect.monitor.context import ExecutionContext
from athena_prefect.monitor.monitor import ExecutionMonitor
from athena_prefect.plan.model import Plan


@dataclass(frozen=True, slots=True, kw_only=True)
class Foreseen:
    """What is forecast when a revision comes into force; None where there is no forecast."""

    p50: float | None
    """P50 finish, in seconds from the start of the run."""
    p_deadline: float | None

    def as_dict(self) -> dict[str, float | None]:
        """As JSON-able data."""
        return {"p50": self.p50, "p_deadline": self.p_deadline}


def foreseen(
    monitor: ExecutionMonitor, plan: Plan, acceptance: Mapping[str, Any], now: datetime
) -> Foreseen:
    """What is forecast at `now` of the run that `monitor` watches, where it goes on by `plan`.

    `acceptance`: what the event says that brings the revision into force. It is told to a
    copy of the journal, so that a forecast made in earnest is the same to the last bit.
    """
    context, journal = monitor.context, MemoryJournal()
    run = context.plan_run
    journal.append(*(entry.event for entry in context.journal.read(run)))
    nothing = Foreseen(p50=None, p_deadline=None).as_dict()
    journal.append(
        RunEvent(
            plan_run=run,
            kind=RunEventKind.REVISED,
            at=now,
            source="as if",
            data={**acceptance, "forecast": nothing},
        )
    )
    learned = monitor.learned
    after = ExecutionMonitor(
        plan,
        ExecutionContext(
            plan_run=run, clock=lambda: now, started_at=monitor.started, journal=journal
        ),
        history=None if learned is None else learned.history,
        policy=monitor.policy,
    ).finish_alone(now=now)
    return Foreseen(p50=after.seconds(0.5), p_deadline=after.p_deadline)

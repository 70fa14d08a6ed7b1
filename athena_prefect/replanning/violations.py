"""The violations in force, read from what the checks in the journal found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from athena_prefect.journal.state import ExecutionState
from athena_prefect.monitor.monitor import ExecutionMonitor
from athena_prefect.plan.model import Plan
from athena_prefect.replanning.picture import picture
from athena_prefect.schedule.proposal import Phase6Orchestrator

HOLDS, VIOLATED = "holds", "violated"


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundViolation:
    """An assumption whose newest verdict is that it does not hold."""

    assumption_id: str
    replanning_required: bool
    actual_value: Any = None
    since: datetime | None = None

    def __str__(self) -> str:
        seen = "" if self.actual_value is None else f" (observed {self.actual_value!r})"
        return f"{self.assumption_id} is violated{seen}"


def violations_in_journal(plan: Plan, state: ExecutionState) -> tuple[FoundViolation, ...]:
    """The violations in force, in the plan's order; each is taken to require replanning.

    A violation stands until a later check says that the assumption holds; a check
    that could not be made changes nothing.
    """
    found = []
    for assumption in plan.assumptions:
        since = value = None
        violated = False
        for check in sorted(state.checks.get(assumption.id, ()), key=lambda c: c.at):
            if check.verdict == HOLDS:
                violated = False
            elif check.verdict == VIOLATED:
                since = since if violated else check.at
                violated, value = True, check.data.get("value")
        if violated:
            found.append(
                FoundViolation(
                    assumption_id=assumption.id,
                    replanning_required=True,
                    actual_value=value,
                    since=since,
                )
            )
    return tuple(found)


class JournalValidator:
    """Knows the violations that the journal of a monitored run tells of.

    Replanning is required where an effect blocks a task, changes a capacity or a
    mode, or moves the finish by more than is tolerated.
    """

    def __init__(self, monitor: ExecutionMonitor, orchestrator: Phase6Orchestrator) -> None:
        self.monitor = monitor
        self.orchestrator = orchestrator

    def get_violated_assumptions(self) -> Sequence[FoundViolation]:
        """The violations in force."""
        found = violations_in_journal(self.monitor.plan, self.monitor.state)
        return tuple(self._weighed(v) for v in found)

    def _weighed(self, violation: FoundViolation) -> FoundViolation:
        effect = self.monitor.plan.get_assumption(violation.assumption_id).effect
        if effect is None:
            required = False
        elif effect.duration_factor is None:
            required = True
        else:
            required = self._moves(violation)
        return FoundViolation(
            assumption_id=violation.assumption_id,
            replanning_required=required,
            actual_value=violation.actual_value,
            since=violation.since,
        )

    def _moves(self, violation: FoundViolation) -> bool:
        view = picture(self.monitor, [violation])
        before = self.orchestrator.generate(view.calm, budget_s=0.0)
        after = self.orchestrator.generate(view.carried_on(), budget_s=0.0)
        accepted = self.monitor.accepted_p50
        if before.makespan is None or after.makespan is None or not accepted:
            return False
        return (after.makespan - before.makespan) / accepted > view.policy.tolerated_slip

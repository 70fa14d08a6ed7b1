"""Assumptions that could not be seen several times in a row: when people are to be told. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from athena_prefect.journal.events import CheckEvent
from athena_prefect.journal.state import ExecutionState
from athena_prefect.monitor.effects import in_order
from athena_prefect.plan.model import Criticality, Plan

NOBODY = "nobody has answered"
"""The error of a check that a person was to make."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unseen:
    """An assumption of which nothing has been known for a while."""

    assumption_id: str
    since: datetime
    """The first of the checks in a row that could not be made."""
    in_a_row: int
    severity: Criticality
    """The assumption's own criticality: how bad it would be, were it violated."""
    reason: str
    """Why the newest check could not be made."""


def unknown_in_a_row(checks: Sequence[CheckEvent]) -> list[CheckEvent]:
    """The newest checks up to now that could not be made, in their order."""
    found: list[CheckEvent] = []
    for check in reversed(in_order(checks)):
        if check.verdict != "unknown":
            break
        found.append(check)
    return found[::-1]


def unseen(plan: Plan, state: ExecutionState) -> list[Unseen]:
    """Those that the plan's policy says to tell of, the most critical first, then the longest."""
    least, scale = plan.replanning.policy.unknown_in_a_row, tuple(Criticality)
    found = []
    for assumption in plan.assumptions:
        row = unknown_in_a_row(state.checks.get(assumption.id, ()))
        if len(row) >= least:
            found.append(
                Unseen(
                    assumption_id=assumption.id,
                    since=row[0].at,
                    in_a_row=len(row),
                    severity=assumption.criticality,
                    reason=str(row[-1].data.get("reason", "")),
                )
            )
    return sorted(found, key=lambda u: (-scale.index(u.severity), u.since, u.assumption_id))

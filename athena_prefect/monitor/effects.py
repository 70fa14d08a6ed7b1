"""What violated assumptions do to the rest of a run: other modes, longer tasks, less of a resource.

Pure: from the plan and from what the checks in the journal have found. A
violation stands until a later check says that the assumption holds; a check that
could not be made changes nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from athena_prefect.journal.events import CheckEvent
from athena_prefect.journal.state import ExecutionState
from athena_prefect.plan.model import Assumption, Criticality, Plan

HOLDS, VIOLATED = "holds", "violated"
_SCALE = tuple(Criticality)


@dataclass(frozen=True, slots=True, kw_only=True)
class Effects:
    """What is reckoned with beside the plan, task by task and resource by resource."""

    modes: Mapping[str, str] = field(default_factory=dict)
    """The only mode of a task."""
    factors: Mapping[str, float] = field(default_factory=dict)
    """How many times as long a task takes."""
    capacities: Mapping[str, float] = field(default_factory=dict)
    """Units that there are of a resource."""
    blocked: Mapping[str, str] = field(default_factory=dict)
    """Tasks that cannot run, and why."""


NO_EFFECTS = Effects()


def in_order(checks: Iterable[CheckEvent]) -> list[CheckEvent]:
    """Checks by the moment that they were made; those of one moment as the journal has them."""
    return sorted(checks, key=lambda c: c.at)


def violation_of(checks: Iterable[CheckEvent]) -> CheckEvent | None:
    """The check with which the violation in force began; None where there is none."""
    since: CheckEvent | None = None
    for check in in_order(checks):
        if check.verdict == HOLDS:
            since = None
        elif check.verdict == VIOLATED and since is None:
            since = check
    return since


def latest_violating(checks: Iterable[CheckEvent]) -> CheckEvent | None:
    """The newest check that found the violation in force: its value is the one to reckon with."""
    found: CheckEvent | None = None
    for check in in_order(checks):
        if check.verdict == HOLDS:
            found = None
        elif check.verdict == VIOLATED:
            found = check
    return found


def violations_in_force(plan: Plan, state: ExecutionState) -> dict[str, CheckEvent]:
    """Of each violated assumption, in the plan's order, the newest check that found it so."""
    found: dict[str, CheckEvent] = {}
    for assumption in plan.assumptions:
        known = state.checks.get(assumption.id)
        check = latest_violating(known) if known else None
        if check is not None:
            found[assumption.id] = check
    return found


def effects_in_force(plan: Plan, state: ExecutionState, *, without: Iterable[str] = ()) -> Effects:
    """What the violations in force do, but for those of the assumptions `without`.

    Of two modes for a task the more critical assumption's counts, then the
    earlier one's in the plan; factors multiply; of two capacities the lesser
    counts. An `observed` capacity that is no number changes nothing.
    """
    left_out = frozenset(without)
    known = {i: c for i, c in violations_in_force(plan, state).items() if i not in left_out}
    if not known:
        return NO_EFFECTS
    assumptions = [a for a in plan.assumptions if a.id in known and a.effect is not None]
    return combined(assumptions, known)


def combined(assumptions: Iterable[Assumption], checks: Mapping[str, CheckEvent]) -> Effects:
    """The effects of these assumptions together, as the checks observed them."""
    modes: dict[str, tuple[int, str]] = {}
    factors: dict[str, float] = {}
    capacities: dict[str, float] = {}
    blocked: dict[str, str] = {}
    for assumption in assumptions:
        effect, rank = assumption.effect, _SCALE.index(assumption.criticality)
        if effect is None:
            continue
        for task in assumption.affects:
            if effect.mode is not None and (task not in modes or modes[task][0] < rank):
                modes[task] = (rank, effect.mode)
            if effect.duration_factor is not None:
                factors[task] = factors.get(task, 1.0) * effect.duration_factor
            if effect.block:
                blocked.setdefault(task, f"assumption {assumption.id} is violated")
        for name, said in (effect.capacity or {}).items():
            amount = (
                _number(checks[assumption.id].data.get("value")) if said == "observed" else said
            )
            if isinstance(amount, float | int):
                capacities[name] = min(float(amount), capacities.get(name, math.inf))
    return Effects(
        modes={task: mode for task, (_, mode) in modes.items()},
        factors=factors,
        capacities=capacities,
        blocked=blocked,
    )


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return max(float(value), 0.0)

"""Replanning in virtual time: violations as values, and an engine on a driven run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

from athena_prefect.journal.events import RunEvent, RunEventKind
from athena_prefect.orchestrator import PlanOrchestrator
from athena_prefect.replanning.engine import AdaptiveReplanningEngine
from athena_prefect.replanning.results import ReplanResult


@dataclass(frozen=True)
class Violated:
    """A violation as an assumption's check finds it."""

    assumption_id: str
    replanning_required: bool = True
    actual_value: Any = None


class Validator:
    """Knows the violations that a test says."""

    def __init__(self, violations: Sequence[Violated] = ()) -> None:
        self.violations = list(violations)

    def get_violated_assumptions(self) -> Sequence[Violated]:
        return self.violations


def ticking(step: float = 0.002) -> Callable[[], float]:
    """Seconds that move on whenever they are read."""
    ticks = count()
    return lambda: next(ticks) * step


def engine_of(run: Any, *violations: Violated, **options: Any) -> AdaptiveReplanningEngine:
    """The engine of a driven run, with these violations in force."""
    planner = PlanOrchestrator(clock=ticking(), policy=run.monitor.policy, workers=1)
    return AdaptiveReplanningEngine(run.monitor, Validator(violations), planner, **options)


def adopt(run: Any, result: ReplanResult) -> None:
    """The revision is in force from now on."""
    run.journal.append(
        RunEvent(
            plan_run=run.context.plan_run,
            kind=RunEventKind.REVISED,
            at=run.clock.now(),
            source=str(result.revision),
            data=result.acceptance,
        )
    )
    run.monitor.refresh()

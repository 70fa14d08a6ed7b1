"""A run that has adopted a revision goes by the schedule that was promised with it."""

from __future__ import annotations

from datetime import timedelta
from random import Random

import pytest

from athena_prefect.assumptions.validator import AssumptionValidator
from athena_prefect.journal.events import RunEvent, RunEventKind
from athena_prefect.monitor.monitor import ExecutionMonitor
from athena_prefect.orchestrator import PlanOrchestrator
from athena_prefect.plan.revision import ChangeKind
from athena_prefect.replanning.engine import AdaptiveReplanningEngine
from athena_prefect.replanning.evaluation import AdaptiveReplanning
from athena_prefect.replanning.options import Kind
from athena_prefect.replanning.results import ReplanResult
from athena_prefect.replanning.why import Cause, Why, why
from tests.replanning.rich import rich_run
from tests.schedule.rests import ticking

SEEDS = range(60)


def _engine(monitor: ExecutionMonitor) -> AdaptiveReplanningEngine:
    validator = AssumptionValidator(monitor.plan, monitor)
    planner = PlanOrchestrator(clock=ticking(0.01), policy=monitor.policy, workers=1)
    return AdaptiveReplanningEngine(monitor, validator, planner)


def _adopted(monitor: ExecutionMonitor, result: ReplanResult) -> ExecutionMonitor:
    """The run from where the revision came into force."""
    context = monitor.context
    context.journal.append(
        RunEvent(
            plan_run=context.plan_run, kind=RunEventKind.REVISED, at=context.now(),
            source=str(result.revision),
            data={**result.acceptance, "modes": dict(result.modes)},
        )
    )  # fmt: skip
    return ExecutionMonitor(result.new_plan, context, samples=60)


def _revised(seed: int) -> tuple[ExecutionMonitor, ReplanResult] | None:
    """A run that has adopted the first option of its set; None where there is none."""
    monitor = rich_run(Random(seed))
    engine, validator = _engine(monitor), AssumptionValidator(monitor.plan, monitor)
    option = engine.get_replanning_options(
        monitor.get_plan_deviation(),
        validator.get_violated_assumptions(),
        strategy=AdaptiveReplanning.FULL,
    )[0]
    if option.kind is Kind.ABORT:
        return None
    result = engine.adopt(option, AdaptiveReplanning.FULL)
    return _adopted(monitor, result), result


def _why(monitor: ExecutionMonitor) -> Why:
    validator = AssumptionValidator(monitor.plan, monitor)
    return why(monitor, validator.get_violated_assumptions())


REVISED = [(seed, found) for seed in SEEDS if (found := _revised(seed)) is not None]


@pytest.mark.parametrize(("seed", "found"), REVISED, ids=[str(s) for s, _ in REVISED])
def test_just_after_a_revision_nothing_has_slipped(
    seed: int, found: tuple[ExecutionMonitor, ReplanResult]
) -> None:
    monitor, result = found
    proposal = result.proposal
    assert proposal is not None and proposal.robustness is not None
    deviation, told = monitor.get_plan_deviation(), _why(monitor)
    again = [c.subject for c in result.details if c.kind is ChangeKind.AGAIN]
    assert not set(again) & set(monitor.brought_up()[1].tally.stopped), "they are to be done"
    if deviation.slip is not None:
        assert told.slip is not None
        total = sum((s.amount for s in told.shares), timedelta(0))
        assert total.total_seconds() == pytest.approx(told.slip.total_seconds(), abs=0.05)
    if deviation.slip is None:
        return
    assert deviation.slip == pytest.approx(0.0, abs=0.05), "but for the luck of two simulations"
    assert {s.cause for s in told.shares} <= {Cause.UNCERTAINTY}
    # What waits is forecast where the schedule has it, or earlier, by medians.
    progress = monitor.brought_up()[1]
    assert progress.chain.as_promised
    if proposal.robustness.certain:
        for item, (start, _) in proposal.spans.items():
            node = progress.chain.node_of.get(item)
            if node is not None and item not in proposal.standing.spans:
                assert progress.course.start[node] <= start + 1e-3


def test_most_of_the_runs_could_adopt_something() -> None:
    assert len(REVISED) > len(SEEDS) / 4


def test_another_revision_is_held_against_the_one_in_force() -> None:
    monitor, result = next(
        (m, r) for _, (m, r) in REVISED
        if r.proposal is not None and len(r.proposal.starts) > 3 and not r.proposal.standing.again
        and m.get_plan_deviation().slip is not None
    )  # fmt: skip
    assert monitor.accepted_starts == result.acceptance["starts"]
    same = _engine(monitor).full_replan("once more", {})
    assert same.stability is not None and same.proposal is not None
    starts = same.proposal.starts
    moved = [
        abs(starts[t] - s) for t, s in result.acceptance["starts"].items()
        if t in starts and not same.proposal.standing.begun(t)
    ]  # fmt: skip
    assert same.stability.mean_shift == pytest.approx(sum(moved) / len(moved) if moved else 0.0)

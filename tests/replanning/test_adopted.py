"""A run that has adopted a revision goes by the schedule that was promised with it."""

from __future__ import annotations

from datetime import timedelta
from functools import cache
from random import Random

import numpy as np
import pytest

from athena_prefect.assumptions.validator import AssumptionValidator
from athena_prefect.journal.events import RunEvent, RunEventKind
from athena_prefect.monitor.course import Stage
from athena_prefect.monitor.monitor import ExecutionMonitor
from athena_prefect.monitor.progress import Progress
from athena_prefect.orchestrator import PlanOrchestrator
from athena_prefect.plan.graph import Floats
from athena_prefect.plan.revision import ChangeKind
from athena_prefect.replanning.engine import AdaptiveReplanningEngine
from athena_prefect.replanning.evaluation import AdaptiveReplanning
from athena_prefect.replanning.options import Kind
from athena_prefect.replanning.results import ReplanResult
from athena_prefect.replanning.why import Cause, Why, why
from athena_prefect.schedule.passes import forward
from tests.replanning.rich import rich_run
from tests.schedule.rests import ticking

SEEDS = [range(k, k + 20) for k in range(0, 320, 20)]
"""In pieces: one test each."""


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


@cache
def _found(seeds: range) -> tuple[tuple[int, ExecutionMonitor, ReplanResult], ...]:
    return tuple((s, *found) for s in seeds if (found := _revised(s)) is not None)


@pytest.mark.parametrize("seeds", SEEDS, ids=[f"{s.start}-{s.stop - 1}" for s in SEEDS])
def test_just_after_a_revision_nothing_has_slipped(seeds: range) -> None:
    for seed, monitor, result in _found(seeds):
        _nothing_has_slipped(f"seed {seed}", monitor, result)


def _nothing_has_slipped(which: str, monitor: ExecutionMonitor, result: ReplanResult) -> None:
    proposal = result.proposal
    assert proposal is not None and proposal.robustness is not None
    robust, foreseen = proposal.robustness, result.foreseen
    deviation, told = monitor.get_plan_deviation(), _why(monitor)
    again = [c.subject for c in result.details if c.kind is ChangeKind.AGAIN]
    assert not set(again) & set(monitor.brought_up()[1].tally.stopped), f"{which}: to be done"
    assert foreseen is not None
    if deviation.slip is None:
        assert foreseen.p50 is None or foreseen.p50 == 0.0, which
        return
    assert told.slip is not None
    total = sum((s.amount for s in told.shares), timedelta(0))
    assert total.total_seconds() == pytest.approx(told.slip.total_seconds(), abs=0.05), which
    # What was forecast before it was adopted is what is forecast, to the last bit.
    assert deviation.slip == 0.0 and told.slip == timedelta(0), which
    assert deviation.deadline_probability == foreseen.p_deadline, which
    assert {s.cause for s in told.shares} <= {Cause.UNCERTAINTY}, which
    # And what was promised is what is forecast, but for the luck of 60 scenarios.
    promised = robust.p50 if robust.forecast_p50 is None else robust.forecast_p50
    spread = robust.quantiles["p90"] - robust.quantiles["p10"]
    assert foreseen.p50 == pytest.approx(promised, abs=0.5 * spread + 1e-3), which
    # What waits is planned where the schedule has it, or earlier.
    progress = monitor.brought_up()[1]
    assert progress.chain.as_promised, which
    starts = _by_planned_durations(progress)
    for item, (start, _) in proposal.spans.items():
        node = progress.chain.node_of.get(item)
        if node is not None and item not in proposal.standing.spans:
            assert starts[node] <= start + 1e-3, (which, item)


def _by_planned_durations(progress: Progress) -> Floats:
    """Starts by the chained order, where what has not ended takes as long as it is planned to."""
    chain = progress.chain
    waits = progress.course.stage == Stage.WAITING
    stands = (progress.course.stage != Stage.DEAD) & ~waits
    lengths = np.where(waits, chain.problem.durations, 0.0)
    now = np.where(chain.joins, 0.0, progress.course.now)
    floor = np.where(stands, progress.course.finish, np.where(waits, now, -np.inf))
    heads, tails = chain.network.heads, chain.network.pred
    held = waits[heads] & (progress.course.stage[tails] != Stage.DEAD)
    lag = np.where(held, chain.network.pred_lag, -np.inf)
    starts, _ = forward(chain.network, lengths, floor=floor, lag=lag)
    return starts


def test_most_of_the_runs_could_adopt_something() -> None:
    assert sum(len(_found(seeds)) for seeds in SEEDS) > 20 * len(SEEDS) / 2


def test_another_revision_is_held_against_the_one_in_force() -> None:
    monitor, result = next(
        (m, r) for seeds in SEEDS for _, m, r in _found(seeds)
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

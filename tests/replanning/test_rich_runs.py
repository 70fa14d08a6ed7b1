"""The engine on runs of plans that have something of everything: laws that hold for all of them."""

from __future__ import annotations

from datetime import timedelta
from random import Random

import pytest

from athena_prefect.assumptions.validator import AssumptionValidator
from athena_prefect.monitor.monitor import ExecutionMonitor
from athena_prefect.orchestrator import PlanOrchestrator
from athena_prefect.plan.document import as_dict
from athena_prefect.plan.model import Plan
from athena_prefect.replanning.engine import AdaptiveReplanningEngine
from athena_prefect.replanning.evaluation import AdaptiveReplanning
from athena_prefect.replanning.options import Kind, ReplanningOption, dominates
from athena_prefect.replanning.why import why
from athena_prefect.schedule.proposal import claim_of
from athena_prefect.schedule.verification import verify
from tests.replanning.rich import rich_run
from tests.schedule.rests import ticking

STRATEGIES = (
    AdaptiveReplanning.LOCAL,
    AdaptiveReplanning.SEGMENT,
    AdaptiveReplanning.FULL,
)


def _engine(monitor: ExecutionMonitor) -> AdaptiveReplanningEngine:
    validator = AssumptionValidator(monitor.plan, monitor)
    planner = PlanOrchestrator(clock=ticking(0.01), policy=monitor.policy, workers=1)
    return AdaptiveReplanningEngine(monitor, validator, planner)


def _sound(option: ReplanningOption) -> None:
    proposal = option.proposal
    assert proposal is not None
    claim = claim_of(
        proposal.standing, proposal.answer, proposal.levers, proposal.plan, proposal.modes
    )
    assert verify(claim).objections == ()
    assert 0.0 <= option.success_probability <= 1.0 and option.samples >= 1
    assert option.stability is not None and 0.0 <= option.stability.value <= 1.0
    assert Plan.model_validate(as_dict(proposal.plan)).task_ids == proposal.plan.task_ids
    for item, span in proposal.standing.spans.items():
        if item[0] not in proposal.standing.left_out:
            assert proposal.spans[item] == span, "what has begun stays where it is"


@pytest.mark.parametrize("seed", range(12))
def test_whatever_a_plan_has_its_options_can_be_carried_out(seed: int) -> None:
    monitor = rich_run(Random(seed))
    engine = _engine(monitor)
    violations = engine.validator.get_violated_assumptions()
    deviation = monitor.get_plan_deviation()
    found = engine.evaluate_replanning_need(deviation, violations)
    assert found.replanning_needed == (found.strategy is not AdaptiveReplanning.NONE)
    assert (found.recommended_option is None) != found.replanning_needed
    for strategy in STRATEGIES:
        options = engine.get_replanning_options(deviation, violations, strategy=strategy)
        assert [o.option_id for o in options] == list(range(len(options)))
        real = options[:-1]
        assert options[-1].kind is Kind.ABORT and all(o.kind is not Kind.ABORT for o in real)
        for option in real:
            _sound(option)
            assert not any(dominates(other, option) for other in real if other is not option)
        best = engine.recommended_option(strategy)
        assert best is not None
        sure = [o for o in real if o.in_time >= monitor.policy.min_probability]
        if sure:
            assert options[best] in sure
            assert options[best].price == min(o.price for o in sure), "the cheapest in time"
    result = engine.full_replan("because", {})
    assert result.verification_passed or result.why_not


@pytest.mark.parametrize("seed", range(24, 36))
def test_whatever_happens_shares_add_up_to_the_slip(seed: int) -> None:
    monitor = rich_run(Random(seed))
    validator = AssumptionValidator(monitor.plan, monitor)
    found = why(monitor, validator.get_violated_assumptions())
    if found.slip is None:
        assert found.reason and found.shares == ()
        return
    total = sum((s.amount for s in found.shares), timedelta(0))
    assert total.total_seconds() == pytest.approx(found.slip.total_seconds(), abs=0.05)


def test_items_of_a_task_that_was_given_up_are_taken_in() -> None:
    monitor = rich_run(Random(98))
    gone = set(monitor.plan.task_ids) - set(monitor.brought_up()[1].chain.nodes_of)
    told = [t for t in gone if monitor.state.task(t).items is not None]
    assert told, "a task that had been left out of the order was told to have items"
    assert monitor.get_plan_deviation().total_tasks <= len(monitor.plan.tasks)

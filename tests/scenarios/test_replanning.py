"""The specification's scenarios, through replanning: what is decided, offered and made of it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from athena_prefect.assumptions.validator import AssumptionValidator
from athena_prefect.journal.events import CheckEvent, TaskOutcome
from athena_prefect.monitor.monitor import ExecutionMonitor
from athena_prefect.orchestrator import PlanOrchestrator
from athena_prefect.replanning.engine import AdaptiveReplanningEngine
from athena_prefect.replanning.evaluation import AdaptiveReplanning, Rule
from athena_prefect.replanning.options import Kind
from athena_prefect.replanning.picture import picture
from athena_prefect.replanning.scope import levers_of_all
from athena_prefect.replanning.why import why
from tests.scenarios.replans import Violated, adopt, engine_of, ticking
from tests.scenarios.test_adjustment_and_deviation import eight_tasks, ten_tasks
from tests.scenarios.test_nominal_and_delays import chain_of_five


def _strategy(run: Any, *violations: Violated) -> AdaptiveReplanning:
    engine = engine_of(run, *violations)
    deviation = run.monitor.get_plan_deviation()
    return engine.evaluate_replanning_need(deviation, violations).strategy


def test_scenario_1_needs_nothing(drive: Callable[..., Any]) -> None:
    run = drive(chain_of_five())
    engine = engine_of(run)
    at = run.chain(("t1", 2), ("t2", 2), ("t3", 2.2))
    for step in (("t4", 2), ("t5", 2)):
        found = engine.evaluate_replanning_need(run.monitor.get_plan_deviation(), [])
        assert found.strategy is AdaptiveReplanning.NONE and not found.replanning_needed
        assert found.recommended_option is None and found.reasons == ()
        assert found.risk_level == "low" and found.confidence == 1.0
        at = run.chain(step, since=at)
    found = engine.evaluate_replanning_need(run.monitor.get_plan_deviation(), [])
    assert at == pytest.approx(10.2) and found.slip == pytest.approx(0.02)
    assert found.rationale == "nothing calls for another plan"


def shortfall() -> dict[str, Any]:
    document = eight_tasks()
    document["assumptions"] = [
        {
            "id": "resources_available",
            "milestones": [{"after": "t4"}],
            "expected_value": 8,
            "sense": "at_least",
            "affects": ["t5", "t6", "t8"],
            "effect": {"capacity": {"cpu": "observed"}},
        }
    ]
    return document


def test_scenario_2_replans_the_segment(drive: Callable[..., Any]) -> None:
    run = drive(shortfall())
    run.chain(("t1", 2), ("t2", 2), ("t3", 3), ("t4", 6.5))
    assert _strategy(run) is AdaptiveReplanning.NONE, "t4's lateness alone needs nothing"

    short = Violated("resources_available", actual_value=5)
    engine = engine_of(run, short)
    deviation = run.monitor.get_plan_deviation()
    found = engine.evaluate_replanning_need(deviation, [short])
    assert found.strategy is AdaptiveReplanning.SEGMENT
    assert found.slip == pytest.approx(0.25)
    assert set(found.tasks_at_risk) <= {"t5", "t6", "t7", "t8"} and found.tasks_at_risk
    assert {Rule.RISK, Rule.REACHES_SEVERAL} <= {r.rule for r in found.reasons}
    assert found.affected_tasks == ("t5", "t6", "t7", "t8")
    assert found.risk_level == "high"

    options = engine.get_replanning_options(deviation, [short])
    assert found.recommended_option is not None
    best = options[found.recommended_option]
    assert best.kind is Kind.PARALLELIZE and best.option_id == found.recommended_option
    assert best.timeline_impact == timedelta(hours=-3), "27 h instead of 30 h"
    assert found.estimated_time_impact == timedelta(hours=-3)
    assert run.hours(best.finish) == run.hours(best.accepted_finish) == 27.0
    assert best.implementation_effort == "moderate"
    # One of the two soft dependencies is enough: the other is kept.
    soft = {"t7 no longer waits for t5", "t7 no longer waits for t6"}
    assert len(best.changes) == 1 and set(best.changes) <= soft
    assert options[-1].kind is Kind.ABORT and options[-1].success_probability == 0.0

    result = engine.replan_segment("t5", 5, {})
    assert result.verification_passed and result.strategy is AdaptiveReplanning.SEGMENT
    assert run.hours(result.finish) == run.hours(result.accepted_finish) == 27.0
    waits = {d.task for d in result.new_plan.get_task("t7").upstream}
    assert waits in ({"t4", "t5"}, {"t4", "t6"})
    assert result.learning["violated"] == ["resources_available"]
    # Of the five that were observed, a fifth stays unplanned.
    assert result.proposal is not None
    assert result.proposal.answer.rest.problem.capacities[0] == 4.0


def deviated() -> dict[str, Any]:
    document = ten_tasks()
    document["tasks"][6]["modes"] = [{"name": "container", "duration": "5h"}]
    document["assumptions"] = [
        {"id": "requirements_stable", "criticality": "critical", "affects": ["t3"],
         "milestones": [{"after": "t3"}], "effect": {"mode": "rework"}},
        {"id": "reviewers_available", "affects": ["t6"], "milestones": [{"after": "t3"}],
         "effect": {"duration_factor": 1.25}},
        {"id": "test_env_ready", "affects": ["t7"], "milestones": [{"after": "t3"}],
         "effect": {"mode": "container"}},
    ]  # fmt: skip
    return document


VIOLATIONS = (
    Violated("requirements_stable"),
    Violated("reviewers_available", replanning_required=False),
    Violated("test_env_ready"),
)


def test_scenario_3_replans_all(drive: Callable[..., Any]) -> None:
    run = drive(deviated())
    at = run.chain(("t1", 3), ("t2", 3))
    run.start("t3", at)
    run.end("t3", 10.0, TaskOutcome.FAILURE)
    engine = engine_of(run, *VIOLATIONS)
    deviation = run.monitor.get_plan_deviation()
    found = engine.evaluate_replanning_need(deviation, VIOLATIONS)
    assert found.strategy is AdaptiveReplanning.FULL and found.replanning_needed
    strongest = [r for r in found.reasons if r.strategy is AdaptiveReplanning.FULL]
    assert [r.rule for r in strongest] == [Rule.FAILED_REQUIRED]
    assert "t3 failed, which is required, and can be done in mode rework" in found.rationale
    assert found.confidence is None, "it rests on an event"
    assert found.risk_level == "high"

    options = engine.get_replanning_options(deviation, VIOLATIONS)
    assert found.recommended_option is not None
    best = options[found.recommended_option]
    assert run.hours(best.finish) == 39.0 and best.success_probability == 1.0
    assert best.timeline_impact == timedelta(hours=-1), "against the 40 h that were accepted"
    assert "reaches the goals, which carrying on does not" in best.benefits
    assert set(best.changes) == {
        "t3 is done again in mode rework",
        "t7 in mode container instead of default",
        "t5 no longer waits for t4",
        "t9 no longer waits for t8",
    }

    result = engine.full_replan(str(found.rationale), {})
    assert result.verification_passed and result.confidence == 1.0
    assert run.hours(result.finish) == 39.0
    assert result.modes == {"t3": "rework", "t7": "container"}
    assert result.learning["violated"][0] == "requirements_stable"
    assert result.learning["failed"] == ["t3"]
    one = engine.full_replan("", {"pin": ["t5"]})
    other = engine.full_replan("", {"pin": ["t9"]})
    none = engine.full_replan("", {"pin": ["t5", "t9"]})
    assert {run.hours(one.finish), run.hours(other.finish)} <= {43.0, 44.0}
    assert run.hours(none.finish) == 48.0 and none.confidence == 0.0


@pytest.mark.parametrize(
    ("delay", "strategy"),
    [
        (0.05, AdaptiveReplanning.NONE),
        (0.20, AdaptiveReplanning.NONE),
        (0.60, AdaptiveReplanning.LOCAL),
        (2.00, AdaptiveReplanning.FULL),
    ],
)
def test_delays_of_every_size(
    drive: Callable[..., Any], delay: float, strategy: AdaptiveReplanning
) -> None:
    run = drive(chain_of_five())
    run.chain(("t1", 2.0 * (1 + delay)))
    # Four of five tasks are at risk once the slip is beyond what is tolerated.
    assert _strategy(run) is strategy


def test_nominal_runs_never_call(drive: Callable[..., Any]) -> None:
    for deadline in ({}, {"deadline": "10h"}):
        run = drive(chain_of_five(**deadline))
        engine = engine_of(run)
        at = 0.0
        for k in range(1, 6):
            at = run.chain((f"t{k}", 2), since=at)
            found = engine.evaluate_replanning_need(run.monitor.get_plan_deviation(), [])
            assert found.strategy is AdaptiveReplanning.NONE and not found.absorbed


def test_a_shortage_that_float_absorbs_needs_nothing(drive: Callable[..., Any]) -> None:
    run = drive(shortfall())
    run.chain(("t1", 2), ("t2", 2), ("t3", 3), ("t4", 5))
    enough = Violated("resources_available", actual_value=7)
    engine = engine_of(run, enough)
    found = engine.evaluate_replanning_need(run.monitor.get_plan_deviation(), [enough])
    assert found.strategy is AdaptiveReplanning.NONE and found.absorbed
    assert "absorbed by float" in found.rationale


def test_one_violation_that_reaches_one_task(drive: Callable[..., Any]) -> None:
    document = deviated()
    run = drive(document)
    slow = Violated("reviewers_available")
    engine = engine_of(run, slow)
    found = engine.evaluate_replanning_need(run.monitor.get_plan_deviation(), [slow])
    assert found.strategy is AdaptiveReplanning.LOCAL
    assert Rule.REACHES_ONE in {r.rule for r in found.reasons}


def test_three_violations_that_require_replanning(drive: Callable[..., Any]) -> None:
    run = drive(deviated())
    all_ = [Violated(v.assumption_id) for v in VIOLATIONS]
    found = engine_of(run, *all_).evaluate_replanning_need(run.monitor.get_plan_deviation(), all_)
    assert found.strategy is AdaptiveReplanning.FULL
    assert Rule.MANY_VIOLATIONS in {r.rule for r in found.reasons}


def test_without_a_way_on_it_aborts_and_escalates(drive: Callable[..., Any]) -> None:
    document = ten_tasks()
    document["tasks"][2]["modes"] = []
    run = drive(document)
    at = run.chain(("t1", 3), ("t2", 3))
    run.start("t3", at)
    run.end("t3", 10.0, TaskOutcome.FAILURE)
    engine = engine_of(run)
    deviation = run.monitor.get_plan_deviation()
    found = engine.evaluate_replanning_need(deviation, [])
    assert found.strategy is AdaptiveReplanning.ABORT and found.escalate
    options = engine.get_replanning_options(deviation, [])
    assert [o.kind for o in options] == [Kind.ABORT] and found.recommended_option == 0
    result = engine.full_replan("try", {})
    assert not result.verification_passed and "t3" in result.why_not
    assert result.new_plan == result.original_plan


def test_late_is_never_a_reason_to_abort(drive: Callable[..., Any]) -> None:
    run = drive(chain_of_five(deadline="10h"))
    run.chain(("t1", 40.0))
    found = engine_of(run).evaluate_replanning_need(run.monitor.get_plan_deviation(), [])
    assert found.strategy is AdaptiveReplanning.FULL and not found.escalate


def test_an_adopted_revision_resets_the_slip(drive: Callable[..., Any]) -> None:
    run = drive(chain_of_five())
    run.chain(("t1", 4.0))
    engine = engine_of(run)
    deviation = run.monitor.get_plan_deviation()
    assert deviation.slip == pytest.approx(0.2)
    found = engine.evaluate_replanning_need(deviation, [])
    assert found.strategy is AdaptiveReplanning.FULL
    adopt(run, engine.full_replan(found.rationale, {}))
    after = run.monitor.get_plan_deviation()
    assert after.slip == pytest.approx(0.0) and after.revision == 2
    assert after.time_deviation_percent == pytest.approx(0.2), "the baseline never changes"
    assert after.tasks_at_risk == ()
    again = engine_of(run).evaluate_replanning_need(after, [])
    assert again.strategy is AdaptiveReplanning.NONE


def test_several_things_at_once(drive: Callable[..., Any]) -> None:
    document = shortfall()
    document["deadline"] = "26h"
    document["tasks"][7]["modes"] = [{"name": "express", "duration": "3h", "resources": {"cpu": 4}}]
    run = drive(document)
    run.chain(("t1", 2), ("t2", 2), ("t3", 3), ("t4", 6.5))
    short = Violated("resources_available", actual_value=5)
    engine = engine_of(run, short)
    deviation = run.monitor.get_plan_deviation()
    found = engine.evaluate_replanning_need(deviation, [short])
    assert found.strategy is AdaptiveReplanning.SEGMENT
    options = engine.get_replanning_options(deviation, [short])
    assert {o.kind for o in options} >= {Kind.COMBINE, Kind.ABORT}
    assert found.recommended_option is not None
    best = options[found.recommended_option]
    assert best.kind is Kind.COMBINE and run.hours(best.finish) == 25.5
    assert best.success_probability == 1.0


def test_scenario_2_with_checks_in_the_journal(drive: Callable[..., Any]) -> None:
    run = drive(shortfall())
    run.chain(("t1", 2), ("t2", 2), ("t3", 3), ("t4", 6.5))
    validator = AssumptionValidator(run.plan, run.monitor)
    seen = validator.check_assumption("resources_available", {"cpu": 5}, "external")
    assert seen.valid is False
    deviation = run.monitor.get_plan_deviation()
    assert deviation.slip == pytest.approx(0.25), "the forecast reckons with it at once"
    violations = validator.get_violated_assumptions()
    assert [v.replanning_required for v in violations] == [True]
    planner = PlanOrchestrator(clock=ticking(), policy=run.monitor.policy, workers=1)
    engine = AdaptiveReplanningEngine(run.monitor, validator, planner)
    found = engine.evaluate_replanning_need(deviation, violations)
    assert found.strategy is AdaptiveReplanning.SEGMENT and found.slip == pytest.approx(0.25)
    assert len(found.tasks_at_risk) <= 4 and found.recommended_option is not None
    option = engine.get_replanning_options(deviation, violations)[found.recommended_option]
    assert run.hours(option.finish) == 27.0

    result = engine.replan_segment(deviation.tasks_at_risk[0], 5, {})
    assert result.verification_passed and run.hours(result.accepted_finish) == 27.0
    told = why(run.monitor, violations)
    assert told.slip == timedelta(hours=6)
    assert [(s.amount / timedelta(hours=1), str(s)) for s in told.shares] == [
        (1.5, "t4 took 1h30m longer than planned"),
        (4.5, "t6 waits 4h30m for cpu, which t5 holds (resources_available violated)"),
    ]


def test_scenario_3_with_checks_in_the_journal(drive: Callable[..., Any]) -> None:
    run = drive(deviated())
    at = run.chain(("t1", 3), ("t2", 3))
    run.start("t3", at)
    run.end("t3", 10.0, TaskOutcome.FAILURE)
    validator = AssumptionValidator(run.plan, run.monitor)
    for assumption in ("requirements_stable", "reviewers_available", "test_env_ready"):
        assert validator.check_assumption(assumption, {"ok": False}, "external").valid is False
    deviation, violations = run.monitor.get_plan_deviation(), validator.get_violated_assumptions()
    required = {v.assumption_id for v in violations if v.replanning_required}
    assert required == {"requirements_stable", "test_env_ready"}
    planner = PlanOrchestrator(clock=ticking(), policy=run.monitor.policy, workers=1)
    engine = AdaptiveReplanningEngine(run.monitor, validator, planner)
    found = engine.evaluate_replanning_need(deviation, violations)
    assert found.strategy is AdaptiveReplanning.FULL
    result = engine.full_replan(str(violations[0]), {})
    assert result.verification_passed and run.hours(result.accepted_finish) == 39.0
    assert result.confidence == 1.0


def _that_can_grow(run: Any, *values: float) -> tuple[AdaptiveReplanningEngine, dict[str, float]]:
    """The engine when the check of the cpus has found these values, and what may be added."""
    expected = run.monitor.plan.get_assumption("resources_available").expected_value
    for k, value in enumerate(values):
        run.journal.append(
            CheckEvent(
                plan_run=run.context.plan_run, assumption_id="resources_available",
                check_id=str(k), at=run.clock.now(), data={"value": value},
                verdict="violated" if value < expected else "holds",
            )
        )  # fmt: skip
    run.monitor.refresh()
    validator = AssumptionValidator(run.monitor.plan, run.monitor)
    planner = PlanOrchestrator(clock=ticking(), policy=run.monitor.policy, workers=1)
    engine = AdaptiveReplanningEngine(run.monitor, validator, planner)
    view = picture(run.monitor, validator.get_violated_assumptions())
    return engine, dict(levers_of_all(view, run.monitor.policy).capacity)


def test_nobody_adds_what_is_observed_to_be_short(drive: Callable[..., Any]) -> None:
    """The dispatcher goes by the observed amount as long as the shortage is in force: more than
    that is not offered, and what is promised meanwhile is what is forecast.
    """
    document = shortfall()
    document["resources"]["cpu"] |= {"max_capacity": 16}
    run = drive(document)
    run.chain(("t1", 2), ("t2", 2), ("t3", 3), ("t4", 5))
    _, more = _that_can_grow(run)
    assert more == {"cpu": 16}, "there is no shortage yet"
    engine, more = _that_can_grow(run, 5)
    assert more == {}
    found = engine.get_replanning_options(
        run.monitor.get_plan_deviation(),
        engine.validator.get_violated_assumptions(),
        strategy=AdaptiveReplanning.FULL,
    )
    assert not [o for o in found if o.kind is Kind.ADD_RESOURCES]
    result = engine.full_replan("short of cpus", {})
    adopt(run, result)
    after = ExecutionMonitor(result.new_plan, run.context, samples=60)
    assert after.get_plan_deviation().estimated_completion == result.finish
    assert after.get_plan_deviation().slip == pytest.approx(0.0)


def test_a_shortage_after_more_was_added_is_forecast_as_it_is(drive: Callable[..., Any]) -> None:
    """Once it is over, the run has again what was added."""
    work = [
        {"id": f"t{k}", "duration": "4h", "resources": {"cpu": 8}, "depends_on": ["t1"]}
        for k in (2, 3, 4)
    ]
    document = {
        "name": "grows", "deadline": "8h",
        "resources": {"cpu": {"capacity": 8, "max_capacity": 24}},
        "tasks": [{"id": "t1", "duration": "2h"}, *work],
        "assumptions": [
            {**shortfall()["assumptions"][0], "milestones": [{"after": "t1"}],
             "affects": ["t2", "t3", "t4"], "expected_value": 24}
        ],
    }  # fmt: skip
    run = drive(document)
    run.chain(("t1", 2))
    engine, _ = _that_can_grow(run)
    option = next(
        o
        for o in engine.get_replanning_options(
            run.monitor.get_plan_deviation(), [], strategy=AdaptiveReplanning.FULL
        )
        if o.kind is Kind.ADD_RESOURCES
    )
    result = engine.adopt(option, AdaptiveReplanning.FULL)
    assert result.new_plan.resources["cpu"].capacity == 24
    adopt(run, result)
    run.monitor = ExecutionMonitor(result.new_plan, run.context, samples=60)

    def finish() -> float:
        return float(run.hours(run.monitor.get_plan_deviation().estimated_completion))

    assert finish() == run.hours(result.finish) == 6
    _that_can_grow(run, 8)
    assert finish() == 14, "one after the other"
    _that_can_grow(run, 8, 24)
    assert finish() == 6

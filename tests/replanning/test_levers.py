"""Levers that are options: longer time-outs, relaxed criteria, more capacity."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from athena_prefect.errors import PlanDocumentError
from athena_prefect.journal.events import TaskEvent, TaskEventKind, TaskOutcome
from athena_prefect.monitor.monitor import ExecutionMonitor
from athena_prefect.plan.document import as_dict
from athena_prefect.plan.model import Estimate, Plan
from athena_prefect.plan.revision import ChangeKind, changes_between, revised
from athena_prefect.replanning.evaluation import AdaptiveReplanning, Rule
from athena_prefect.replanning.options import Effort, Kind, ReplanningOption
from athena_prefect.schedule.overruns import beyond
from athena_prefect.schedule.proposal import Proposal, claim_of
from athena_prefect.schedule.verification import Claim, Flaw, verify
from tests.replanning.test_engine import Violated, _do, _engine, _monitored


def _options(
    monitor: ExecutionMonitor,
    violations: tuple[Violated, ...] = (),
    strategy: AdaptiveReplanning = AdaptiveReplanning.FULL,
) -> dict[str, ReplanningOption]:
    engine = _engine(monitor, violations)
    deviation = monitor.get_plan_deviation()
    found = engine.get_replanning_options(deviation, violations, strategy=strategy)
    return {o.title: o for o in found}


def _slow_source(**more: Any) -> Plan:
    return Plan.model_validate(
        {
            "name": "p",
            "deadline": "1h",
            "tasks": [
                {"id": "a", "duration": 60},
                {"id": "b", "duration": 100, "timeout": 150, "depends_on": ["a"]},
                {"id": "c", "duration": 60, "depends_on": ["b"]},
            ],
            "assumptions": [
                {"id": "fast", "affects": ["b"], "milestones": [{"after": "a"}],
                 "effect": {"duration_factor": 2}}
            ],
            **more,
        }
    )  # fmt: skip


def test_a_longer_task_gets_a_longer_time_out_with_the_room_that_it_had() -> None:
    monitor, clock = _monitored(_slow_source())
    _do(monitor, clock, "a", 60)
    slow = (Violated("fast"),)
    # 200 s planned, ended after 150: no float helps, though the deadline is far.
    found = _engine(monitor, slow).evaluate_replanning_need(monitor.get_plan_deviation(), slow)
    assert Rule.REACHES_ONE in {r.rule for r in found.reasons}

    options = _options(monitor, slow, AdaptiveReplanning.LOCAL)
    assert set(options) == {"Extend the timeline and 1 time-out", "Abort and escalate"}
    best = options["Extend the timeline and 1 time-out"]
    assert best.changes == ("b may take 5m instead of 2m30s",)
    assert best.success_probability == 1.0 and best.implementation_effort is Effort.TRIVIAL
    assert best.kind is Kind.EXTEND and found.recommended_option == best.option_id
    proposal = best.proposal
    assert proposal is not None and proposal.overruns == {}
    assert proposal.plan.get_task("b").timeout == timedelta(minutes=5)
    stored = Plan.model_validate(as_dict(proposal.plan))
    (change,) = changes_between(monitor.plan, stored)
    assert change.kind is ChangeKind.TIMEOUT and (change.before, change.after) == (150.0, 300.0)


def test_carrying_on_past_a_time_out_is_no_success() -> None:
    monitor, clock = _monitored(_slow_source())
    _do(monitor, clock, "a", 60)
    engine = _engine(monitor, (Violated("fast"),))
    pinned = engine.full_replan("", {"pin": ["b"]})
    assert pinned.verification_passed and pinned.confidence == 0.0
    assert pinned.proposal is not None and pinned.proposal.overruns == {"b": 1.0}
    extended = engine.full_replan("", {})
    assert extended.confidence == 1.0 and extended.changes == ("b may take 5m instead of 2m30s",)
    # Had the solver pulled the lever all the same, the checker would not let it pass.
    loose, tied = extended.proposal, pinned.proposal
    assert loose is not None and verify(_claimed(loose, loose)).passed
    (found,) = verify(_claimed(loose, tied)).objections
    assert found.flaw is Flaw.EDITED
    assert str(found) == "b is to stay as it is, but has another time-out"


def _claimed(found: Proposal, asked: Proposal) -> Claim:
    """What one proposal is, held to what another was asked for."""
    return claim_of(asked.standing, found.answer, found.levers, found.plan, found.modes)


def test_a_plans_own_time_out_is_nobodys_to_extend() -> None:
    document = as_dict(_slow_source())
    document["tasks"][1]["duration"] = {
        "optimistic": 100, "likely": 120, "pessimistic": 200,
    }  # fmt: skip
    del document["assumptions"]
    monitor, clock = _monitored(Plan.model_validate(document))
    _do(monitor, clock, "a", 60)
    options = _options(monitor)
    assert set(options) == {"Extend the timeline", "Abort and escalate"}
    only = options["Extend the timeline"]
    estimate = monitor.plan.get_task("b").estimate
    assert estimate is not None
    chance = beyond(estimate, 150.0)
    assert 0.05 < chance < 0.3
    assert only.success_probability == pytest.approx(1.0 - chance)
    assert any(r.startswith("b runs past its time-out with a probability") for r in only.risks)


def test_what_ran_past_its_time_out_is_done_again_with_twice_the_time() -> None:
    document = as_dict(_slow_source())
    document["tasks"][1]["rerunnable"] = True
    monitor, clock = _monitored(Plan.model_validate(document))
    _do(monitor, clock, "a", 60)
    plan_run = monitor.context.plan_run
    begun = clock.now()
    monitor.record_task_start("b", begun, {})
    clock.advance(timedelta(seconds=150))
    source = monitor.state.task("b").attempts[-1].source
    journal = monitor.context.journal
    for kind in (TaskEventKind.OVERDUE, TaskEventKind.ABANDONED):
        journal.append(
            TaskEvent(
                plan_run=plan_run, task_id="b", kind=kind, at=clock.now(), source=source,
                state_name="TimedOut" if kind is TaskEventKind.ABANDONED else "",
                outcome=TaskOutcome.FAILURE if kind is TaskEventKind.ABANDONED else None,
            )
        )  # fmt: skip
    monitor.refresh()
    assert monitor.state.task("b").attempts[-1].timed_out
    options = _options(monitor)
    extended = options["Extend the timeline and 1 time-out"]
    assert "b may take 5m instead of 2m30s" in extended.changes
    assert "b is done again in mode default" in extended.changes
    assert extended.success_probability == 1.0
    # As it was it would be ended again, which is no alternative to anything.
    assert "Extend the timeline" not in options


def test_relaxed_criteria_are_an_option_of_reduced_scope() -> None:
    document = as_dict(_slow_source())
    document["tasks"][2]["success_criteria"] = {
        "rows": {"min": 100}, "relaxed": {"rows": {"min": 50}},
    }  # fmt: skip
    monitor, clock = _monitored(Plan.model_validate(document))
    _do(monitor, clock, "a", 60)
    title = "Reduce scope: relax the criteria of 1 task"
    option = _options(monitor)[title]
    assert option.kind is Kind.REDUCE_SCOPE and option.implementation_effort is Effort.TRIVIAL
    assert option.changes == ("c: relaxed success criteria",)
    assert option.timeline_impact == timedelta(0) and option.price == 0.0
    assert "meets only the relaxed criteria counts in full" in " ".join(option.risks)
    assert option.proposal is not None
    criteria = Plan.model_validate(as_dict(option.proposal.plan)).get_task("c").success_criteria
    assert criteria is not None and criteria.relaxed is None
    assert criteria.fields["rows"].min == 50
    # It gains nothing that is measured: a person may choose it, the policy does not.
    engine = _engine(monitor)
    deviation = monitor.get_plan_deviation()
    options = engine.get_replanning_options(deviation, [], strategy=AdaptiveReplanning.FULL)
    best = engine.recommended_option(AdaptiveReplanning.FULL)
    assert best is not None and options[best].title != title


def _two_at_once(**cpu: Any) -> Plan:
    return Plan.model_validate(
        {
            "name": "p",
            "deadline": 250,
            "resources": {"cpu": {"capacity": 1, "cost_per_hour": 36.0, **cpu}},
            "tasks": [
                {"id": "a", "duration": 50},
                *(
                    {"id": t, "duration": 100, "resources": {"cpu": 1}, "depends_on": ["a"]}
                    for t in ("b", "c")
                ),
            ],
            "assumptions": [
                {"id": "there", "affects": ["b", "c"], "milestones": [{"after": "a"}],
                 "effect": {"capacity": {"cpu": "observed"}}}
            ],
        }
    )  # fmt: skip


def test_more_capacity_is_offered_where_the_plan_says_how_much_and_is_priced() -> None:
    monitor, clock = _monitored(_two_at_once(max_capacity=3))
    _do(monitor, clock, "a", 100)  # 50 s late: 300 s, by the deadline of 250 s with two at once
    options = _options(monitor)
    more = options["Add capacity"]
    assert more.changes == ("cpu: 3 instead of 1",)
    assert more.timeline_impact == timedelta(seconds=-100)
    assert more.implementation_effort is Effort.HARD and more.success_probability == 1.0
    # Two units more for the 100 s that are left, at 36 an hour each.
    assert more.cost_impact == pytest.approx(2 * 100 / 3600 * 36.0)
    assert more.proposal is not None
    assert more.proposal.plan.resources["cpu"].capacity == 3
    engine = _engine(monitor)
    found = engine.evaluate_replanning_need(monitor.get_plan_deviation(), [])
    assert found.recommended_option == more.option_id, "the only one that is in time"


@pytest.mark.parametrize(
    ("cpu", "violated"),
    [
        ({}, False),  # nothing is declared
        ({"max_capacity": 1}, False),
        ({"max_capacity": 3, "concurrency_limit": "shared"}, False),  # not this plan's to add
        ({"max_capacity": 3}, True),  # there is less than planned: more is not promised
    ],
)
def test_capacity_that_nobody_can_promise_is_not_offered(
    cpu: dict[str, Any], violated: bool
) -> None:
    monitor, clock = _monitored(_two_at_once(**cpu))
    _do(monitor, clock, "a", 100)
    short = (Violated("there", actual_value=1),) if violated else ()
    assert "Add capacity" not in _options(monitor, short)


def test_more_capacity_that_gains_nothing_is_left_out() -> None:
    document = as_dict(_two_at_once(max_capacity=3, cost_per_hour=0.0))
    document["tasks"][2]["depends_on"] = ["b"]
    monitor, clock = _monitored(Plan.model_validate(document))
    _do(monitor, clock, "a", 100)
    assert set(_options(monitor)) == {"Extend the timeline", "Abort and escalate"}


def test_less_than_there_is_cannot_be_the_most() -> None:
    with pytest.raises(PlanDocumentError, match="max_capacity 1 is less than capacity 4"):
        Plan.model_validate(
            {"name": "p", "resources": {"cpu": {"capacity": 4, "max_capacity": 1}},
             "tasks": [{"id": "a"}]}
        )  # fmt: skip


def test_the_checker_refuses_a_new_time_out_that_is_too_short() -> None:
    monitor, clock = _monitored(_slow_source())
    _do(monitor, clock, "a", 60)
    option = _options(monitor, (Violated("fast"),))["Extend the timeline and 1 time-out"]
    proposal = option.proposal
    assert proposal is not None
    short = revised(monitor.plan, timeouts={"b": 180.0})
    claim = claim_of(proposal.standing, proposal.answer, proposal.levers, short, proposal.modes)
    (objection,) = verify(claim).objections
    assert objection.flaw is Flaw.TIME_OUT
    assert str(objection) == "b is planned to take 200 s, but may take 180 s"


def test_the_share_of_an_estimate_beyond_a_limit() -> None:
    certain = Estimate(optimistic="10s", likely="10s", pessimistic="10s")
    assert (beyond(certain, 10.0), beyond(certain, 9.0)) == (0.0, 1.0)
    even = Estimate(optimistic="0s", likely="10s", pessimistic="20s")
    assert beyond(even, 10.0) == pytest.approx(0.5, abs=1e-3)
    assert beyond(even, 20.0) == 0.0


def test_an_option_is_called_what_it_does() -> None:
    """A failed task that is done again in another mode is no extended timeline."""
    monitor, clock = _monitored(
        Plan.model_validate(
            {
                "name": "p",
                "deadline": 205,
                "resources": {"cpu": {"capacity": 2}},
                "tasks": [
                    {"id": "a", "duration": 60, "resources": {"cpu": 1},
                     "modes": [{"name": "other", "duration": 80}]},
                    {"id": "b", "duration": 100, "resources": {"cpu": 1},
                     "depends_on": ["a"], "modes": [
                         {"name": "wide", "duration": 50, "resources": {"cpu": 2}, "quality": 0.9}
                     ]},
                ],
            }
        )
    )  # fmt: skip
    monitor.record_task_start("a", clock.now(), {})
    clock.advance(timedelta(seconds=60))
    monitor.record_task_completion("a", clock.now(), None, {}, TaskOutcome.FAILURE)
    options = _options(monitor)
    assert {title: o.kind for title, o in options.items()} == {
        "Do a again in mode other": Kind.SUBSTITUTE,
        "Add resources to 1 task, do a again in mode other": Kind.ADD_RESOURCES,
        "Abort and escalate": Kind.ABORT,
    }
    assert options["Do a again in mode other"].changes == ("a is done again in mode other",)

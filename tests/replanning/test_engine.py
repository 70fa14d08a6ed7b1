"""The engine on random plans, states and violations: every revision passes the checker."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from athena_prefect.errors import PlanError, UnknownNameError
from athena_prefect.journal.events import RunEvent, RunEventKind, TaskOutcome
from athena_prefect.journal.journal import MemoryJournal
from athena_prefect.learning.memory import Consolidation, Evidence, LessonKind, Memory, recall
from athena_prefect.monitor.context import ExecutionContext, VirtualClock
from athena_prefect.monitor.history import History, PastRun, PastTask
from athena_prefect.monitor.monitor import ExecutionMonitor
from athena_prefect.orchestrator import PlanOrchestrator
from athena_prefect.plan.document import as_dict
from athena_prefect.plan.model import Plan
from athena_prefect.replanning.account import told
from athena_prefect.replanning.engine import AdaptiveReplanningEngine
from athena_prefect.replanning.evaluation import AdaptiveReplanning, Rule, Weighing
from athena_prefect.replanning.options import Kind, ReplanningOption
from athena_prefect.replanning.outlook import beyond_float
from athena_prefect.replanning.picture import picture
from athena_prefect.replanning.wishes import wish_from
from athena_prefect.schedule.proposal import claim_of
from athena_prefect.schedule.verification import verify
from tests.replanning.pasts import one_after_another
from tests.schedule.standings import plans

T0 = datetime(2026, 1, 5, 8, tzinfo=UTC)


@dataclass(frozen=True)
class Violated:
    """A violation, as a test says it."""

    assumption_id: str
    replanning_required: bool = True
    actual_value: Any = None


class Says:
    """Says which violations there are."""

    def __init__(self, violations: Sequence[Violated]) -> None:
        self.violations = violations

    def get_violated_assumptions(self) -> Sequence[Violated]:
        return self.violations


def _ticking() -> Callable[[], float]:
    ticks = count()
    return lambda: next(ticks) * 0.01


def _monitored(plan: Plan, deadline: float | None = None) -> tuple[ExecutionMonitor, VirtualClock]:
    clock = VirtualClock(T0)
    context = ExecutionContext(
        plan_run=UUID(int=1), clock=clock, started_at=T0, journal=MemoryJournal()
    )
    return ExecutionMonitor(plan, context, samples=100), clock


def _engine(
    monitor: ExecutionMonitor, violations: Sequence[Violated] = (), **options: Any
) -> AdaptiveReplanningEngine:
    planner = PlanOrchestrator(clock=_ticking(), policy=monitor.policy, workers=1)
    return AdaptiveReplanningEngine(monitor, Says(violations), planner, **options)


def _do(monitor: ExecutionMonitor, clock: VirtualClock, task: str, seconds: float,
        outcome: TaskOutcome = TaskOutcome.SUCCESS) -> None:  # fmt: skip
    resources = dict(monitor.plan.get_task(task).resources)
    monitor.record_task_start(task, clock.now(), resources)
    clock.advance(timedelta(seconds=seconds))
    monitor.record_task_completion(task, clock.now(), None, resources, outcome)


@st.composite
def _runs(draw: st.DrawFn) -> tuple[ExecutionMonitor, list[Violated]]:
    """A run of a random plan, some of which is done, under random violations."""
    plan = draw(plans(uncertain=True))
    ids = list(plan.task_ids)
    some = st.lists(st.sampled_from(ids), min_size=1, max_size=3, unique=True)
    wide = [t.id for t in plan.tasks if t.modes]
    effects: list[dict[str, Any]] = [
        {"affects": draw(some), "effect": {"duration_factor": 2.0}},
        {"affects": draw(some), "effect": {"capacity": {"cpu": "observed"}}},
    ]
    if wide:
        effects.append({"affects": [draw(st.sampled_from(wide))], "effect": {"mode": "other"}})
    document = as_dict(plan)
    document["assumptions"] = [
        {"id": f"a{k}", "milestones": [{"at": "start"}], **e} for k, e in enumerate(effects)
    ]
    document["deadline"] = draw(st.integers(1, 40))
    monitor, clock = _monitored(Plan.model_validate(document))
    for task in ids[: draw(st.integers(0, len(ids)))]:
        clock.advance(timedelta(seconds=draw(st.integers(0, 3))))
        last = draw(st.integers(0, 9))
        outcome = TaskOutcome.FAILURE if last == 0 else TaskOutcome.SUCCESS
        _do(monitor, clock, task, draw(st.integers(0, 9)), outcome)
        if last == 0:
            break
    names = draw(st.sets(st.integers(0, len(effects) - 1)))
    return monitor, [
        Violated(f"a{k}", actual_value=draw(st.integers(0, 4)), replanning_required=k > 0)
        for k in sorted(names)
    ]


def _sound(option: ReplanningOption) -> None:
    proposal = option.proposal
    assert proposal is not None
    claim = claim_of(
        proposal.standing, proposal.answer, proposal.levers, proposal.plan, proposal.modes
    )
    assert verify(claim).objections == ()
    assert 0.0 <= option.success_probability <= 1.0 and option.samples >= 1
    assert option.stability is not None and option.stability.value <= 1.0
    # A revision is stored as a document: it has to be a sound one.
    assert Plan.model_validate(as_dict(proposal.plan)).task_ids == proposal.plan.task_ids


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(_runs())
def test_every_option_of_every_run_can_be_carried_out(
    given_: tuple[ExecutionMonitor, list[Violated]],
) -> None:
    monitor, violations = given_
    engine = _engine(monitor, violations)
    deviation = monitor.get_plan_deviation()
    found = engine.evaluate_replanning_need(deviation, violations)
    assert found.replanning_needed == (found.strategy is not AdaptiveReplanning.NONE)
    options = engine.get_replanning_options(deviation, violations)
    assert [o.option_id for o in options] == list(range(len(options)))
    assert options[-1].kind is Kind.ABORT
    for option in options[:-1]:
        _sound(option)
    if found.replanning_needed:
        assert found.recommended_option is not None
        assert 0 <= found.recommended_option < len(options)
        assert found.rationale and found.reasons
    else:
        assert found.recommended_option is None
    again = _engine(monitor, violations)
    again.get_replanning_options = lambda *_, **__: []  # type: ignore[method-assign]
    for option in options[:-1]:
        # Whatever another search finds: what was shown can be chosen, by its levers alone.
        wish = wish_from({**told(option), "strategy": "full"})
        same = again.option_like(wish, deviation, violations)
        assert same is not None and set(same.changes) == set(option.changes)
        _sound(same)
    result = engine.full_replan("because", {})
    if result.verification_passed:
        assert result.proposal is not None and result.accepted_finish is not None
        gone = set(monitor.plan.task_ids) - set(result.new_plan.task_ids)
        assert all(monitor.plan.get_task(t).optional for t in gone)
        done = {t for t in monitor.plan.task_ids if monitor.state.status(t).good}
        assert done <= set(result.new_plan.task_ids)
    else:
        assert result.why_not and result.new_plan == result.original_plan


def _document(**more: Any) -> dict[str, Any]:
    return {
        "name": "three",
        "resources": {"cpu": {"capacity": 2, "cost_per_hour": 3.6}},
        "tasks": [
            {"id": "a", "duration": 100, "resources": {"cpu": 1}},
            {
                "id": "b", "duration": 100, "depends_on": ["a"], "resources": {"cpu": 1},
                "modes": [{"name": "wide", "duration": 40, "resources": {"cpu": 2}}],
            },
            {"id": "c", "duration": 100, "depends_on": ["b"], "resources": {"cpu": 1}},
        ],
        "replanning": {"cooldown": 0},
        **more,
    }  # fmt: skip


def _late(**more: Any) -> tuple[ExecutionMonitor, VirtualClock]:
    """`a` took 150 s instead of 100: a slip of one sixth."""
    monitor, clock = _monitored(Plan.model_validate(_document(**more)))
    _do(monitor, clock, "a", 150.0)
    return monitor, clock


@pytest.mark.parametrize(
    ("there", "has"), [(2.5, 2.5), (2, 2), (5, 5), (1, 2)], ids=["more", "same", "most", "less"]
)
def test_a_capacity_that_is_asked_for_is_the_revisions(there: float, has: float) -> None:
    monitor, _ = _late(resources={"cpu": {"capacity": 2, "max_capacity": 4}})
    result = _engine(monitor).full_replan("asked", {"capacity": {"cpu": there}})
    assert result.verification_passed
    # In one of its modes b takes two: a plan with one unit could not be read any more.
    assert result.new_plan.resources["cpu"].capacity == has
    assert any("cpu" in change for change in result.changes) is (has != 2)
    assert Plan.model_validate(as_dict(result.new_plan)) == result.new_plan


def test_a_local_adjustment_changes_one_task() -> None:
    monitor, _ = _late()
    result = _engine(monitor).generate_local_adjustment("b", monitor.get_plan_deviation())
    assert result.verification_passed and result.strategy is AdaptiveReplanning.LOCAL
    assert result.modes == {"b": "wide"}
    assert result.changes == ("b in mode wide instead of default",)
    assert result.accepted_finish == T0 + timedelta(seconds=290)
    assert result.implementation_time is None, "no change-over was recorded"
    assert result.learning["deviations"] == {"a": pytest.approx(0.5)}
    other = _engine(monitor).generate_local_adjustment("c", monitor.get_plan_deviation())
    assert other.changes == (), "c has no lever"
    with pytest.raises(UnknownNameError):
        _engine(monitor).generate_local_adjustment("d", monitor.get_plan_deviation())


def _taught(plan: Plan, buffer: float) -> PlanOrchestrator:
    """A planner whom two runs taught that `c` takes longer."""
    memory = Memory()
    said = [
        Evidence(kind=LessonKind.DURATION, subject="c", statement="c needs a buffer", at=T0,
                 run=run, plan=plan.name, value=buffer)
        for run in ("r1", "r2")
    ]  # fmt: skip
    memory.learn(said, Consolidation())
    lessons = recall(memory.lessons(), plan, now=T0)
    return PlanOrchestrator(
        clock=_ticking(), policy=plan.replanning.policy, workers=1, lessons=lessons
    )


def test_replans_use_what_runs_taught_and_say_which() -> None:
    monitor, _ = _late()
    engine = _engine(monitor, taught=_taught(monitor.plan, 0.5))
    deviation = monitor.get_plan_deviation()
    full = engine.full_replan("because", {})
    (lesson,) = full.learning["lessons"]
    assert lesson.startswith("c needs a buffer (the same task")
    plain = _engine(monitor).full_replan("because", {})
    assert plain.learning["lessons"] == []
    assert full.modes == plain.modes == {"b": "wide"}
    assert full.finish is not None and plain.finish is not None
    assert full.finish - plain.finish == timedelta(seconds=50)
    # Both sides of a comparison are made with it: what is gained is not what was learned.
    options = engine.get_replanning_options(deviation, [], strategy=AdaptiveReplanning.FULL)
    wide = next(o for o in options if o.kind is Kind.ADD_RESOURCES)
    assert wide.lessons == (lesson,) and wide.timeline_impact == timedelta(seconds=-60)
    for strategy in (AdaptiveReplanning.LOCAL, AdaptiveReplanning.SEGMENT):
        part = engine.get_replanning_options(deviation, [], strategy=strategy)
        assert [o.lessons for o in part if o.kind is not Kind.ABORT] == [(lesson,)] * (
            len(part) - 1
        )
        assert {o.timeline_impact for o in part} >= {timedelta(seconds=-60)}
    local = engine.generate_local_adjustment("b", deviation)
    segment = engine.replan_segment("b", 2, {})
    assert local.finish == segment.finish == full.finish
    assert local.learning["lessons"] == segment.learning["lessons"] == [lesson]


def test_a_lesson_is_no_slip() -> None:
    """Whether to replan goes by the forecast, whatever earlier runs taught."""
    monitor, _ = _late()
    deviation = monitor.get_plan_deviation()
    plain = _engine(monitor).evaluate_replanning_need(deviation, [])
    taught = _engine(monitor, taught=_taught(monitor.plan, 0.5))
    found = taught.evaluate_replanning_need(deviation, [])
    assert found.slip == plain.slip and found.reasons == plain.reasons
    assert found.strategy is plain.strategy


def test_too_little_time_is_said_and_every_lever_is_tried_all_the_same() -> None:
    document = _document(deadline=301)
    document["replanning"] = {"cooldown": 0, "policy": {"budget_s": 0.001}}
    monitor, clock = _monitored(Plan.model_validate(document))
    _do(monitor, clock, "a", 150.0)
    engine = _engine(monitor)
    deviation = monitor.get_plan_deviation()
    found = engine.evaluate_replanning_need(deviation, [])
    options = engine.get_replanning_options(deviation, [], strategy=AdaptiveReplanning.FULL)
    assert Kind.ADD_RESOURCES in {o.kind for o in options}
    assert "add resources" in engine.hurried and "budget_s" in engine.hurried
    assert "0.001 s" in found.hurried
    calm = _engine(_late()[0])
    calm.get_replanning_options(deviation, [], strategy=AdaptiveReplanning.FULL)
    assert calm.hurried == ""


def test_with_history_a_promise_comes_from_the_law_of_the_forecast() -> None:
    plan = Plan.model_validate(_document(deadline=600))
    clock = VirtualClock(T0)
    context = ExecutionContext(
        plan_run=UUID(int=1), clock=clock, started_at=T0, journal=MemoryJournal()
    )
    monitor = ExecutionMonitor(
        plan, context, samples=100, history=one_after_another(plan, slow=0.2, runs=0.3, tasks=0.03)
    )
    _do(monitor, clock, "a", 200.0)
    engine = _engine(monitor)
    deviation, forecast = monitor.get_plan_deviation(), monitor.forecast()
    bare = engine.generate_local_adjustment("c", deviation)
    assert bare.changes == (), "c has no lever: that is what carrying on comes to"
    assert bare.finish is not None and bare.accepted_finish is not None
    promised = (bare.accepted_finish - T0).total_seconds()
    expected = float(np.quantile(forecast.finishes, 0.9))
    assert promised == pytest.approx(expected, rel=0.03)
    assert (bare.finish - T0).total_seconds() == pytest.approx(
        float(np.median(forecast.finishes)), rel=0.03
    )
    options = engine.get_replanning_options(deviation, [], strategy=AdaptiveReplanning.FULL)
    wide = next(o for o in options if o.changes)
    assert wide.finish is not None and wide.finish < bare.finish
    assert wide.samples == len(forecast.finishes), "not the planner's own scenarios"
    result = engine.adopt(wide, AdaptiveReplanning.FULL)
    assert result.accepted_finish == wide.accepted_finish


def test_a_mode_with_a_duration_of_its_own_is_not_forecast_by_what_was_learned() -> None:
    document = {
        "name": "learned",
        "tasks": [
            {"id": "a", "duration": 10},
            {"id": "b", "duration": "learned", "depends_on": ["a"],
             "modes": [{"name": "wide", "duration": 40}]},
        ],
    }  # fmt: skip
    plan = Plan.model_validate(document)
    runs = [
        PastRun(
            key=str(n),
            plan=plan.name,
            tasks=[
                PastTask(id="a", category="a", planned=10, actual=10, started=0, after=()),
                PastTask(id="b", category="b", planned=None, actual=100, started=10, after=("a",)),
            ],
        )
        for n in range(4)
    ]
    clock, journal = VirtualClock(T0), MemoryJournal()
    context = ExecutionContext(plan_run=UUID(int=1), clock=clock, started_at=T0, journal=journal)
    monitor = ExecutionMonitor(plan, context, samples=100, history=History.of(runs))
    _do(monitor, clock, "a", 10.0)
    assert monitor.brought_up()[1].course.end_of_all == pytest.approx(110, abs=1)
    promised = {"revision": 2, "p50": 50.0, "accepted": 50.0, "modes": {"b": "wide"}}
    journal.append(
        RunEvent(
            plan_run=UUID(int=1), kind=RunEventKind.REVISED, at=clock.now(), source="2",
            data=promised,
        )
    )  # fmt: skip
    revised = ExecutionMonitor(plan, context, samples=100, history=History.of(runs))
    assert revised.brought_up()[1].course.end_of_all == pytest.approx(50)


def test_options_are_priced() -> None:
    monitor, _ = _late()
    engine = _engine(monitor)
    deviation = monitor.get_plan_deviation()
    options = engine.get_replanning_options(deviation, [], strategy=AdaptiveReplanning.FULL)
    by_kind = {o.kind: o for o in options}
    assert set(by_kind) == {Kind.EXTEND, Kind.ADD_RESOURCES, Kind.ABORT} or set(by_kind) == {
        Kind.ADD_RESOURCES,
        Kind.ABORT,
    }
    wide = by_kind[Kind.ADD_RESOURCES]
    # 40 s × 2 units instead of 100 s × 1, at 3.6 an hour and unit.
    assert wide.cost_impact == pytest.approx(-0.02)
    assert wide.resource_impact == {"cpu": pytest.approx(-20 / 3600)}
    assert wide.timeline_impact == timedelta(seconds=-60)
    assert wide.as_dict()["stability"] == wide.stability.value if wide.stability else False


def test_constraints() -> None:
    monitor, _ = _late(deadline=1000)
    engine = _engine(monitor)
    for given_, modes in (
        ({"deadline": 300}, {"b": "wide"}),
        ({"deadline": timedelta(seconds=300), "pin": ["b"]}, {}),
        ({"exclude": {"b": "wide"}, "deadline": T0 + timedelta(seconds=300)}, {}),
        ({"replace": {"b": "wide"}}, {"b": "wide"}),
        # The mode that it is planned in is one of those that may be excluded.
        ({"exclude": {"b": "default"}}, {"b": "wide"}),
        ({"pin": "b", "deadline": 300}, {}),
    ):
        result = engine.full_replan("asked", given_)
        assert result.verification_passed and result.modes == modes, given_
    tight = engine.full_replan("asked", {"capacity": {"cpu": 0.5}})
    assert not tight.verification_passed and "of which there is 0.5" in tight.why_not
    for wrong, said in (
        ({"dead": 1}, "no constraint dead; there are deadline"),
        ({"capacity": {"gpu": 1}}, "no resource 'gpu'"),
        ({"budget_s": 0}, "give seconds above 0"),
        ({"budget_s": float("inf")}, "give seconds above 0"),
        ({"budget_s": "long"}, "give seconds above 0"),
        ({"deadline": float("nan")}, "give a datetime, a timedelta or seconds"),
        ({"deadline": True}, "give a datetime, a timedelta or seconds"),
        ({"capacity": {"cpu": "two"}}, "'two' is no number; give units, 0 or more"),
        ({"capacity": {"cpu": -1}}, "-1 is less than none"),
        ({"capacity": ["cpu"]}, "give resource → units"),
        ({"pin": 3}, "3 is not a list of tasks"),
        ({"exclude": {"b": ["default", "wide"]}}, "it leaves b no mode"),
        ({"exclude": {"x": "wide"}}, "no task 'x'"),
        ({"replace": {"b": 1}}, "1 is no mode of b"),
        ({"replace": {"b": "wide"}, "pin": ["b"]}, "b cannot do both"),
        ({"replace": {"b": "wide"}, "exclude": {"b": "wide"}}, "in mode wide, and not to be"),
        ({"deadline": "soon"}, "give a datetime, a timedelta or seconds"),
        ({"pin": ["x"]}, "no task 'x'"),
        ({"exclude": {"b": ["fast"]}}, "no mode 'fast'"),
    ):
        with pytest.raises(PlanError, match=said):
            engine.full_replan("asked", wrong)
    with pytest.raises(PlanError, match="a segment of 0 tasks"):
        engine.replan_segment("b", 0, {})
    with pytest.raises(PlanError, match="is no mapping"):
        engine.full_replan("asked", ["deadline"])  # type: ignore[arg-type]


def test_a_deadline_that_is_asked_for_is_what_the_confidence_is_about() -> None:
    monitor, _ = _late()
    engine = _engine(monitor)
    tight = engine.full_replan("asked", {"deadline": 280, "pin": ["b"]})
    assert tight.verification_passed and tight.confidence == 0.0
    assert tight.acceptance["p_deadline"] is None, "the plan has none"
    assert engine.full_replan("asked", {"deadline": 290}).confidence == 1.0
    assert engine.full_replan("asked", {}).confidence == 1.0, "of the accepted finish"


def test_what_has_begun_is_not_replaced_and_what_failed_for_good_may_be() -> None:
    monitor, clock = _late()
    monitor.record_task_start("b", clock.now(), {"cpu": 1})
    with pytest.raises(PlanError, match="b has begun in mode default"):
        _engine(monitor).full_replan("", {"replace": {"b": "wide"}})
    clock.advance(timedelta(seconds=10))
    monitor.record_task_completion("b", clock.now(), None, {}, TaskOutcome.FAILURE)
    monitor.record_task_start("b", clock.now(), {"cpu": 2}, mode="wide")
    clock.advance(timedelta(seconds=10))
    monitor.record_task_completion("b", clock.now(), None, {}, TaskOutcome.FAILURE)
    engine = _engine(monitor)
    found = engine.evaluate_replanning_need(monitor.get_plan_deviation(), [])
    assert found.strategy is AdaptiveReplanning.ABORT, "both modes have failed"
    assert not engine.full_replan("", {}).verification_passed
    again = engine.full_replan("somebody has mended it", {"replace": {"b": "wide"}})
    assert again.verification_passed and again.modes == {"b": "wide"}
    assert again.changes == ("b is done again in mode wide",)


def test_the_way_on_of_a_run_that_never_finishes_is_never_too_late() -> None:
    monitor, clock = _late()
    _do(monitor, clock, "b", 10.0, TaskOutcome.FAILURE)
    engine = _engine(monitor, changeovers=[timedelta(hours=1)])
    found = engine.evaluate_replanning_need(monitor.get_plan_deviation(), [])
    assert found.strategy is AdaptiveReplanning.FULL and not found.too_late
    assert found.estimated_time_impact is not None


def test_a_probability_that_hovers_does_not_flap() -> None:
    monitor, _ = _late(deadline=340)
    need = _engine(monitor)._watch.need([], monitor.get_plan_deviation())
    weighing = replace(need.weighing, p_accepted=1.0)
    open_ = replace(weighing, open_rules=frozenset({Rule.PROBABILITY}))

    def calls(weighing: Weighing, probability: float) -> bool:
        return Rule.PROBABILITY in {r.rule for r in weighing.reasons(0.0, probability)}

    assert calls(weighing, 0.69) and not calls(weighing, 0.7)
    # Back by a fifth of what 0.7 misses to certainty.
    assert calls(open_, 0.75) and not calls(open_, 0.76)


def test_a_run_that_takes_no_time_has_a_confidence_too() -> None:
    document = _document(deadline=1000)
    for task in document["tasks"][1:]:
        task |= {"duration": {"optimistic": 0, "likely": 0, "pessimistic": 100}, "modes": []}
    monitor, clock = _monitored(Plan.model_validate(document))
    _do(monitor, clock, "a", 0.0)
    for task in ("b", "c"):
        _do(monitor, clock, task, 0.0)
    deviation = monitor.get_plan_deviation()
    assert deviation.slip == -1.0
    found = _engine(monitor).evaluate_replanning_need(deviation, [])
    assert found.strategy is AdaptiveReplanning.NONE and found.confidence == 1.0


def test_a_tasks_own_deadline_is_a_risk_of_an_option() -> None:
    document = _document(deadline=1000)
    document["tasks"][2]["deadline"] = 320
    monitor, clock = _monitored(Plan.model_validate(document))
    _do(monitor, clock, "a", 150.0)
    engine = _engine(monitor)
    options = engine.get_replanning_options(
        monitor.get_plan_deviation(), [], strategy=AdaptiveReplanning.FULL
    )
    told = "c ends at 350 s, 30 s after its own deadline"
    late = [o for o in options if told in o.risks]
    assert all(o.finish == T0 + timedelta(seconds=350) for o in late)
    pinned = engine.full_replan("", {"pin": ["b"]})
    assert pinned.proposal is not None
    assert [str(o) for o in pinned.proposal.verification.overdue] == [told]
    assert not pinned.proposal.verification.in_time and pinned.verification_passed


def test_cooldown_holds_a_response_back_and_says_so() -> None:
    monitor, clock = _late(replanning={"cooldown": "60s"})
    engine = _engine(monitor, replanned_at=clock.now() - timedelta(seconds=59))
    found = engine.evaluate_replanning_need(monitor.get_plan_deviation(), [])
    assert found.strategy is AdaptiveReplanning.NONE and "cooldown" in found.held
    assert found.reasons, "they are told all the same"
    clock.advance(timedelta(seconds=1))
    found = engine.evaluate_replanning_need(monitor.get_plan_deviation(), [])
    assert found.replanning_needed and not found.held


def test_replans_are_used_up_once() -> None:
    monitor, _ = _late(replanning={"cooldown": 0, "max_replans": 1})
    engine = _engine(monitor, replans=1)
    found = engine.evaluate_replanning_need(monitor.get_plan_deviation(), [])
    assert found.strategy is AdaptiveReplanning.NONE and found.escalate
    assert "all 1 replans of this run are used up" in found.rationale


def test_a_figure_that_hovers_does_not_flap() -> None:
    document = _document()
    document["tasks"] += [{"id": f"d{k}", "duration": 100, "depends_on": ["c"]} for k in range(3)]
    monitor, clock = _monitored(Plan.model_validate(document))
    engine = _engine(monitor)
    base = monitor.baseline.p50
    assert base is not None
    _do(monitor, clock, "a", 100 + 0.11 * base)
    first = engine.evaluate_replanning_need(monitor.get_plan_deviation(), [])
    assert {r.rule for r in first.reasons} == {Rule.SLIP}
    _do(monitor, clock, "b", 100 - 0.02 * base)
    again = engine.evaluate_replanning_need(monitor.get_plan_deviation(), [])
    assert again.slip == pytest.approx(0.09) and again.replanning_needed, "still open"
    fresh = _engine(monitor).evaluate_replanning_need(monitor.get_plan_deviation(), [])
    assert not fresh.replanning_needed, "by itself 0.09 is tolerated"


def test_too_late_is_said_where_change_overs_take_longer_than_is_gained() -> None:
    monitor, _ = _late()
    long = _engine(monitor, changeovers=[timedelta(seconds=100), timedelta(seconds=120)])
    found = long.evaluate_replanning_need(monitor.get_plan_deviation(), [])
    assert found.too_late and "too late" in found.rationale
    short = _engine(monitor, changeovers=[timedelta(seconds=10)])
    assert not short.evaluate_replanning_need(monitor.get_plan_deviation(), []).too_late
    result = short.full_replan("", {})
    assert result.implementation_time == timedelta(seconds=10)


def test_an_option_is_adopted_as_it_was_shown() -> None:
    monitor, _ = _late()
    engine = _engine(monitor)
    deviation = monitor.get_plan_deviation()
    options = engine.get_replanning_options(deviation, [])
    assert engine.get_replanning_options(deviation, []) == options, "of the same state the same"
    result = engine.adopt(options[0], AdaptiveReplanning.FULL)
    assert result.verification_passed and result.changes == options[0].changes
    with pytest.raises(PlanError, match="an abort has no new plan"):
        engine.adopt(options[-1], AdaptiveReplanning.ABORT)


def test_a_failed_task_that_is_not_required_is_helped_locally() -> None:
    document = _document()
    document["tasks"].append(
        {"id": "extra", "duration": 10, "depends_on": ["a"], "optional": True,
         "rerunnable": True, "value": 0.1}
    )  # fmt: skip
    monitor, clock = _monitored(Plan.model_validate(document))
    _do(monitor, clock, "a", 100.0)
    _do(monitor, clock, "extra", 5.0, TaskOutcome.FAILURE)
    found = _engine(monitor).evaluate_replanning_need(monitor.get_plan_deviation(), [])
    assert found.strategy is AdaptiveReplanning.LOCAL
    assert [r.rule for r in found.reasons] == [Rule.FAILED_OPTIONAL]
    assert "can be done again" in found.rationale


def test_the_cone_of_a_block_is_left_out_and_all_blocked_aborts() -> None:
    document = _document()
    document["assumptions"] = [
        {"id": "site", "criticality": "critical", "affects": ["b", "c"],
         "milestones": [{"after": "a"}], "effect": {"block": True}}
    ]  # fmt: skip
    monitor, clock = _monitored(Plan.model_validate(document))
    _do(monitor, clock, "a", 100.0)
    gone = [Violated("site")]
    found = _engine(monitor, gone).evaluate_replanning_need(monitor.get_plan_deviation(), gone)
    assert found.strategy is AdaptiveReplanning.ABORT and found.escalate
    assert Rule.ALL_BLOCKED in {r.rule for r in found.reasons}
    assert found.risk_level == "high"


def test_each_violation_is_weighed_against_one_schedule_of_the_run_under_all() -> None:
    document = _document()
    document["assumptions"] = [
        {"id": f"a{k}", "affects": [task], "milestones": [{"after": "a"}],
         "effect": {"duration_factor": 1.0 + k}}
        for k, task in enumerate("bbc")
    ]  # fmt: skip
    monitor, clock = _monitored(Plan.model_validate(document))
    _do(monitor, clock, "a", 100.0)

    class Counts(PlanOrchestrator):
        made = 0

        def generate(self, *given: Any, **named: Any) -> Any:
            Counts.made += 1
            return super().generate(*given, **named)

    slower = [Violated(f"a{k}") for k in range(3)]
    view = picture(monitor, slower)
    late = beyond_float(view, Counts(clock=_ticking(), workers=1), seed=0)
    # `a0` makes nothing longer, the others what the finish waits for.
    assert late == {"a1", "a2"}
    assert Counts.made == 1 + 3, "under all of them once, and without each"


def test_where_nothing_can_be_carried_out_the_conflict_is_told() -> None:
    document = _document(deadline=500)
    document["tasks"][2]["resources"] = {"cpu": 2}
    document["assumptions"] = [
        {"id": "cores", "affects": ["b", "c"], "milestones": [{"after": "a"}],
         "effect": {"capacity": {"cpu": 1}}}
    ]  # fmt: skip
    monitor, clock = _monitored(Plan.model_validate(document))
    _do(monitor, clock, "a", 100.0)
    short = [Violated("cores")]
    engine = _engine(monitor, short)
    found = engine.evaluate_replanning_need(monitor.get_plan_deviation(), short)
    assert found.strategy is AdaptiveReplanning.SEGMENT
    told = "the rest cannot be done as things stand: 'c' needs 2 of 'cpu', of which there is 1"
    assert told in found.rationale
    options = engine.get_replanning_options(monitor.get_plan_deviation(), short)
    assert [o.kind for o in options] == [Kind.ABORT]


def test_a_failure_that_no_goal_needs_is_reported() -> None:
    document = _document()
    document["tasks"].append({"id": "extra", "duration": 10, "depends_on": ["a"], "optional": True})
    monitor, clock = _monitored(Plan.model_validate(document))
    _do(monitor, clock, "a", 100.0)
    _do(monitor, clock, "extra", 5.0, TaskOutcome.FAILURE)
    found = _engine(monitor).evaluate_replanning_need(monitor.get_plan_deviation(), [])
    assert found.strategy is AdaptiveReplanning.NONE and found.reasons == ()
    assert found.rationale.startswith("extra failed and cannot be helped, but is not required")


def test_a_late_run_that_is_over_needs_nothing() -> None:
    monitor, clock = _late()
    _do(monitor, clock, "b", 100.0)
    _do(monitor, clock, "c", 100.0)
    assert monitor.finished
    found = _engine(monitor).evaluate_replanning_need(monitor.get_plan_deviation(), [])
    assert found.strategy is AdaptiveReplanning.NONE and found.reasons == ()


def test_what_nobody_knows_is_null_and_calls_for_nothing() -> None:
    document = _document(deadline=1000)
    del document["tasks"][2]["duration"]
    monitor, clock = _monitored(Plan.model_validate(document))
    _do(monitor, clock, "a", 300.0)
    engine = _engine(monitor)
    deviation = monitor.get_plan_deviation()
    found = engine.evaluate_replanning_need(deviation, [])
    assert found.strategy is AdaptiveReplanning.NONE
    assert found.slip is None and found.p_deadline is None and found.confidence is None
    options = engine.get_replanning_options(deviation, [])
    assert [o.kind for o in options] == [Kind.ABORT]
    result = engine.full_replan("", {})
    assert not result.verification_passed and "no duration is known of c" in result.why_not


def test_what_is_blocked_behind_a_failure_is_no_failure_of_its_own() -> None:
    document = _document()
    document["tasks"][1]["rerunnable"] = True
    monitor, clock = _monitored(Plan.model_validate(document))
    _do(monitor, clock, "a", 100.0)
    _do(monitor, clock, "b", 5.0, TaskOutcome.FAILURE)
    monitor.record_task_start("c", clock.now(), {})
    monitor.record_task_completion("c", clock.now(), None, {}, TaskOutcome.BLOCKED)
    engine = _engine(monitor)
    found = engine.evaluate_replanning_need(monitor.get_plan_deviation(), [])
    assert found.strategy is AdaptiveReplanning.FULL
    assert [r.rule for r in found.reasons] == [Rule.FAILED_REQUIRED]
    result = engine.full_replan("", {})
    assert result.verification_passed
    assert result.changes[0].startswith("b is done again in mode")
    assert result.proposal is not None and "c" in result.proposal.starts

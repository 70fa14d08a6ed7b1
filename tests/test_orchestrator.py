"""Generate, verify, simulate, refine: proposals for a plan and for what is left of one."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from athena_prefect.learning.memory import Consolidation, Evidence, LessonKind, Memory, recall
from athena_prefect.orchestrator import Phase6Orchestrator, PlanOrchestrator
from athena_prefect.plan.model import Plan
from athena_prefect.schedule.answer import Answer, Objective
from athena_prefect.schedule.generate import generate
from athena_prefect.schedule.proposal import stability
from athena_prefect.schedule.robustness import Scenario
from athena_prefect.schedule.standing import Levers, Standing
from tests.schedule.rests import ticking


def _plan(**more: Any) -> Plan:
    three = {"optimistic": 8, "likely": 10, "pessimistic": 18}
    return Plan.model_validate(
        {
            "name": "p",
            "resources": {"cpu": {"capacity": 2, "cost_per_hour": 36.0}},
            "tasks": [
                {"id": "a", "duration": three, "resources": {"cpu": 1}},
                {"id": "b", "duration": three, "resources": {"cpu": 1},
                 "modes": [{"name": "wide", "duration": 4, "resources": {"cpu": 2}}]},
                {"id": "c", "duration": three, "resources": {"cpu": 1},
                 "depends_on": ["a", {"task": "b", "kind": "soft"}]},
                {"id": "extra", "duration": 30, "resources": {"cpu": 1}, "depends_on": ["a"],
                 "optional": True, "value": 0.5},
            ],
            **more,
        }
    )  # fmt: skip


def _planner() -> Phase6Orchestrator:
    return PlanOrchestrator(clock=ticking(0.005), workers=1)


def test_a_proposal_is_verified_and_simulated() -> None:
    proposal = _planner().propose(Standing(plan=_plan(), deadline=100.0))
    robust = proposal.robustness
    assert proposal.feasible and robust is not None
    assert robust.p_deadline == 1.0
    values = list(robust.quantiles.values())
    assert values == sorted(values) and robust.accepted == robust.quantiles["p90"]
    assert proposal.changes == () and proposal.verification.in_time


def test_the_named_scenarios_are_in_order() -> None:
    planner = _planner()
    standing = Standing(plan=_plan())
    answer = planner.generate(standing)
    robust = planner.simulate(standing, answer, criticality=True)
    assert set(robust.criticality) == {"a", "b", "c", "extra"}
    proposal = planner.propose(standing)
    found = proposal.scenarios
    assert set(found) == set(Scenario)
    assert found[Scenario.BEST] < found[Scenario.NOMINAL] < found[Scenario.WORST]
    assert found[Scenario.NOMINAL] <= found[Scenario.EDGE]
    assert found[Scenario.RECOVERY] > found[Scenario.NOMINAL]


def test_levers_are_pulled_as_far_as_needed_and_told() -> None:
    levers = Levers(
        modes={"b": ("wide",)}, droppable=frozenset({"extra"}), soft=frozenset({("b", "c")})
    )
    proposal = _planner().propose(Standing(plan=_plan(), deadline=30.0), levers)
    assert proposal.feasible and proposal.robustness is not None
    assert proposal.answer.dropped == ("extra",) and proposal.value_lost == 0.5
    assert "extra is left out" in [str(c) for c in proposal.changes]
    assert "extra" not in proposal.plan.task_ids
    assert proposal.changes[0].as_dict()["words"] == str(proposal.changes[0])


def test_no_schedule_says_why() -> None:
    proposal = _planner().propose(Standing(plan=_plan(), capacities={"cpu": 0.5}))
    assert not proposal.feasible and proposal.robustness is None
    assert "'a' needs 1 of 'cpu', of which there is 0.5" in proposal.why_not
    unknown = Plan.model_validate({"name": "u", "tasks": [{"id": "a", "call": "m:f"}]})
    proposal = _planner().propose(Standing(plan=unknown))
    assert "no duration is known of a" in proposal.why_not
    assert proposal.modes == {} and proposal.spans == {}


def test_an_answer_is_made_again_where_the_deadline_is_not_sure() -> None:
    plan = _plan()
    levers = Levers(modes={"b": ("wide",)}, droppable=frozenset({"extra"}))
    planner = _planner()
    # By its planned durations the narrow mode is in time; by the simulation it is not.
    standing = Standing(plan=plan, deadline=40.7)
    once = planner.generate(standing, levers, objective=Objective.COST)
    assert once.makespan is not None
    proposal = planner.propose(standing, levers, objective=Objective.COST)
    assert proposal.robustness is not None
    sure = proposal.robustness.p_deadline
    first = planner.simulate(standing, once).p_deadline
    assert sure is not None and first is not None and sure >= first
    assert proposal.standing.deadline == proposal.answer.rest.deadline == 40.7


def test_stability_is_one_where_nothing_changes() -> None:
    standing = Standing(plan=_plan(), deadline=100.0)
    proposal = _planner().propose(standing)
    old = proposal.starts
    assert proposal.answer.makespan is not None
    same = stability(standing, old, proposal.answer.makespan, proposal)
    assert (same.value, same.mean_shift, same.moved) == (1.0, 0.0, 0.0)
    later = {t: s + 10.0 for t, s in old.items()}
    moved = stability(standing, later, proposal.answer.makespan, proposal)
    assert moved.mean_shift == pytest.approx(10.0) and moved.moved == 1.0
    expected = 1 - 10.0 / proposal.answer.makespan / 1.5
    assert moved.value == pytest.approx(expected)


def test_lessons_that_are_sure_change_the_schedule_and_are_told() -> None:
    plan = _plan()
    at = datetime(2026, 1, 5, tzinfo=UTC)
    memory = Memory()
    given = [
        Evidence(kind=LessonKind.DURATION, subject="a", statement="a needs a buffer of 50 %", at=at,
                run=run, plan=plan.name, value=0.5)
        for run in ("r1", "r2")
    ]  # fmt: skip
    memory.learn(given, Consolidation())
    before = _planner().generate(Standing(plan=plan))
    planner = PlanOrchestrator(
        clock=ticking(0.005), workers=1, lessons=recall(memory.lessons(), plan, now=at)
    )
    answer = planner.generate(Standing(plan=plan))
    assert answer.lessons == ("a needs a buffer of 50 % (the same task; 2 runs, P 0.83)",)
    assert before.lessons == ()
    assert answer.makespan is not None and before.makespan is not None
    assert answer.makespan > before.makespan
    assert planner.verify(Standing(plan=plan), answer).passed
    proposal = planner.propose(Standing(plan=plan, deadline=100.0))
    assert proposal.feasible and set(proposal.standing.estimates) == {"a"}
    begun = Standing(plan=plan, spans={("a", None): (0.0, 10.0)}, now=1.0)
    assert planner.generate(begun).lessons == (), "what has begun takes what it takes"


@pytest.mark.parametrize(("items", "least", "most"), [(1, 0.99, 1.0), (10_000, 0.6, 0.75)])
def test_time_to_prove_and_simulate_a_large_schedule_is_kept_of_the_budget(
    items: int, least: float, most: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[float] = []

    def generated(*args: Any, budget_s: float, **options: Any) -> Answer:
        given.append(budget_s)
        return generate(*args, budget_s=budget_s, **options)

    monkeypatch.setattr("athena_prefect.orchestrator.generate", generated)
    tasks = [
        {"id": "list", "duration": 1},
        {"id": "each", "duration": 1, "inputs": {"x": "list"}, "map_over": "x",
         "expected_items": items},
    ]  # fmt: skip
    plan = Plan.model_validate({"name": "many", "tasks": tasks, "runner": {"max_workers": 64}})
    planner = PlanOrchestrator(clock=ticking(0.01), workers=1)
    proposal = planner.propose(Standing(plan=plan), budget_s=1.0)
    assert proposal.feasible and least <= given[0] <= most

"""The checker of revisions: what can be carried out passes, whatever is broken is named."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from itertools import product

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from athena_prefect.orchestrator import PlanOrchestrator
from athena_prefect.plan.model import Estimate, Plan, When
from athena_prefect.plan.revision import revised
from athena_prefect.schedule.answer import Objective
from athena_prefect.schedule.proposal import Proposal, claim_of
from athena_prefect.schedule.standing import Standing
from athena_prefect.schedule.verification import Claim, Flaw, verify
from tests.schedule.rests import ticking
from tests.schedule.standings import all_levers, plans, standings


def _proposal(standing: Standing, objective: Objective = Objective.TARDINESS) -> Proposal:
    planner = PlanOrchestrator(clock=ticking(0.01), workers=1)
    return planner.propose(standing, all_levers(standing.plan), objective=objective, budget_s=1.0)


def _claim(proposal: Proposal) -> Claim:
    return claim_of(
        proposal.standing, proposal.answer, proposal.levers, proposal.plan, proposal.modes
    )


@settings(max_examples=60, deadline=None)
@given(standings(uncertain=True), st.sampled_from(list(Objective)))
def test_every_revision_passes(standing: Standing, objective: Objective) -> None:
    proposal = _proposal(standing, objective)
    if proposal.answer.schedule is None:
        assert proposal.why_not
        return
    assert proposal.verification.objections == ()
    assert proposal.robustness is not None and proposal.robustness.samples >= 1
    late = proposal.verification.late
    if standing.deadline is not None:
        assert proposal.answer.makespan is not None
        assert (late is not None) == (proposal.answer.makespan > standing.deadline + 1e-6)
    # Dropped tasks and cut dependencies are in the plan that results, not only in words.
    assert set(proposal.plan.task_ids) == set(standing.plan.task_ids) - set(proposal.answer.dropped)


@settings(max_examples=60, deadline=None)
@given(standings(), st.data())
def test_a_mutated_schedule_fails(standing: Standing, data: st.DataObject) -> None:
    proposal = _proposal(standing)
    assume(proposal.feasible)
    claim = _claim(proposal)
    free = [i for i in claim.spans if i not in claim.begun]
    assume(free)
    item = data.draw(st.sampled_from(free))
    start, finish = claim.spans[item]
    kind = data.draw(st.sampled_from(["past", "shorter", "missing", "mode", "goal"]))
    if kind == "past":
        broken = replace(
            claim,
            spans={**claim.spans, item: (claim.now - 1.0, claim.now - 1.0 + finish - start)},
        )
        assert Flaw.PAST in _flaws(broken)
    elif kind == "shorter":
        broken = replace(claim, spans={**claim.spans, item: (start, finish + 1.0)})
        assert Flaw.DURATION in _flaws(broken)
    elif kind == "missing":
        spans = {i: s for i, s in claim.spans.items() if i != item}
        assert Flaw.UNPLANNED in _flaws(replace(claim, spans=spans))
    elif kind == "mode":
        assert Flaw.MODE in _flaws(replace(claim, modes={**claim.modes, item[0]: "no such"}))
    else:
        assume(item[0] in standing.plan.required)
        gone = revised(claim.plan, dropped=[item[0]])
        assert {Flaw.GOAL, Flaw.UNPLANNED} <= _flaws(replace(claim, plan=gone))


def _flaws(claim: Claim) -> set[Flaw]:
    return {o.flaw for o in verify(claim).objections}


IN_TURN: dict[tuple[str, int | None], tuple[float, float]] = {
    ("a", None): (0.0, 2.0),
    ("b", None): (2.0, 3.0),
    ("c", None): (3.0, 5.0),
}


def _tiny() -> Plan:
    return Plan.model_validate(
        {
            "name": "tiny",
            "resources": {"cpu": {"capacity": 2}},
            "runner": {"max_workers": 2},
            "tasks": [
                {"id": "a", "duration": 2, "resources": {"cpu": 1}},
                {"id": "b", "duration": 1, "resources": {"cpu": 2}},
                {"id": "c", "duration": 2, "resources": {"cpu": 1},
                 "depends_on": [{"task": "a", "lag": 1}]},
            ],
        }
    )  # fmt: skip


def test_it_agrees_with_brute_force_on_small_plans() -> None:
    plan = _tiny()
    for a, b, c in product(range(6), repeat=3):
        claim = Claim(
            plan=plan,
            original=plan,
            now=0.0,
            spans={
                ("a", None): (a, a + 2.0), ("b", None): (b, b + 1.0), ("c", None): (c, c + 2.0),
            },
        )  # fmt: skip
        cpu = [(a <= t < a + 2) + 2 * (b <= t < b + 1) + (c <= t < c + 2) for t in range(8)]
        right = c >= a + 3 and max(cpu) <= 2
        assert verify(claim).passed == right, (a, b, c)


def test_conflicts_are_told_in_words() -> None:
    plan = _tiny()
    claim = Claim(
        plan=plan,
        original=plan,
        now=0.0,
        spans={("a", None): (0.0, 2.0), ("b", None): (1.0, 2.0), ("c", None): (2.0, 4.0)},
        deadline=3.0,
    )
    found = verify(claim)
    assert [str(o) for o in found.objections] == [
        "c starts at 2 s, but waits for a, which ends at 2 s and a lag of 1 s",
        "at 1 s a, b take 3 of cpu, of which there is 2",
    ]
    assert found.late is not None and not found.in_time
    assert str(found.late) == "a, c end at 4 s, 1 s after the deadline"


def test_what_waits_in_a_circle_is_found() -> None:
    plan = _tiny()
    spans = IN_TURN
    claim = Claim(plan=plan, original=plan, now=0.0, spans=spans)
    assert verify(claim).passed
    arcs = ((("c", None), ("b", None)), (("b", None), ("a", None)))
    *early, deadlock = verify(replace(claim, arcs=arcs)).objections
    assert {o.flaw for o in early} == {Flaw.PRECEDENCE}
    assert str(early[0]) == "b starts at 2 s, but gets its units from c, which ends at 5 s"
    assert deadlock.flaw is Flaw.DEADLOCK and set(deadlock.tasks) == {"a", "b", "c"}
    circle = plan.model_copy(
        update={
            "tasks": (
                plan.tasks[0].model_copy(update={"depends_on": plan.tasks[2].depends_on}),
                *plan.tasks[1:],
            )
        }
    )
    (found,) = verify(replace(claim, plan=circle)).objections
    assert found.flaw is Flaw.CYCLE and "waits for" in found.message
    dangling = revised(plan, dropped=["a"]).model_copy(
        update={"tasks": (plan.tasks[1], plan.tasks[2])}
    )
    (found,) = verify(replace(claim, plan=dangling)).objections
    assert found.flaw is Flaw.REFERENCE and found.message == "c waits for a, which is no task"


def test_work_that_has_begun_stays_as_it_is() -> None:
    plan = _tiny()
    spans = IN_TURN
    claim = Claim(plan=plan, original=plan, now=1.0, spans=spans, begun={("a", None): (0.0, 2.0)})
    assert verify(claim).passed
    moved = replace(claim, spans={**spans, ("a", None): (0.5, 2.0)})
    assert Flaw.FINISHED in _flaws(moved)
    other = plan.model_copy(
        update={"tasks": (plan.tasks[0].model_copy(update={"call": "x:y"}), *plan.tasks[1:])}
    )
    assert Flaw.FINISHED in _flaws(replace(claim, plan=other))


def test_a_mode_that_is_barred_is_refused() -> None:
    claim = Claim(plan=_tiny(), original=_tiny(), now=0.0, spans=IN_TURN)
    (found,) = verify(replace(claim, barred={"a": {"default"}})).objections
    assert found.flaw is Flaw.MODE and str(found) == "a is not to be done in mode default"
    begun = replace(claim, barred={"a": {"default"}}, begun={("a", None): (0.0, 2.0)})
    assert verify(begun).passed, "what has begun is as it is"


def test_a_tasks_own_deadline_is_told_apart_like_the_plans() -> None:
    plan = _tiny()
    tasks = (*plan.tasks[:2], plan.tasks[2].model_copy(update={"deadline": timedelta(seconds=4)}))
    own = plan.model_copy(update={"tasks": tasks})
    claim = Claim(plan=own, original=own, now=0.0, spans=IN_TURN, deadline=9.0)
    found = verify(claim)
    assert found.passed and found.late is None and not found.in_time
    assert [str(o) for o in found.overdue] == ["c ends at 5 s, 1 s after its own deadline"]
    assert verify(replace(claim, over={("c", None)})).overdue == (), "nothing helps any more"


def test_a_mapped_task_is_done_when_all_of_its_items_are() -> None:
    plan = _rich()
    claim = _running()
    items = {i: s for i, s in claim.spans.items() if i[0] == "spread"}
    first = next(iter(items))
    some = replace(claim, left_out={"spread"}, over={*claim.over, first})
    assert Flaw.GOAL in {o.flaw for o in verify(some).objections}, plan.name


def test_what_cannot_run_is_not_planned() -> None:
    plan = _tiny()
    spans = IN_TURN
    claim = Claim(plan=plan, original=plan, now=0.0, spans=spans)
    assert _flaws(replace(claim, left_out=frozenset({"c"}))) == {Flaw.GOAL, Flaw.UNPLANNED}
    assert _flaws(replace(claim, blocked=frozenset({"c"}))) == {Flaw.BLOCKED}


@settings(max_examples=150, deadline=None)
@given(plans(most=5), st.data())
def test_it_agrees_with_brute_force_on_random_plans(plan: Plan, data: st.DataObject) -> None:
    """Schedules that can be carried out, and others a few seconds off, second by second."""
    modes = {t.id: data.draw(st.sampled_from(t.mode_names)) for t in plan.tasks}
    lengths: dict[str, float] = {}
    for task in plan.tasks:
        estimate = task.mode(modes[task.id]).estimate
        assert estimate is not None
        lengths[task.id] = estimate.likely.total_seconds()
    starts, at = dict[str, float](), 1.0
    for task in plan.tasks:  # one after the other, in the order of the document
        lag = max((d.lag.total_seconds() for d in task.upstream), default=0.0)
        starts[task.id] = at + lag
        at += lag + lengths[task.id]
    for task_id in data.draw(st.lists(st.sampled_from(sorted(starts)), max_size=3)):
        starts[task_id] += data.draw(st.integers(-6, 3))
    ends = {t: starts[t] + lengths[t] for t in starts}
    claim = Claim(
        plan=plan, original=plan, now=1.0, modes=modes,
        spans={(t, None): (starts[t], ends[t]) for t in starts},
    )  # fmt: skip
    right = all(s >= 1.0 for s in starts.values())
    for task in plan.tasks:
        right &= all(starts[task.id] >= ends[d.task] + d.lag.total_seconds() for d in task.upstream)
    for second in range(-6, 60):
        runs = [t for t in starts if starts[t] <= second < ends[t]]
        used = sum(plan.get_task(t).mode(modes[t]).resources.get("cpu", 0.0) for t in runs)
        right &= used <= plan.resources["cpu"].capacity and len(runs) <= plan.runner.max_workers
    assert verify(claim).passed == right


def _rich() -> Plan:
    """A plan that has something of everything that can be broken."""
    return Plan.model_validate(
        {
            "name": "rich",
            "resources": {"cpu": {"capacity": 2}},
            "runner": {"max_workers": 4},
            "goals": ["join"],
            "tasks": [
                {"id": "made", "duration": 3, "call": "m:made", "resources": {"cpu": 1}},
                {"id": "left", "duration": 4, "resources": {"cpu": 1}, "timeout": 9,
                 "inputs": {"x": "made"}, "modes": [{"name": "other", "duration": 2}]},
                {"id": "right", "duration": 4, "resources": {"cpu": 2},
                 "depends_on": [{"task": "made", "lag": 1}]},
                {"id": "spread", "duration": 2, "map_over": "x", "expected_items": 3,
                 "inputs": {"x": "made"}, "resources": {"cpu": 1}},
                {"id": "join", "duration": 1, "depends_on": ["left", "right", "spread"]},
            ],
        }
    )  # fmt: skip


def _running() -> Claim:
    """A revision of it that can be carried out: `made` is done, the rest is still to begin."""
    begun: dict[tuple[str, int | None], tuple[float, float]] = {("made", None): (0.0, 3.0)}
    standing = Standing(
        plan=_rich(), now=5.0, spans=begun, over=frozenset(begun), only_mode={"left": "other"}
    )
    proposal = _proposal(standing)
    claim = _claim(proposal)
    assert proposal.feasible and verify(claim).passed
    return claim


def _shift(claim: Claim, task: str, by: float) -> Claim:
    moved = {i: (s + by, f + by) if i[0] == task else (s, f) for i, (s, f) in claim.spans.items()}
    return replace(claim, spans=moved)


def _with(claim: Claim, task: str, **fields: object) -> Claim:
    tasks = tuple(t.model_copy(update=fields) if t.id == task else t for t in claim.plan.tasks)
    return replace(claim, plan=claim.plan.model_copy(update={"tasks": tasks}))


def _without(claim: Claim, task: str) -> Claim:
    spans = {i: s for i, s in claim.spans.items() if i[0] != task}
    return replace(claim, spans=spans)


def _together(claim: Claim) -> Claim:
    """All that is still to begin begins at once: two units are not enough."""
    at = 100.0
    spans = {
        i: (s, f) if i in claim.begun else (at, at + f - s) for i, (s, f) in claim.spans.items()
    }
    return replace(claim, spans=spans)


def _as_one(claim: Claim) -> Claim:
    """Three items as one piece of work, as long as one of them."""
    left = _without(claim, "spread")
    end = max(f for i, (_, f) in claim.spans.items() if i[0] == "spread")
    return replace(left, spans={**left.spans, _SPREAD: (end - 2.0, end)}, arcs=())


def _workers(claim: Claim, most: int) -> Claim:
    """The revision says that there are more workers, and units of all; the run has no more."""
    runner = claim.plan.runner.model_copy(update={"max_workers": most})
    plan = claim.plan.model_copy(update={"runner": runner})
    return replace(claim, plan=plan, capacities={"cpu": 9.0})


_JOIN, _LEFT, _MADE, _SPREAD = ("join", None), ("left", None), ("made", None), ("spread", None)
_WHEN = When(task="made", is_=True)

MUTATIONS: list[tuple[Flaw, Callable[[Claim], Claim]]] = [
    (Flaw.CYCLE, lambda c: _with(c, "left", depends_on=c.plan.get_task("join").depends_on[:1])),
    (Flaw.CYCLE, lambda c: _with(c, "right", depends_on=c.plan.get_task("join").depends_on[1:2])),
    (Flaw.REFERENCE, lambda c: _with(c, "left", inputs={"x": "nobody"})),
    (Flaw.DEADLOCK, lambda c: replace(c, arcs=[*c.arcs, (_JOIN, _LEFT)])),
    (Flaw.PRECEDENCE, lambda c: _shift(c, "join", -1.0)),
    (Flaw.PRECEDENCE, lambda c: _shift(c, "spread", 60.0)),
    (Flaw.PRECEDENCE, lambda c: _with(c, "right", depends_on=_later(c))),
    (Flaw.CAPACITY, _together),
    (Flaw.CAPACITY, lambda c: replace(c, capacities={"cpu": 1.0})),
    (Flaw.CAPACITY, lambda c: _with(c, "join", resources={"cpu": 3.0})),
    (Flaw.DURATION, lambda c: replace(c, factors={"right": 1.5})),
    (Flaw.DURATION, lambda c: replace(c, spans={**c.spans, _JOIN: (90.0, 92.0)})),
    (Flaw.MODE, lambda c: replace(c, modes={**c.modes, "right": "other"})),
    (Flaw.MODE, lambda c: replace(c, only_mode={"left": "default"})),
    (Flaw.PAST, lambda c: _shift(c, "right", -5.0)),
    (Flaw.UNPLANNED, lambda c: _without(c, "right")),
    (Flaw.UNPLANNED, lambda c: replace(c, spans={**c.spans, ("nobody", None): (90.0, 91.0)})),
    (Flaw.GOAL, lambda c: replace(_without(c, "join"), left_out=frozenset({"join"}))),
    (Flaw.GOAL, lambda c: replace(_without(c, "right"), left_out=frozenset({"right"}))),
    (Flaw.INPUT, lambda c: replace(c, over=frozenset(), left_out=frozenset({"made"}))),
    (Flaw.FINISHED, lambda c: replace(c, spans={**c.spans, _MADE: (0.0, 2.0)})),
    (Flaw.FINISHED, lambda c: _without(c, "made")),
    (Flaw.FINISHED, lambda c: _with(c, "made", call="m:other")),
    (Flaw.BLOCKED, lambda c: replace(c, blocked=frozenset({"right"}))),
    (Flaw.BLOCKED, lambda c: replace(c, blocked=frozenset({"made"}), begun={}, over=())),
    (Flaw.EDITED, lambda c: _with(c, "join", depends_on=c.plan.get_task("join").depends_on[:2])),
    (Flaw.EDITED, lambda c: _with(c, "right", depends_on=_later(c))),
    (Flaw.EDITED, lambda c: _with(c, "right", duration=Estimate.model_validate(5))),
    (Flaw.EDITED, lambda c: _with(c, "spread", expected_items=2)),
    (Flaw.EDITED, lambda c: _with(c, "right", success_criteria=None, when=_WHEN)),
    (Flaw.EDITED, lambda c: replace(c, pinned={"left": "default"})),
    (Flaw.EDITED, lambda c: replace(c, plan=revised(c.plan, dropped=["join"]))),
    (Flaw.MODE, lambda c: replace(c, again={"right": ("other",)})),
    (Flaw.UNPLANNED, _as_one),
    (Flaw.UNPLANNED, lambda c: replace(c, spans={**c.spans, ("right", 0): (90.0, 94.0)})),
    (Flaw.UNPLANNED, lambda c: replace(c, left_out=frozenset({"right"}))),
    (Flaw.PAST, lambda c: replace(c, spans={**c.spans, _JOIN: (90.0, float("nan"))})),
    (Flaw.PAST, lambda c: replace(c, spans={**c.spans, _JOIN: (float("inf"), float("inf"))})),
    (Flaw.REFERENCE, lambda c: _with(c, "right", resources={"gpu": 1.0})),
    (Flaw.PRECEDENCE, lambda c: replace(c, arcs=[*c.arcs, (_JOIN, _LEFT)])),
    (Flaw.CAPACITY, lambda c: _workers(_together(c), 9)),
    (Flaw.TIME_OUT, lambda c: _with(c, "left", timeout=timedelta(seconds=1))),
]  # fmt: skip


def _later(claim: Claim) -> object:
    """The dependencies of `right` with a lag that the schedule does not keep."""
    (dependency,) = claim.plan.get_task("right").depends_on
    return (dependency.model_copy(update={"lag": timedelta(seconds=60)}),)


@pytest.mark.parametrize(("flaw", "mutate"), MUTATIONS)
def test_every_kind_of_mutation_is_caught_and_named(
    flaw: Flaw, mutate: Callable[[Claim], Claim]
) -> None:
    found = verify(mutate(_running()))
    assert not found.passed
    assert flaw in {o.flaw for o in found.objections}, str(found)
    assert all(o.message and o.tasks for o in found.objections)


def test_each_thing_that_can_be_wrong_is_among_the_mutations() -> None:
    assert {flaw for flaw, _ in MUTATIONS} == set(Flaw) - {Flaw.DEADLINE}, "late is allowed"


def test_a_hopeless_schedule_is_refused_in_few_words() -> None:
    """One objection a resource and stretch of time, not one a start: else they would be squared."""
    tasks = [{"id": f"t{k}", "duration": 5, "resources": {"cpu": 1}} for k in range(300)]
    document = {"name": "p", "resources": {"cpu": {"capacity": 4}}, "tasks": tasks}
    plan = Plan.model_validate({**document, "runner": {"max_workers": 8}})
    at_once: dict[tuple[str, int | None], tuple[float, float]] = {
        (t, None): (1e6, 1e6 + 5.0) for t in plan.task_ids
    }
    found = verify(Claim(plan=plan, original=plan, now=0.0, spans=at_once))
    assert [str(o) for o in found.objections] == [
        "at 1000000 s t0, t1, t2, t3, t4 take 5 of cpu, of which there is 4",
        "at 1000000 s t0, t1, t2, t3, t4 and 4 more take 9 workers, of which there are 8",
    ]

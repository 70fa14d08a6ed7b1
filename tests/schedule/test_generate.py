"""What is left of a plan, scheduled: feasible always, optimal where it says so."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from athena_prefect.errors import PlanError
from athena_prefect.plan.graph import Bools, Floats
from athena_prefect.schedule.answer import Objective, Outcome
from athena_prefect.schedule.breeding import Breeding
from athena_prefect.schedule.construction import Construction
from athena_prefect.schedule.feasibility import check
from athena_prefect.schedule.generate import generate
from athena_prefect.schedule.generation import Frame, parallel, serial
from athena_prefect.schedule.hinted import change
from athena_prefect.schedule.problem import Problem
from athena_prefect.schedule.rest import AS_IT_STANDS, Choice, Rest, Way
from athena_prefect.schedule.solver import serial_generation
from tests.schedule.problems import network_of, problems, wide
from tests.schedule.rests import breaks, least, rests, schedules, ticking


def _answer(rest: Rest, objective: Objective = Objective.MAKESPAN, budget: float = 2.0) -> object:
    return generate(rest, objective, budget_s=budget, seed=1, clock=ticking())


def _placed_one_by_one(problem: Problem, priority: Floats, begun: Floats, now: float) -> Floats:
    """Serial generation as it is defined: each moment is tried, each resource added up."""
    starts, network = begun.copy(), problem.network
    tail, head, lag, _ = network.arcs
    placed = ~np.isnan(begun)
    ranks = sorted(range(len(problem)), key=lambda i: (priority[i], network.rank[i]))
    for _ in range(int((~placed).sum())):
        i = next(j for j in ranks if not placed[j] and placed[tail[head == j]].all())
        before = head == i
        earliest = max(
            [now, *(starts[tail[before]] + problem.durations[tail[before]] + lag[before])]
        )
        ends = starts[placed] + problem.durations[placed]
        moments = sorted({earliest, *(e for e in ends.tolist() if e > earliest)})
        starts[i] = next(m for m in moments if _fits(problem, starts, placed, i, m))
        placed[i] = True
    return starts


def _fits(problem: Problem, starts: Floats, placed: Bools, i: int, at: float) -> bool:
    ends = starts + problem.durations
    last = at + problem.durations[i]
    for moment in (at, *(s for s in starts[placed].tolist() if at < s < last)):
        runs = placed & (starts <= moment) & (moment < ends)
        used = problem.demands[runs].sum(axis=0)
        short = used + problem.demands[i] > problem.capacities
        if at < last and (short & (problem.demands[i] > 0)).any():
            return False
    return True


@given(problems(), st.integers(0, 12), st.data())
def test_serial_generation_places_as_early_as_all_allows(
    problem: Problem, now: int, data: st.DataObject
) -> None:
    priority = np.array(data.draw(st.permutations(range(len(problem)))), dtype=np.float64)
    nothing = np.full(len(problem), np.nan)
    starts = serial_generation(problem, priority=priority).starts
    assert starts.tolist() == _placed_one_by_one(problem, priority, nothing, 0.0).tolist()
    # What stands may stand in the future too: units are free until then.
    stands = data.draw(st.sets(st.sampled_from(problem.network.order.tolist()[:3])))
    moved = data.draw(st.integers(0, 4))
    fixed = np.array([s + moved if i in stands else np.nan for i, s in enumerate(starts)])
    after = serial_generation(
        problem, priority=priority, release=float(now), fixed_starts=fixed
    ).starts
    assert after.tolist() == _placed_one_by_one(problem, priority, fixed, float(now)).tolist()
    frame = Frame(Rest(problem=problem), AS_IT_STANDS)
    assert check(problem, parallel(frame, frame.ranked(priority))) == ()


def test_amounts_that_are_not_whole_add_up() -> None:
    tenths = Problem.build(network_of(10, ()), [1.0] * 10, [[0.1]] * 10, [1.0])
    frame = Frame(Rest(problem=tenths), AS_IT_STANDS)
    assert serial(frame, list(range(10))) == [0.0] * 10, "ten times 0.1 is 1"
    thirds = Problem.build(network_of(4, ()), [1.0] * 4, [[1 / 3]] * 4, [1.0])
    frame = Frame(Rest(problem=thirds), AS_IT_STANDS)
    assert sorted(serial(frame, list(range(4)))) == [0.0, 0.0, 0.0, 1.0]


@settings(max_examples=60, deadline=None)
@given(rests(), st.sampled_from(list(Objective)))
def test_every_answer_can_be_carried_out(rest: Rest, objective: Objective) -> None:
    answer = generate(rest, objective, budget_s=1.0, seed=1, clock=ticking())
    if answer.schedule is None:
        assert answer.status in (Outcome.INFEASIBLE, Outcome.UNKNOWN) and answer.conflict
        return
    assert breaks(rest, answer.schedule.starts, answer.choice) == []
    if answer.bound is not None and objective is Objective.MAKESPAN:
        assert answer.bound <= rest.makespan(answer.schedule.starts, answer.choice) + 1e-6


@settings(max_examples=40, deadline=None)
@given(rests(most=4))
def test_the_least_makespan_is_that_of_all_schedules(rest: Rest) -> None:
    answer = generate(rest, budget_s=2.0, seed=1, clock=ticking())
    known = least(rest, rest.makespan)
    assert (answer.schedule is None) == (known is None)
    if answer.schedule is not None and answer.status is Outcome.OPTIMAL:
        assert answer.makespan == pytest.approx(known)
    elif known is not None:
        assert answer.makespan is not None and answer.makespan >= known - 1e-6


@settings(max_examples=40, deadline=None)
@given(rests(most=4).filter(lambda r: r.deadline is not None))
def test_the_least_lateness_is_that_of_all_schedules(rest: Rest) -> None:
    answer = generate(rest, Objective.TARDINESS, budget_s=2.0, seed=1, clock=ticking())
    known = least(rest, rest.lateness)
    if answer.schedule is not None and answer.status is Outcome.OPTIMAL:
        assert rest.lateness(answer.schedule.starts, answer.choice) == pytest.approx(known)


@settings(max_examples=40, deadline=None)
@given(rests(most=4).filter(lambda r: r.deadline is not None))
def test_the_least_cost_in_time_is_that_of_all_schedules(rest: Rest) -> None:
    rest = replace(rest, rates=(3600.0, 7200.0))
    answer = generate(rest, Objective.COST, budget_s=4.0, seed=1, clock=ticking())
    if answer.schedule is None or answer.status is not Outcome.OPTIMAL:
        return

    def value(starts: Floats, choice: Choice) -> tuple[float, float]:
        late = rest.lateness(starts, choice)
        return round(late, 6), round(rest.cost_of(choice) + rest.lost_by(choice), 6)

    known = min(value(starts, choice) for starts, choice in schedules(rest))
    assert value(answer.schedule.starts, answer.choice) == pytest.approx(known, abs=1e-5)


@settings(max_examples=25, deadline=None)
@given(rests(most=4), st.data())
def test_the_optimum_under_budgets_is_that_of_all_schedules(
    rest: Rest, data: st.DataObject
) -> None:
    eats = {t: [float(data.draw(st.integers(0, 4))) for _ in w] for t, w in rest.ways.items()}
    ways = {
        t: tuple(replace(way, consumes=(eats[t][k],)) for k, way in enumerate(several))
        for t, several in rest.ways.items()
    }
    rest = replace(rest, ways=ways, droppable={}, budgets=(float(data.draw(st.integers(0, 8))),))
    answer = generate(rest, budget_s=4.0, seed=1, clock=ticking())
    every = (rest.makespan(s, c) for s, c in schedules(rest) if rest.within_budgets(c))
    known = min(every, default=None)
    if answer.schedule is not None:
        assert known is not None and rest.within_budgets(answer.choice)
        assert breaks(rest, answer.schedule.starts, answer.choice) == []
        if answer.status is Outcome.OPTIMAL:
            assert answer.makespan == pytest.approx(known)
    elif answer.status is Outcome.INFEASIBLE:
        assert known is None


def _chain(lengths: list[float], **values: object) -> Rest:
    """A chain of tasks of one unit each of two."""
    size = len(lengths)
    arcs = tuple((i, i + 1, 0.0) for i in range(size - 1))
    problem = Problem.build(network_of(size, arcs), lengths, [[1.0]] * size, [2.0])
    return replace(Rest(problem=problem), **values)  # type: ignore[arg-type]


def test_nothing_changes_without_gain() -> None:
    rest = _chain(
        [2.0, 3.0, 1.0],
        loose=frozenset({(0, 1)}),
        previous={0: 0.0, 1: 2.0, 2: 5.0},
        previous_makespan=6.0,
        deadline=10.0,
        droppable={1: 0.3},
    )
    for objective in (Objective.TARDINESS, Objective.COST):
        answer = generate(rest, objective, budget_s=2.0, seed=0, clock=ticking())
        assert answer.choice == AS_IT_STANDS and answer.schedule is not None
        assert answer.schedule.starts.tolist() == [0.0, 2.0, 5.0]
        assert change(rest, answer.schedule.starts, answer.choice) == 0.0
        assert answer.status is Outcome.OPTIMAL


def test_only_the_lever_that_helps_is_pulled() -> None:
    rest = _chain(
        [2.0, 3.0, 1.0],
        loose=frozenset({(0, 1), (1, 2)}),
        deadline=5.0,
        previous={0: 0.0, 1: 2.0, 2: 5.0},
        previous_makespan=6.0,
    )
    answer = generate(rest, Objective.TARDINESS, budget_s=2.0, seed=0, clock=ticking())
    assert answer.schedule is not None and answer.makespan is not None
    assert answer.makespan <= 5.0 and len(answer.choice.cut) == 1


def test_the_cheapest_that_is_in_time() -> None:
    slow = Way(mode="default", estimate=(4.0, 4.0, 4.0), demands=(1.0,))
    dear = Way(mode="dear", estimate=(1.0, 1.0, 1.0), demands=(2.0,), quality_lost=0.5)
    fair = Way(mode="fair", estimate=(3.0, 3.0, 3.0), demands=(1.0,), quality_lost=0.1)
    levers = {"ways": {0: (slow, dear, fair), 1: (slow, dear, fair)}}
    for deadline, ways in ((8.0, ["default"] * 2), (7.0, ["default", "fair"]), (2.0, ["dear"] * 2)):
        rest = _chain([4.0, 4.0], deadline=deadline, **levers)
        answer = generate(rest, Objective.COST, budget_s=2.0, seed=0, clock=ticking())
        assert answer.schedule is not None
        assert sorted(answer.schedule.problem.modes) == sorted(ways)


def test_an_impossible_demand_names_the_conflict() -> None:
    rest = _chain([1.0, 1.0], steps={0: ((0.0, 0.5),)})
    answer = generate(rest, budget_s=1.0, seed=0, clock=ticking())
    assert answer.status is Outcome.INFEASIBLE and answer.schedule is None
    assert answer.conflict == "'n0' needs 1 of 'r0', of which there is 0.5"
    rescued = replace(rest, ways={t: _half() for t in (0, 1)})
    answer = generate(rescued, budget_s=1.0, seed=0, clock=ticking())
    assert answer.schedule is not None and answer.schedule.problem.modes == ("half", "half")


def _half() -> tuple[Way, ...]:
    one = (1.0, 1.0, 1.0)
    return (
        Way(mode="default", estimate=one, demands=(1.0,)),
        Way(mode="half", estimate=(2.0, 2.0, 2.0), demands=(0.5,)),
    )


def test_what_there_is_too_little_of_in_the_end_is_no_proof() -> None:
    rest = _chain([1.0, 1.0], steps={0: ((5.0, 0.5),)})
    answer = generate(rest, budget_s=1.0, seed=0, clock=ticking())
    assert answer.status is Outcome.UNKNOWN and answer.schedule is None
    assert answer.conflict == "'n0' needs 1 of 'r0', of which there is 0.5"
    too_late = replace(rest, now=4.0)
    answer = generate(too_late, budget_s=5.0, seed=0, clock=ticking(0.0))
    assert answer.status is Outcome.INFEASIBLE and "'r0'" in answer.conflict
    over = replace(rest, now=6.0)
    assert over.most_capacities.tolist() == [0.5] and rest.most_capacities.tolist() == [2.0]
    assert generate(over, budget_s=1.0, seed=0, clock=ticking()).status is Outcome.INFEASIBLE


def test_budgets_are_kept_behind_a_long_hole(monkeypatch: pytest.MonkeyPatch) -> None:
    quick = Way(mode="quick", estimate=(1.0, 1.0, 1.0), demands=(1.0,), consumes=(3.0,))
    thrifty = Way(mode="thrifty", estimate=(4.0, 4.0, 4.0), demands=(1.0,), consumes=(1.0,))
    hole = {0: ((0.0, 0.0), (1000.0, 1.0))}
    ways = {0: (quick, thrifty), 1: (quick, thrifty)}
    rest = _chain([1.0, 1.0], ways=ways, budgets=(4.0,), steps=hole)
    # CP-SAT is asked for the first schedule.
    monkeypatch.setattr(Construction, "construct", lambda _: None)
    monkeypatch.setattr(Breeding, "breed", lambda *_: None)
    answer = generate(rest, budget_s=5.0, seed=0, clock=ticking(0.0))
    assert answer.makespan == 1005.0 and answer.status is Outcome.OPTIMAL


def test_what_runs_may_hold_more_than_there_is_left() -> None:
    problem = Problem.build(network_of(2, ()), [5.0, 1.0], [[2.0], [1.0]], [2.0])
    rest = Rest(problem=problem, now=2.0, starts=np.array([0.0, np.nan]), steps={0: ((2.0, 1.0),)})
    answer = generate(rest, budget_s=1.0, seed=0, clock=ticking())
    assert answer.schedule is not None and answer.schedule.starts.tolist() == [0.0, 5.0]


def test_budgets_choose_the_modes() -> None:
    quick = Way(mode="quick", estimate=(1.0, 1.0, 1.0), demands=(1.0,), consumes=(3.0,))
    thrifty = Way(mode="thrifty", estimate=(4.0, 4.0, 4.0), demands=(1.0,), consumes=(1.0,))
    rest = _chain([1.0, 1.0], ways={0: (quick, thrifty), 1: (quick, thrifty)}, budgets=(4.0,))
    answer = generate(rest, budget_s=2.0, seed=0, clock=ticking())
    assert answer.makespan == 5.0 and answer.status is Outcome.OPTIMAL
    beggar = replace(rest, budgets=(1.0,))
    answer = generate(beggar, budget_s=2.0, seed=0, clock=ticking())
    assert answer.status is Outcome.INFEASIBLE and "budgets" in answer.conflict


def test_a_large_rest_is_scheduled_without_cp_sat() -> None:
    case = wide(800)
    demands = np.random.default_rng(2).integers(0, 4, (800, 2))
    problem = Problem.build(case.network, case.seconds, demands, [9, 9])
    answer = generate(Rest(problem=problem), budget_s=0.2, seed=0, clock=ticking(0.01))
    assert answer.schedule is not None and check(problem, answer.schedule.starts) == ()
    assert answer.makespan is not None
    assert answer.makespan <= serial_generation(problem).makespan
    assert {step.source for step in answer.history}.isdisjoint({"CP-SAT"})
    values = [step.value for step in answer.history]
    assert values == sorted(values, reverse=True)


def test_shapes_are_looked_at() -> None:
    problem = Problem.build(network_of(2, ()), [1.0, 1.0], [[1.0], [1.0]], [2.0])
    with pytest.raises(PlanError, match="2 activities, but `starts` of shape"):
        Rest(problem=problem, starts=np.zeros(3))

"""Orders and modes searched at once: feasible always, the same as one choice after the other."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ortools.sat.python import cp_model

from athena_prefect.errors import InfeasibleError
from athena_prefect.plan.graph import Ints
from athena_prefect.schedule.affording import afforded
from athena_prefect.schedule.answer import Objective, Outcome
from athena_prefect.schedule.breeding import Breeding
from athena_prefect.schedule.construction import Construction
from athena_prefect.schedule.exact import Program, Trial
from athena_prefect.schedule.feasibility import check
from athena_prefect.schedule.generate import LOADED, generate
from athena_prefect.schedule.generation import Frame, Mirror, serial
from athena_prefect.schedule.goals import Aim
from athena_prefect.schedule.incumbent import Incumbent
from athena_prefect.schedule.mode_search import Balance, ModeBreed
from athena_prefect.schedule.problem import Problem
from athena_prefect.schedule.rest import Choice, Rest, Way
from athena_prefect.schedule.search import Budget
from athena_prefect.schedule.taking_back import changes_of, take_back, without
from athena_prefect.schedule.worth import Worth
from tests.schedule.problems import network_of, wide
from tests.schedule.rests import breaks, choices, rests, ticking


def _places(rest: Rest, choice: Choice) -> Ints:
    return rest.way_table.places(choice.ways)


@settings(max_examples=80, deadline=None)
@given(rests(), st.data())
def test_one_frame_serves_all_ways(rest: Rest, data: st.DataObject) -> None:
    choice = data.draw(st.sampled_from(list(choices(rest))))
    try:
        alone = Frame(rest, choice)
        base = Frame(rest, replace(choice, ways=frozenset()))
    except InfeasibleError:
        return
    shared = base.in_ways(_places(rest, choice))
    sequence = data.draw(st.permutations(range(len(rest.problem))))
    assert serial(shared, list(sequence)) == serial(alone, list(sequence))
    assert shared.lengths.tolist() == alone.lengths.tolist()
    mirrors = Mirror(base).of(shared), Mirror(alone)
    assert serial(mirrors[0], list(sequence)) == serial(mirrors[1], list(sequence))


@settings(max_examples=80, deadline=None)
@given(rests(), st.data())
def test_worth_is_what_the_rest_says(rest: Rest, data: st.DataObject) -> None:
    rest = replace(rest, rates=(3600.0, 7200.0), due={0: 5.0})
    choice = data.draw(st.sampled_from(list(choices(rest))))
    starts = np.where(rest.free, rest.now + np.arange(len(rest.problem)), rest.starts)
    lengths = rest.problem_in(choice).durations
    worth = Worth(rest, choice, late=True, price=True)
    price = worth.price(_places(rest, choice))
    assert price == pytest.approx(rest.cost_of(choice) + rest.lost_by(choice))
    late, second = worth(starts, lengths, price)
    assert late == pytest.approx(rest.lateness(starts, choice)) and second == price
    assert worth.makespan(starts, lengths) == rest.makespan(starts, choice)


@settings(max_examples=60, deadline=None)
@given(rests(most=9), st.data())
def test_every_member_can_be_carried_out(rest: Rest, data: st.DataObject) -> None:
    eats = {t: [float(data.draw(st.integers(0, 4))) for _ in w] for t, w in rest.ways.items()}
    ways = {
        t: tuple(replace(way, consumes=(eats[t][k],)) for k, way in enumerate(several))
        for t, several in rest.ways.items()
    }
    rest = replace(rest, ways=ways, budgets=(float(data.draw(st.integers(0, 8))),))
    levers = data.draw(st.sampled_from(list(choices(rest))))
    table = rest.way_table
    quickest = table.chosen(table.least(table.durations))
    try:
        frame = Frame(rest, Choice.of(quickest, dropped=levers.dropped, cut=levers.cut))
    except InfeasibleError:
        return
    worth = Worth(rest, levers, late=False, price=False)
    breed = ModeBreed(frame, worth, Balance(frame, worth), np.random.default_rng(0))
    given_ways = [places for _, places in breed.balance.assignments()][:3]
    members = [breed.made(places, lambda: True) for places in given_ways]
    members += [breed.child(lambda: True) for _ in range(30)]
    for member in members:
        if member is not None:
            ways_chosen = table.chosen(member.places)
            choice = Choice.of(ways_chosen, dropped=levers.dropped, cut=levers.cut)
            assert breaks(rest, member.starts, choice) == [] and rest.within_budgets(choice)
            assert member.value[0] == pytest.approx(rest.makespan(member.starts, choice))


def _large(count: int = 700) -> Rest:
    """Wide enough for resources to bind, each other task in one of three ways."""
    case, rng = wide(count), np.random.default_rng(2)
    demands = rng.integers(1, 4, (count, 2))
    problem = Problem.build(case.network, case.seconds, demands, [9, 9])
    ways = {}
    for task in range(0, count, 2):
        length, needs = float(case.seconds[task]), demands[task].astype(float)
        shapes = (1.0, 1.0), (0.5, 3.0), (1.5, 1 / 3)
        ways[task] = tuple(
            Way(mode=f"m{k}", estimate=(length * f,) * 3, demands=tuple(np.ceil(needs * g)))
            for k, (f, g) in enumerate(shapes)
        )
    return Rest(problem=problem, ways=ways)


def test_modes_of_a_large_rest_are_searched() -> None:
    rest = _large()
    alone = generate(replace(rest, ways={}), budget_s=1.0, seed=0, clock=ticking(0.01))
    answer = generate(rest, budget_s=1.0, seed=0, clock=ticking(0.01))
    assert answer.schedule is not None and alone.makespan is not None
    assert check(answer.schedule.problem, answer.schedule.starts) == ()
    assert answer.choice.ways and answer.makespan is not None
    assert answer.makespan < 0.95 * alone.makespan


def test_a_large_rest_in_time_is_left_as_it_is() -> None:
    rest = _large()
    first = generate(replace(rest, ways={}), budget_s=0.1, seed=0, clock=ticking(0.01))
    assert first.schedule is not None and first.makespan is not None
    under_way = replace(
        rest,
        previous=dict(enumerate(first.schedule.starts.tolist())),
        previous_makespan=first.makespan,
        deadline=first.makespan,
        droppable={1: 0.5},
    )
    answer = generate(under_way, Objective.TARDINESS, budget_s=1.0, seed=0, clock=ticking(0.01))
    assert answer.choice == Choice() and answer.makespan is not None
    assert answer.makespan <= first.makespan


def test_what_is_of_no_use_is_taken_back() -> None:
    network = network_of(3, ())
    problem = Problem.build(network, [1.0] * 3, [[1.0]] * 3, [3.0])
    rest = Rest(problem=problem, droppable={0: 0.1, 1: 0.2, 2: 0.3}, goes_with={2: (1,)})
    choice = Choice(dropped=frozenset({0, 1, 2}))
    assert [min(c.dropped) for c in changes_of(rest, choice)] == [2, 1, 0]
    # 1 cannot stay when 2 is left out.
    assert without(rest, choice, [Choice(dropped=frozenset({1}))]) is None
    tried: list[int] = []
    kept = {0, 1, 2}

    def works(part: object) -> bool:
        numbers = {min(c.dropped) for c in part}  # type: ignore[attr-defined]
        tried.append(len(numbers))
        if 1 in numbers:
            return False
        kept.difference_update(numbers)
        return True

    take_back(changes_of(rest, choice), works, lambda: True)
    assert kept == {1} and tried == [3, 1, 2, 1, 1]


@pytest.mark.parametrize(("capacity", "chains"), [(400.0, True), (9.0, False)])
def test_load_says_whether_chains_or_resources_decide(capacity: float, chains: bool) -> None:
    rest = _large(200)
    problem = rest.problem
    rest = replace(
        rest,
        problem=Problem.build(problem.network, problem.durations, problem.demands, [capacity] * 2),
    )
    breeding = Breeding(
        Incumbent(rest, Objective.MAKESPAN, Budget(ticking(0.0), 1.0)), np.random.default_rng(0)
    )
    assert breeding.load == np.inf
    breed = breeding.mode_breed(Choice())
    assert breed is not None
    list(breeding.balanced(breed))
    assert (breeding.load <= LOADED) is chains and breeding.load <= 1.0


@pytest.mark.parametrize("budget", [1.0, 2.0])
def test_a_rest_whose_chains_decide_is_left_to_cp_sat(budget: float) -> None:
    rest = _large(80)
    problem = rest.problem
    ample = Problem.build(problem.network, problem.durations, problem.demands, [400.0] * 2)
    answer = generate(
        replace(rest, problem=ample), budget_s=budget, seed=0, clock=ticking(0.005), workers=1
    )
    assert answer.schedule is not None
    assert check(answer.schedule.problem, answer.schedule.starts) == ()
    table = rest.way_table
    shortest = replace(rest, problem=ample)
    least = Choice.of(table.chosen(table.least(table.durations)))
    frame = Frame(shortest, least)
    longest = float(
        frame.finishes(np.array(serial(frame, frame.ranked(frame.latest_finish())))).max()
    )
    assert answer.makespan == pytest.approx(longest)


def test_the_hint_of_a_makespan_is_a_whole_solution() -> None:
    rest = _large(80)
    incumbent = Incumbent(rest, Objective.MAKESPAN, Budget(ticking(0.005), 1.0))
    Construction(incumbent, Breeding(incumbent, np.random.default_rng(0))).construct()
    best = incumbent.best
    assert best is not None and best.choice.ways
    horizon = rest.makespan(best.starts, best.choice)
    program = Program(rest, Aim.MAKESPAN, best.starts, best.choice, horizon=horizon)
    hint = program.model.proto.solution_hint
    assert sorted(hint.vars) == list(range(len(program.model.proto.variables)))
    solver = cp_model.CpSolver()
    solver.parameters.fix_variables_to_their_hinted_value = True
    solver.parameters.num_workers = 1
    assert solver.solve(program.model) == cp_model.OPTIMAL
    assert rest.now + solver.objective_value * program.ticks.size == pytest.approx(horizon)


def _tried(rest: Rest, trial: Trial) -> Outcome:
    horizon = float(rest.problem.durations.sum() + rest.way_table.durations.sum())
    zero = np.zeros(len(rest.problem))
    program = Program(rest, Aim.MAKESPAN, zero, Choice(), horizon=horizon)
    program.forget()
    assert not program.model.proto.solution_hint.vars
    # So long that a search which is not given up would not come to its end here.
    return program.solve(3600.0, seed=0, workers=1, trial=trial).outcome


def test_a_trial_that_is_behind_is_given_up() -> None:
    assert _tried(_large(200), Trial(seconds=0.05, most=0.0)) is not Outcome.OPTIMAL


def test_a_trial_that_is_not_behind_goes_on_to_the_end() -> None:
    assert _tried(_large(8), Trial(seconds=0.001, most=np.inf)) is Outcome.OPTIMAL


@settings(max_examples=40, deadline=None)
@given(rests(most=4))
def test_what_is_implied_takes_no_schedule_away(rest: Rest) -> None:
    horizon = 100.0
    found = []
    for implied in (False, True):
        program = Program(
            rest, Aim.MAKESPAN, rest.floor, Choice(), horizon=horizon, implied=implied
        )
        program.forget()
        solution = program.solve(60.0, seed=0, workers=1)
        found.append((solution.outcome, solution.bound))
    assert found[0] == found[1]
    assert found[0][0] in (Outcome.OPTIMAL, Outcome.INFEASIBLE)


def test_what_is_done_on_each_resource_is_a_row_of_the_model_where_ways_are_chosen() -> None:
    quick = Way(mode="quick", estimate=(1.0, 1.0, 1.0), demands=(10.0, 0.0))
    slow = Way(mode="slow", estimate=(8.0, 8.0, 8.0), demands=(1.0, 0.5))
    problem = Problem.build(network_of(3, ()), [1.0] * 3, [[10.0, 0.0]] * 3, [10.0, 2.0])

    def rows(ways: dict[int, tuple[Way, ...]]) -> list[dict[str, int]]:
        program = Program(
            Rest(problem=problem, ways=ways), Aim.MAKESPAN, np.zeros(3), Choice(), horizon=24.0
        )
        names = [v.name for v in program.model.proto.variables]
        found = []
        for constraint in program.model.proto.constraints:
            row = constraint.linear
            named = dict(zip([names[v] for v in row.vars], row.coeffs, strict=True))
            # The other rows with the makespan say that it is no earlier than an end.
            if "makespan" in named and not any(name.startswith("s") for name in named):
                found.append(named)
        return found

    chosen = rows(dict.fromkeys(range(3), (quick, slow)))
    # Units times seconds of each way; of the second resource in half units.
    assert [abs(r["makespan"]) for r in chosen] == [10, 4]
    assert {abs(c) for name, c in chosen[0].items() if name != "makespan"} == {10, 8}
    assert {abs(c) for name, c in chosen[1].items() if name != "makespan"} == {8}
    assert rows({}) == []


def _budgeted(amounts: list[list[tuple[float, ...]]], budgets: tuple[float, ...]) -> Rest:
    count = len(amounts)
    problem = Problem.build(network_of(count, ()), [1.0] * count, [[1.0]] * count, [2.0])
    ways = {
        t: tuple(
            Way(mode=str(k), estimate=(1.0 + k,) * 3, demands=(1.0,), consumes=used)
            for k, used in enumerate(several)
        )
        for t, several in enumerate(amounts)
    }
    return Rest(problem=problem, ways=ways, budgets=budgets)


def _only_just(count: int) -> Rest:
    """Four ways a task and four budgets, which hold just what one assignment uses up."""
    amounts = np.random.default_rng(5).integers(0, 50, (count, 4, 4)).astype(np.float64)
    thrifty = amounts[np.arange(count), amounts.sum(axis=2).argmin(axis=1)]
    listed = [[tuple(map(float, way)) for way in task] for task in amounts]
    return _budgeted(listed, tuple(thrifty.sum(axis=0).tolist()))


def test_ways_that_keep_the_budgets_are_found_where_there_are_some() -> None:
    rest = _only_just(40)
    outcome, choice = afforded(rest, rest.way_table.durations, dropped=frozenset(), seconds=60.0)
    assert outcome is Outcome.FEASIBLE and rest.within_budgets(choice)
    beggar = replace(rest, budgets=tuple(0.5 * b for b in rest.budgets))
    outcome, _ = afforded(beggar, rest.way_table.durations, dropped=frozenset(), seconds=60.0)
    assert outcome is Outcome.INFEASIBLE


def test_a_first_schedule_is_found_where_repairs_find_no_ways(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rest = _only_just(60)
    monkeypatch.setattr(ModeBreed, "affordable", lambda *_: None)
    incumbent = Incumbent(rest, Objective.MAKESPAN, Budget(ticking(0.0), 60.0))
    # The thriftiest way by the sum of shares is not in itself enough of all four budgets.
    Construction(incumbent, Breeding(incumbent, np.random.default_rng(0))).construct()
    assert incumbent.best is not None and rest.within_budgets(incumbent.best.choice)
    beggar = replace(rest, budgets=tuple(0.5 * b for b in rest.budgets))
    answer = generate(beggar, budget_s=60.0, seed=0, clock=ticking(0.0))
    assert answer.status is Outcome.INFEASIBLE and "budgets" in answer.conflict


def test_a_mode_that_does_not_fit_is_no_proof() -> None:
    wide = Way(mode="wide", estimate=(1.0, 1.0, 1.0), demands=(3.0,), consumes=(0.0,))
    narrow = Way(mode="narrow", estimate=(4.0, 4.0, 4.0), demands=(1.0,), consumes=(2.0,))
    problem = Problem.build(network_of(1, ()), [1.0], [[3.0]], [2.0])
    rest = Rest(problem=problem, ways={0: (wide, narrow)}, budgets=(2.0,))
    answer = generate(rest, budget_s=5.0, seed=0, clock=ticking(0.0))
    assert answer.makespan == 4.0 and answer.status is Outcome.OPTIMAL
    poor = generate(replace(rest, budgets=(1.0,)), budget_s=5.0, seed=0, clock=ticking(0.0))
    assert poor.status is Outcome.INFEASIBLE and "budgets" in poor.conflict
    none = generate(replace(rest, ways={0: (wide,)}), budget_s=5.0, seed=0, clock=ticking(0.0))
    assert none.status is Outcome.INFEASIBLE
    assert none.conflict == "'n0' needs 3 of 'r0', of which there is 2"

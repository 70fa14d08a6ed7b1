"""Rests to test with, and every schedule of a small one as the oracle."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain, combinations, count, permutations, product
from typing import Any, TypeVar
from unittest import mock

import numpy as np
from hypothesis import strategies as st

from athena_prefect.errors import InfeasibleError
from athena_prefect.plan.graph import Floats
from athena_prefect.schedule.generation import Frame, serial
from athena_prefect.schedule.rest import Choice, Rest, Steps, Way
from tests.schedule.problems import problems

T = TypeVar("T")


def ticking(step: float = 0.002) -> Callable[[], float]:
    """A clock that moves on whenever it is read: budgets end after the same number of steps."""
    ticks = count()
    return lambda: next(ticks) * step


@contextmanager
def steps_for_seconds() -> Iterator[None]:
    """CP-SAT counts its own steps for time: alone, it finds the same however busy the machine is.

    Its deterministic time goes by about as fast as seconds do on a calm machine.
    """
    from ortools.sat.python import cp_model

    solve = cp_model.CpSolver.solve

    def counted(solver: cp_model.CpSolver, *given: Any) -> cp_model.CpSolverStatus:
        limits = solver.parameters
        limits.max_deterministic_time = limits.max_time_in_seconds
        limits.clear_max_time_in_seconds()
        return solve(solver, *given)

    with mock.patch.object(cp_model.CpSolver, "solve", counted):
        yield


@st.composite
def rests(draw: st.DrawFn, *, most: int = 6) -> Rest:
    """Small rests: something runs, modes, loose arcs, tasks to drop, capacity that changes."""
    problem = draw(problems(most=most))
    size = len(problem)
    now = float(draw(st.integers(0, 3)))
    starts = _begun(draw, problem.network.order.tolist(), problem.durations, now)
    ways = {}
    for task in draw(st.sets(st.integers(0, size - 1), max_size=2)):
        length = float(draw(st.integers(0, 9)))
        first = tuple(problem.estimates[task].tolist())
        demands = tuple(float(draw(st.integers(0, int(c)))) for c in problem.capacities)
        ways[task] = (
            Way(mode="default", estimate=first, demands=tuple(problem.demands[task].tolist())),
            Way(mode="other", estimate=(length, length, length), demands=demands, quality_lost=0.1),
        )
    tail, head, _, _ = problem.network.arcs
    arcs = list(zip(tail.tolist(), head.tolist(), strict=True))
    loose = draw(st.sets(st.sampled_from(arcs), max_size=2)) if arcs else set()
    droppable = draw(st.sets(st.integers(0, size - 1), max_size=1))
    steps: dict[int, Steps] = {}
    if draw(st.booleans()):
        whole = float(problem.capacities[0])
        since = now + draw(st.integers(0, 3))
        steps[0] = ((now, whole), (since, 0.0), (since + 2.0, whole))
    return Rest(
        problem=problem,
        now=now,
        starts=starts,
        ways=ways,
        loose=frozenset(loose),
        droppable={t: 0.5 for t in droppable if np.isnan(starts[t])},
        steps=steps,
        deadline=draw(st.none() | st.integers(0, 20).map(float)),
    )


def _begun(draw: st.DrawFn, order: list[int], durations: Floats, now: float) -> Floats:
    starts = np.full(len(order), np.nan)
    if draw(st.booleans()):
        # The first of a topological order has nothing before it.
        starts[order[0]] = max(now - draw(st.integers(0, 3)), 0.0)
    return starts


def choices(rest: Rest, *, levers: bool = True) -> Iterator[Choice]:
    """Every way to make use of the levers of a small rest."""
    tasks = list(rest.ways)
    for places in product(*(range(len(rest.ways[t])) for t in tasks)):
        for out in _subsets(list(rest.droppable)) if levers else [()]:
            for cut in _subsets(sorted(rest.loose)) if levers else [()]:
                yield Choice.of(
                    dict(zip(tasks, places, strict=True)),
                    dropped=frozenset(out),
                    cut=frozenset(cut),
                )


def _subsets(values: Sequence[T]) -> Iterator[tuple[T, ...]]:
    return chain.from_iterable(combinations(values, k) for k in range(len(values) + 1))


def schedules(rest: Rest) -> Iterator[tuple[Floats, Choice]]:
    """Every active schedule under every choice: one of them is optimal."""
    for choice in choices(rest):
        try:
            frame = Frame(rest, choice)
        except InfeasibleError:
            continue
        for order in permutations(range(len(rest.problem))):
            yield np.array(serial(frame, list(order))), choice


def least(rest: Rest, value: Callable[[Floats, Choice], float]) -> float | None:
    """The least value of any schedule; None where there is none."""
    return min((value(s, c) for s, c in schedules(rest)), default=None)


def breaks(rest: Rest, starts: Floats, choice: Choice) -> list[str]:
    """Everything that a schedule of a rest breaks, reckoned moment by moment."""
    problem, found = rest.problem_in(choice), []
    durations, gone = problem.durations, rest.left_out(choice)
    ends = starts + durations
    free = rest.free & ~gone
    if (starts[~rest.free] != rest.starts[~rest.free]).any():
        found.append("what has begun was moved")
    if (starts[free] < rest.floor[free] - 1e-9).any():
        found.append("starts in the past")
    tail, head, lag, _ = rest.problem.network.arcs
    for a, b, wait in zip(tail.tolist(), head.tolist(), lag.tolist(), strict=True):
        if (a, b) in choice.cut or gone[a] or gone[b] or not free[b]:
            continue
        if starts[b] < ends[a] + wait - 1e-9:
            found.append(f"{b} does not wait for {a}")
    for r in range(len(problem.resources)):
        for at in sorted({*starts[free], *(m for m, _ in rest.capacity_at(r) if m > rest.now)}):
            runs = (starts <= at) & (at < ends) & ~gone
            there = next(c for m, c in reversed(rest.capacity_at(r)) if m <= at)
            held = problem.demands[runs & ~rest.free, r].sum()
            if problem.demands[runs & free, r].sum() > max(there - held, 0.0) + 1e-9:
                found.append(f"too much of {r} at {at}")
    return found

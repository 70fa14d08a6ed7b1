"""CP-SAT, given the best schedule so far: first what is asked for, then the least change."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from math import inf

import numpy as np

from athena_prefect.plan.graph import Floats
from athena_prefect.schedule.answer import Objective, Outcome
from athena_prefect.schedule.exact import Program, Trial
from athena_prefect.schedule.generation import serial
from athena_prefect.schedule.goals import Aim, Limits
from athena_prefect.schedule.incumbent import Incumbent
from athena_prefect.schedule.passes import TOLERANCE
from athena_prefect.schedule.rest import Choice, Rest
from athena_prefect.schedule.search import Found, Improver

CHANGE_SHARE = 0.3
"""Share of what is left that is kept for the second phase, least change."""
CHEAPEST_CALL = 0.02
"""Seconds below which calling CP-SAT is not worth building its model."""
BEHIND = 0.1
"""Share by which CP-SAT without a hint may be behind and is not given up: later on it gains more
than breeding. Where resources decide it was behind by a fifth to two fifths then."""
RESERVE = 0.03
"""Share of a budget that CP-SAT is not given: so late it may come back."""


def change(rest: Rest, starts: Floats, choice: Choice) -> float:
    """How far a schedule is from the order so far: what the second phase minimises.

    Moves as shares of the old rest, each at most 1; half a point a changed mode or
    cut arc, one a dropped task.
    """
    span = max((rest.previous_makespan or 0.0) - rest.now, TOLERANCE)
    total = 0.5 * (len(choice.ways) + len(choice.cut)) + len(choice.dropped)
    if rest.previous:
        nodes = np.fromiter(rest.previous, dtype=np.int64)
        before = np.fromiter(rest.previous.values(), dtype=np.float64)
        counted = rest.free[nodes] & ~rest.left_out(choice)[nodes]
        moved = np.abs(starts[nodes] - before)[counted] / span
        total += float(np.minimum(moved, 1.0).sum())
    return total


class Hinted:
    """Two phases of CP-SAT, hinted by the best schedule so far and bounded by its value."""

    def __init__(
        self,
        incumbent: Incumbent,
        *,
        seed: int,
        tolerance: float,
        workers: int,
    ) -> None:
        self.incumbent = incumbent
        self.rest, self.budget = incumbent.rest, incumbent.budget
        self.objective = incumbent.objective
        self.seed = seed
        self.tolerance = tolerance
        self.workers = workers

    def solve(self) -> None:
        """Better what is known by CP-SAT: the objective, then the least change."""
        rest = self.rest
        if not rest.free.any():
            self.incumbent.proven = True
            return
        levers = bool(rest.ways or rest.droppable or rest.loose)
        second = bool(rest.previous) or levers
        # Without an order so far the second phase gets what is left where there is an optimum.
        share = 1.0 - CHANGE_SHARE if rest.previous or self.objective is Objective.COST else 1.0
        limits = Limits()
        if self.objective is Objective.MAKESPAN:
            if not self.incumbent.proven:
                self._solve(Aim.MAKESPAN, limits, share)
        elif self.incumbent.best is None or self.incumbent.best.value[0] > 0:
            self._solve(Aim.TARDINESS, limits, share)
        else:
            self.incumbent.proven, self.incumbent.bound = True, 0.0
        if self.incumbent.best is None or not second:
            return
        if self.objective is Objective.COST:
            limits = Limits(lateness=self.incumbent.best.value[0])
            # That no schedule is less late does not say that none is cheaper.
            self.incumbent.proven = False
            self._solve(Aim.COST, limits, 0.6)
        self._least_change()

    def attempt(self, seconds: float) -> None:
        """The makespan without hint and bound, given up where after `seconds` it is far behind."""
        best = self.incumbent.best
        assert best is not None
        most = self.rest.now + (1.0 + BEHIND) * (best.value[0] - self.rest.now)
        self._solve(Aim.MAKESPAN, Limits(), 1.0, Trial(seconds=seconds, most=most))

    def _least_change(self) -> None:
        """Second phase: what is asked for is kept, and as little changed as possible."""
        best = self.incumbent.best
        assert best is not None
        rest = self.rest
        if self.objective is Objective.MAKESPAN:
            given = self.tolerance * (best.value[0] - rest.now)
            limits = Limits(makespan=best.value[0] + given)
        elif self.objective is Objective.TARDINESS:
            limits = Limits(lateness=best.value[0])
        else:
            limits = Limits(lateness=best.value[0], cost=self.incumbent.price(best.choice))
        proven, bound = self.incumbent.proven, self.incumbent.bound
        found = self._solved(Aim.CHANGE, limits, 1.0)
        self.incumbent.proven, self.incumbent.bound = proven, bound
        if found is None:
            return
        for starts, choice in found:
            kept = self.incumbent.value(choice)(starts)
            most = limits.makespan if limits.makespan < inf else limits.lateness
            within = kept[0] <= most + TOLERANCE
            if self.objective is Objective.COST:
                within &= kept[1] <= best.value[1] + 1e-6
            nearer = change(rest, starts, choice) < change(rest, best.starts, best.choice) - 1e-9
            if within and nearer:
                best = Found(starts=starts, choice=choice, value=kept, source="least change")
                self.incumbent.take(best)

    def _solve(self, aim: Aim, limits: Limits, share: float, trial: Trial | None = None) -> None:
        for starts, choice in self._solved(aim, limits, share, trial) or ():
            self.incumbent.offer(starts, choice, "CP-SAT")
            frame = self.incumbent.frame(choice)
            if frame is not None and not self.incumbent.proven:
                better = Improver(frame, self.incumbent.value(choice)).improved(starts)
                self.incumbent.offer(better, choice, "forward-backward improvement")

    def _solved(
        self, aim: Aim, limits: Limits, share: float, trial: Trial | None = None
    ) -> list[tuple[Floats, Choice]] | None:
        """What CP-SAT makes of it: its order under its choice, times reckoned anew."""
        left = self.budget.left * share
        if left < CHEAPEST_CALL:
            return None
        rest = self.rest
        incumbent, choice, horizon = self._hint(aim, limits)
        began = self.budget.spent
        if trial is not None:
            horizon = self._trivial_horizon()
        program = Program(rest, aim, incumbent, choice, horizon=horizon, limits=limits)
        if trial is not None or self.incumbent.best is None:
            program.forget()
        left -= self.budget.spent - began + RESERVE * self.budget.seconds
        if left <= 0:
            return None
        solution = program.solve(left, seed=self.seed, workers=self.workers, trial=trial)
        exact = program.exact
        if solution.outcome is Outcome.INFEASIBLE and self.incumbent.best is None and exact:
            self.incumbent.impossible(
                "no choice of modes keeps within the budgets"
                if rest.budgets
                else "nothing that may be done keeps within the capacities"
            )
        if solution.starts is None:
            return None
        made = list(self._exactly(solution.starts, solution.choice))
        if made and aim is not Aim.CHANGE:
            self.incumbent.proven = exact and solution.outcome is Outcome.OPTIMAL
            if exact and solution.bound is not None and aim is not Aim.COST:
                self.incumbent.bound = max(
                    solution.bound, -inf if self.incumbent.bound is None else self.incumbent.bound
                )
        return made

    def _hint(self, aim: Aim, limits: Limits) -> tuple[Floats, Choice, float]:
        rest, best = self.rest, self.incumbent.best
        if best is None:
            return rest.floor, Choice(), self._trivial_horizon()
        if aim is Aim.MAKESPAN:
            return best.starts, best.choice, rest.makespan(best.starts, best.choice)
        most = max(self.incumbent.longest, rest.previous_makespan or 0.0, rest.deadline or 0.0)
        return best.starts, best.choice, min(most, limits.makespan)

    def _trivial_horizon(self) -> float:
        """All activities one after the other, each in its longest way."""
        rest = self.rest
        longest = sum(
            int(rest.problem.items[t]) * max(w.duration for w in ways)
            for t, ways in rest.ways.items()
        )
        # Where capacity changes, all of it may have to wait for the last change.
        changes = [at for steps in rest.steps.values() for at, _ in steps]
        release = max(float(rest.floor.max(initial=rest.now)), *changes, rest.now)
        lags = float(rest.problem.network.pred_lag.sum())
        return release + longest + float(rest.problem.durations.sum()) + lags

    def _exactly(self, starts: Floats, choice: Choice) -> Iterator[tuple[Floats, Choice]]:
        """The schedule in that order, with the arcs that hold anyhow not cut."""
        frame = self.incumbent.frame(choice)
        if frame is None:
            return
        exact = np.array(serial(frame, frame.ranked(starts)))
        kept = replace(choice, cut=frozenset(_broken(self.rest, exact, choice)))
        yield exact, kept


def _broken(rest: Rest, starts: Floats, choice: Choice) -> Iterator[tuple[int, int]]:
    """Of the cut arcs those that the schedule does not keep."""
    durations = rest.problem_in(choice).durations
    network = rest.problem.network
    lag = {
        (a, b): wait
        for a, b, wait in zip(
            network.pred.tolist(), network.heads.tolist(), network.pred_lag.tolist(), strict=True
        )
        if (a, b) in choice.cut
    }
    for a, b in choice.cut:
        if starts[b] < starts[a] + durations[a] + lag[a, b] - TOLERANCE:
            yield a, b

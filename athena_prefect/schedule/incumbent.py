"""The best schedule that a search has found so far, and what is known of the best there is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import inf

import numpy as np

from athena_prefect.errors import InfeasibleError
from athena_prefect.plan.graph import Floats
from athena_prefect.schedule.answer import Answer, Objective, Outcome, Progressed
from athena_prefect.schedule.generation import Frame
from athena_prefect.schedule.passes import TOLERANCE, forward
from athena_prefect.schedule.rest import Choice, Rest
from athena_prefect.schedule.schedule import Schedule
from athena_prefect.schedule.search import Budget, Found
from athena_prefect.schedule.worth import Value, Worth

FEW = 40
"""Free activities up to which breeding gets a tenth of its share, and modes are left to CP-SAT:
it proves the optimum of most."""


class Incumbent:
    """The best schedule so far: what every step of a search betters, within one budget."""

    def __init__(self, rest: Rest, objective: Objective, budget: Budget) -> None:
        self.rest = rest
        self.objective = objective
        self.budget = budget
        self.best: Found | None = None
        self.longest = -inf
        """The longest makespan that was offered."""
        self.history: list[Progressed] = []
        self.conflict = ""
        """Why there is no schedule, as far as is known."""
        self.bound: float | None = None
        self.proven = False
        """Whether nothing is better, or that there is none."""
        self.least_cost = 0.0
        """Seconds that a schedule takes, where the first one was known already."""
        self.few = int(rest.free.sum()) <= FEW
        self.frames: dict[Choice, Frame] = {}
        self.worths: dict[Choice, tuple[Worth, Floats, float]] = {}

    def answer(self) -> Answer:
        """What came of it."""
        best = self.best
        if best is None:
            self._look_for_the_impossible()
            return Answer(
                rest=self.rest,
                status=Outcome.INFEASIBLE if self.proven else Outcome.UNKNOWN,
                seconds=self.budget.spent,
                conflict=self.conflict or "no schedule was found within the time",
            )
        return Answer(
            rest=self.rest,
            status=Outcome.OPTIMAL if self.proven else Outcome.FEASIBLE,
            schedule=self._schedule(best),
            choice=best.choice,
            bound=self.bound,
            seconds=self.budget.spent,
            history=tuple(self.history),
        )

    def impossible(self, why: str) -> None:
        """Take it as proven that there is no schedule."""
        self.proven, self.conflict = True, why

    def _look_for_the_impossible(self) -> None:
        """There is no schedule where a task needs more than there ever is, whatever its way.

        More than there is in the end is no proof, but nothing is generated then.
        """
        rest = self.rest
        best_moment = replace(
            rest, problem=replace(rest.problem, capacities=rest.most_capacities), steps={}
        )
        self.conflict = _shortage(rest) or self.conflict
        self.proven = self.proven or bool(_shortage(best_moment))

    def _schedule(self, best: Found) -> Schedule:
        problem = self.rest.problem_in(best.choice)
        starts = np.where(self.rest.left_out(best.choice), self.rest.now, best.starts)
        return Schedule(
            problem=problem,
            starts=starts,
            finishes=starts + problem.durations,
            fixed=~self.rest.free,
        )

    # Worth

    def worth(self, choice: Choice) -> Worth:
        """What reckons the value of schedules under what a choice drops and cuts."""
        late = self.objective is not Objective.MAKESPAN
        return Worth(self.rest, choice, late=late, price=self.objective is Objective.COST)

    def value(self, choice: Choice) -> Callable[[Floats], Value]:
        """What schedules under a choice are worth, the least first."""
        if choice not in self.worths:
            price = self.price(choice)
            lengths = self.rest.problem_in(choice).durations
            self.worths[choice] = self.worth(choice), lengths, price
        worth, lengths, price = self.worths[choice]
        return lambda starts: worth(starts, lengths, price)

    def price(self, choice: Choice) -> float:
        """Cost and value lost."""
        return self.rest.cost_of(choice) + self.rest.lost_by(choice)

    def offer(self, starts: Floats, choice: Choice, source: str) -> bool:
        """Take a feasible schedule as the best where it is; whether it was."""
        value = self.value(choice)(starts)
        worth, lengths, _ = self.worths[choice]
        self.longest = max(self.longest, worth.makespan(starts, lengths))
        if self.best is not None and not less(value, self.best.value):
            return False
        self.take(Found(starts=starts, choice=choice, value=value, source=source))
        return True

    def take(self, found: Found) -> None:
        """Make a schedule the best, and note when it was."""
        self.best = found
        self.history.append(
            Progressed(seconds=self.budget.spent, value=found.value[0], source=found.source)
        )

    def frame(self, choice: Choice) -> Frame | None:
        """The frame of a choice; None where it cannot be carried out."""
        if not self.rest.within_budgets(choice):
            return None
        if choice not in self.frames:
            try:
                self.frames[choice] = Frame(self.rest, choice)
            except InfeasibleError:
                return None
        return self.frames[choice]

    # What is known of the best there is

    def in_time_as_it_stands(self) -> bool:
        """Whether no lever is called for: only lateness is to be avoided, and there is none."""
        best = self.best
        return (
            best is not None
            and self.objective is Objective.TARDINESS
            and not best.choice
            and best.value[0] <= 0
        )

    def look_at_the_bound(self) -> None:
        """No schedule is shorter than its longest chain, each task in its shortest way."""
        rest = self.rest
        if self.best is None or self.objective is not Objective.MAKESPAN:
            return
        durations, table = rest.problem.durations.copy(), rest.way_table
        durations[table.rows] = table.shortest[table.owner]
        gone = Choice(dropped=frozenset(rest.droppable), cut=rest.loose)
        durations[rest.left_out(gone)] = 0.0
        lag = np.where(rest.free[(network := rest.network_in(gone)).heads], network.pred_lag, -inf)
        finishes = forward(network, durations, floor=rest.floor, lag=lag)[1]
        self.bound = float(finishes[~rest.left_out(gone)].max(initial=rest.now))
        self.proven = self.best.value[0] <= self.bound + TOLERANCE

    def at_the_bound(self) -> bool:
        """Whether nothing can be better than the best any more."""
        if self.best is None:
            return False
        if self.objective is Objective.MAKESPAN:
            self.proven = self.bound is not None and self.best.value[0] <= self.bound + TOLERANCE
            return self.proven
        return self.best.value[0] <= 0

    def may_gain(self) -> bool:
        """Whether anything is left to be had by a better order."""
        if self.best is None or not self.rest.free.any():
            return False
        if self.objective is Objective.MAKESPAN:
            return not self.proven
        return self.best.value[0] > 0

    # Time

    def first_cost(self) -> float:
        """Seconds that the first schedule took, or takes where it was known already."""
        return max(self.history[0].seconds if self.history else 0.0, self.least_cost)

    def another_round_fits(self) -> bool:
        """Whether there is time to move a schedule to the right and to the left."""
        return self.budget.fits(3 * self.first_cost())


def less(one: Value, other: Value) -> bool:
    """Whether one value is better, beyond what rounding makes."""
    if abs(one[0] - other[0]) > TOLERANCE:
        return one[0] < other[0]
    return one[1] < other[1] - 1e-9


def _shortage(rest: Rest) -> str:
    """Which task needs more than there is in each of its ways; empty where none does."""
    table = rest.way_table
    fitting = table.chosen(table.least(table.durations))
    choice = Choice.of(fitting, dropped=frozenset(rest.droppable))
    try:
        rest.require_capacity(rest.problem_in(choice))
    except InfeasibleError as error:
        return str(error)
    return ""

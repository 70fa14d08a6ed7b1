"""The best schedule of what is left of a plan that is found within a time budget.

First the order so far, shifted to the right: instant, feasible, and always there
to fall back on. Then generation schemes with forward-backward improvement, many
times over, with modes searched along; then CP-SAT, given the best as a hint and as
a horizon, where the rest is small enough. Two phases rather than a weighted sum:
first what is asked for, then the least change that keeps it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import islice
from math import inf

import numpy as np

from athena_prefect.errors import InfeasibleError
from athena_prefect.plan.graph import Bools, Floats, Ints
from athena_prefect.schedule.exact import Aim, Limits, Outcome, Program
from athena_prefect.schedule.generation import Frame, serial
from athena_prefect.schedule.mode_search import Balance, ModeBreed
from athena_prefect.schedule.passes import TOLERANCE, forward
from athena_prefect.schedule.rest import AS_IT_STANDS, Choice, Rest
from athena_prefect.schedule.schedule import Schedule
from athena_prefect.schedule.search import (
    SIZE,
    Breed,
    Budget,
    Clock,
    Found,
    Improver,
    right_shifted,
)
from athena_prefect.schedule.taking_back import changes_of, take_back, without
from athena_prefect.schedule.worth import Value, Worth

BREEDING = 0.5
"""Share of a budget that schedules are bred in before CP-SAT gets the rest."""
FEW = 40
"""Free activities up to which breeding gets a tenth of that, and modes are left to CP-SAT: it
proves the optimum of most."""
RESTARTS = 100_000
"""Most restarts, so that a clock that stands still does not hold up the answer."""
EXACT = 500
"""Free activities up to which CP-SAT is asked: hinted, it never beat improvement above."""
PRESOLVE = 0.002
"""Seconds a free activity that CP-SAT needs before it searches at all, and takes whatever it was
given (500 activities: 0.9 s, asked for 0.4): with less it only overruns."""
BALANCING = 0.1
"""Most of a budget that goes into weighing ways against each other before any is tried."""
SETTLING = 0.2
"""Share of what is left, where CP-SAT is not asked, that is kept for taking back what is of no
use."""
CHANGE_SHARE = 0.3
"""Share of what is left that is kept for the second phase, least change."""
CHEAPEST_CALL = 0.02
"""Seconds below which calling CP-SAT is not worth building its model."""
RESERVE = 0.03
"""Share of a budget that CP-SAT is not given: so late it may come back."""
WORKERS = 2
"""Threads of CP-SAT: more of them than cores gained nothing on two."""


class Objective(StrEnum):
    """What a schedule should be good at; the least change comes after it."""

    MAKESPAN = "makespan"
    """Over as early as possible."""
    TARDINESS = "tardiness"
    """As little after the deadlines as possible."""
    COST = "cost"
    """As cheap as possible, with no more lateness than cannot be helped."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progressed:
    """One step to the answer: after so many seconds, this value by that."""

    seconds: float
    value: float
    source: str


@dataclass(frozen=True, kw_only=True, eq=False)
class Answer:
    """A schedule and what is known of it; seconds from the start of the run."""

    rest: Rest
    status: Outcome
    schedule: Schedule | None = None
    """Of all activities; those that are left out stand at the present with no duration."""
    choice: Choice = AS_IT_STANDS
    bound: float | None = None
    """No schedule is better than this: a lower bound of the objective, where one is known."""
    seconds: float = 0.0
    history: tuple[Progressed, ...] = ()
    conflict: str = ""
    """Why there is no schedule."""
    lessons: tuple[str, ...] = ()
    """What was learned from earlier runs and changed the estimates it rests on."""

    @property
    def makespan(self) -> float | None:
        """Finish of all that is not dropped; None where there is no schedule."""
        if self.schedule is None:
            return None
        return self.rest.makespan(self.schedule.starts, self.choice)

    @property
    def left_out(self) -> Bools:
        """The activities of dropped tasks."""
        return self.rest.left_out(self.choice)

    @property
    def dropped(self) -> tuple[str, ...]:
        """Ids of the tasks that are left out."""
        ids = self.rest.problem.task_ids
        return tuple(ids[t] for t in sorted(self.choice.dropped))


def generate(
    rest: Rest,
    objective: Objective = Objective.MAKESPAN,
    *,
    budget_s: float,
    seed: int,
    clock: Clock,
    tolerance: float = 0.0,
    workers: int = WORKERS,
) -> Answer:
    """A schedule of `rest`, as good as is found in `budget_s` seconds of `clock`.

    The first answer is made whatever it takes. `tolerance`: share of what is left
    of the makespan that the second phase may give away for less change. Where
    there is no schedule the answer says so, and why.
    """
    return _Generation(rest, objective, Budget(clock, budget_s), seed, tolerance, workers).answer()


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


class _Generation:
    """One search for a schedule."""

    def __init__(
        self,
        rest: Rest,
        objective: Objective,
        budget: Budget,
        seed: int,
        tolerance: float,
        workers: int,
    ) -> None:
        self.rest = rest
        self.objective = objective
        self.budget = budget
        self.seed = seed
        self.tolerance = tolerance
        self.workers = workers
        self.rng = np.random.default_rng(seed)
        self.best: Found | None = None
        self.longest = -inf
        self.history: list[Progressed] = []
        self.conflict = ""
        self.bound: float | None = None
        self.proven = False
        self.few = int(rest.free.sum()) <= FEW
        self.frames: dict[Choice, Frame] = {}
        self.worths: dict[Choice, tuple[Worth, Floats, float]] = {}

    def answer(self) -> Answer:
        status = Outcome.FEASIBLE
        self._repair()
        for choice in self._choices():
            if not choice or not self._in_time_as_it_stands():
                self._construct(choice)
        self._pull_everything()
        self._look_at_the_bound()
        self._sample(self.budget.seconds * BREEDING * (0.1 if self.few else 1.0))
        free = int(self.rest.free.sum())
        if free <= EXACT and self.budget.left >= PRESOLVE * free:
            self._exact()
        else:
            self._sample(self.budget.left * (1.0 - SETTLING))
            self._settle()
        best = self.best
        if best is None:
            status = Outcome.INFEASIBLE if self.proven or self.conflict else Outcome.UNKNOWN
            return Answer(
                rest=self.rest,
                status=status,
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

    def _worth(self, choice: Choice) -> Worth:
        late = self.objective is not Objective.MAKESPAN
        return Worth(self.rest, choice, late=late, price=self.objective is Objective.COST)

    def _value(self, choice: Choice) -> Callable[[Floats], Value]:
        """What schedules under a choice are worth, the least first."""
        if choice not in self.worths:
            price = self.rest.cost_of(choice) + self.rest.lost_by(choice)
            lengths = self.rest.problem_in(choice).durations
            self.worths[choice] = self._worth(choice), lengths, price
        worth, lengths, price = self.worths[choice]
        return lambda starts: worth(starts, lengths, price)

    def _offer(self, starts: Floats, choice: Choice, source: str) -> bool:
        """Take a feasible schedule as the best where it is; whether it was."""
        value = self._value(choice)(starts)
        worth, lengths, _ = self.worths[choice]
        self.longest = max(self.longest, worth.makespan(starts, lengths))
        if self.best is not None and not _less(value, self.best.value):
            return False
        self.best = Found(starts=starts, choice=choice, value=value, source=source)
        self.history.append(Progressed(seconds=self.budget.spent, value=value[0], source=source))
        return True

    def _frame(self, choice: Choice) -> Frame | None:
        """The frame of a choice; None where it cannot be carried out."""
        if not self.rest.within_budgets(choice):
            return None
        if choice not in self.frames:
            try:
                self.frames[choice] = Frame(self.rest, choice)
            except InfeasibleError as error:
                self.conflict = self.conflict or str(error)
                return None
        return self.frames[choice]

    # Steps

    def _repair(self) -> None:
        frame = self._frame(Choice())
        if frame is None:
            return
        previous = np.full(len(self.rest.problem), np.nan)
        for i, start in self.rest.previous.items():
            previous[i] = start
        if self.rest.previous:
            self._offer(right_shifted(frame, previous), Choice(), "right shift")
        else:
            sequence = frame.ranked(frame.latest_finish())
            self._offer(np.array(serial(frame, sequence)), Choice(), "serial generation")

    def _pull_everything(self) -> None:
        """One schedule with every lever pulled where none was yet, whatever time is left.

        Without it a budget that is over with the repair, as on a machine that does other
        things, would leave levers untried and look as if they gained nothing.
        """
        rest, table = self.rest, self.rest.way_table
        shortest = table.chosen(table.least(table.durations))
        choice = Choice.of(shortest, dropped=frozenset(rest.droppable), cut=rest.loose)
        tried = any(
            c.dropped == choice.dropped
            and c.cut == choice.cut
            and bool(c.ways) >= bool(choice.ways)
            for c in self.frames
        )
        if not choice or tried or self._in_time_as_it_stands():
            return
        frame = self._frame(choice)
        if frame is not None:
            improver = Improver(frame, self._value(choice))
            self._offer(next(improver.first(also_serial=True)), choice, "generation")

    def _choices(self) -> Iterator[Choice]:
        """The choices that are worth a schedule of their own, before any search.

        All levers at once come first, since of a large plan there is time for few.
        """
        rest, table = self.rest, self.rest.way_table
        if self.best is None:
            # What is used up least is the likeliest to be feasible, and quickly had.
            yield Choice.of(table.chosen(table.least(_use(rest))))
        ways: list[dict[int, int]] = [{}]
        all_dropped, no_drop = frozenset(rest.droppable), frozenset[int]()
        no_cut = frozenset[tuple[int, int]]()
        if len(table):
            levers = Choice(dropped=all_dropped, cut=rest.loose)
            alone = self.few or self._in_time_as_it_stands()
            breed = None if alone else self._mode_breed(levers)
            balanced = None if breed is None else next(self._balanced(breed), None)
            scores = (table.durations, _use(rest), table.quality_lost)
            ways = [] if balanced is None else [table.chosen(balanced)]
            ways += [{}, *(table.chosen(table.least(score)) for score in scores)]
        seen = set()
        for chosen in ways:
            for cut in dict.fromkeys((rest.loose, no_cut)):
                for out in dict.fromkeys((all_dropped, no_drop)):
                    choice = Choice.of(chosen, dropped=out, cut=cut)
                    if choice not in seen:
                        seen.add(choice)
                        yield choice

    def _in_time_as_it_stands(self) -> bool:
        """Whether no lever is called for: only lateness is to be avoided, and there is none."""
        best = self.best
        return (
            best is not None
            and self.objective is Objective.TARDINESS
            and not best.choice
            and best.value[0] <= 0
        )

    def _balanced(self, breed: ModeBreed) -> Iterator[Ints]:
        """Ways of all tasks that balance chains against resources, the best first."""
        found = []
        until = self.budget.spent + BALANCING * self.budget.seconds
        for estimate, places in breed.balance.assignments():
            found.append((estimate, places))
            if self.budget.spent > until:
                break
        for _, places in sorted(found, key=lambda pair: pair[0]):
            affordable = breed.affordable(places)
            if affordable is not None:
                yield affordable

    def _mode_breed(self, choice: Choice) -> ModeBreed | None:
        """A population under what a choice drops and cuts; None where no task has another way."""
        table = self.rest.way_table
        if not (table.size > 1).any():
            return None
        ways = table.chosen(table.least(table.durations))
        try:
            frame = Frame(self.rest, Choice.of(ways, dropped=choice.dropped, cut=choice.cut))
        except InfeasibleError:
            return None
        worth = self._worth(choice)
        return ModeBreed(frame, worth, Balance(frame, worth), self.rng)

    def _construct(self, choice: Choice) -> None:
        step = self._first_cost()
        if self.best is not None and not self.budget.fits(1.3 * step):
            return
        frame = self._frame(choice)
        if frame is None:
            return
        improver = Improver(frame, self._value(choice))
        # Without an order so far the first schedule was that of serial generation.
        known = choice == AS_IT_STANDS and not self.rest.previous
        for starts in improver.first(also_serial=not known):
            self._offer(starts, choice, "generation")
            step = self._first_cost()
            if not self.budget.fits(1.3 * step):
                return
        best = self.best
        if best is not None and best.choice == choice:
            better = improver.improved(best.starts, go_on=lambda: self.budget.fits(3 * step))
            self._offer(better, choice, "forward-backward improvement")

    def _look_at_the_bound(self) -> None:
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

    def _first_cost(self) -> float:
        """Seconds that the first schedule took."""
        return self.history[0].seconds if self.history else 0.0

    def _sample(self, most: float) -> None:
        """Breed better schedules under the best choice, for `most` seconds of the budget."""
        if (self.best is not None and not self._may_gain()) or not self.rest.free.any():
            return
        until = min(self.budget.spent + most, self.budget.seconds)
        step = self._first_cost()
        if self.best is not None and self.budget.spent + 3 * step >= until:
            return
        child = self._breeding()
        if child is None:
            return
        for _ in range(RESTARTS):
            if self.budget.spent + 1.5 * step >= until or self._at_the_bound():
                break
            began = self.budget.spent
            child()
            step = max(step, self.budget.spent - began)

    def _breeding(self) -> Callable[[], None] | None:
        """What makes and offers one more schedule; None where there is nothing to start from."""
        best = self.best
        choice = AS_IT_STANDS if best is None else best.choice
        modes = self._mode_breed(choice)
        if modes is not None:
            if best is not None:
                modes.known(best.starts, self.rest.way_table.places(choice.ways))
            given = islice(self._balanced(modes), SIZE // 2)
            return lambda: self._mode_child(modes, given)
        if best is None:
            return None
        frame = self._frame(choice)
        assert frame is not None, "the best schedule was made from it"
        breed = Breed(Improver(frame, self._value(choice)), [best.starts], self.rng)

        def child() -> None:
            self._offer(breed.child(self._another_round_fits), choice, "breeding")

        return child

    def _mode_child(self, modes: ModeBreed, given: Iterator[Ints]) -> None:
        places = next(given, None)
        if places is None:
            member = modes.child(self._another_round_fits)
        else:
            member = modes.made(places, self._another_round_fits)
        if member is None or (self.best is not None and not _less(member.value, self.best.value)):
            return
        base = modes.worth.choice
        ways = self.rest.way_table.chosen(member.places)
        choice = Choice.of(ways, dropped=base.dropped, cut=base.cut)
        self._offer(member.starts, choice, "search over modes")

    def _another_round_fits(self) -> bool:
        """Whether there is time to move a schedule to the right and to the left."""
        return self.budget.fits(3 * self._first_cost())

    def _at_the_bound(self) -> bool:
        """Whether nothing can be better than the best any more."""
        if self.best is None:
            return False
        if self.objective is Objective.MAKESPAN:
            self.proven = self.bound is not None and self.best.value[0] <= self.bound + TOLERANCE
            return self.proven
        return self.best.value[0] <= 0

    def _may_gain(self) -> bool:
        """Whether anything is left to be had by a better order."""
        if self.best is None or not self.rest.free.any():
            return False
        if self.objective is Objective.MAKESPAN:
            return not self.proven
        return self.best.value[0] > 0

    # Taking back

    def _settle(self) -> None:
        """Take back what the best schedule changes, drops and cuts, where nothing is lost by it."""
        if self.best is not None:
            most = self.best.value
            step = 2 * self._first_cost()
            take_back(
                changes_of(self.rest, self.best.choice),
                lambda part: self._without(part, most),
                lambda: self.budget.fits(step),
            )

    def _without(self, part: Sequence[Choice], most: Value) -> bool:
        """Take changes back where the schedule is worth no less than `most`; whether it was."""
        best = self.best
        assert best is not None, "there is something to take back"
        choice = without(self.rest, best.choice, part)
        frame = None if choice is None else self._frame(choice)
        if choice is None or frame is None:
            return False
        starts = np.array(serial(frame, frame.ranked(best.starts)))
        value = self._value(choice)(starts)
        dearer = self.objective is Objective.COST and value[1] > best.value[1] + 1e-9
        if value[0] > most[0] + TOLERANCE or dearer:
            return False
        self.best = Found(starts=starts, choice=choice, value=value, source="taking back")
        self.history.append(
            Progressed(seconds=self.budget.spent, value=value[0], source="taking back")
        )
        return True

    # CP-SAT

    def _exact(self) -> None:
        rest = self.rest
        if not rest.free.any():
            self.proven = True
            return
        levers = bool(rest.ways or rest.droppable or rest.loose)
        second = bool(rest.previous) or levers
        # Without an order so far the second phase gets what is left where there is an optimum.
        share = 1.0 - CHANGE_SHARE if rest.previous or self.objective is Objective.COST else 1.0
        limits = Limits()
        if self.objective is Objective.MAKESPAN:
            if not self.proven:
                self._solve(Aim.MAKESPAN, limits, share)
        elif self.best is None or self.best.value[0] > 0:
            self._solve(Aim.TARDINESS, limits, share)
        else:
            self.proven, self.bound = True, 0.0
        if self.best is None or not second:
            return
        if self.objective is Objective.COST:
            limits = Limits(lateness=self.best.value[0])
            # That no schedule is less late does not say that none is cheaper.
            self.proven = False
            self._solve(Aim.COST, limits, 0.6)
        self._least_change()

    def _least_change(self) -> None:
        """Second phase: what is asked for is kept, and as little changed as possible."""
        best = self.best
        assert best is not None
        rest = self.rest
        if self.objective is Objective.MAKESPAN:
            given = self.tolerance * (best.value[0] - rest.now)
            limits = Limits(makespan=best.value[0] + given)
        elif self.objective is Objective.TARDINESS:
            limits = Limits(lateness=best.value[0])
        else:
            limits = Limits(lateness=best.value[0], cost=self._price(best.choice))
        proven, bound = self.proven, self.bound
        found = self._solved(Aim.CHANGE, limits, 1.0)
        self.proven, self.bound = proven, bound
        if found is None:
            return
        for starts, choice in found:
            kept = self._value(choice)(starts)
            most = limits.makespan if limits.makespan < inf else limits.lateness
            within = kept[0] <= most + TOLERANCE
            if self.objective is Objective.COST:
                within &= kept[1] <= best.value[1] + 1e-6
            nearer = change(rest, starts, choice) < change(rest, best.starts, best.choice) - 1e-9
            if within and nearer:
                best = Found(starts=starts, choice=choice, value=kept, source="least change")
                self.history.append(
                    Progressed(seconds=self.budget.spent, value=kept[0], source=best.source)
                )
        self.best = best

    def _price(self, choice: Choice) -> float:
        return self.rest.cost_of(choice) + self.rest.lost_by(choice)

    def _solve(self, aim: Aim, limits: Limits, share: float) -> None:
        for starts, choice in self._solved(aim, limits, share) or ():
            self._offer(starts, choice, "CP-SAT")
            frame = self._frame(choice)
            if frame is not None and not self.proven:
                better = Improver(frame, self._value(choice)).improved(starts)
                self._offer(better, choice, "forward-backward improvement")

    def _solved(self, aim: Aim, limits: Limits, share: float) -> list[tuple[Floats, Choice]] | None:
        """What CP-SAT makes of it: its order under its choice, times reckoned anew."""
        left = self.budget.left * share
        if left < CHEAPEST_CALL:
            return None
        rest = self.rest
        incumbent, choice, horizon = self._hint(aim, limits)
        began = self.budget.spent
        program = Program(rest, aim, incumbent, choice, horizon=horizon, limits=limits)
        left -= self.budget.spent - began + RESERVE * self.budget.seconds
        if left <= 0:
            return None
        solution = program.solve(left, seed=self.seed, workers=self.workers)
        exact = program.exact
        if solution.outcome is Outcome.INFEASIBLE and self.best is None:
            self.proven = exact
            self.conflict = self.conflict or "no choice of modes keeps within the budgets"
        if solution.starts is None:
            return None
        if aim is not Aim.CHANGE:
            self.proven = exact and solution.outcome is Outcome.OPTIMAL
            if exact and solution.bound is not None and aim is not Aim.COST:
                self.bound = max(solution.bound, -inf if self.bound is None else self.bound)
        return list(self._exactly(solution.starts, solution.choice))

    def _hint(self, aim: Aim, limits: Limits) -> tuple[Floats, Choice, float]:
        rest, best = self.rest, self.best
        if best is None:
            longest = sum(
                max((w.duration for w in rest.ways.get(t, ())), default=0.0)
                for t in range(len(rest.problem.task_ids))
            )
            release = float(rest.floor.max(initial=rest.now))
            lags = float(rest.problem.network.pred_lag.sum())
            whole = float(rest.problem.durations.sum())
            return rest.floor, Choice(), release + longest + whole + lags
        if aim is Aim.MAKESPAN:
            return best.starts, best.choice, rest.makespan(best.starts, best.choice)
        most = max(self.longest, rest.previous_makespan or 0.0, rest.deadline or 0.0)
        return best.starts, best.choice, min(most, limits.makespan)

    def _exactly(self, starts: Floats, choice: Choice) -> Iterator[tuple[Floats, Choice]]:
        """The schedule in that order, with the arcs that hold anyhow not cut."""
        frame = self._frame(choice)
        if frame is None:
            return
        exact = np.array(serial(frame, frame.ranked(starts)))
        kept = replace(choice, cut=frozenset(_broken(self.rest, exact, choice)))
        yield exact, kept


def _less(one: Value, other: Value) -> bool:
    """Whether one value is better, beyond what rounding makes."""
    if abs(one[0] - other[0]) > TOLERANCE:
        return one[0] < other[0]
    return one[1] < other[1] - 1e-9


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


def _use(rest: Rest) -> Floats:
    """Of each way the share of all budgets that it uses up; ties by duration."""
    table, have = rest.way_table, np.maximum(np.array(rest.budgets), 1e-9)
    longest = max(float(table.durations.max(initial=0.0)), 1e-9)
    used: Floats = (table.consumes / have).sum(axis=1) + 1e-9 * table.durations / longest
    return used

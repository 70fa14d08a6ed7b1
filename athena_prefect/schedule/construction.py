"""The first schedules of a search: the order so far, and one of each choice that is worth one."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

import numpy as np

from athena_prefect.plan.graph import Floats
from athena_prefect.schedule.affording import afforded
from athena_prefect.schedule.answer import Outcome
from athena_prefect.schedule.breeding import Breeding
from athena_prefect.schedule.generation import Frame, serial
from athena_prefect.schedule.incumbent import Incumbent
from athena_prefect.schedule.rest import AS_IT_STANDS, Choice, Rest
from athena_prefect.schedule.search import Improver, right_shifted

AFFORDING = 0.5
"""Most of what is left of a budget that goes into ways that keep within what is used up, where
repairs found none: without them there is no schedule at all."""
CHEAPEST = 0.05
"""Seconds that it gets at least."""


class Construction:
    """Schedules that need no search, the surest first."""

    def __init__(self, incumbent: Incumbent, breeding: Breeding) -> None:
        self.incumbent = incumbent
        self.rest, self.budget = incumbent.rest, incumbent.budget
        self.breeding = breeding

    def construct(self) -> None:
        """The order so far, then every choice that there is time for."""
        self._repair()
        for choice in self._choices():
            if not choice or not self.incumbent.in_time_as_it_stands():
                self.attempt(choice)
        if self.incumbent.best is None and self.rest.budgets:
            self._afford()
        self._pull_everything()

    def _repair(self) -> None:
        frame = self.incumbent.frame(Choice())
        if frame is None:
            return
        if self.rest.previous:
            self.incumbent.offer(self._shifted(frame), Choice(), "right shift")
        else:
            sequence = frame.ranked(frame.latest_finish())
            self.incumbent.offer(np.array(serial(frame, sequence)), Choice(), "serial generation")

    def _shifted(self, frame: Frame) -> Floats:
        so_far, rest = self.rest.so_far, self.rest
        if so_far.problem is rest.problem:
            # Later steps are allotted what a schedule really takes.
            self.incumbent.least_cost = so_far.seconds
            return so_far.starts
        began = self.budget.spent
        previous = np.full(len(rest.problem), np.nan)
        previous[list(rest.previous)] = list(rest.previous.values())
        so_far.starts = right_shifted(frame, previous)
        so_far.problem, so_far.seconds = rest.problem, self.budget.spent - began
        return so_far.starts

    def _choices(self) -> Iterator[Choice]:
        """The choices that are worth a schedule of their own, before any search.

        All levers at once come first, since of a large plan there is time for few.
        """
        rest, table = self.rest, self.rest.way_table
        if self.incumbent.best is None:
            # What is used up least is the likeliest to be feasible, and quickly had.
            yield Choice.of(table.chosen(table.least(_use(rest))))
        ways: list[dict[int, int]] = [{}]
        all_dropped, no_drop = frozenset(rest.droppable), frozenset[int]()
        no_cut = frozenset[tuple[int, int]]()
        if len(table):
            levers = Choice(dropped=all_dropped, cut=rest.loose)
            # What no schedule could be made of any more is not weighed.
            over = self.incumbent.best is not None and not self._another_fits()
            alone = over or self.incumbent.few or self.incumbent.in_time_as_it_stands()
            breed = None if alone else self.breeding.mode_breed(levers)
            balanced = None if breed is None else next(self.breeding.balanced(breed), None)
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

    def attempt(self, choice: Choice) -> None:
        """Schedules of one choice, improved; the first whatever it takes, where there is none."""
        if self.incumbent.best is not None and not self._another_fits():
            return
        frame = self.incumbent.frame(choice)
        if frame is None:
            return
        improver = Improver(frame, self.incumbent.value(choice))
        # Without an order so far the first schedule was that of serial generation.
        known = choice == AS_IT_STANDS and not self.rest.previous
        for starts in improver.first(also_serial=not known):
            self.incumbent.offer(starts, choice, "generation")
            if not self._another_fits():
                return
        best, step = self.incumbent.best, self.incumbent.first_cost()
        if best is not None and best.choice == choice:
            better = improver.improved(best.starts, go_on=lambda: self.budget.fits(3 * step))
            self.incumbent.offer(better, choice, "forward-backward improvement")

    def _another_fits(self) -> bool:
        """Whether there is time for one more schedule."""
        return self.budget.fits(1.3 * self.incumbent.first_cost())

    def _afford(self) -> None:
        """Schedules in ways that CP-SAT says keep the budgets; without levers first, then with all.

        Whatever time is left: what repairs did not find, breeding seldom does.
        """
        rest = self.rest
        breed = self.breeding.mode_breed(AS_IT_STANDS)
        badness = rest.way_table.durations
        if breed is not None:
            deque(breed.balance.assignments(), maxlen=0)
            badness = breed.balance.score
        for dropped in dict.fromkeys((frozenset[int](), frozenset(rest.droppable))):
            seconds = max(AFFORDING * self.budget.left, CHEAPEST)
            found, choice = afforded(rest, badness, dropped=dropped, seconds=seconds)
            if found is Outcome.FEASIBLE:
                self.attempt(choice)
                return
            if found is Outcome.INFEASIBLE and dropped == frozenset(rest.droppable):
                self.incumbent.impossible("no choice of modes keeps within the budgets")

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
            for c in self.incumbent.frames
        )
        if not choice or tried or self.incumbent.in_time_as_it_stands():
            return
        frame = self.incumbent.frame(choice)
        if frame is not None:
            improver = Improver(frame, self.incumbent.value(choice))
            self.incumbent.offer(next(improver.first(also_serial=True)), choice, "generation")


def _use(rest: Rest) -> Floats:
    """Of each way the share of all budgets that it uses up; ties by duration."""
    table, have = rest.way_table, np.maximum(np.array(rest.budgets), 1e-9)
    longest = max(float(table.durations.max(initial=0.0)), 1e-9)
    used: Floats = (table.consumes / have).sum(axis=1) + 1e-9 * table.durations / longest
    return used

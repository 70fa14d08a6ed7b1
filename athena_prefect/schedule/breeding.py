"""Better schedules under the best choice so far, bred as long as there is time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from math import inf

import numpy as np

from athena_prefect.errors import InfeasibleError
from athena_prefect.plan.graph import Ints
from athena_prefect.schedule.generation import Frame
from athena_prefect.schedule.incumbent import Incumbent, less
from athena_prefect.schedule.mode_search import Balance, ModeBreed
from athena_prefect.schedule.rest import AS_IT_STANDS, Choice
from athena_prefect.schedule.search import SIZE, Breed, Improver

RESTARTS = 100_000
"""Most restarts, so that a clock that stands still does not hold up the answer."""
BALANCING = 0.1
"""Most of a budget that goes into weighing ways against each other before any is tried."""


class Breeding:
    """What is bred: orders, and with them modes where tasks have several."""

    def __init__(self, incumbent: Incumbent, rng: np.random.Generator) -> None:
        self.incumbent = incumbent
        self.rest, self.budget = incumbent.rest, incumbent.budget
        self.rng = rng
        self.load = inf
        """Share of the least bound for which the most loaded resource works, ways well balanced;
        inf where they were not weighed."""

    def breed(self, most: float) -> None:
        """Breed better schedules under the best choice, for `most` seconds of the budget."""
        if (
            self.incumbent.best is not None and not self.incumbent.may_gain()
        ) or not self.rest.free.any():
            return
        until = min(self.budget.spent + most, self.budget.seconds)
        step = self.incumbent.first_cost()
        if self.incumbent.best is not None and self.budget.spent + 3 * step >= until:
            return
        child = self._breeder()
        if child is None:
            return
        for _ in range(RESTARTS):
            if self.budget.spent + 1.5 * step >= until or self.incumbent.at_the_bound():
                break
            began = self.budget.spent
            child()
            step = max(step, self.budget.spent - began)

    def _breeder(self) -> Callable[[], None] | None:
        """What makes and offers one more schedule; None where there is nothing to start from."""
        best = self.incumbent.best
        choice = AS_IT_STANDS if best is None else best.choice
        modes = self.mode_breed(choice)
        if modes is not None:
            if best is not None:
                modes.known(best.starts, self.rest.way_table.places(choice.ways))
            given = islice(self.balanced(modes), SIZE // 2)
            return lambda: self._mode_child(modes, given)
        if best is None:
            return None
        frame = self.incumbent.frame(choice)
        assert frame is not None, "the best schedule was made from it"
        breed = Breed(Improver(frame, self.incumbent.value(choice)), [best.starts], self.rng)

        def child() -> None:
            self.incumbent.offer(breed.child(self.incumbent.another_round_fits), choice, "breeding")

        return child

    def _mode_child(self, modes: ModeBreed, given: Iterator[Ints]) -> None:
        places = next(given, None)
        if places is None:
            member = modes.child(self.incumbent.another_round_fits)
        else:
            member = modes.made(places, self.incumbent.another_round_fits)
        if member is None or (
            self.incumbent.best is not None and not less(member.value, self.incumbent.best.value)
        ):
            return
        base = modes.worth.choice
        ways = self.rest.way_table.chosen(member.places)
        choice = Choice.of(ways, dropped=base.dropped, cut=base.cut)
        self.incumbent.offer(member.starts, choice, "search over modes")

    def balanced(self, breed: ModeBreed) -> Iterator[Ints]:
        """Ways of all tasks that balance chains against resources, the best first."""
        found = []
        until = self.budget.spent + BALANCING * self.budget.seconds
        for estimate, places in breed.balance.assignments():
            found.append((estimate, places))
            if self.budget.spent > until:
                break
        self.load = breed.balance.load
        for _, places in sorted(found, key=lambda pair: pair[0]):
            affordable = breed.affordable(places)
            if affordable is not None:
                yield affordable

    def mode_breed(self, choice: Choice) -> ModeBreed | None:
        """A population under what a choice drops and cuts; None where no task has another way."""
        table = self.rest.way_table
        if not (table.size > 1).any():
            return None
        ways = table.chosen(table.least(table.durations))
        try:
            frame = Frame(self.rest, Choice.of(ways, dropped=choice.dropped, cut=choice.cut))
        except InfeasibleError:
            return None
        worth = self.incumbent.worth(choice)
        return ModeBreed(frame, worth, Balance(frame, worth), self.rng)

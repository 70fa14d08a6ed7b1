"""The best schedule of what is left of a plan that is found within a time budget.

First the order so far, shifted to the right: instant, feasible, and always there
to fall back on (`construction`). Then generation schemes with forward-backward
improvement, many times over, with modes searched along (`breeding`); then CP-SAT,
given the best as a hint and as a horizon, where the rest is small enough
(`hinted`; its model is in `exact`), and else what is of no use is taken back
(`taking_back`). Two phases rather than a weighted sum: first what is asked for, then
the least change that keeps it. All of them better one `incumbent`.
"""

from __future__ import annotations

from math import inf

import numpy as np

from athena_prefect.schedule.answer import Answer, Objective
from athena_prefect.schedule.breeding import Breeding
from athena_prefect.schedule.construction import Construction
from athena_prefect.schedule.hinted import Hinted
from athena_prefect.schedule.incumbent import Incumbent
from athena_prefect.schedule.rest import Choice, Rest
from athena_prefect.schedule.search import Budget, Clock
from athena_prefect.schedule.taking_back import settle

BREEDING = 0.5
"""Share of a budget that schedules are bred in before CP-SAT gets the rest."""
SMALL = 75
"""Free activities up to which breeding stands still before CP-SAT does."""
STANDSTILL = 0.5
"""Seconds after which it does: of two seconds on 60 activities CP-SAT made more of the rest than
breeding, of half a second less; 90 activities need more."""
LOADED = 0.97
"""Load up to which it is not resources alone that decide how long a rest with modes takes: there
CP-SAT makes more of the time than breeding, or no less."""
EARLY = 0.15
"""Share of a budget that is bred there; of 5 % no good schedule comes to fall back on."""
HASTY = 1.0
"""Seconds of a budget up to which CP-SAT is tried there without hint and bound: on rests with tight
budgets it was nearer to the best so within a second, after two no more."""
GLANCE = 0.0003
"""Seconds a free activity that are bred before."""
TRIAL = 0.0012
"""Seconds a free activity after which it is given up where it is far behind: by then it has
searched about as long as its presolve took."""
TRIED = 0.4
"""Most of a budget that may go into a trial that is given up."""
EXACT = 500
"""Free activities up to which CP-SAT is asked: hinted, it never beat improvement above."""
PRESOLVE = 0.002
"""Seconds a free activity that CP-SAT needs before it searches at all, and takes whatever it was
given (500 activities: 0.9 s, asked for 0.4): with less it only overruns."""
SETTLING = 0.2
"""Share of what is left, where CP-SAT is not asked, that is kept for taking back what is of no
use."""
WORKERS = 2
"""Threads of CP-SAT: more of them than cores gained nothing on two."""


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
    incumbent = Incumbent(rest, objective, Budget(clock, budget_s))
    budget, free = incumbent.budget, int(rest.free.sum())
    breeding = Breeding(incumbent, np.random.default_rng(seed))
    Construction(incumbent, breeding).construct()
    if incumbent.best is None and incumbent.proven:
        return incumbent.answer()
    incumbent.look_at_the_bound()
    hinted = Hinted(incumbent, seed=seed, tolerance=tolerance, workers=workers)
    load = breeding.load if objective is Objective.MAKESPAN and not rest.previous else inf
    within = budget.seconds <= HASTY and TRIAL * free <= TRIED * budget.left and free <= EXACT
    early = load <= LOADED
    if early and within and incumbent.may_gain():
        early = False
        breeding.breed(GLANCE * free)
        if not incumbent.at_the_bound():
            hinted.attempt(TRIAL * free)
    share = budget.left * (EARLY if early else BREEDING) * (0.1 if incumbent.few else 1.0)
    breeding.breed(min(share, STANDSTILL) if free <= SMALL and not rest.ways else share)
    if free <= EXACT and budget.left >= PRESOLVE * free:
        hinted.solve()
    else:
        breeding.breed(budget.left * (1.0 - SETTLING))
        settle(incumbent)
    return incumbent.answer()


def generate_exactly(
    rest: Rest, choice: Choice, objective: Objective, *, budget_s: float, clock: Clock
) -> Answer:
    """A schedule that makes use of just `choice`: nothing is searched but the order.

    What was found in a search is so found again, however much time there was for either.
    """
    incumbent = Incumbent(rest, objective, Budget(clock, budget_s))
    Construction(incumbent, Breeding(incumbent, np.random.default_rng(0))).attempt(choice)
    return incumbent.answer()

"""The rest as a constraint program, solved by CP-SAT within what is left of a budget.

Times are whole ticks from the present: the greatest tick that all times are whole
multiples of, else one so fine that the horizon has `TICKS` of them, with durations
rounded up (`ticks`). The model has its `variables`, its `constraints` and its
`goals`. Its answer is an order and a choice; the times of a schedule are always
reckoned by generation, from that order, exactly.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING

from athena_prefect.plan.graph import Floats
from athena_prefect.schedule.answer import Outcome
from athena_prefect.schedule.constraints import Constraints
from athena_prefect.schedule.goals import NO_LIMITS, SHARES, Aim, Goal, Limits
from athena_prefect.schedule.rest import AS_IT_STANDS, Choice, Rest
from athena_prefect.schedule.variables import Variables

if TYPE_CHECKING:
    from ortools.sat.python import cp_model
    from ortools.sat.python.cp_model_helper import SatParameters

LNS_ONLY = 1_000
"""Activities from which only neighbourhoods are searched: a whole search overran its time
(asked for 2 s it took 5 to 10 s), this one kept to it."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Solution:
    """What CP-SAT says; seconds from the start of the run."""

    outcome: Outcome
    bound: float | None = None
    starts: Floats | None = None
    choice: Choice = AS_IT_STANDS


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """A search that is given up where after some seconds it has not come far enough."""

    seconds: float
    most: float
    """What it minimises, in seconds from the start of the run, at most by then."""


def load() -> None:
    """Import OR-Tools now: it takes tenths of a second, once a process, that are in no budget."""
    import ortools.sat.python.cp_model  # noqa: F401


class Program:
    """One rest as a CP-SAT model; built once a solve."""

    def __init__(
        self,
        rest: Rest,
        aim: Aim,
        incumbent: Floats,
        choice: Choice,
        *,
        horizon: float,
        limits: Limits = NO_LIMITS,
        implied: bool = True,
    ) -> None:
        """`incumbent` is a schedule under `choice`, the hint; nothing ends after `horizon`.

        `implied`: with constraints that only say once more what follows from the others.
        """
        from ortools.sat.python import cp_model

        self.cp = cp_model
        self.rest = rest
        self.aim = aim
        self.model = cp_model.CpModel()
        self.variables = Variables(self.model, rest, incumbent, choice, horizon=horizon)
        self.ticks = self.variables.ticks
        constraints = Constraints(self.variables)
        constraints.precedence()
        constraints.capacities()
        constraints.budgets()
        goal = Goal(self.variables)
        if implied:
            constraints.work(goal.makespan)
        goal.minimise(aim, limits)

    @property
    def exact(self) -> bool:
        """Whether the model rounds nothing, so that its bounds hold."""
        return self.ticks.exact

    def forget(self) -> None:
        """Begin without the hint."""
        self.model.clear_hints()  # type: ignore[no-untyped-call]

    def solve(
        self, seconds: float, *, seed: int, workers: int, trial: Trial | None = None
    ) -> Solution:
        """The best that is found in so many seconds, or until it is given up."""
        solver = self.cp.CpSolver()
        given = solver.parameters
        given.max_time_in_seconds = max(seconds, 0.01)
        given.num_workers = workers
        given.random_seed = seed % 2**31
        given.use_lns_only = len(self.variables.tasks) > LNS_ONLY
        if not self.variables.chosen and self.aim in (Aim.MAKESPAN, Aim.TARDINESS):
            # The relaxation of a model that chooses starts and nothing else has no rows.
            given.subsolvers.append("no_lp")
            _with_little_presolve(given)
        elif self.aim is Aim.MAKESPAN and self.model.proto.solution_hint.vars:
            _with_little_presolve(given)
        status = solver.solve(self.model) if trial is None else self._tried(solver, trial)
        if status == self.cp.INFEASIBLE:
            return Solution(outcome=Outcome.INFEASIBLE)
        if status not in (self.cp.OPTIMAL, self.cp.FEASIBLE):
            return Solution(outcome=Outcome.UNKNOWN)
        optimal = status == self.cp.OPTIMAL
        starts = self.variables.incumbent.copy()
        for i, task in self.variables.tasks.items():
            starts[i] = self.rest.now + solver.value(task.start) * self.ticks.size
        return Solution(
            outcome=Outcome.OPTIMAL if optimal else Outcome.FEASIBLE,
            bound=self._bound(solver.best_objective_bound),
            starts=starts,
            choice=self._choice(solver),
        )

    def _tried(self, solver: cp_model.CpSolver, trial: Trial) -> cp_model.CpSolverStatus:
        class Watch(self.cp.CpSolverSolutionCallback):  # type: ignore[misc, name-defined]
            """The value of the best solution so far."""

            least = inf

            def on_solution_callback(self) -> None:
                self.least = self.objective_value

        watch = Watch()

        over = threading.Event()

        def look() -> None:
            # Again and again, since a search that is just about to begin cannot be stopped.
            while not over.wait(trial.seconds):
                if self._bound(watch.least) > trial.most:
                    solver.stop_search()

        # CP-SAT leaves Python alone while it searches, so that another thread can look.
        looking = threading.Thread(target=look, name="trial of CP-SAT")
        looking.start()
        try:
            return solver.solve(self.model, watch)
        finally:
            over.set()
            looking.join()

    def _bound(self, bound: float) -> float:
        if self.aim is Aim.MAKESPAN:
            return self.rest.now + bound * self.ticks.size
        return bound * self.ticks.size if self.aim is Aim.TARDINESS else bound / SHARES

    def _choice(self, solver: cp_model.CpSolver) -> Choice:
        variables, says = self.variables, solver.boolean_value
        ways = {
            task: next(k for k, literal in enumerate(literals) if says(literal))
            for task, literals in variables.chosen.items()
        }
        return Choice.of(
            ways,
            dropped=frozenset(t for t, done in variables.present.items() if not says(done)),
            cut=frozenset(arc for arc, kept in variables.kept.items() if not says(kept)),
        )


def _with_little_presolve(given: SatParameters) -> None:
    """Settings for a model whose hint is a good solution, or that chooses starts alone.

    Presolve finds next to nothing there but takes a tenth of a second and more. Where it is
    begun without a hint, it is worth its time.
    """
    given.max_presolve_iterations = 1
    given.cp_model_probing_level = 0
    given.symmetry_level = 0

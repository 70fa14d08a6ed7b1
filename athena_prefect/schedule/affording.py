"""Ways that keep all budgets where repairs found none: by CP-SAT, on the choice of ways alone.

Whether any assignment keeps several budgets is hard by itself (a multiple-choice knapsack
of several dimensions), but without starts and resources it takes CP-SAT milliseconds.
"""

from __future__ import annotations

import numpy as np

from athena_prefect.plan.graph import Floats
from athena_prefect.schedule.answer import Outcome
from athena_prefect.schedule.packing import scale_of, whole
from athena_prefect.schedule.rest import Choice, Rest

NEAR = 0.05
"""Share of the least badness within which an assignment is good enough: the search over orders
and ways goes on from it."""


def afforded(
    rest: Rest,
    badness: Floats,
    *,
    dropped: frozenset[int],
    seconds: float,
) -> tuple[Outcome, Choice]:
    """A choice of ways that keeps the budgets, of little `badness`, and what is known of it.

    `badness`: of each way of `rest.way_table`, in seconds; ways that need more than there
    is in the end are not taken. The choice means nothing where none was found.
    """
    from ortools.sat.python import cp_model

    table = rest.way_table
    gone = np.zeros(len(rest.problem.task_ids), dtype=np.bool_)
    gone[list(dropped)] = True
    items = np.repeat(np.where(gone[table.tasks], 0.0, table.items), table.size)
    model = cp_model.CpModel()
    literals = [model.new_bool_var("") for _ in range(len(table.durations))]
    for first, size in zip(table.first.tolist(), table.size.tolist(), strict=True):
        model.add_exactly_one(literals[first : first + size])
    for w in np.flatnonzero(~table.fits & (items > 0)).tolist():
        model.add(literals[w] == 0)
    for b, have in enumerate(rest.budgets):
        amounts = table.consumes[:, b] * items
        scale = scale_of(np.append(amounts, have))
        parts = whole(amounts, scale, up=True)
        most = int(whole(np.array([have]), scale, up=False)[0])
        model.add(cp_model.LinearExpr.weighted_sum(literals, parts.tolist()) <= most)
    finest = 1000.0 / max(float(badness.max(initial=0.0)), 1e-9)
    weights = np.round(badness * finest).astype(np.int64).tolist()
    model.minimize(cp_model.LinearExpr.weighted_sum(literals, weights))
    solver = cp_model.CpSolver()
    solver.parameters.max_time_in_seconds = seconds
    solver.parameters.relative_gap_limit = NEAR
    solver.parameters.num_workers = 1
    status = solver.solve(model)
    if status == cp_model.INFEASIBLE:
        return Outcome.INFEASIBLE, Choice()
    if status not in (cp_model.OPTIMAL, cp_model.FEASIBLE):
        return Outcome.UNKNOWN, Choice()
    taken = np.array([solver.boolean_value(literal) for literal in literals], dtype=np.float64)
    places = table.least(1.0 - taken)
    return Outcome.FEASIBLE, Choice.of(table.chosen(places), dropped=dropped)

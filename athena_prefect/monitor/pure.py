"""The forecast of a run as one pure function, which is what a monitor says, too.

```python
from datetime import timedelta
import numpy as np

history = History.of([
    PastRun(key="monday", plan="audit", tasks=[
        PastTask(id="extract", category="extract", planned=60, actual=75, started=0),
        PastTask(id="load", category="load", planned=30, actual=33, started=75,
                 after=("extract",)),
    ]),
])
finish = forecast(plan, history, state, now, (0.1, 0.5, 0.9), np.random.default_rng(0))
finish[0.5]    # the moment by which the run is over with probability one half
```
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import numpy as np

from athena_prefect.errors import PlanError
from athena_prefect.journal.events import utc
from athena_prefect.journal.state import ExecutionState
from athena_prefect.monitor.chain import Chain
from athena_prefect.monitor.forecast import Basis, Moments, quantile_of
from athena_prefect.monitor.history import History
from athena_prefect.monitor.learned import Learned, LearnedSimulation
from athena_prefect.monitor.learned import samples_for as learned_samples
from athena_prefect.monitor.progress import Progress
from athena_prefect.plan.graph import Floats
from athena_prefect.plan.model import Plan
from athena_prefect.schedule.partial_order import ResourceArcs
from athena_prefect.schedule.problem import Problem, unknown_reason
from athena_prefect.schedule.simulation import Simulation

CELLS = 4_000_000
"""Samples of all tasks together in one simulation: some 50 ms of work."""


def samples_for(tasks: int) -> int:
    """Scenarios for a plan of so many tasks, unless told otherwise: 500 to 10,000.

    The standard error of a probability is at most 2.2 points with 500, half a
    point with 10,000.
    """
    return min(max(CELLS // max(tasks, 1), 500), 10_000)


def forecast(
    plan: Plan,
    history: History,
    state: ExecutionState,
    now: datetime,
    quantiles: Sequence[float],
    rng: np.random.Generator,
) -> Moments:
    """The moments by which the run in `state` is over with the probabilities `quantiles`.

    `history` may hold runs of this plan and of others; without any records durations are
    drawn from the plan's own estimates; `basis` of the answer says how much there was. Never
    before `now` while something is open. Pure: equal arguments, and a generator in the same
    state, give equal answers. Raises NaiveDatetimeError, and PlanError where a duration is
    neither estimated nor learnt, or for a quantile that is not in (0, 1).
    """
    odd = [q for q in quantiles if not 0 < q < 1]
    if odd:
        raise PlanError(f"quantile {odd[0]:g}: probabilities between 0 and 1 are asked for")
    moment = utc(now, "now")
    progress = _progress(plan, state, state.started or moment, moment)
    learned = Learned.of(history, plan.name) if len(history) else None
    if learned is None and progress.unknown_open:
        raise PlanError(unknown_reason(progress.unknown_open))
    samples = samples_for(len(plan.tasks))
    finishes = simulated(progress, learned, samples=samples, rng=rng).makespans
    return Moments(
        moments={q: progress.moment(quantile_of(finishes, q)) for q in quantiles},
        basis=basis_of(progress, learned, len(finishes)),
    )


def _progress(plan: Plan, state: ExecutionState, started: datetime, now: datetime) -> Progress:
    """Where a run in `state` stands at `now`."""
    bare = Chain(
        plan=plan,
        problem=Problem.of(plan),
        resource_arcs=ResourceArcs.none(),
    )
    progress = Progress(plan, started, bare)
    progress.state = state
    for item in state.tasks:
        progress.tally.update(state, item)
    progress.rechain(now)
    return progress


def simulated(
    progress: Progress,
    learned: Learned | None,
    *,
    samples: int,
    rng: np.random.Generator,
    latest: Floats | None = None,
    keep: bool = False,
) -> Simulation | LearnedSimulation:
    """Scenarios of what is left, from where `progress` stands: from history where there is one.

    `samples`: of a simulation from estimates. `latest` asks for P(finish > latest finish) of
    each node, `keep` for the samples of all nodes.
    """
    chain, course = progress.chain, progress.course
    if learned is None:
        return chain.simulated(course, latest, samples=samples, rng=rng, keep=keep)
    samples = learned_samples(len(chain.problem))
    return learned.simulated(chain, course, samples=samples, rng=rng, latest=latest)


def basis_of(progress: Progress, learned: Learned | None, samples: int) -> Basis:
    """What `samples` scenarios of what is left rest on."""
    open_, uncertain = progress.course.open, progress.chain.problem.uncertain
    tasks = {progress.chain.items[n][0] for n in np.flatnonzero(open_).tolist()}
    return Basis(
        open_tasks=len(tasks),
        certain=int((open_ & ~uncertain).sum()),
        estimated=int((open_ & uncertain).sum()),
        samples=samples,
        history="" if learned is None else str(learned),
    )

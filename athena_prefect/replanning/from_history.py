"""How a proposal fares by what finished runs teach, where forecasts of its run rest on them.

The planner's own simulation draws each task's duration by itself. What finished runs
teach is that tasks of a category are slow together, and so are the tasks of a run: sums
of such durations spread more. A promise has to come from the same law as the forecast that
will be held against it.
"""

from __future__ import annotations

import numpy as np

from athena_prefect.monitor.chain import Chain
from athena_prefect.monitor.history import SHORTEST
from athena_prefect.monitor.learned import Learned, capacity_of, samples_for, without
from athena_prefect.monitor.rest import Work
from athena_prefect.plan.estimate import Estimate, LearnedEstimate
from athena_prefect.plan.graph import Floats
from athena_prefect.plan.model import DEFAULT_MODE
from athena_prefect.replanning.own_pace import with_own_pace
from athena_prefect.schedule.problem import mean
from athena_prefect.schedule.proposal import Proposal, running_of
from athena_prefect.schedule.robustness import Robustness, quantiles_of


def with_history(
    proposal: Proposal,
    learned: Learned | None,
    *,
    accept_quantile: float,
    seed: int,
    trust: float = 1.0,
) -> Proposal:
    """The proposal with the figures of the forecast from history.

    Where there is none, with those of the pace of this run, and `trust` in estimates.
    """
    if learned is None:
        return with_own_pace(proposal, trust=trust, accept_quantile=accept_quantile, seed=seed)
    if proposal.answer.schedule is None or proposal.robustness is None:
        return proposal
    work = _work(proposal, learned)
    if work is None or work.done.all():
        return proposal
    drawn = learned.drawn(work, samples_for(len(work.planned)), np.random.default_rng(seed))
    finishes = np.sort(drawn.ends)
    deadline = proposal.answer.rest.deadline
    measured = Robustness(
        quantiles=quantiles_of(finishes),
        accepted=float(np.quantile(finishes, accept_quantile)),
        p_deadline=None if deadline is None else float((finishes <= deadline + SHORTEST).mean()),
        samples=len(finishes),
        certain=False,
        criticality=proposal.robustness.criticality,
        late=proposal.robustness.late,
        finishes=finishes,
    )
    return proposal.found(robustness=measured)


def _work(proposal: Proposal, learned: Learned) -> Work | None:
    """What is left by a proposal; None where nothing was planned for something that is open."""
    standing, answer = proposal.standing, proposal.answer
    rest, schedule = answer.rest, answer.schedule
    assert schedule is not None
    problem = schedule.problem
    planned, open_ = _planned(proposal, learned), np.zeros(len(problem), dtype=np.bool_)
    open_[list(running_of(standing, answer))] = True
    done = ~rest.free & ~open_
    # Of what is over and was never estimated, what it took is all that is known.
    planned = np.where(np.isnan(planned) & done, problem.durations, planned)
    gone = answer.left_out
    kept = np.flatnonzero(~gone)
    if np.isnan(planned[kept]).any():
        return None
    chain = Chain(plan=standing.plan, problem=problem, resource_arcs=proposal.arcs)
    slots, network = capacity_of(chain)
    tasks = [problem.task_ids[t] for t in problem.task_of[kept].tolist()]
    groups = [standing.plan.get_task(t).group for t in tasks]
    categories = tuple(dict.fromkeys(groups))
    code = {name: k for k, name in enumerate(categories)}
    joins = np.ones(len(problem), dtype=np.bool_)
    for task in range(len(problem.task_ids)):
        joins[list(rest.rows_of(task))] = False
    instant = (joins | (planned <= 0))[kept]
    return Work(
        plan=learned.plan,
        network=without(network, gone),
        categories=categories,
        category=np.array([code[name] for name in groups], dtype=np.int64),
        planned=np.where(instant, 0.0, np.maximum(planned[kept], SHORTEST)),
        start=np.where(rest.free, np.nan, rest.starts)[kept],
        finish=np.where(done, rest.starts + problem.durations, np.nan)[kept],
        now=rest.now,
        slots=slots,
        instant=instant,
    )


def _planned(proposal: Proposal, learned: Learned) -> Floats:
    """What the plan says of each activity in its mode; history's factors are on top of that."""
    standing, schedule = proposal.standing, proposal.answer.schedule
    assert schedule is not None
    problem = schedule.problem
    own = learned.estimates(standing.plan)
    found = np.full(len(problem.task_ids), np.nan)
    for t, name in enumerate(problem.task_ids):
        task, mode = standing.plan.get_task(name), problem.modes[t]
        estimate: Estimate | None = task.mode(mode).estimate
        if mode == DEFAULT_MODE and (
            estimate is None or isinstance(task.duration, LearnedEstimate)
        ):
            estimate = own.get(name, estimate)
        if estimate is not None:
            three = (estimate.optimistic, estimate.likely, estimate.pessimistic)
            seconds = mean(np.array([[d.total_seconds() for d in three]]))[0]
            free = not standing.begun(name)
            found[t] = seconds * (standing.factors.get(name, 1.0) if free else 1.0)
    return found[problem.task_of]

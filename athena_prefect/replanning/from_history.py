"""How a proposal fares by what finished runs teach, where forecasts of its run rest on them.

The planner's own simulation draws each task's duration by itself. What finished runs
teach is that tasks of a category are slow together, and so are the tasks of a run: sums
of such durations spread more. A promise has to come from the same law as the forecast that
will be held against it.

But for one thing: replanning looks at runs in which something has happened. A task that took
what only one with troubles of its own takes is no evidence of how slow the others are, as in
`own_pace`; a forecast of any run has no reason to look for such a task.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from athena_prefect.monitor.chain import Chain
from athena_prefect.monitor.history import SHORTEST
from athena_prefect.monitor.knowledge import SHARED, Knowledge
from athena_prefect.monitor.learned import Learned, capacity_of, samples_for, without
from athena_prefect.monitor.rest import Work
from athena_prefect.plan.estimate import Estimate, LearnedEstimate
from athena_prefect.plan.graph import Floats, Ints
from athena_prefect.plan.model import DEFAULT_MODE
from athena_prefect.replanning.own_pace import with_own_pace
from athena_prefect.replanning.pace_law import LEAST_SPREAD, STRAY, STRAYS, density
from athena_prefect.schedule.problem import mean
from athena_prefect.schedule.proposal import Proposal, running_of
from athena_prefect.schedule.robustness import Robustness, quantiles_of

LEAST_RUNS = 2
"""Finished runs from which it is known what is usual of a category, and how far it varies."""


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
    samples, strays = samples_for(len(work.planned)), strays_of(work, learned.knowledge)
    forecast = None
    if len(strays):
        # Nothing is to slip by being adopted: slip is told by forecasts, which know no strays.
        alike = learned.drawn(work, samples, np.random.default_rng(seed))
        forecast = float(np.median(alike.ends))
        work = replace(work, strays=strays)
    drawn = learned.drawn(work, samples, np.random.default_rng(seed))
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
        forecast_p50=forecast,
    )
    return proposal.found(robustness=measured)


def strays_of(work: Work, knowledge: Knowledge) -> Ints:
    """Ended activities that are likelier to have had troubles of their own than the run's pace.

    What is usual of a category is told by the plan's own runs: of two and more. The pace of
    the run is the median of all other ended activities against what is usual of theirs.
    """
    ended = np.flatnonzero(work.done & ~work.instant)
    codes = np.array([knowledge.code.get(name, -1) for name in work.categories], dtype=np.int64)
    own = np.ix_(knowledge.own, np.maximum(codes, 0))
    before = np.where(codes >= 0, knowledge.theta[own], np.nan)
    runs = np.isfinite(before).sum(axis=0)
    ended = ended[runs[work.category[ended]] >= LEAST_RUNS]
    if len(ended) < 2:
        return np.zeros(0, dtype=np.int64)
    known = runs >= LEAST_RUNS
    usual, spread = np.zeros(len(codes)), np.zeros(len(codes))
    usual[known] = np.nanmean(before[:, known], axis=0)
    # Half of what runs differ by they have in common over all categories.
    spread[known] = (1 - SHARED) * np.nanvar(before[:, known], axis=0, ddof=1)
    inside = np.where(codes >= 0, knowledge.spread[own], np.nan)
    told = np.isfinite(inside).any(axis=0)
    spread[told] += np.square(np.nanmedian(inside[:, told], axis=0))
    lasted = np.maximum((work.finish - work.start)[ended], SHORTEST)
    category = work.category[ended]
    off = np.log(lasted / work.planned[ended]) - usual[category]
    # A median of m is off by π/2 times as much variance as a mean of m.
    width = np.sqrt(spread[category] * (1 + 0.5 * np.pi / (len(off) - 1)))
    off -= others_median(off)
    ordinary = (1 - STRAYS) * density(off, np.maximum(width, LEAST_SPREAD))
    found: Ints = ended[STRAYS * density(off, STRAY) > ordinary]
    return found


def others_median(values: Floats) -> Floats:
    """Of each value the median of all the others; of two and more."""
    rank = np.empty(len(values), dtype=np.int64)
    rank[np.argsort(values)] = np.arange(len(values))
    ordered, last = np.sort(values), len(values) - 2
    low, high = last // 2, (last + 1) // 2
    result: Floats = (ordered[low + (low >= rank)] + ordered[high + (high >= rank)]) / 2
    return result


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

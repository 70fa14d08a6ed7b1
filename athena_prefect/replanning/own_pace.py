"""How a proposal fares where this run itself tells that the plan's estimates are wrong.

Only of a run without history, and only of three-point estimates: one number is certain,
and no run effect applies to it. Of each category the slowness θ = log(actual / planned) is
unknown. That estimates are right (θ = 0) has a prior probability; else θ is normal around
0, its spread one of some, with half of its variance common to all categories. As unknown is
how far single tasks differ from that: as their estimates say, or by one of the spreads that
forecasts think possible. Tasks that have ended are the evidence, and that what runs has not
ended yet; a task that is far from what the others say is a stray, which says nothing of the
rest. What is still to be done takes as much longer, and varies as much.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from athena_prefect.monitor.chain import medians_of
from athena_prefect.monitor.learned import samples_for
from athena_prefect.plan.graph import Floats
from athena_prefect.plan.model import DEFAULT_MODE
from athena_prefect.replanning.pace_law import LEAST_SPREAD, Paces, Running, drawn
from athena_prefect.schedule.beta_pert import quantile_rows
from athena_prefect.schedule.passes import forward
from athena_prefect.schedule.problem import mean
from athena_prefect.schedule.proposal import Proposal, running_of
from athena_prefect.schedule.robustness import quantiles_of
from athena_prefect.schedule.situation import NEVER
from athena_prefect.schedule.standing import Standing

MOST = 60
"""Ended tasks that are looked at one by one, the newest: they are evidence enough."""


def with_own_pace(
    proposal: Proposal, *, trust: float, accept_quantile: float, seed: int
) -> Proposal:
    """The proposal with its finishes at the pace of this run; as it is where nothing tells of it.

    `trust`: probability that estimates are right, before a task has ended.
    """
    schedule, before = proposal.answer.schedule, proposal.robustness
    if trust >= 1.0 or schedule is None or before is None or before.certain:
        return proposal
    paces = _paces(proposal.standing)
    if not len(paces.ratio):
        return proposal
    rng = np.random.default_rng(seed)
    names = [proposal.standing.plan.get_task(t).group for t in schedule.problem.task_ids]
    place = {name: k for k, name in enumerate(paces.categories)}
    category = np.array([place[n] for n in names], dtype=np.int64)[schedule.problem.task_of]
    problem, rest = schedule.problem, proposal.answer.rest
    running = running_of(proposal.standing, proposal.answer)
    open_ = rest.free & ~proposal.answer.left_out
    open_[list(running)] = True
    moved = open_ & problem.uncertain
    if not moved.any():
        return proposal
    samples = samples_for(len(problem))
    law = drawn(paces, trust, samples, rng)
    started = {i: rest.now - float(rest.starts[i]) for i in running if problem.uncertain[i]}
    rows = {
        i: Running(elapsed, category[i], *_row_of(problem.estimates[i]))
        for i, elapsed in started.items()
    }
    law = law.given([*rows.values()], rng)
    lengths = np.repeat(problem.durations[:, None], samples, axis=1)
    waiting = np.flatnonzero(moved & rest.free)
    lengths[waiting] = law.durations(problem.estimates[waiting], category[waiting], rng)
    for i in running:
        if i in rows:
            lengths[i] = law.beyond(rows[i], rng)
        else:
            lengths[i] = max(float(problem.durations[i]), rest.now - float(rest.starts[i]))
    ends = np.sort(_ends(proposal, lengths))
    deadline = rest.deadline
    measured = replace(
        before,
        quantiles=quantiles_of(ends),
        accepted=float(np.quantile(ends, accept_quantile)),
        p_deadline=None if deadline is None else float((ends <= deadline + 1e-6).mean()),
        samples=len(ends),
        finishes=ends,
        forecast_p50=before.p50,
    )
    return proposal.found(robustness=measured)


def _ends(proposal: Proposal, lengths: Floats) -> Floats:
    """When all is over by the proposal's order, in each scenario."""
    rest, gone = proposal.answer.rest, proposal.answer.left_out
    schedule = proposal.answer.schedule
    assert schedule is not None
    network = schedule.problem.network.extended(*proposal.arcs)
    # What has begun waits for nothing any more, and nothing for what is left out.
    held = rest.free[network.heads] & ~gone[network.pred]
    lag = np.where(held, network.pred_lag, NEVER)
    _, finishes = forward(network, lengths, floor=rest.floor, lag=lag)
    ends: Floats = finishes[~gone].max(axis=0, initial=rest.now)
    return ends


def _paces(standing: Standing) -> Paces:
    """What has ended of what had a three-point estimate."""
    plan = standing.plan
    categories = tuple(dict.fromkeys(t.group for t in plan.tasks))
    place = {name: k for k, name in enumerate(categories)}
    known = frozenset(plan.task_ids)
    found: list[tuple[float, int, float, float]] = []
    for item in standing.over:
        start, end = standing.spans[item]
        task = plan.get_task(item[0]) if item[0] in known else None
        if task is None or end <= start or (task.map_over is not None and item[1] is None):
            continue
        # With what was learned, as what is open is reckoned: else lessons would count twice.
        estimate = standing.estimate_of(task, standing.modes.get(task.id, DEFAULT_MODE))
        if estimate is None or estimate.pessimistic <= estimate.optimistic:
            continue
        three = np.array(
            [
                [
                    d.total_seconds()
                    for d in (estimate.optimistic, estimate.likely, estimate.pessimistic)
                ]
            ]
        )
        middle, average = float(medians_of(three)[0]), float(mean(three)[0])
        # Variance of beta-PERT: (μ − a)(b − μ) / 7 (Vose 2008).
        spread = np.sqrt((average - three[0, 0]) * (three[0, 2] - average) / 7) / average
        found.append((end, place[task.group], float(np.log((end - start) / middle)), float(spread)))
    newest = sorted(found)[-MOST:]
    columns = np.array(newest).reshape(-1, 4)
    return Paces(
        categories=categories,
        category=columns[:, 1].astype(np.int64),
        ratio=columns[:, 2],
        spread=np.maximum(columns[:, 3], LEAST_SPREAD),
    )


def _row_of(estimate: Floats) -> tuple[float, Floats]:
    return float(medians_of(estimate[None])[0]), quantile_rows(estimate[None])[0]

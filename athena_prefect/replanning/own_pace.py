"""How a proposal fares where this run itself tells that the plan's estimates are wrong.

Only of a run without history, and only of three-point estimates: one number is certain,
and no run effect applies to it. Of each category the slowness θ = log(actual / planned) is
unknown. That estimates are right (θ = 0) has a prior probability; else θ is normal around
0, its spread one of some, with half of its variance common to all categories. Tasks that
have ended are the evidence; one that is far from what the others say is a stray, which
says nothing of the rest. What runs, and what is still to be done, takes as much longer.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from athena_prefect.monitor.chain import medians_of
from athena_prefect.monitor.knowledge import ODDITIES, SHARED
from athena_prefect.monitor.learned import samples_for
from athena_prefect.plan.graph import Floats, Ints
from athena_prefect.plan.model import DEFAULT_MODE
from athena_prefect.schedule.beta_pert import (
    LEVELS,
    PROBABILITIES,
    quantile_rows,
    single_rows,
)
from athena_prefect.schedule.passes import forward
from athena_prefect.schedule.problem import mean
from athena_prefect.schedule.proposal import Proposal, running_of
from athena_prefect.schedule.robustness import quantiles_of
from athena_prefect.schedule.situation import NEVER
from athena_prefect.schedule.standing import Standing

STRAYS = 0.25
"""Share of tasks that are thought to have troubles of their own: replanning looks at runs in
which something has happened."""
STRAY = 1.0
"""Spread of log durations of those: a factor of three."""
PASSES = 3
"""Times that strays are told from the rest by what the rest says; more change nothing."""
LEAST_SPREAD = 0.02
"""Least spread of log durations that an estimate is believed: a narrower one would outweigh, by
its square, all the other tasks."""
MOST = 60
"""Ended tasks that are looked at one by one, the newest: they are evidence enough."""


@dataclass(frozen=True, kw_only=True)
class Paces:
    """Log ratios of tasks that have ended, and how much they spread by the estimates."""

    categories: tuple[str, ...]
    """Those of the whole plan."""
    category: Ints
    ratio: Floats
    spread: Floats


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
    factors = np.exp(drawn(paces, trust, samples, rng)).T
    lengths = np.repeat(problem.durations[:, None], samples, axis=1)
    waiting = np.flatnonzero(moved & rest.free)
    rows = single_rows(problem.estimates[waiting])
    luck = rng.integers(0, LEVELS, size=(len(waiting), samples))
    lengths[waiting] = np.take_along_axis(rows, luck, axis=1) * factors[category[waiting]]
    for i in running:
        elapsed = rest.now - float(rest.starts[i])
        lengths[i] = _beyond(problem.estimates[i], elapsed, factors[category[i]], rng)
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


def _beyond(estimate: Floats, elapsed: float, factors: Floats, rng: np.random.Generator) -> Floats:
    """Durations of what has run so long and is not over; past its support it ends now."""
    if estimate[0] == estimate[2]:
        return np.full(len(factors), max(float(estimate[0]), elapsed))
    row = quantile_rows(estimate[None])[0]
    below = np.interp(elapsed / factors, row, PROBABILITIES, left=0.0, right=1.0)
    luck = below + (1 - below) * rng.random(len(factors))
    longer: Floats = np.interp(luck, PROBABILITIES, row) * factors
    return np.maximum(longer, elapsed)


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


def drawn(paces: Paces, trust: float, samples: int, rng: np.random.Generator) -> Floats:
    """θ of each category by what has ended, shape (samples, categories)."""
    sure = np.full(len(paces.ratio), 1.0)
    # Of categories of which nothing has ended strays tell nothing, and there may be thousands.
    here, place = np.unique(paces.category, return_inverse=True)
    told = replace(paces, categories=tuple(paces.categories[c] for c in here), category=place)
    for _ in range(PASSES):
        sure = np.array([_no_stray(told, sure, trust, i) for i in range(len(sure))])
    beliefs = beliefs_of(told, sure, trust)
    counts = rng.multinomial(samples, [b.probability for b in beliefs]).tolist()
    found = []
    for belief, count in zip(beliefs, counts, strict=True):
        theta = rng.multivariate_normal(belief.centre, belief.cov, size=count, method="eigh")
        own = rng.standard_normal((count, len(paces.categories))) if belief.own else 0.0
        # What nothing has ended of shares with the others what all have in common.
        every = np.repeat(theta[:, -1:], len(paces.categories), axis=1) + belief.own * own
        every[:, here] = theta[:, :-1]
        found.append(every)
    return np.concatenate(found)


class Belief(NamedTuple):
    """What is to be thought of θ if it has a certain spread."""

    probability: float
    """That it has it."""
    centre: Floats
    """Means: θ of each category of which something has ended, and last what all have in common."""
    cov: Floats
    """Their covariances."""
    own: float
    """Spread of θ of any other category round what all have in common."""


def beliefs_of(paces: Paces, sure: Floats, trust: float) -> list[Belief]:
    """What is to be thought of θ under each spread, 0 among them."""
    size = len(paces.categories) + 1
    precision = np.bincount(paces.category, weights=sure / paces.spread**2, minlength=size)
    weighed = np.bincount(
        paces.category, weights=sure * paces.ratio / paces.spread**2, minlength=size
    )
    told = np.flatnonzero(precision > 1e-9)
    middle = weighed[told] / precision[told]
    found, logs = [], []
    # Where estimates are wrong they may be off as far as those of any plan never seen before.
    spreads = ODDITIES.tolist()
    priors = (trust, *((1.0 - trust) / len(spreads) for _ in spreads))
    for prior, spread in zip(priors, (0.0, *spreads), strict=True):
        own, common = (1 - SHARED) * spread**2, SHARED * spread**2
        cov = common + np.diag([own] * (size - 1) + [0.0])
        seen = cov[np.ix_(told, told)] + np.diag(1 / precision[told])
        gain = np.linalg.solve(seen, cov[told]).T if len(told) else np.zeros((size, 0))
        log = np.log(max(prior, 1e-12))
        if len(told):
            log -= 0.5 * (middle @ np.linalg.solve(seen, middle) + np.linalg.slogdet(seen)[1])
        logs.append(log)
        found.append((gain @ middle, cov - gain @ cov[told], float(np.sqrt(own))))
    shares = np.exp(np.array(logs) - max(logs))
    shares /= shares.sum()
    return [Belief(float(p), *rest) for p, rest in zip(shares, found, strict=True)]


def _no_stray(paces: Paces, sure: Floats, trust: float, one: int) -> float:
    """Probability that a task took what others say, and had no trouble of its own."""
    others = sure.copy()
    others[one] = 0.0
    ratio, spread, c = paces.ratio[one], paces.spread[one], paces.category[one]
    usual = stray = 0.0
    for p, centre, cov, _ in beliefs_of(paces, others, trust):
        usual += p * float(density(ratio - centre[c], np.sqrt(cov[c, c] + spread**2)))
        stray += p * float(density(ratio - centre[c], np.sqrt(cov[c, c] + STRAY**2)))
    usual, stray = (1 - STRAYS) * usual, STRAYS * stray
    return float(usual / max(usual + stray, 1e-300))


def density(off: Floats | float, spread: Floats | float) -> Floats:
    """Of a normal distribution, but for a factor that all have in common."""
    return np.asarray(np.exp(-0.5 * np.square(np.divide(off, spread))) / spread)

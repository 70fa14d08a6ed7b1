"""How wrong forecasts of finished runs would have been, and what follows for this one.

Each finished run is forecast again at some checkpoints, from the others (split
conformal prediction: Vovk, Gammerman, Shafer 2005). Two things are learnt from it, for
each checkpoint: how much of the resource-aware velocity belongs into the middle of the
forecast, and how far the truth lay from that middle. An error counts as log(remaining
time / its forecast) over the square root of the forecast's own spread: half-way between
believing the spread and not believing it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from statistics import NormalDist
from typing import Any

import numpy as np

from athena_prefect.monitor.history import SHORTEST, History
from athena_prefect.monitor.knowledge import Knowledge
from athena_prefect.monitor.rest import Scenarios, Work, scenarios
from athena_prefect.monitor.widening import widening
from athena_prefect.plan.graph import Floats, Ints

CHECKPOINTS = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9)
"""Shares of the tasks done at which finished runs are forecast again."""
SAMPLES = 150
"""Scenarios of such a forecast: its median is off by a tenth of its spread at most."""
LEVELS: Floats = np.array([0.01, 0.025, 0.05, *(np.arange(2, 19) / 20).round(2), 0.95, 0.975, 0.99])
"""Probabilities at which a distribution of the remaining time is held."""
MIDDLE = int(np.argmin(np.abs(LEVELS - 0.5)))
"""Place of the median among `LEVELS`."""
NORMAL: Floats = np.array([NormalDist().inv_cdf(level) for level in LEVELS.tolist()])
"""The same of a normal distribution of spread 1."""
FEW = 4
"""Finished runs of a plan from which its forecasts are judged by its own alone."""
MOST = 24
"""Runs that are forecast again at most: those of the plan first, then the newest."""
RECORDS = 20_000
"""Records of the runs forecast again at most: some two seconds of work."""
A_CATEGORY = 10
"""Records that a category counts as: so much longer its posterior takes."""
LEAST = 3
"""Runs that are forecast again though they are larger, up to twice `RECORDS` each."""
MIXED = 0.2
"""Share of velocity in the middle where nothing has been learnt, of a plan with history."""
MIXED_UNSEEN = 0.6
"""The same of a plan never seen."""
STIFFNESS = 0.1
"""What a share of velocity other than that costs, in relative error: 0.1 of it for a whole."""
OWN = 2.0
"""Units (runs of the plan, or other plans) that the forecast's own middle and spread weigh."""
BEYOND = 0.5
"""Standard deviations by which the next error may exceed all known ones."""
MOST_SPREAD = 0.85
"""Spread of log remaining time that no forecast exceeds: eight in ten within three times the
middle. Wider ones served nobody on plans never seen, and their means were without bound."""
LEAST_SPREAD = 0.02
"""Spread of log remaining time below which no forecast is believed."""


def spread_of(logs: Floats) -> float:
    """Spread of log remaining times given at `LEVELS`: a tenth to nine tenths, as if normal."""
    low, high = np.interp((0.1, 0.9), LEVELS, logs).tolist()
    return float(max((high - low) / 2.563, LEAST_SPREAD))


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """A forecast of a finished run, and what came; natural logarithms of seconds."""

    run: str
    plan: str
    checkpoint: float
    middle: float
    """Of the remaining time: the forecast's median."""
    velocity: float
    """Of the remaining time by the resource-aware velocity."""
    spread: float
    remaining: float
    """Of the remaining time that it was."""
    makespan: float
    """Seconds."""


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """What forecasts of finished runs teach; `replays` are of a plan with or without history."""

    replays: tuple[Replayed, ...] = ()
    seen: bool = False
    """Whether the plan itself is in the history."""
    weights: Mapping[str, float] = field(default_factory=dict)
    """Of each run."""
    widened: float = 1.0
    """Factor for the spread, by what recorded forecasts were worth: see `widening`."""

    def as_dict(self) -> dict[str, Any]:
        """The calibration as JSON-able data, which `from_dict` reads back."""
        return {
            "seen": self.seen,
            "weights": dict(self.weights),
            "widened": self.widened,
            "replays": [list(asdict(r).values()) for r in self.replays],
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Calibration:
        """The calibration that `as_dict` wrote."""
        names = [f.name for f in fields(Replayed)]
        return cls(
            replays=tuple(Replayed(**dict(zip(names, r, strict=True))) for r in data["replays"]),
            seen=bool(data["seen"]),
            weights=dict(data["weights"]),
            widened=float(data.get("widened", 1.0)),
        )

    @property
    def runs(self) -> int:
        """Finished runs that were forecast again."""
        return len(self.weights)

    def applied(self, logs: Floats, velocity: float, share: float, fresh: float = 0.0) -> Floats:
        """Log remaining times at `LEVELS`, made right where `share` of the tasks are done.

        `velocity`: log remaining time by the resource-aware velocity. `fresh`: share of the
        open work in categories that no run of the plan had: so far the plan was never seen.
        """
        fresh = fresh if self.seen else 1.0
        prior = MIXED + fresh * (MIXED_UNSEEN - MIXED)
        middle = float(np.interp(0.5, LEVELS, logs))
        own = logs - middle
        near = [(r, w) for r in self.replays if (w := self._weight(r, share)) > 0]
        if not near:
            return _capped((1 - prior) * middle + prior * velocity + own, self.widened)
        weight = np.array([w for _, w in near])
        one = self._unit(near)
        number = float(weight.sum()) / one
        trust = number / (number + OWN)
        middles = np.array([r.middle for r, _ in near])
        velocities = np.array([r.velocity for r, _ in near])
        truth = np.array([r.remaining for r, _ in near])
        makespans = np.array([r.makespan for r, _ in near])
        spreads = np.array([r.spread for r, _ in near])
        grid = np.linspace(0, 1, 11)[:, None]
        mixes = (1 - grid) * middles + grid * velocities
        # Each mix is judged as it would be used: with its own bias taken off.
        bias = np.array([_quantiles(row, weight, one)[MIDDLE] for row in truth - mixes])
        best = _best(mixes + trust * bias[:, None], truth, makespans, weight, prior)
        mixed = float(grid[best, 0])
        scores = _quantiles((truth - mixes[best]) / np.sqrt(spreads), weight, one)
        learnt = scores * np.sqrt(spread_of(logs))
        right = (1 - mixed) * middle + mixed * velocity
        return _capped(right + trust * learnt + (1 - trust) * own, self.widened)

    def _unit(self, near: Sequence[tuple[Replayed, float]]) -> float:
        """Weight of one unit of experience: a run of the plan, and of other plans a whole plan.

        Runs of one plan are alike in how its forecasts go wrong: of a plan never seen ten of
        them say no more than one.
        """
        weights = np.array([w for _, w in near])
        alone = float(np.square(weights).sum() / weights.sum())
        if self.seen:
            return alone
        plans: dict[str, float] = {}
        for replayed, weight in near:
            plans[replayed.plan] = plans.get(replayed.plan, 0.0) + weight
        return max(alone, sum(plans.values()) / len(plans))

    def _weight(self, replayed: Replayed, share: float) -> float:
        """Of a replay where `share` is done: between two checkpoints both count."""
        place = float(np.interp(share, CHECKPOINTS, np.arange(len(CHECKPOINTS))))
        away = abs(place - CHECKPOINTS.index(replayed.checkpoint))
        return max(0.0, 1.0 - away) * self.weights[replayed.run]


def _capped(logs: Floats, widened: float) -> Floats:
    """Log remaining times at `LEVELS`, no wider around their middle than `MOST_SPREAD`."""
    middle = np.interp(0.5, LEVELS, logs)
    most = MOST_SPREAD * np.abs(NORMAL)
    result: Floats = middle + np.clip(widened * (logs - middle), -most, most)
    return result


def _best(mixes: Floats, truth: Floats, makespans: Floats, weight: Floats, prior: float) -> int:
    """Which of the mixes would have forecast the finished runs best; one a share of velocity."""
    # A forecast that is off by the whole makespan is as wrong as one can be.
    errors = np.minimum(np.abs(np.exp(mixes) - np.exp(truth)) / makespans, 1.0)
    shares = np.linspace(0, 1, len(mixes))
    costs = np.average(errors, axis=1, weights=weight) + STIFFNESS * np.square(shares - prior)
    return int(np.argmin(costs))


def _quantiles(values: Floats, weight: Floats, one: float) -> Floats:
    """Weighted quantiles at `LEVELS`; the next value may lie beyond all, as conformal ones do.

    `one`: weight of one unit of experience, of which half is thought to lie beyond each end.
    """
    beyond = BEYOND * (float(values.std()) if len(values) > 1 else 1.0)
    values = np.concatenate(([values.min() - beyond], values, [values.max() + beyond]))
    weight = np.concatenate(([one / 2], weight, [one / 2]))
    order = np.argsort(values, kind="stable")
    below = np.cumsum(weight[order])
    places = (below - weight[order] / 2) / below[-1]
    result: Floats = np.interp(LEVELS, places, values[order])
    return result


def calibration_of(history: History, plan: str) -> Calibration:
    """Forecasts every finished run that says something of `plan` again, from the others.

    Runs of the plan from the history without them. Where there are fewer than `FEW`,
    runs of other plans too, from the history without all runs of their plan. Takes some
    10 to 50 ms a run and checkpoint; at most `MOST` runs with `RECORDS` records, or
    `LEAST` larger ones.
    """
    own = history.of_plan(plan).tolist()
    chosen: list[int] = []
    weights: dict[str, float] = {}
    left = RECORDS
    others = [r for r in range(len(history.keys)) if r not in own] if len(own) < FEW else []
    for r in [*reversed(own), *_in_turns(history, others)]:
        span = history.span(r)
        kinds = len(np.unique(history.category[span]))
        size = span.stop - span.start + A_CATEGORY * kinds
        fits = size <= left or (len(chosen) < LEAST and size <= 2 * RECORDS)
        if len(chosen) < MOST and fits and history.timed(r):
            chosen.append(r)
            left -= size
    number: dict[str, int] = {}
    for r in chosen:
        number[history.plans[r]] = number.get(history.plans[r], 0) + 1
    replays: list[Replayed] = []
    unseen: dict[str, Knowledge] = {}
    for r in chosen:
        name = history.plans[r]
        weights[history.keys[r]] = 1.0 if name == plan else 1.0 / number[name]
        if name == plan:
            knowledge = Knowledge(history.without({history.keys[r]}), name)
        else:
            if name not in unseen:
                rest = history.where(lambda k, name=name: history.plans[k] != name)  # type: ignore[misc]
                unseen[name] = Knowledge(rest, name)
            knowledge = unseen[name]
        replays += replay(history, r, knowledge)
    return Calibration(
        replays=tuple(replays), seen=bool(own), weights=weights, widened=widening(history, plan)
    )


def _in_turns(history: History, runs: list[int]) -> Iterator[int]:
    """The newest run of each plan, then the one before: no plan crowds out the others."""
    queues: dict[str, list[int]] = {}
    for r in runs:
        queues.setdefault(history.plans[r], []).append(r)
    while queues:
        for plan in list(queues):
            yield queues[plan].pop()
            if not queues[plan]:
                del queues[plan]


def replay(history: History, run: int, knowledge: Knowledge) -> list[Replayed]:
    """Forecasts of a finished run at each checkpoint, from `knowledge` of others."""
    span = history.span(run)
    start, finish = history.started[span], (history.started + history.actual)[span]
    end = float(finish.max())
    found = []
    codes, place = np.unique(history.category[span], return_inverse=True)
    names = tuple(history.categories[c] for c in codes.tolist())
    slots, network = history.capacity(run)
    instant = history.instant[span]
    ends = np.sort(finish[~instant])
    for checkpoint in CHECKPOINTS if len(ends) else ():
        done = math.ceil(checkpoint * len(ends))
        now = float(ends[done - 1]) if done else 0.0
        if now >= end:
            continue
        work = Work(
            plan=history.plans[run],
            network=network,
            categories=names,
            category=place.astype(np.int64),
            planned=history.planned[span],
            start=np.where((start <= now) & (done > 0), start, np.nan),
            finish=np.where((finish <= now) & (done > 0), finish, np.nan),
            now=now,
            slots=slots,
            instant=instant,
        )
        drawn = scenarios(knowledge, work, SAMPLES, np.random.default_rng(run))
        logs = log_remaining(drawn.ends, now)
        found.append(
            Replayed(
                run=history.keys[run],
                plan=history.plans[run],
                checkpoint=checkpoint,
                middle=float(np.interp(0.5, LEVELS, logs)),
                velocity=math.log(max(drawn.velocity - now, SHORTEST)),
                spread=spread_of(logs),
                remaining=math.log(max(end - now, SHORTEST)),
                makespan=end,
            )
        )
    return found


def log_remaining(finishes: Floats, now: float) -> Floats:
    """Log of the remaining time at `LEVELS`."""
    result: Floats = np.log(np.maximum(np.quantile(finishes, LEVELS) - now, SHORTEST))
    return result


def ranks(values: Floats) -> Ints:
    """Place of each value among all, from 0."""
    result = np.empty(len(values), dtype=np.int64)
    result[np.argsort(values, kind="stable")] = np.arange(len(values))
    return result


def stretched(drawn: Scenarios, work: Work, calibration: Calibration, fresh: float = 0.0) -> Floats:
    """The scenarios' finishes, in their order, made right: the same ranks, other times."""
    finishes = drawn.ends
    logs = log_remaining(finishes, work.now)
    velocity = math.log(max(drawn.velocity - work.now, SHORTEST))
    right = np.maximum.accumulate(calibration.applied(logs, velocity, work.share_done, fresh))
    samples = len(finishes)
    levels = (ranks(finishes) + 0.5) / samples
    result: Floats = work.now + np.exp(np.interp(levels, LEVELS, right))
    return result

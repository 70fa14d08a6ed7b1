"""Histories of another kind, with patterns planted in them: a second opinion on the learner.

Unlike those of `planted`: chains with fans, categories of one to eight tasks, runs at odd
hours of some days, few or many of them, gamma or lognormal noise, outliers, planned
durations and queue times that are missing, effects of 20 to 200 %.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from athena_prefect.learning.frame import FAILURE, SUCCESS, History
from athena_prefect.learning.records import RunRecord
from athena_prefect.learning.results import ExecutionPattern
from tests.learning.histories import MONDAY

KINDS = (
    "bias", "resource", "hour", "weekday", "scaling", "interaction", "contention", "drift",
    "step", "retries", "queue", "none",
)  # fmt: skip
FEWEST = 3
"""Runs with, and without what a task meets, of which a size could be told."""
NAMES = ("fetch", "parse", "train", "score", "load", "report")


@dataclass(frozen=True, kw_only=True)
class Otherwise:
    """A history, and the tasks, the kind and the size of what was planted in it."""

    kind: str
    history: History
    tasks: frozenset[str] = frozenset()
    beside: frozenset[str] = frozenset()
    size: float = 0.0
    condition: np.ndarray | None = None
    """By run and task where the effect was planted: 0 or 1, or how far a drift has come."""
    needed: frozenset[str] = frozenset()
    """Those of `tasks` in which it can be seen at all."""

    def is_it(self, p: ExecutionPattern) -> bool:
        """Whether a pattern tells of what was planted: its kind, and no other tasks.

        Of tasks that hardly ever met what they would have suffered from it need not tell.
        """
        kind = {"bias": "duration", "resource": "duration", "step": "drift"}.get(
            self.kind, self.kind
        )
        told = frozenset(p.affected_tasks)
        same = bool(told) and self.needed <= told <= self.tasks
        return p.kind == kind and same and (not self.beside or p.beside in self.beside)

    def in_part(self, p: ExecutionPattern) -> bool:
        """Whether it tells of some of the tasks only: true, but not all of it."""
        told = frozenset(p.affected_tasks)
        whole = replace(self, needed=told, tasks=told)
        return bool(told) and told < self.tasks and whole.is_it(p)

    def right(self, p: ExecutionPattern) -> bool:
        """Whether its size is no more than a quarter off, or no more than five points."""
        if p.size is None or not self.is_it(p):
            return False
        return abs(p.size - self.size) <= max(0.25 * abs(self.size), 0.05)


def otherwise(kind: str, seed: int) -> Otherwise:
    """A history with a pattern of that kind."""
    rng = np.random.default_rng(seed)
    runs = int(rng.integers(20, 201))
    sizes = rng.integers(1, 9, len(NAMES))
    category = np.repeat(np.arange(len(NAMES)), sizes)
    tasks = len(category)
    names = [f"{NAMES[c]}.{i}" for i, c in enumerate(category)]
    plan = rng.uniform(5, 900, tasks).round()
    shape = (runs, tasks)
    noise = rng.uniform(0.05, 0.3)
    if rng.random() < 0.5:
        factor = np.exp(rng.normal(-(noise**2) / 2, noise, shape))
    else:
        factor = rng.gamma(1 / noise**2, noise**2, shape)
    factor *= np.exp(rng.normal(0, rng.uniform(0, 0.08), (runs, 1)))
    odd = rng.random(shape) < rng.uniform(0, 0.02)
    factor[odd] *= rng.uniform(2, 8, int(odd.sum()))
    # One to three runs on most days, at any hour.
    days = rng.choice(np.arange(int(runs * rng.uniform(0.5, 1.5)) + 7), runs)
    begun = np.sort(86400.0 * days + 3600.0 * rng.integers(0, 24, runs))
    chosen = int(rng.integers(len(NAMES)))
    inside = category == chosen
    if rng.random() < 0.4:
        inside = np.arange(tasks) == int(rng.integers(tasks))
    size = float(np.exp(rng.uniform(np.log(0.2), np.log(2.0))))
    gpu = np.full(tasks, np.nan)
    gpu[rng.random(tasks) < 0.4] = 1.0
    rows = np.full(shape, np.nan)
    beside: frozenset[str] = frozenset()
    if kind == "resource":
        inside = gpu == 1.0
        inside[int(rng.integers(tasks))] = True
        gpu[inside] = 1.0
    if kind in ("bias", "resource"):
        factor[:, inside] *= 1 + size
    if kind == "drift":
        factor[:, inside] *= np.exp(np.log1p(size) * np.linspace(0, 1, runs))[:, None]
    since = 0
    if kind == "step":
        since = int(runs * rng.uniform(0.3, 0.7))
        factor[since:, inside] *= 1 + size
    duration = plan * factor
    if kind == "scaling":
        rows[:, inside] = rng.gamma(2.0, 500.0, (runs, int(inside.sum()))).round() + 10
        rate = float(rng.uniform(0.01, 2.0))
        fixed = rng.uniform(0, 10)
        duration[:, inside] = (rate * rows[:, inside] + fixed) * factor[:, inside]
        plan[inside] = rate * rows[:, inside].mean(axis=0) + fixed
        size = rate
    pause = rng.exponential(1.0, shape) * plan.mean() * (rng.random(shape) < 0.6)
    start = np.zeros(shape)
    parents: list[list[int]] = [
        rng.integers(max(t - 5, 0), t, 2).tolist() if t > 3 and t % 3 else [] for t in range(tasks)
    ]
    failed = rng.random(shape) < 0.02
    for t in range(tasks):
        for p in parents[t]:
            start[:, t] = np.maximum(start[:, t], start[:, p] + duration[:, p])
        start[:, t] += pause[:, t]
        at = begun + start[:, t]
        slow = {"hour": at // 3600 % 24 >= 18, "weekday": at // 86400 % 7 == 0}
        if inside[t] and kind in slow:
            duration[slow[kind], t] *= 1 + size
    ends, shares = start + duration, {}
    for c in range(len(NAMES)):
        there = np.zeros(shape, dtype=np.bool_)
        for t in np.flatnonzero(inside).tolist():
            for p in np.flatnonzero((category == c) & ~inside).tolist():
                there[:, t] |= (start[:, p] <= start[:, t]) & (ends[:, p] > start[:, t])
        shares[c] = there
    # The one that is met in some runs and not in others.
    other = min(shares, key=lambda c: abs(float(shares[c][:, inside].mean()) - 0.4))
    met = shares[other]
    along = np.repeat(np.linspace(0, 1, runs)[:, None], tasks, axis=1)
    at = begun[:, None] + start
    condition = {
        "drift": along,
        "step": (np.arange(runs) >= since)[:, None] & np.ones(shape, dtype=np.bool_),
        "hour": at // 3600 % 24 >= 18,
        "weekday": at // 86400 % 7 == 0,
        "contention": met,
        "interaction": met,
    }.get(kind)
    seen = inside.copy()
    if kind in ("contention", "interaction"):
        seen &= (met.sum(axis=0) >= FEWEST) & ((~met).sum(axis=0) >= FEWEST)
    if kind == "contention":
        duration[met] *= 1 + size
        beside = frozenset({NAMES[other]})
    if kind == "interaction":
        size = float(rng.uniform(0.3, 0.9))
        failed |= met & (rng.random(shape) < size)
        beside = frozenset({NAMES[other]})
    helps = np.full(shape, 0.9)
    if kind == "retries":
        failed[:, inside] = rng.random((runs, int(inside.sum()))) < 0.3
        helps[:, inside] = 0.0
        size = 0.0
    queue = rng.exponential(0.02, shape) * plan
    if kind == "queue":
        queue[:, inside] = rng.gamma(4, size / 4, (runs, int(inside.sum()))) * duration[:, inside]
    return Otherwise(
        kind=kind,
        history=_history(
            names, category, plan, start, duration, failed, helps, rows, queue, gpu,
            begun, rng,
        ),
        tasks=frozenset() if kind == "none" else frozenset(np.array(names)[inside].tolist()),
        beside=beside,
        size=size,
        condition=None if condition is None else condition.astype(np.float64),
        needed=frozenset() if kind == "none" else frozenset(np.array(names)[seen].tolist()),
    )  # fmt: skip


def _history(
    names: list[str], category: np.ndarray, plan: np.ndarray, start: np.ndarray,
    duration: np.ndarray, failed: np.ndarray, helps: np.ndarray, rows: np.ndarray,
    queue: np.ndarray, gpu: np.ndarray, begun: np.ndarray, rng: np.random.Generator,
) -> History:  # fmt: skip
    runs, tasks = start.shape
    begun = begun + MONDAY.timestamp() - MONDAY.hour * 3600.0
    run, task = (a.ravel() for a in np.mgrid[0:runs, 0:tasks])
    first = np.where(failed, duration * rng.random(duration.shape), duration)
    started = begun[:, None] + start
    again = np.flatnonzero(failed.ravel())
    helped = rng.random(len(again)) < helps.ravel()[again]
    planned = np.where(rng.random((runs, tasks)) < 0.03, np.nan, plan).ravel()
    known = np.where(rng.random((runs, tasks)) < 0.1, np.nan, queue).ravel()
    ends = (started + first).ravel()
    return History(
        runs=tuple(RunRecord(run=str(r), plan_name="odd", status="completed") for r in range(runs)),
        plans=("odd",),
        categories=NAMES,
        tasks=tuple(names),
        task_plan=np.zeros(tasks, np.int32),
        task_category=category.astype(np.int32),
        run_plan=np.zeros(runs, np.int32),
        run=np.concatenate([run, run[again]]).astype(np.int32),
        task=np.concatenate([task, task[again]]).astype(np.int32),
        item=np.full(len(run) + len(again), -1, np.int32),
        attempt=np.concatenate([np.ones(len(run)), np.full(len(again), 2)]).astype(np.int32),
        outcome=np.concatenate(
            [np.where(failed.ravel(), FAILURE, SUCCESS), np.where(helped, SUCCESS, FAILURE)]
        ).astype(np.int8),
        started=np.concatenate([started.ravel(), ends[again]]),
        ended=np.concatenate([ends, ends[again] + duration.ravel()[again]]),
        duration=np.concatenate([first.ravel(), duration.ravel()[again]]),
        planned=np.concatenate([planned, planned[again]]),
        queued=np.concatenate([known, np.full(len(again), np.nan)]),
        kept=np.ones(len(run) + len(again), dtype=np.bool_),
        resources_planned={"gpu": np.concatenate([gpu[task], gpu[task[again]]])},
        resources_used={"rows": np.concatenate([rows.ravel(), rows.ravel()[again]])}
        if np.isfinite(rows).any()
        else {},
    )

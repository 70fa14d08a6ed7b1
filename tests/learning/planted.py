"""Histories with a planted pattern: what was planted is known, all else is chance.

A plan of layers, every task after two of the layer before; durations are lognormal
about what was planned, a run is slow or fast as a whole, tasks start when their
upstream ones have ended and something else has let them, fail now and then and are
tried again.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from athena_prefect.learning.frame import FAILURE, SUCCESS, History
from athena_prefect.learning.records import RunRecord
from athena_prefect.learning.results import ExecutionPattern, SubjectKind
from tests.learning.histories import MONDAY

KINDS = ("bias", "contention", "scaling", "interaction", "drift", "none")
CATEGORIES = ("extract", "clean", "join", "qa", "publish")


@dataclass(frozen=True, kw_only=True)
class Planted:
    """A history and what was planted in it."""

    kind: str
    history: History
    subject: str = ""
    subject_kind: SubjectKind = SubjectKind.CATEGORY
    beside: str = ""
    size: float = 0.0
    words: str = field(default="", compare=False)

    def found_in(self, patterns: list[ExecutionPattern]) -> ExecutionPattern | None:
        """The pattern that tells of it, where its size is right."""
        own = [p for p in patterns if self.is_it(p)]
        right = [p for p in own if p.size is not None and self.near(p.size)]
        return right[0] if right else None

    def near(self, size: float) -> bool:
        """Right: no more than a quarter off, or no more than five points."""
        return abs(size - self.size) <= max(0.25 * abs(self.size), 0.05)

    def is_it(self, p: ExecutionPattern) -> bool:
        """Whether a pattern tells of what was planted, whatever size it gives."""
        kind = {"bias": "duration"}.get(self.kind, self.kind)
        return (p.kind, p.subject, p.beside) == (kind, self.subject, self.beside)


def planted(kind: str, seed: int, *, tasks: int = 15, runs: int | None = None) -> Planted:
    """A history with a pattern of that kind."""
    rng = np.random.default_rng(seed)
    runs = int(rng.integers(50, 101)) if runs is None else runs
    category = np.arange(tasks) % len(CATEGORIES)
    names = [f"{CATEGORIES[c]}_{t // len(CATEGORIES)}" for t, c in enumerate(category)]
    plan = np.exp(rng.normal(4.5, 0.6, tasks)).round(1)
    noise, slowness = rng.uniform(0.1, 0.25), rng.uniform(0.03, 0.12)
    log = rng.normal(0, noise, (runs, tasks)) + rng.normal(0, slowness, (runs, 1))
    hour = rng.integers(0, 24, runs) if rng.random() < 0.5 else np.full(runs, 4)
    chosen = int(rng.integers(len(CATEGORIES)))
    subject, of_kind = CATEGORIES[chosen], SubjectKind.CATEGORY
    inside = category == chosen
    if kind in ("bias", "drift") and rng.random() < 0.5:
        task = int(rng.integers(tasks))
        subject, of_kind, inside = names[task], SubjectKind.TASK, np.arange(tasks) == task
    sign = -1 if kind in ("bias", "drift") and rng.random() < 0.3 else 1
    size = float(rng.uniform(0.2, 0.6))
    size = size if sign > 0 else -size / 2
    if kind == "drift":  # clear of its noise: seven standard errors of a slope
        clear = 7 * np.hypot(noise / inside.sum() ** 0.5, slowness) * (12 / runs) ** 0.5
        size = float(np.expm1(sign * max(clear, rng.uniform(0.3, 0.6))))
    other = CATEGORIES[(chosen + int(rng.integers(1, len(CATEGORIES)))) % len(CATEGORIES)]
    beside = ""
    lines = np.full((runs, tasks), np.nan)
    if kind == "bias":
        log[:, inside] += np.log1p(size)
    if kind == "drift":
        log[:, inside] += np.log1p(size) * np.linspace(0, 1, runs)[:, None]
    if kind == "scaling":
        beside = "lines"
        lines[:, inside] = np.exp(rng.normal(5, 0.6, (runs, int(inside.sum()))))
        size = float(rng.uniform(0.2, 2.0))
        for t in np.flatnonzero(inside).tolist():
            plan[t] = size * lines[:, t].mean() + 5
            log[:, t] = np.log((size * lines[:, t] + 5) / plan[t]) + rng.normal(0, 0.15, runs)
    duration = plan * np.exp(log)
    # Whatever else the world does lets tasks begin later, so that who meets whom varies.
    pause = rng.exponential(1.0, (runs, tasks)) * plan.mean() * (rng.random((runs, tasks)) < 0.7)
    start, end = np.zeros((runs, tasks)), np.zeros((runs, tasks))
    met = np.zeros((runs, tasks), dtype=np.bool_)
    neighbours = np.flatnonzero(category == CATEGORIES.index(other))
    for t in range(tasks):
        layer = t // 5
        ready = np.zeros(runs)
        for up in range(max((layer - 1) * 5, 0), layer * 5):
            if (up - t) % 5 in (0, 1):
                ready = np.maximum(ready, end[:, up])
        start[:, t] = ready + pause[:, t]
        end[:, t] = start[:, t] + duration[:, t]
    for t in np.flatnonzero(inside).tolist():
        for n in neighbours.tolist():
            met[:, t] |= (start[:, n] <= start[:, t]) & (end[:, n] > start[:, t])
    failed = rng.random((runs, tasks)) < 0.03
    if kind == "contention":
        beside = other
        duration[met] *= 1 + size
        end = start + duration
    if kind == "interaction":
        beside, size = other, float(rng.uniform(0.35, 0.7))
        failed |= met & (rng.random((runs, tasks)) < size)
        size *= 0.97  # of the rest some fail anyway
    return Planted(
        kind=kind,
        history=_history(names, category, plan, start, duration, failed, lines, hour, rng),
        subject="" if kind == "none" else subject,
        subject_kind=of_kind,
        beside=beside,
        size=size,
    )


def _history(
    names: list[str],
    category: np.ndarray,
    plan: np.ndarray,
    start: np.ndarray,
    duration: np.ndarray,
    failed: np.ndarray,
    lines: np.ndarray,
    hour: np.ndarray,
    rng: np.random.Generator,
) -> History:
    runs, tasks = start.shape
    begun = MONDAY.timestamp() - 4 * 3600 + 86400.0 * np.arange(runs) + 3600.0 * hour
    run, task = (a.ravel() for a in np.mgrid[0:runs, 0:tasks])
    started = (begun[:, None] + start).ravel()
    first = np.where(failed, duration * rng.random(duration.shape), duration).ravel()
    again = np.flatnonzero(failed.ravel())
    helped = rng.random(len(again)) < 0.9
    ok = np.where(failed.ravel(), FAILURE, SUCCESS)
    queued = rng.exponential(0.03, len(run)) * plan[task]
    return History(
        runs=tuple(
            RunRecord(run=str(r), plan_name="nightly", status="completed") for r in range(runs)
        ),
        plans=("nightly",),
        categories=CATEGORIES,
        tasks=tuple(names),
        task_plan=np.zeros(tasks, np.int32),
        task_category=category.astype(np.int32),
        run_plan=np.zeros(runs, np.int32),
        run=np.concatenate([run, run[again]]).astype(np.int32),
        task=np.concatenate([task, task[again]]).astype(np.int32),
        item=np.full(len(run) + len(again), -1, np.int32),
        attempt=np.concatenate([np.ones(len(run)), np.full(len(again), 2)]).astype(np.int32),
        outcome=np.concatenate([ok, np.where(helped, SUCCESS, FAILURE)]).astype(np.int8),
        started=np.concatenate([started, (started + first)[again]]),
        ended=np.concatenate([started + first, (started + first + duration.ravel())[again]]),
        duration=np.concatenate([first, duration.ravel()[again]]),
        planned=np.concatenate([plan[task], plan[task[again]]]),
        queued=np.concatenate([queued, np.full(len(again), np.nan)]),
        kept=np.ones(len(run) + len(again), dtype=np.bool_),
        resources_used={"lines": np.concatenate([lines.ravel(), lines.ravel()[again]])}
        if np.isfinite(lines).any()
        else {},
    )

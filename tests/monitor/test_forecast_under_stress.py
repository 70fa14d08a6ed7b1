"""The forecast from history where histories are odd: it never explodes, nor goes back in time."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from datetime import timedelta
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from athena_prefect.journal.state import ExecutionState
from athena_prefect.monitor.history import History, PastRun, PastTask
from athena_prefect.monitor.pure import forecast
from athena_prefect.plan.graph import Floats, Network
from athena_prefect.plan.model import Plan
from tests.monitor.generated import T0, Made

LEVELS = (0.1, 0.5, 0.9)
SHARES = (0.0, 0.1, 0.4, 0.75, 0.95)


def shaped(shape: str, count: int, slots: int, planned: float = 10.0, name: str = "odd") -> Plan:
    """A plan of `count` tasks in three categories: wide, a chain, or layers of eight."""
    shapes: dict[str, Callable[[int], list[str]]] = {
        "wide": lambda _: [],
        "chain": lambda k: [f"t{k - 1}"] if k else [],
        "layers": lambda k: [f"t{k - 8}"] if k >= 8 else [],
    }
    before = shapes[shape]
    tasks = [
        {
            "id": f"t{k}",
            "category": f"c{k % 3}",
            "duration": planned * (1 + k % 3),
            "depends_on": before(k),
        }
        for k in range(count)
    ]
    return Plan.model_validate({"name": name, "runner": {"max_workers": slots}, "tasks": tasks})


def planned_of(plan: Plan) -> Floats:
    return np.array([t.planned_duration.total_seconds() for t in plan.tasks if t.planned_duration])


def drawn(plan: Plan, kind: str, rng: np.random.Generator, key: str) -> Made:
    """A run whose durations are off by a factor of the run, with a spread that `kind` names."""
    count = len(plan.tasks)
    common = rng.normal(0, 0.3)
    noises: dict[str, Callable[[], Floats]] = {
        "calm": lambda: rng.normal(0, 0.1, count),
        "heavy tails": lambda: rng.standard_t(1.5, count) * 0.5,
        "two sorts": lambda: np.full(count, rng.choice([-2.0, 2.0])),
        "a hundred times": lambda: np.log(100.0) + rng.normal(0, 0.2, count),
        "a hundredth": lambda: np.log(0.01) + rng.normal(0, 0.2, count),
        "next to nothing": lambda: np.full(count, -np.log(300.0)),
        "always the same": lambda: np.full(count, -common),
    }
    noise = noises[kind]()
    durations = planned_of(plan) * np.exp(np.clip(common + noise, -30, 12))
    return Made(plan, durations, key=key)


KINDS = (
    "calm", "heavy tails", "two sorts", "a hundred times", "a hundredth", "next to nothing",
    "always the same",
)  # fmt: skip


def history_of(runs: Sequence[Made]) -> History:
    return History.of([r.past() for r in runs])


def quantiles(run: Made, history: History, now: float, seed: int = 0) -> list[float]:
    state = run.state(now) if now else ExecutionState(started=T0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = forecast(
            run.plan, history, state, T0 + timedelta(seconds=now), LEVELS,
            np.random.default_rng(seed),
        )  # fmt: skip
    return [(found[q] - T0).total_seconds() for q in LEVELS]


def sound(run: Made, history: History, now: float) -> list[float]:
    """The quantiles, after what must hold of every forecast."""
    low, middle, high = found = quantiles(run, history, now)
    assert np.isfinite(found).all()
    # Datetimes hold whole microseconds.
    assert now - 2e-6 <= low <= middle <= high
    # What remains is bounded: an interval of a factor of nine at most, and no shorter than zero.
    assert high - now <= 9.5 * max(middle - now, 1e-3)
    return found


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", ["wide", "chain", "layers"])
@pytest.mark.parametrize("known", [1, 2, 3, 8])
def test_odd_histories_give_sound_forecasts(kind: str, shape: str, known: int) -> None:
    rng = np.random.default_rng(KINDS.index(kind) * 100 + known)
    plan = shaped(shape, 24, slots=4 if shape == "layers" else 30)
    *past, run = [drawn(plan, kind, rng, f"{kind}-{k}") for k in range(known + 1)]
    history = history_of(past)
    # One or two runs say little against what was planned.
    planned = float(planned_of(plan).sum()) if known < 3 else 0.0
    for share in SHARES:
        now = run.moment_of(share) if share else 0.0
        _, middle, _ = sound(run, history, now)
        assert middle - now <= 4 * max(run.end - now, *(p.end for p in past), planned)


def test_with_eight_runs_the_interval_holds_in_every_kind_of_history() -> None:
    inside = []
    for kind in KINDS:
        rng = np.random.default_rng(KINDS.index(kind))
        plan = shaped("layers", 24, slots=4)
        runs = [drawn(plan, kind, rng, f"{kind}-{k}") for k in range(20)]
        history = history_of(runs[:12])
        for run in runs[12:]:
            for share in (0.1, 0.5):
                low, _, high = sound(run, history, run.moment_of(share))
                inside.append(low - 1e-3 <= run.end <= high + 1e-3)
    assert 0.65 <= np.mean(inside) <= 0.97


@pytest.mark.parametrize("kind", ["calm", "heavy tails", "a hundred times"])
@pytest.mark.parametrize("slots", [3, 60])
def test_a_plan_never_seen_among_very_different_ones(kind: str, slots: int) -> None:
    rng = np.random.default_rng(5)
    others = [
        drawn(
            shaped(shape, 12, 4, planned, f"{shape}{planned}"), k, rng, f"{shape}{planned}-{k}-{n}"
        )
        for shape, planned in (("chain", 1e-2), ("wide", 1e4), ("layers", 30.0))
        for k in ("calm", "heavy tails")
        for n in range(2)
    ]
    run = drawn(shaped("wide", 60, slots), kind, rng, "new")
    for share in SHARES:
        sound(run, history_of(others), run.moment_of(share) if share else 0.0)


def test_waiting_alone_never_moves_the_finish_back() -> None:
    rng = np.random.default_rng(7)
    plan = shaped("layers", 24, slots=4)
    runs = [drawn(plan, "heavy tails", rng, f"w{k}") for k in range(7)]
    history, run = history_of(runs[:6]), runs[6]
    now = run.moment_of(0.4)
    later = float(np.sort(run.finishes[run.finishes > now])[0])
    state = run.state(now)
    middles = []
    # Nothing has happened in between, though more and more should have.
    for waited in np.linspace(0, 20 * (later - now), 8).tolist():
        found = forecast(
            plan, history, state, T0 + timedelta(seconds=now + waited), LEVELS,
            np.random.default_rng(0),
        )  # fmt: skip
        middles.append((found[0.5] - T0).total_seconds())
    assert all(b >= a - 0.02 * (a - now) for a, b in pairwise(middles))


def test_a_plan_that_has_changed_since() -> None:
    rng = np.random.default_rng(8)
    history = history_of([drawn(shaped("layers", 24, 4), "calm", rng, f"r{k}") for k in range(6)])
    wider = shaped("layers", 60, 4)
    for share in SHARES:
        run = drawn(wider, "calm", np.random.default_rng(9), "now")
        found = sound(run, history, run.moment_of(share) if share else 0.0)
        assert found[1] == pytest.approx(run.end, rel=0.6)
    other = Plan.model_validate(
        {
            "name": "odd",
            "tasks": [
                {"id": "new", "category": "never seen", "duration": "30s"},
                {"id": "t0", "category": "c0", "duration": "10s", "depends_on": ["new"]},
            ],
        }
    )
    run = Made(other, np.array([35.0, 12.0]))
    for now in (0.0, 20.0, 36.0):
        sound(run, history, now)


def test_intervals_have_a_width_while_something_is_open() -> None:
    """Even of a plan that always took the same: the next run may be another."""
    rng = np.random.default_rng(10)
    plan = shaped("chain", 6, 2)
    runs = [drawn(plan, "always the same", rng, f"s{k}") for k in range(6)]
    for share in (0.0, 0.4, 0.7):
        now = runs[5].moment_of(share) if share else 0.0
        low, _, high = sound(runs[5], history_of(runs[:5]), now)
        assert high - low >= 0.01 * (runs[5].end - now)


def test_runs_without_recorded_starts_and_tasks_of_no_time() -> None:
    tasks: list[Any] = [
        {"id": "a", "category": "a", "duration": "0s"},
        {"id": "b", "category": "b", "duration": "20s", "depends_on": ["a"]},
    ]
    plan = Plan.model_validate({"name": "odd", "tasks": tasks})
    history = History.of(
        PastRun(
            key=str(k),
            plan="odd",
            tasks=[
                PastTask(id="a", category="a", planned=0, actual=0.0),
                PastTask(id="b", category="b", planned=20, actual=25.0 + k, after=("a",)),
            ],
        )
        for k in range(4)
    )
    run = Made(plan, np.array([0.001, 26.0]))
    for now in (0.0, 10.0, 25.9):
        _, middle, _ = sound(run, history, now)
        assert middle >= now
    assert Network.of(plan).ids == ("a", "b")

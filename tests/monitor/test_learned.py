"""The forecast from finished runs: better than estimates, calibrated, and lawful."""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from athena_prefect.errors import NaiveDatetimeError, PlanError
from athena_prefect.journal.state import ExecutionState
from athena_prefect.monitor.chain import Chain
from athena_prefect.monitor.conformal import replay
from athena_prefect.monitor.history import NO_HISTORY, History, PastRun, PastTask
from athena_prefect.monitor.knowledge import Knowledge
from athena_prefect.monitor.learned import Learned, work_of
from athena_prefect.monitor.pure import forecast
from athena_prefect.plan.model import Plan
from athena_prefect.schedule.baseline import make_baseline
from tests.monitor.generated import PLANNED, T0, Made, history_of, layers, population

TENTHS = tuple(k / 10 for k in range(1, 10))


def finishes(run: Made, history: History, share: float, seed: int = 0) -> list[float]:
    """Deciles of the finish (s) when `share` of the tasks have ended."""
    now = run.moment_of(share) if share else 0.0
    state = run.state(now) if share else ExecutionState(started=T0)
    found = forecast(
        run.plan, history, state, T0 + timedelta(seconds=now), TENTHS, np.random.default_rng(seed)
    )
    return [(found[q] - T0).total_seconds() for q in TENTHS]


def test_with_planted_slowness_history_is_far_better_than_estimates() -> None:
    runs = population(1, 20)
    history = history_of(runs[:12])
    for share in (0.0, 0.25, 0.5):
        learnt = [abs(finishes(r, history, share)[4] / r.end - 1) for r in runs[12:]]
        planned = [abs(finishes(r, NO_HISTORY, share)[4] / r.end - 1) for r in runs[12:]]
        assert np.mean(learnt) < 0.5 * np.mean(planned)


def test_the_interval_covers_what_it_says() -> None:
    runs = population(2, 44)
    history = history_of(runs[:14])
    inside = [
        low <= run.end <= high
        for run in runs[14:]
        for share in (0.1, 0.5)
        for low, *_, high in [finishes(run, history, share)]
    ]
    assert 0.65 <= np.mean(inside) <= 0.95


def test_a_plan_never_seen_is_forecast_from_the_others() -> None:
    others = [
        run
        for k, bias in enumerate([(0.0, 0.1, 0.0), (0.3, 0.0, -0.2), (-0.2, 0.2, 0.1)])
        for run in population(k, 4, bias=bias, plan=layers(f"other{k}"))
    ]
    run = population(9, 1, bias=(0.1, 0.1, 0.1), plan=layers("new"))[0]
    deciles = finishes(run, history_of(others), 0.25)
    assert deciles[0] <= run.end <= deciles[-1]


def test_what_runs_longer_than_all_before_is_not_forecast_to_end_never() -> None:
    run = population(3, 1)[0]
    history = history_of(population(4, 6))
    now = 40 * max(PLANNED.values())
    begun = run.state(run.starts[0])
    found = forecast(
        run.plan,
        history,
        begun,
        T0 + timedelta(seconds=now),
        (0.1, 0.9),
        np.random.default_rng(0),
    )
    assert T0 + timedelta(seconds=now) <= found[0.1] <= found[0.9]
    assert found[0.9] < T0 + timedelta(seconds=100 * now)


def test_longer_elapsed_is_not_earlier() -> None:
    run = population(5, 1)[0]
    history = history_of(population(6, 8))
    state = run.state(run.moment_of(0.4))
    moments = [
        forecast(
            run.plan,
            history,
            state,
            T0 + timedelta(seconds=run.moment_of(0.4) + waited),
            (0.5,),
            np.random.default_rng(0),
        )[0.5]
        for waited in (0.0, 60.0, 240.0, 960.0)
    ]
    assert all(a < b for a, b in pairwise(moments))


@settings(max_examples=10, deadline=None)
@given(
    seed=st.integers(0, 50),
    share=st.sampled_from([0.0, 0.1, 0.3, 0.6, 0.9, 1.0]),
    known=st.integers(0, 6),
)
def test_quantiles_rise_and_are_never_in_the_past(seed: int, share: float, known: int) -> None:
    *past, run = population(seed, known + 1)
    deciles = finishes(run, history_of(past), share, seed)
    assert all(a <= b for a, b in pairwise(deciles))
    assert deciles == finishes(run, history_of(past), share, seed), "equal arguments, equal answers"
    if share == 1.0:
        assert deciles == pytest.approx([run.end] * 9)
    else:
        assert deciles[0] >= (run.moment_of(share) if share else 0.0) - 1e-6


def test_a_learned_duration_is_that_of_its_category() -> None:
    plan = Plan.model_validate(
        {"name": "p", "tasks": [{"id": "a", "category": "c", "duration": "learned"}]}
    )
    history = History.of(
        [
            PastRun(
                key=str(k),
                plan="p",
                tasks=[PastTask(id="a", category="c", planned=None, actual=100 + k, started=0)],
            )
            for k in range(8)
        ]
    )
    state = ExecutionState(started=T0)
    found = forecast(plan, history, state, T0, (0.5,), np.random.default_rng(0))
    assert 90 <= (found[0.5] - T0).total_seconds() <= 120
    with pytest.raises(PlanError, match="no duration is known of a"):
        forecast(plan, NO_HISTORY, state, T0, (0.5,), np.random.default_rng(0))


def test_bad_arguments_are_named() -> None:
    plan, state = layers(), ExecutionState(started=T0)
    with pytest.raises(PlanError, match="quantile 1"):
        forecast(plan, NO_HISTORY, state, T0, (1.0,), np.random.default_rng(0))
    with pytest.raises(NaiveDatetimeError):
        forecast(plan, NO_HISTORY, state, T0.replace(tzinfo=None), (0.5,), np.random.default_rng(0))


def test_mapped_tasks_and_what_is_left_out() -> None:
    plan = Plan.model_validate(
        {
            "name": "mapped",
            "runner": {"max_workers": 2},
            "tasks": [
                {"id": "list", "call": "m:list", "duration": "10s"},
                {
                    "id": "each",
                    "call": "m:each",
                    "duration": "20s",
                    "inputs": {"item": "list"},
                    "map_over": "item",
                    "expected_items": 6,
                },
                {"id": "sum", "call": "m:sum", "duration": "5s", "depends_on": ["each"]},
            ],
        }
    )
    history = History.of(
        [
            PastRun(
                key=str(k),
                plan="mapped",
                tasks=[
                    PastTask(id="list", category="list", planned=10, actual=10, started=0),
                    *(
                        PastTask(
                            id="each",
                            category="each",
                            planned=20,
                            actual=40,
                            started=10 + 40 * (i // 2),
                            after=("list",),
                        )
                        for i in range(6)
                    ),
                    PastTask(
                        id="sum", category="sum", planned=5, actual=5, started=130, after=("each",)
                    ),
                ],
            )
            for k in range(5)
        ]
    )
    assert str(history) == "5 runs, 40 records"
    found = forecast(
        plan, history, ExecutionState(started=T0), T0, (0.5,), np.random.default_rng(0)
    )
    assert (found[0.5] - T0).total_seconds() == pytest.approx(135, rel=0.1)


def test_demands_that_differ_keep_the_order_of_the_schedule() -> None:
    plan = Plan.model_validate(
        {
            "name": "uneven",
            "resources": {"cpu": {"capacity": 4}},
            "tasks": [
                {"id": "wide", "category": "c", "duration": "10s", "resources": {"cpu": 4}},
                {"id": "one", "category": "c", "duration": "10s", "resources": {"cpu": 1}},
            ],
        }
    )
    history = History.of(
        [
            PastRun(
                key=str(k),
                plan="uneven",
                tasks=[
                    PastTask(id="wide", category="c", planned=10, actual=20, started=0),
                    PastTask(id="one", category="c", planned=10, actual=20, started=20),
                ],
            )
            for k in range(5)
        ]
    )
    found = forecast(
        plan, history, ExecutionState(started=T0), T0, (0.5,), np.random.default_rng(0)
    )
    assert (found[0.5] - T0).total_seconds() == pytest.approx(40, rel=0.1)


def test_a_finished_run_is_replayed_by_the_model_that_forecasts_a_live_one() -> None:
    """A gate that takes no time and no `cpu` is no work, before as now: slots count, not arcs."""
    plan = Plan.model_validate(
        {
            "name": "gated",
            "resources": {"cpu": {"capacity": 4}},
            "tasks": [
                {"id": "a", "duration": "10s", "resources": {"cpu": 2}},
                {"id": "b", "duration": "10s", "resources": {"cpu": 2}},
                {"id": "gate", "duration": "0s", "depends_on": ["a", "b"]},
                {"id": "c", "duration": "10s", "depends_on": ["gate"], "resources": {"cpu": 2}},
                {"id": "d", "duration": "10s", "depends_on": ["gate"], "resources": {"cpu": 2}},
            ],
        }
    )
    starts = {"a": 0.0, "b": 0.0, "gate": 12.0, "c": 12.0, "d": 12.0}
    history = History.of(
        PastRun(
            key=str(k),
            plan="gated",
            capacities={"cpu": 4},
            tasks=[
                PastTask(
                    id=t.id,
                    category=t.group,
                    planned=t.planned_duration.total_seconds() if t.planned_duration else 0.0,
                    actual=12.0 if t.resources else 0.02,
                    started=starts[t.id],
                    after=tuple(d.task for d in t.upstream),
                    resources=t.resources,
                )
                for t in plan.tasks
            ],
        )
        for k in range(4)
    )
    chain = Chain.of(plan, make_baseline(plan, seed=0, samples=10))
    _, live = work_of(chain, chain.course(), history, plan.name)
    slots, network = history.capacity(0)
    assert slots == live.slots == 2.0
    assert network.pred.tolist() == live.network.pred.tolist()
    assert history.instant[history.span(0)].tolist() == live.instant.tolist()
    assert history.planned[history.span(0)].tolist() == live.planned.tolist()
    knowledge = Knowledge(history.without({"0"}), plan.name)
    begun, *_, last = replay(history, 0, knowledge)
    assert begun.velocity == pytest.approx(np.log(20.0)), "two and two, whatever the gate takes"
    assert begun.remaining == pytest.approx(np.log(24.0))
    assert last.remaining == pytest.approx(np.log(12.0)), "half of the work is done"
    learnt = Learned.of(history, plan.name).simulated(
        chain, chain.course(), samples=100, rng=np.random.default_rng(0)
    )
    assert np.median(learnt.makespans) == pytest.approx(24.0, rel=0.05)


def test_runs_without_any_planned_time_say_nothing_of_how_long_work_takes() -> None:
    gone = History.of(
        PastRun(
            key=str(k),
            plan="p",
            tasks=[PastTask(id="a", category="a", planned=0.0, actual=0.02, started=0.0)],
        )
        for k in range(4)
    )
    plan = Plan.model_validate({"name": "p", "tasks": [{"id": "a", "duration": "10s"}]})
    found = forecast(plan, gone, ExecutionState(started=T0), T0, (0.5,), np.random.default_rng(0))
    assert found[0.5] == pytest.approx(T0 + timedelta(seconds=10), abs=timedelta(seconds=1))


def test_a_plan_without_planned_time_has_a_forecast_and_no_warnings() -> None:
    tasks = [{"id": f"t{i}", "category": "step", "duration": "0s"} for i in range(3)]
    plan = Plan.model_validate({"name": "idle", "tasks": tasks})
    history = History.of(
        PastRun(
            key=f"run {n}",
            plan="idle",
            tasks=[PastTask(id=t["id"], category="step", planned=0, actual=0.01) for t in tasks],
        )
        for n in range(5)
    )
    state = ExecutionState(started=T0)
    found = forecast(plan, history, state, T0, (0.1, 0.9), np.random.default_rng(0))
    assert T0 <= found[0.1] <= found[0.9] <= T0 + timedelta(seconds=60)

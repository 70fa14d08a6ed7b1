"""The rest of a run: velocity beside the scenarios, and which past runs count."""

from __future__ import annotations

import numpy as np
import pytest

from athena_prefect.monitor.history import History
from athena_prefect.monitor.knowledge import Knowledge
from athena_prefect.monitor.rest import OVERTIME, Work, scenarios
from athena_prefect.plan.graph import Floats, Network
from athena_prefect.plan.model import Plan
from tests.monitor.generated import Made, history_of, population
from tests.monitor.test_learned import finishes


def wide(count: int, slots: float, now: float, start: Floats, finish: Floats) -> Work:
    """`count` tasks that wait for none, planned to take 10 s each."""
    return Work(
        plan="p",
        network=Network.build([str(k) for k in range(count)], [], []),
        categories=("c",),
        category=np.zeros(count, dtype=np.int64),
        planned=np.full(count, 10.0),
        start=start,
        finish=finish,
        now=now,
        slots=slots,
        instant=np.zeros(count, dtype=np.bool_),
    )


def test_velocity_beside_the_scenarios_is_the_list_schedule_at_the_pace_so_far() -> None:
    start, finish = np.full(6, np.nan), np.full(6, np.nan)
    start[:3] = 0.0
    finish[:2] = 12.0
    work = wide(6, 3.0, 12.0, start, finish)
    knowledge = Knowledge(History(), "p")
    drawn = scenarios(knowledge, work, 50, np.random.default_rng(0))
    assert work.pace == pytest.approx(1.2)
    _, ends = work.list_schedule(work.at_pace)
    assert drawn.velocity == pytest.approx(float(ends.max()))
    assert drawn.ends.shape == (50,) and drawn.finishes.shape == (4, 50)


def test_what_outran_the_pace_takes_some_of_its_elapsed_time_more() -> None:
    start, finish = np.zeros(4), np.full(4, np.nan)
    finish[0] = 5.0
    work = wide(4, np.inf, 40.0, start, finish)
    assert work.at_pace[1:] == pytest.approx(40.0 * (1 + OVERTIME))
    drawn = scenarios(Knowledge(History(), "p"), work, 20, np.random.default_rng(0))
    assert drawn.velocity == pytest.approx(40.0 * (1 + OVERTIME))


def large(name: str = "made") -> Plan:
    """The same categories as `layers`, three times as many tasks."""
    tasks = [
        {
            "id": f"{category}{k}",
            "category": category,
            "duration": {"read": 20.0, "work": 60.0, "write": 30.0}[category],
            "depends_on": [f"{before}{k}"] if before else [],
        }
        for category, before in (("read", ""), ("work", "read"), ("write", "work"))
        for k in range(48)
    ]
    return Plan.model_validate({"name": name, "runner": {"max_workers": 3}, "tasks": tasks})


def test_runs_that_are_built_alike_count_more() -> None:
    """Large runs are slow and small ones fast: before anything has happened the size says which."""
    small = population(51, 7, bias=(-0.7, -0.7, -0.7), run_spread=0.05)
    big = population(52, 7, bias=(0.7, 0.7, 0.7), run_spread=0.05, plan=large())
    for k, run in enumerate(big):
        run.key = f"large {k}"
    history = history_of([*small[:6], *big[:6]])
    for run in (small[6], big[6]):
        assert finishes(run, history, 0.0)[4] == pytest.approx(run.end, rel=0.2)
    assert isinstance(big[0], Made)

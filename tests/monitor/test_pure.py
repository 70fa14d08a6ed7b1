"""One function is behind what a monitor says: the pure `forecast`."""

from __future__ import annotations

from datetime import timedelta
from uuid import uuid4

import numpy as np
import pytest

from athena_prefect.journal.journal import MemoryJournal
from athena_prefect.journal.state import ExecutionState
from athena_prefect.monitor.forecast import QUANTILES
from athena_prefect.monitor.history import NO_HISTORY
from athena_prefect.monitor.pure import forecast
from tests.monitor.generated import T0, Made, history_of, population
from tests.monitor.test_monitor_with_history import Recalling, tell, watched

SHARES = (0.0, 0.2, 0.5, 0.9)


@pytest.fixture(scope="module")
def runs() -> list[Made]:
    return population(61, 7)


@pytest.mark.parametrize("known", [0, 6])
@pytest.mark.parametrize("share", SHARES)
def test_a_monitor_says_what_the_function_says(runs: list[Made], known: int, share: float) -> None:
    *past, run = runs
    history = history_of(past[:known]) if known else NO_HISTORY
    journal, plan_run = Recalling(history) if known else MemoryJournal(), uuid4()
    now = run.moment_of(share) if share else 0.0
    tell(run, journal, plan_run, now)
    monitor = watched(run, journal, plan_run, now)
    moment = T0 + timedelta(seconds=now)
    rng = np.random.default_rng(monitor.baseline.seed)
    found = forecast(run.plan, history, monitor.state, moment, tuple(QUANTILES.values()), rng)
    said = monitor.forecast()
    assert len(said.quantiles) == len(found) == len(QUANTILES)
    for name, quantile in QUANTILES.items():
        off = abs(found[quantile] - said.quantiles[name])
        # Without history the order in which a busy runner takes tasks may be another.
        assert off <= timedelta(seconds=1e-3 if known else 0.05 * run.end), name
    assert monitor.predict_completion_time()[0] == said.p50
    assert str(found.basis) == str(said.basis)


def test_it_says_how_much_history_it_rests_on(runs: list[Made]) -> None:
    *past, run = runs

    def basis(known: int) -> str:
        found = forecast(
            run.plan,
            history_of(past[:known]) if known else NO_HISTORY,
            ExecutionState(started=T0),
            T0,
            (0.5,),
            np.random.default_rng(0),
        )
        return str(found.basis)

    assert basis(6) == "from 6 runs, 216 records; 400 scenarios of 36 open tasks"
    assert basis(1) == "from 1 run, 36 records; 400 scenarios of 36 open tasks"
    assert basis(0).endswith("of 36 open tasks: 36 with a three-point estimate, 0 with one number")


def test_without_history_durations_are_the_three_points(runs: list[Made]) -> None:
    """Of independent tasks on slots enough, the run lasts as long as its longest path."""
    plan = runs[0].plan.model_copy(
        update={"runner": runs[0].plan.runner.model_copy(update={"max_workers": 36})}
    )
    state = ExecutionState(started=T0)
    found = forecast(plan, NO_HISTORY, state, T0, (0.001, 0.5, 0.999), np.random.default_rng(0))
    least, middle, most = ((found[q] - T0).total_seconds() for q in found)
    three = [
        sum(seconds)
        for seconds in zip(*((0.8 * s, s, 1.4 * s) for s in (20.0, 60.0, 30.0)), strict=True)
    ]
    assert three[0] < least < middle < most < three[2]
    assert middle > three[1], "the slowest of twelve chains decides"

"""What errors of earlier forecasts do to a new one."""

from __future__ import annotations

import json
import math
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from athena_prefect.monitor.conformal import (
    LEVELS,
    MOST_SPREAD,
    Calibration,
    Replayed,
    calibration_of,
    spread_of,
)
from athena_prefect.monitor.knowledge import Knowledge
from athena_prefect.plan.graph import Floats
from tests.monitor.generated import history_of, layers, population


def replayed(run: str, checkpoint: float, middle: float, velocity: float, truth: float) -> Replayed:
    return Replayed(
        run=run,
        plan="p",
        checkpoint=checkpoint,
        middle=middle,
        velocity=velocity,
        spread=0.2,
        remaining=truth,
        makespan=2 * math.exp(truth),
    )


def taught(*replays: Replayed, seen: bool = True) -> Calibration:
    return Calibration(replays=replays, seen=seen, weights={r.run: 1.0 for r in replays})


def normal(middle: float, spread: float) -> Floats:
    return np.array([NormalDist(middle, spread).inv_cdf(q) for q in LEVELS.tolist()])


def middle_of(logs: Floats) -> float:
    return float(np.interp(0.5, LEVELS, logs))


def test_forecasts_that_were_too_early_make_later_ones_later() -> None:
    late = taught(*(replayed(str(k), 0.5, 5.0, 5.0, 5.3) for k in range(10)))
    right = taught(*(replayed(str(k), 0.5, 5.0, 5.0, 5.0) for k in range(10)))
    before = normal(4.0, 0.2)
    assert middle_of(late.applied(before, 4.0, 0.5)) > middle_of(right.applied(before, 4.0, 0.5))
    assert middle_of(right.applied(before, 4.0, 0.5)) == pytest.approx(4.0, abs=0.01)


def test_where_velocity_was_right_it_decides() -> None:
    fast = taught(*(replayed(str(k), 0.5, 6.0, 5.0, 5.0) for k in range(10)))
    found = middle_of(fast.applied(normal(4.0, 0.2), 3.0, 0.5))
    assert found == pytest.approx(3.0, abs=0.25)
    # Of another checkpoint nothing was learnt: a fifth of the way, and no more.
    assert middle_of(fast.applied(normal(4.0, 0.2), 3.0, 0.1)) == pytest.approx(3.8, abs=0.01)
    unseen = Calibration()
    assert middle_of(unseen.applied(normal(4.0, 0.2), 3.0, 0.1)) == pytest.approx(3.4, abs=0.01)


@given(
    errors=st.lists(st.floats(-6, 6), min_size=0, max_size=12),
    spread=st.floats(0.0, 5.0),
    velocity=st.floats(-2, 12),
    share=st.floats(0, 1),
)
def test_quantiles_rise_and_are_never_without_bound(
    errors: list[float], spread: float, velocity: float, share: float
) -> None:
    given_ = [replayed(str(k), 0.25, 5.0, 5.5, 5.0 + e) for k, e in enumerate(errors)]
    logs = taught(*given_).applied(normal(4.0, max(spread, 1e-9)), velocity, share)
    assert (np.diff(logs) >= -1e-9).all()
    assert spread_of(logs) <= 1.001 * MOST_SPREAD


def test_it_is_kept_as_json() -> None:
    runs = population(21, 5)
    made = calibration_of(history_of(runs), runs[0].plan.name)
    assert made.runs == 5 and made.seen
    assert Calibration.from_dict(json.loads(json.dumps(made.as_dict()))) == made


def test_a_plan_with_few_runs_is_judged_by_others_too() -> None:
    own, others = population(22, 2), population(23, 3, plan=layers("other"))
    made = calibration_of(history_of([*others, *own]), own[0].plan.name)
    assert set(made.weights) == {r.key for r in (*own, *others)}
    assert made.weights[own[0].key] == 1.0
    assert made.weights[others[0].key] == pytest.approx(1 / 3)
    assert not calibration_of(history_of(others), "made").seen


def test_the_less_of_the_open_work_was_seen_before_the_more_velocity() -> None:
    """Nothing learnt: a plan's own share at first, that of plans never seen where all is new."""
    known = Calibration(seen=True)
    middles = [middle_of(known.applied(normal(4.0, 0.2), 3.0, 0.1, f)) for f in (0.0, 0.5, 1.0)]
    assert middles == pytest.approx([3.8, 3.6, 3.4], abs=0.01)
    assert middle_of(Calibration().applied(normal(4.0, 0.2), 3.0, 0.1)) == pytest.approx(3.4)


def test_new_categories_are_reckoned_by_their_work() -> None:
    runs = population(24, 3)
    knowledge = Knowledge(history_of(runs), runs[0].plan.name)
    assert knowledge.fresh({"read": 10.0, "work": 20.0}) == 0.0
    assert knowledge.fresh({"read": 10.0, "new": 30.0}) == 0.75
    assert knowledge.fresh({}) == 0.0
    other = Knowledge(history_of(population(25, 2, plan=layers("other"))), "made")
    assert other.fresh({"read": 10.0}) == 1.0, "another plan's runs are none of this one"

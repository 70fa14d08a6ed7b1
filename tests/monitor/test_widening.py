"""What earlier forecasts were worth decides how wide the next one is."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from athena_prefect.monitor.conformal import Calibration, calibration_of, spread_of
from athena_prefect.monitor.history import History
from athena_prefect.monitor.recorded import PastForecast, reached
from athena_prefect.monitor.widening import MOST, widening
from tests.monitor.generated import population
from tests.monitor.test_conformal import middle_of, normal


def told(at: float, end: float, off: float, width: float, **more: bool) -> PastForecast:
    """A forecast whose median was exp(off) times too early, its interval exp(width) each way."""
    middle = (end - at) / np.exp(off)
    return PastForecast(
        at=at,
        share_done=0.5,
        quantiles={
            q: at + middle * np.exp(w) for q, w in ((0.1, -width), (0.5, 0.0), (0.9, width))
        },
        from_history=more.get("from_history", True),
    )


def history(errors: list[float], width: float, **more: bool) -> History:
    runs = population(31, len(errors))
    return History.of(
        replace(
            run.past(),
            forecasts=[told(share * run.end, run.end, e, width, **more) for share in (0, 0.5)],
        )
        for run, e in zip(runs, errors, strict=True)
    )


def test_intervals_that_were_too_narrow_get_wider_and_the_other_way_round() -> None:
    errors = np.random.default_rng(0).normal(0, 0.2, 30).tolist()
    # A normal's quantile 0.9 is at 1.2816 spreads.
    right = widening(history(errors, 1.2816 * 0.2), "made")
    narrow = widening(history(errors, 0.5 * 1.2816 * 0.2), "made")
    wide = widening(history(errors, 2 * 1.2816 * 0.2), "made")
    assert right == pytest.approx(1.0, abs=0.15)
    assert narrow == pytest.approx(2**0.75, rel=0.15), "thirty runs of forty"
    assert wide == pytest.approx(2**-0.75, rel=0.15)


def test_more_runs_count_more_and_none_changes_nothing() -> None:
    errors = [0.4, -0.4] * 10
    found = [widening(history(errors[:n], 0.2), "made") for n in (0, 2, 6, 20)]
    assert found[0] == 1.0
    assert all(a < b for a, b in pairwise(found))
    assert found[-1] <= MOST
    assert widening(history(errors, 0.2, from_history=False), "made") == 1.0
    assert widening(history(errors, 0.2), "another") == 1.0


def test_it_widens_the_forecast_and_is_kept() -> None:
    made = calibration_of(history([0.5, -0.5, 0.5, -0.5, 0.5], 0.1), "made")
    assert made.widened > 1.2
    assert Calibration.from_dict(made.as_dict()) == made
    older = {k: v for k, v in made.as_dict().items() if k != "widened"}
    assert Calibration.from_dict(older).widened == 1.0
    before, after = replace(made, widened=1.0), made
    logs = normal(4.0, 0.2)
    found = [c.applied(logs, 4.0, 0.5) for c in (before, after)]
    assert middle_of(found[1]) == pytest.approx(middle_of(found[0]))
    assert spread_of(found[1]) > 1.15 * spread_of(found[0])


def test_checkpoints_are_reached_in_turn() -> None:
    assert [reached(s) for s in (0.0, 0.09, 0.1, 0.3, 0.5, 0.99)] == [
        None, None, 0.1, 0.25, 0.5, 0.75,
    ]  # fmt: skip

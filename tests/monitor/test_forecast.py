"""Quantiles of simulated runs, against numpy's."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from athena_prefect.monitor.forecast import Forecast, quantile_of


@given(st.lists(st.floats(0, 1e7), min_size=1, max_size=50), st.floats(0, 1))
def test_quantiles_are_numpys(values: list[float], quantile: float) -> None:
    ordered = np.sort(np.array(values))
    assert quantile_of(ordered, quantile) == pytest.approx(np.quantile(ordered, quantile))
    assert ordered[0] <= quantile_of(ordered, quantile) <= ordered[-1]


def test_a_forecast_that_cannot_be_made_says_nothing_but_why() -> None:
    moment = datetime(2026, 1, 5, tzinfo=UTC)
    forecast = Forecast(as_of=moment, started=moment, deadline=moment, reason="a failed")
    assert forecast.p50 is None and forecast.p_deadline is None and forecast.samples == 0
    assert not forecast.quantiles and not forecast.starts and not forecast.risks
    row = forecast.as_dict()
    assert row["reason"] == "a failed" and row["basis"] is None and row["tasks"] == {}

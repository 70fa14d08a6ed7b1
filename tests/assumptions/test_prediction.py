"""Prediction is calibrated on series whose truth is known, and honest where it knows little."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from athena_prefect.assumptions.prediction import Seen, predict, sen_slope

T0 = datetime(2026, 1, 5, 8, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
AT_LEAST_ZERO = (0.0, float("inf"))
Series = Callable[[np.random.Generator], np.ndarray]


def trend(rng: np.random.Generator) -> np.ndarray:
    """A level that rises or falls, with noise: a disk that fills."""
    steps = np.arange(40)
    return rng.uniform(5, 12) + rng.normal(-0.2, 0.2) * steps + rng.normal(0, 0.5, 40)


def flat(rng: np.random.Generator) -> np.ndarray:
    """Noise about a level, with a far one now and then: a load."""
    noise = rng.normal(0, 1, 40) + (rng.random(40) < 0.05) * rng.normal(0, 6, 40)
    return rng.uniform(-0.5, 3.5) + noise


def truth_value(rng: np.random.Generator) -> np.ndarray:
    """Up and down, each for a while: a service."""
    fails, returns = rng.beta(1, 12), rng.beta(3, 3)
    up, values = True, []
    for _ in range(40):
        up = rng.random() >= fails if up else rng.random() < returns
        values.append(1.0 if up else -1.0)
    return np.array(values)


def brier(series: Series, *, numbers: bool, seed: int = 3) -> tuple[float, float, float, float]:
    """Brier scores of the prediction and of the base rate, mean prediction, and base rate."""
    rng = np.random.default_rng(seed)
    told, came = [], []
    for _ in range(600):
        values = series(rng)
        known, ahead = 25, int(rng.integers(1, 14))
        history = [
            Seen(at=T0 + MINUTE * k, holds=bool(v >= 0), value=float(v) if numbers else None)
            for k, v in enumerate(values[:known])
        ]
        found = predict(
            history,
            now=history[-1].at,
            needed_at=T0 + MINUTE * (known - 1 + ahead),
            limits=AT_LEAST_ZERO if numbers else None,
            frequency=MINUTE,
        )
        assert found.probability is not None and 0 < found.probability < 1
        told.append(found.probability)
        rest = values[known : known + ahead]
        came.append(rest[-1] < 0 if numbers else (rest < 0).any())
    p, y = np.array(told), np.array(came, dtype=float)
    rate = y.mean()
    return float(((p - y) ** 2).mean()), float(rate * (1 - rate)), float(p.mean()), float(rate)


@pytest.mark.parametrize(
    ("series", "numbers", "skill"),
    [(trend, True, 0.5), (flat, True, 0.15), (truth_value, False, 0.1)],
)
def test_better_than_the_base_rate_and_calibrated(
    series: Series, numbers: bool, skill: float
) -> None:
    score, base, mean, rate = brier(series, numbers=numbers)
    assert 1 - score / base > skill, f"Brier {score:.4f} against {base:.4f}"
    # 600 series: twice the standard error of a rate is at most four points.
    assert mean == pytest.approx(rate, abs=0.06)


def test_the_slope_bears_outliers() -> None:
    t = np.arange(21.0)
    v = 3 * t
    v[[2, 7, 11, 15]] += [500, -900, 700, -300]
    assert sen_slope(t, v) == pytest.approx(3, abs=0.5)


def test_an_exact_line_is_as_sure_as_its_length_allows() -> None:
    for count in (5, 50):
        history = [Seen(at=T0 + MINUTE * k, holds=True, value=100.0 - k) for k in range(count)]
        found = predict(
            history, now=history[-1].at, needed_at=T0 + 200 * MINUTE, limits=AT_LEAST_ZERO
        )
        assert found.probability == pytest.approx(1 - 0.5 / (count + 1))
        assert found.samples == count


def test_too_few_numbers_are_counted_instead() -> None:
    history = [Seen(at=T0 + MINUTE * k, holds=True, value=9.0 - k) for k in range(4)]
    found = predict(history, now=history[-1].at, needed_at=T0 + 9 * MINUTE, limits=AT_LEAST_ZERO)
    assert found.probability == pytest.approx(0.5 / 4)
    assert found.reason.startswith("it stopped holding 0 times in 3 checks")


def test_further_away_is_less_sure() -> None:
    history = [Seen(at=T0 + MINUTE * k, holds=True) for k in range(30)]
    near, far = (
        predict(history, now=history[-1].at, needed_at=T0 + m * MINUTE, frequency=MINUTE)
        for m in (31, 300)
    )
    assert near.probability is not None and far.probability is not None
    assert near.probability < far.probability


def test_what_never_failed_is_not_called_likely_to_fail() -> None:
    for held in (2, 5, 50):
        history = [Seen(at=T0 + timedelta(minutes=k), holds=True) for k in range(held)]
        found = predict(
            history, now=history[-1].at, needed_at=T0 + timedelta(days=9),
            frequency=timedelta(minutes=1),
        )  # fmt: skip
        assert found.probability is not None and 0 < found.probability < 0.5
        assert "so many were seen" in found.reason


def test_nothing_observed_is_no_probability() -> None:
    found = predict([], now=T0, needed_at=T0 + MINUTE)
    assert found.probability is None and found.reason == "it was never observed"

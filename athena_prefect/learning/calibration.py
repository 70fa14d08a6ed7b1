"""Whether our own forecasts of a run's finish fitted, from those that were written down."""

from __future__ import annotations

from datetime import timedelta

from athena_prefect.learning.frame import History
from athena_prefect.learning.results import Calibration
from athena_prefect.monitor.recorded import reached

OUTER = (0.1, 0.9)
"""The quantiles between which a finish lies with probability 0.8."""


def calibration(history: History) -> Calibration:
    """Coverage, pinball loss and reliability over every recorded forecast of a finished run.

    The pinball loss of quantile q is q·(finish − forecast) where the run finished
    later and (1 − q)·(forecast − finish) where it finished earlier (Koenker and
    Bassett, 1978), as a share of the run's duration.
    """
    losses: list[float] = []
    inside: list[bool] = []
    at_or_below: dict[float, list[bool]] = {}
    by_share: dict[float, list[bool]] = {}
    runs = 0
    for run in history.runs:
        if run.started is None or run.ended is None or run.status != "completed":
            continue
        took = (run.ended - run.started) / timedelta(seconds=1)
        runs += bool(run.forecasts)
        for forecast in run.forecasts:
            for q, moment in forecast.quantiles.items():
                late = (run.ended - moment) / timedelta(seconds=1)
                if took > 0:
                    losses.append(max(q * late, (q - 1) * late) / took)
                at_or_below.setdefault(q, []).append(late <= 0)
            low, high = (forecast.quantiles.get(q) for q in OUTER)
            if low is not None and high is not None:
                inside.append(low <= run.ended <= high)
                if forecast.share_done is not None:
                    checkpoint = reached(forecast.share_done) or 0.0
                    by_share.setdefault(checkpoint, []).append(inside[-1])
    count = sum(len(r.forecasts) for r in history.runs)
    return Calibration(
        forecasts=count,
        runs=runs,
        coverage=sum(inside) / len(inside) if inside else None,
        pinball=sum(losses) / len(losses) if losses else None,
        reliability={f"p{round(q * 100)}": sum(v) / len(v) for q, v in sorted(at_or_below.items())},
        coverage_by_share={f"{c:g}": sum(v) / len(v) for c, v in sorted(by_share.items())},
        reason="" if inside else _reason(count, runs),
    )


def _reason(count: int, runs: int) -> str:
    if not count:
        return "no forecast of these runs was recorded"
    if not runs:
        return "none of the runs with recorded forecasts has completed"
    return "no recorded forecast has both ends of an 80 % interval (p10 and p90)"

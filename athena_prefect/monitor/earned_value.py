"""Earned value and earned schedule: an index view, beside the forecast and not instead of it.

A task earns its whole budget when it ends well and nothing before (the 0/100
rule: how far a running task has come is not measured); planned value is
credited by the same rule, so that a run exactly on plan has SPI 1 at every moment.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkItem:
    """One piece of work: what it is worth, when it was planned to end, what it has cost.

    Times are seconds from the start of the run. `cost` is None where it was not measured.
    """

    budget: float
    planned_finish: float
    done: bool
    cost: float | None = 0.0
    """Actual cost so far, of all attempts; 0 where nothing ran yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EarnedValue:
    """Planned value, earned value, actual cost and what follows from them.

    Money is in the plan's currency, or in seconds of work where no resource has
    a price (`unit`); times are seconds from the start. None where it is not defined.
    """

    unit: str
    bac: float
    """Budget at completion."""
    pv: float
    ev: float
    ac: float | None
    spi: float | None
    """EV / PV. Tends to 1 at the end even of a late run; alarms use `spi_t`."""
    cpi: float | None
    """EV / AC."""
    earned_schedule: float
    """ES: when as much as is earned was planned to be."""
    actual_time: float
    """AT: seconds since the start; of a finished run its duration."""
    sv_t: float
    """ES − AT in seconds; negative is late."""
    spi_t: float | None
    """ES / AT."""
    eac_t: float
    """AT + (PD − ES): finish if the rest goes as planned."""
    eac_t_trend: float | None
    """AT + (PD − ES) / SPI(t): finish if the rest goes as so far."""


def earned_value(
    items: Iterable[WorkItem], actual_time: float, unit: str = "seconds"
) -> EarnedValue:
    """The indices at `actual_time` seconds after the start (Lipke 2003 for ES).

    ES = C + (EV − PV_C) / (PV_{C+1} − PV_C), C the last step with PV_C ≤ EV.
    Guards: on a flat stretch of PV every moment has earned the same, and the
    one nearest to AT counts; EV = 0 and EV ≥ BAC are such stretches; at AT = 0
    there is no SPI(t).
    """
    work = tuple(items)
    times, values = _curve(work)
    bac, duration = values[-1], times[-1]
    pv = values[bisect_right(times, actual_time) - 1]
    ev = min(sum(w.budget for w in work if w.done), bac)
    costs = [w.cost for w in work]
    ac = None if None in costs else sum(c for c in costs if c is not None)
    es = _earned_schedule(times, values, ev, actual_time)
    spi_t = es / actual_time if actual_time > 0 else None
    return EarnedValue(
        unit=unit,
        bac=bac,
        pv=pv,
        ev=ev,
        ac=ac,
        spi=ev / pv if pv > 0 else None,
        cpi=ev / ac if ac else None,
        earned_schedule=es,
        actual_time=actual_time,
        sv_t=es - actual_time,
        spi_t=spi_t,
        eac_t=actual_time + max(duration - es, 0.0),
        eac_t_trend=actual_time + max(duration - es, 0.0) / spi_t if spi_t else None,
    )


def _curve(work: Sequence[WorkItem]) -> tuple[list[float], list[float]]:
    """Times of the steps of PV, from 0 on, and PV after each; equal times are one step."""
    steps: dict[float, float] = {0.0: 0.0}
    for item in work:
        steps[item.planned_finish] = steps.get(item.planned_finish, 0.0) + item.budget
    times = sorted(steps)
    return times, list(accumulate(steps[t] for t in times))


def _earned_schedule(
    times: Sequence[float], values: Sequence[float], ev: float, actual_time: float
) -> float:
    # Sums of floats in another order: what is as near as this is equal.
    slack = 1e-9 * max(values[-1], 1.0)
    last = bisect_right(values, ev + slack) - 1
    if last == len(values) - 1:
        return times[last]
    if ev - values[last] > slack:
        share = (ev - values[last]) / (values[last + 1] - values[last])
        return times[last] + share * (times[last + 1] - times[last])
    first = next(i for i, v in enumerate(values) if v >= values[last] - slack)
    return min(max(actual_time, times[first]), times[last + 1])

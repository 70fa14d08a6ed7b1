"""How much of one resource is free over time."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from math import inf


class CapacityProfile:
    """Free units of a renewable resource as a step function of time, in seconds."""

    __slots__ = ("_first", "_free", "_slack", "_times")

    def __init__(self, capacity: float, slack: float) -> None:
        """`slack`: units that demands may be short of by rounding."""
        self._times = [-inf]
        self._free = [capacity]
        self._slack = slack
        self._first: dict[float, float] = {}

    def earliest(self, after: float, duration: float, demand: float) -> float:
        """The first moment from `after` on at which `demand` is free for `duration`.

        The demand must not exceed the capacity.
        """
        times, free = self._times, self._free
        need = demand - self._slack
        # What was full once stays full: nobody gives units back.
        known = self._first.get(demand, -inf)
        moment = after if after > known else known
        i = bisect_right(times, moment) - 1
        if free[i] < need:
            while free[i] < need:
                i += 1
            moment = times[i]
            if after <= known:
                self._first[demand] = moment
        last = len(times)
        while True:
            end = moment + duration
            i += 1
            while i < last and times[i] < end:
                if free[i] < need:
                    break
                i += 1
            else:
                return moment
            while free[i] < need:
                i += 1
            moment = times[i]

    def take(self, start: float, finish: float, demand: float) -> None:
        """Take `demand` units from `start` until `finish`; free units may get negative."""
        times, free = self._times, self._free
        a, b = self._cut(start), self._cut(finish)
        for i in range(a, b):
            free[i] -= demand
        # Steps of equal height are one, which keeps the search short where all is taken.
        for i in (b, a):
            if free[i] == free[i - 1]:
                del times[i], free[i]

    def _cut(self, moment: float) -> int:
        i = bisect_left(self._times, moment)
        if i == len(self._times) or self._times[i] != moment:
            self._times.insert(i, moment)
            self._free.insert(i, self._free[i - 1])
        return i

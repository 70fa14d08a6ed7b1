"""Schedules from priorities: serial and parallel generation over what is left of a plan.

All resources stand in one step function, whose heights are packed integers
(`packing`), so that a search looks at each step once whatever the number of
resources. Times are floats, in seconds.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from copy import copy
from heapq import heapify, heappop, heappush

import numpy as np

from athena_prefect.plan.graph import Floats, Ints
from athena_prefect.schedule.packing import Packing, scale_of, whole
from athena_prefect.schedule.passes import backward
from athena_prefect.schedule.rest import Choice, Rest

Times = list[float]
LONG = 32
"""Steps of a search from which it is worth noting what came of it: shorter ones cost less than
looking it up."""
MANY = 20
"""Steps of such searches, for each activity, from which walls are kept at all: below, as of all
small problems, keeping them took a sixth longer than it saved."""
CLASSES = 32
"""Classes of durations that are told apart by what is known of long searches."""


class Frame:
    """A rest under one choice as plain lists: what all generations from it share."""

    def __init__(self, rest: Rest, choice: Choice) -> None:
        """Raises InfeasibleError where an activity takes more than there ever is."""
        rest.problem.require_durations()
        self.rest = rest
        self.choice = choice
        self.table = table = rest.way_table
        stays = ~rest.left_out(choice)[table.rows]
        self.rows_with_ways, self.owner = table.rows[stays], table.owner[stays]
        self.problem = problem = rest.problem_in(choice)
        rest.require_capacity(problem)
        self.network = network = problem.network
        self.count = len(problem)
        self.fixed = ~rest.free
        self.now = rest.now
        self.lengths = problem.durations
        self.durations: list[float] = problem.durations.tolist()
        self.floor: list[float] = rest.floor.tolist()
        self.waits: list[int] = np.diff(network.pred_ptr).tolist()
        self.rows: list[int] = network.succ_ptr.tolist()
        self.heads: list[int] = network.succ.tolist()
        self.lags: list[float] = network.succ_lag.tolist()
        self._pack()

    def _pack(self) -> None:
        rest, problem, table = self.rest, self.problem, self.table
        counted = (problem.durations > 0) & rest.free
        demands = np.where(counted[:, None], problem.demands, 0.0)
        in_way = np.where((table.durations > 0)[:, None], table.demands, 0.0)
        highest = demands.copy()
        if self.owner.size:
            most_of = np.maximum.reduceat(in_way, table.first)
            highest[self.rows_with_ways] = most_of[self.owner]
        columns = [
            r
            for r in range(len(problem.resources))
            # What suffices for all at once binds nobody.
            if highest[:, r].sum() > min(c for _, c in rest.capacity_at(r))
            or (self.fixed.any() and highest[:, r].any())
        ]
        steps = [rest.capacity_at(r) for r in columns]
        parts, ways, most = [], [], []
        running = self.fixed & (rest.starts + problem.durations > rest.now)
        begins = np.maximum(rest.starts[running], rest.now)
        ends = (rest.starts + problem.durations)[running]
        changes = {at for s in steps for at, _ in s if at > rest.now}
        moments = sorted({rest.now, *changes, *begins.tolist(), *ends.tolist()})
        heights = []
        for r, step in zip(columns, steps, strict=True):
            have = np.array([_at(step, m) for m in moments])
            held = problem.demands[running, r]
            scale = scale_of(np.concatenate((demands[:, r], in_way[:, r], held, have)))
            parts.append(whole(demands[:, r], scale, up=True))
            ways.append(whole(in_way[:, r], scale, up=True))
            left = whole(have, scale, up=False)
            taken = whole(held, scale, up=True)
            using = np.array([taken[(begins <= m) & (m < ends)].sum() for m in moments])
            heights.append(np.maximum(left - using, 0))
            asked = max(int(parts[-1].max(initial=0)), int(ways[-1].max(initial=0)))
            most.append(max(int(left.max()), asked))
        self.packing = packing = Packing.of(np.array(most, dtype=np.int64))
        self.demand = packing.packed(_columns(parts, self.count))
        self.demand_of_way = packing.packed(_columns(ways, len(in_way)))
        packed = packing.packed(_columns(heights, len(moments)))
        self.times: Times = [-np.inf, *moments[1:]]
        self.free = [height + packing.guards for height in packed]
        self.rising = all((np.diff(h) >= 0).all() for h in heights)
        """Nothing that is free now is taken away later: parallel generation is possible."""
        self.whole = packing.packed(np.array([most], dtype=np.int64))[0] + packing.guards

    def in_ways(self, places: Ints) -> Frame:
        """The same rest with each task of `rest.way_table` in the way that `places` says.

        What is shared is not copied. All the ways have to fit.
        """
        twin = copy(self)
        way = (self.table.first + places)[self.owner]
        twin.lengths = self.lengths.copy()
        twin.lengths[self.rows_with_ways] = self.table.durations[way]
        twin.durations = twin.lengths.tolist()
        twin.demand = self.demand.copy()
        for i, w in zip(self.rows_with_ways.tolist(), way.tolist(), strict=True):
            twin.demand[i] = self.demand_of_way[w]
        return twin

    def latest_finish(self) -> Floats:
        """Minus the tail of each activity: the latest finish without resources, but for a sum."""
        return -backward(self.network, self.lengths)

    def ranked(self, priority: Floats) -> list[int]:
        """The activities by priority, the least first, ties in topological order."""
        sequence: list[int] = np.lexsort((self.network.rank, priority)).tolist()
        return sequence

    def finishes(self, starts: Floats) -> Floats:
        """Finish of each activity."""
        return starts + self.lengths


class Mirror:
    """A frame with time running backwards; what has begun takes neither time nor resources."""

    def __init__(self, frame: Frame) -> None:
        network = frame.network
        self.lengths = np.where(frame.fixed, 0.0, frame.lengths)
        self.durations: list[float] = self.lengths.tolist()
        self.demand = frame.demand
        self.now = 0.0
        self.floor = [0.0] * frame.count
        self.fixed = np.zeros(frame.count, dtype=np.bool_)
        self.waits: list[int] = np.diff(network.succ_ptr).tolist()
        self.rows: list[int] = network.pred_ptr.tolist()
        self.heads: list[int] = network.pred.tolist()
        self.lags: list[float] = network.pred_lag.tolist()
        self.times: Times = [-np.inf]
        self.free = [frame.whole]
        self.packing = frame.packing

    def of(self, frame: Frame) -> Mirror:
        """The mirror of another frame that differs from this one's in its ways alone."""
        twin = copy(self)
        twin.lengths = np.where(frame.fixed, 0.0, frame.lengths)
        twin.durations, twin.demand = twin.lengths.tolist(), frame.demand
        return twin


def _columns(parts: list[Ints], rows: int) -> Ints:
    """Whole amounts side by side, shape (rows, resources)."""
    return np.array(parts, dtype=np.int64).T if parts else np.zeros((rows, 0), dtype=np.int64)


def _at(steps: tuple[tuple[float, float], ...], moment: float) -> float:
    return next(amount for at, amount in reversed(steps) if at <= moment)


def serial(frame: Frame | Mirror, sequence: list[int]) -> Times:
    """Starts: of what may be placed the first of `sequence`, as early as all allows (Kolisch 1996).

    The schedule is active: nothing could start earlier with the rest as it is. With
    the activities in the order of their starts in a feasible schedule, none starts
    later than there.
    """
    place = [0] * len(sequence)
    for at, i in enumerate(sequence):
        place[i] = at
    times, free = frame.times.copy(), frame.free.copy()
    guards = frame.packing.guards
    durations, demand, rows = frame.durations, frame.demand, frame.rows
    heads, lags, ready = frame.heads, frame.lags, frame.floor.copy()
    waits, fixed = frame.waits.copy(), frame.fixed.tolist()
    # Before this moment a demand nowhere fits: nobody gives units back.
    full: dict[int, float] = {}
    walls, looked_at = None, 0
    least = frame.now
    eligible = [place[i] for i, count in enumerate(waits) if not count]
    heapify(eligible)
    while eligible:
        i = sequence[heappop(eligible)]
        start, needs, lasts = ready[i], demand[i], durations[i]
        if fixed[i]:
            start = ready[i] = frame.floor[i]
        elif needs:
            known = full.get(needs, least)
            searched = start <= known
            if searched:
                start = known
            began = start
            if walls is not None:
                start = walls.beyond(i, needs, start)
            k = first = bisect_right(times, start) - 1
            while (free[k] - needs) & guards != guards:
                k += 1
                start = times[k]
            if searched and walls is None:
                full[needs] = start
            last = len(times)
            finish = start + lasts
            k += 1
            while k < last and times[k] < finish:
                if (free[k] - needs) & guards != guards:
                    k += 1
                    while (free[k] - needs) & guards != guards:
                        k += 1
                    start = times[k]
                    finish = start + lasts
                k += 1
            if k - first > LONG:
                looked_at += k - first
                if looked_at > MANY * len(sequence):
                    walls = walls or Walls(durations)
                    walls.learn(i, needs, began, start)
            _take(times, free, start, finish, needs)
            ready[i] = start
        finish = start + lasts
        for arc in range(rows[i], rows[i + 1]):
            head = heads[arc]
            begin = finish + lags[arc]
            if begin > ready[head]:
                ready[head] = begin
            waits[head] -= 1
            if not waits[head]:
                heappush(eligible, place[head])
    return ready


class Walls:
    """Stretches of time in which nothing that takes so much, so long, can start.

    One of each demand and class of durations, the last long one. What does not fit
    never will, since nobody gives units back; and nothing longer does.
    """

    def __init__(self, durations: Times) -> None:
        edges = np.unique(durations)
        if len(edges) > CLASSES:
            edges = np.quantile(edges, np.linspace(0.0, 1.0, CLASSES))
        # What is learned of a duration holds from the next edge on; what is asked of it, below.
        self._above: list[int] = np.searchsorted(edges, durations, "left").tolist()
        self._below: list[int] = (np.searchsorted(edges, durations, "right") - 1).tolist()
        self._walls: dict[tuple[int, int], tuple[float, float]] = {}

    def beyond(self, activity: int, needs: int, start: float) -> float:
        """The first moment from `start` on of which it is not known that it does not fit."""
        begin, end = self._walls.get((needs, self._below[activity]), (np.inf, np.inf))
        return end if begin <= start < end else start

    def learn(self, activity: int, needs: int, begin: float, end: float) -> None:
        """Note that it cannot start from `begin` until `end`."""
        key = needs, self._above[activity]
        known = self._walls.get(key)
        if known is not None and begin <= known[1] and known[0] <= end:
            begin, end = min(begin, known[0]), max(end, known[1])
        self._walls[key] = begin, end


def _take(times: Times, free: list[int], start: float, finish: float, needs: int) -> None:
    a = bisect_left(times, start)
    if a == len(times) or times[a] != start:
        times.insert(a, start)
        free.insert(a, free[a - 1])
    b = bisect_left(times, finish, a)
    if b == len(times) or times[b] != finish:
        times.insert(b, finish)
        free.insert(b, free[b - 1])
    for k in range(a, b):
        free[k] -= needs
    # Steps of equal height are one, which keeps searches short where all is taken.
    if free[b] == free[b - 1]:
        del times[b], free[b]
    if a and free[a] == free[a - 1]:
        del times[a], free[a]


def parallel(frame: Frame, sequence: list[int]) -> Times:
    """Starts: at each moment all of what is ready and fits, the first of `sequence` first.

    Non-delay schedules (Kolisch 1996). Only where `frame.rising`.
    """
    place = [0] * len(sequence)
    for at, i in enumerate(sequence):
        place[i] = at
    guards, demand, durations = frame.packing.guards, frame.demand, frame.durations
    rows, heads, lags = frame.rows, frame.heads, frame.lags
    ready, waits, fixed = frame.floor.copy(), frame.waits.copy(), frame.fixed.tolist()
    steps = list(zip(frame.times[1:], np.diff(np.array(frame.free, dtype=object)), strict=True))
    free = frame.free[0]
    # What happens when: units come back, or an activity may start.
    events: list[tuple[float, int, int]] = [(at, -1, more) for at, more in steps]
    events += [(ready[i], place[i], 0) for i, count in enumerate(waits) if not count]
    heapify(events)
    # What waits, by what it takes: of those that take the same only the first can be next.
    waiting: dict[int, list[int]] = {}
    firsts: list[tuple[int, int]] = []
    while events:
        now = events[0][0]
        while events and events[0][0] == now:
            _, at, more = heappop(events)
            if at < 0:
                free += more
                continue
            needs = 0 if fixed[sequence[at]] else demand[sequence[at]]
            queue = waiting.setdefault(needs, [])
            if queue and at < queue[0]:
                del firsts[bisect_left(firsts, (queue[0], needs))]
            if not queue or at < queue[0]:
                insort(firsts, (at, needs))
            heappush(queue, at)
        started: list[int] = []
        # One way through is enough: what did not fit fits even less after the next start.
        k = 0
        while k < len(firsts):
            needs = firsts[k][1]
            if (free - needs) & guards != guards:
                k += 1
                continue
            del firsts[k]
            queue = waiting[needs]
            started.append(sequence[heappop(queue)])
            free -= needs
            if queue:
                insort(firsts, (queue[0], needs))
        for i in started:
            start = frame.floor[i] if fixed[i] else now
            ready[i] = start
            finish = start + durations[i]
            if demand[i]:
                heappush(events, (finish, -1, demand[i]))
            for arc in range(rows[i], rows[i + 1]):
                head = heads[arc]
                begin = finish + lags[arc]
                if begin > ready[head]:
                    ready[head] = begin
                waits[head] -= 1
                if not waits[head]:
                    heappush(events, (max(ready[head], now), place[head], 0))
    return ready

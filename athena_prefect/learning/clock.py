"""Hours of the day and days of the week at which the same tasks take longer or shorter."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from athena_prefect.learning.cells import Cells, Codes
from athena_prefect.learning.contrasts import FEWEST
from athena_prefect.learning.groups import Groups, layers_of
from athena_prefect.learning.results import PatternKind
from athena_prefect.learning.search import Condition
from athena_prefect.learning.statistics import Floats

DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
Layer = tuple[Codes, list[int]]


def clock_conditions(
    cells: Cells, groups: Groups, hour: Codes, day: Codes
) -> Callable[[Floats], list[Condition]]:
    """For each group its most telling span of hours, and of days.

    `hour` and `day` by cell. A span is at most half of the circle: what is longer is
    told by its exception.
    """
    places, code = groups.alone
    singly = np.full(cells.tasks, -1, dtype=np.int64)
    singly[code] = np.arange(len(code))
    every = layers_of(groups)
    if len(code):
        every.append((singly, places.tolist()))
    kinds = (
        (PatternKind.HOUR, hour, 24, 12, _hours),
        (PatternKind.WEEKDAY, day, 7, 3, _days),
    )
    told = [k for k in kinds if len(np.unique(k[1])) > 1]

    def conditions(e: Floats) -> list[Condition]:
        return [
            _condition(kind, cells, layer, e, at, circle, longest, words)
            for kind, at, circle, longest, words in told
            for layer in every
        ]

    return conditions


def _condition(
    kind: PatternKind,
    cells: Cells,
    layer: Layer,
    e: Floats,
    at: Codes,
    circle: int,
    longest: int,
    words: Callable[[int, int], str],
) -> Condition:
    code, members = layer
    group = code[cells.task]
    begin, length = _spans(group, len(members), e, at, circle, longest)
    inside = (at - begin[group]) % circle < length[group]
    x = ((group >= 0) & (at >= 0) & inside).astype(np.float64)
    place = {number: n for n, number in enumerate(members)}
    present = len(np.unique(at[at >= 0]))

    def span(number: int) -> tuple[int, int]:
        return int(begin[place[number]]), int(length[place[number]])

    def rest(number: int) -> tuple[int, int]:
        own = at[(group == place[number]) & (at >= 0)]
        return _rest(*span(number), np.unique(own), circle)

    # Spans that hold other hours than another one does.
    trials = max(min(present * longest, present * (present - 1)), 1)

    def told(
        x: Floats, of: Callable[[int], tuple[int, int]], reverse: Condition | None = None
    ) -> Condition:
        return Condition(
            kind,
            x,
            lambda number: words(*of(number)),
            members,
            trials,
            lambda number: {"from": of(number)[0], "until": sum(of(number)) % circle},
            reverse=reverse,
        )

    others = ((group >= 0) & (at >= 0) & ~inside).astype(np.float64)
    return told(x, span, told(others, rest))


def _rest(begin: int, length: int, present: Codes, circle: int) -> tuple[int, int]:
    """The rest of the circle, from the first to the last hour in it at which anything began."""
    after = np.sort((present - begin - length) % circle)
    after = after[after < circle - length]
    first, last = int(after[0]), int(after[-1])
    return (begin + length + first) % circle, last - first + 1


def _spans(
    group: Codes, groups: int, e: Floats, at: Codes, circle: int, longest: int
) -> tuple[Codes, Codes]:
    """By group the begin and length of the span that explains most of `e`."""
    known = (group >= 0) & (at >= 0)
    key = group[known] * circle + at[known]
    shape = (groups, circle)
    count = np.bincount(key, minlength=groups * circle).reshape(shape).astype(np.float64)
    total = np.bincount(key, weights=e[known], minlength=groups * circle).reshape(shape)
    every = count.sum(axis=1, keepdims=True)
    best = np.full(groups, -1.0)
    begin, length = np.zeros(groups, np.int64), np.ones(groups, np.int64)
    n, s = np.zeros(shape), np.zeros(shape)
    for long in range(1, longest + 1):
        n = n + np.roll(count, 1 - long, axis=1)
        s = s + np.roll(total, 1 - long, axis=1)
        apart = n * (1 - n / np.maximum(every, 1))
        usable = (n >= FEWEST) & (every - n >= FEWEST)
        gain = np.where(usable, s**2 / np.maximum(apart, 1e-12), -1.0)
        start = gain.argmax(axis=1)
        top = gain[np.arange(groups), start]
        # A longer span must explain more, not only as much (hours without any start).
        better = top > best * (1 + 1e-9) + 1e-15
        best[better], begin[better], length[better] = top[better], start[better], long
    return begin, length


def _hours(begin: int, length: int) -> str:
    return f"from {begin}:00 to {(begin + length) % 24}:00"


def _days(begin: int, length: int) -> str:
    if length == 1:
        return f"on {DAYS[begin]}s"
    return f"from {DAYS[begin]} to {DAYS[(begin + length - 1) % 7]}"

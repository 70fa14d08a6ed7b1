"""Which categories run beside each attempt: the condition of contention and interaction."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from athena_prefect.learning.frame import Codes, Floats, History

CHUNK = 4_000_000
"""Pairs of attempts that are compared at once: some 50 MB."""


def sampled_runs(history: History, columns: int, most_cells: int) -> NDArray[np.bool_]:
    """Runs, evenly over each plan's, whose attempts by `columns` are about `most_cells`."""
    share = most_cells / max(columns * len(history), 1)
    keep = np.ones(len(history.runs), dtype=np.bool_)
    if share >= 1:
        return keep
    for plan in range(len(history.plans)):
        own = np.flatnonzero(history.run_plan == plan)
        place = np.arange(len(own))
        keep[own] = np.floor((place + 1) * share) > np.floor(place * share)
    return keep


def beside(history: History, rows: Codes, reaches: Sequence[Floats]) -> NDArray[np.bool_]:
    """By reach, row of `rows` and category: whether another task runs beside; last: any.

    Beside is what runs at an attempt's start, or begins within the reach (seconds, by
    row) of it and before its end. `rows` are all attempts of their runs that are
    looked at.
    """
    width = len(history.categories)
    found = np.zeros((len(reaches), len(rows), width + 1), dtype=np.bool_)
    order = np.argsort(history.run[rows], kind="stable")
    run = history.run[rows][order]
    changes = np.concatenate(([True], np.diff(run) != 0, [True])) if len(run) else np.zeros(0)
    bounds = np.flatnonzero(changes)
    start = history.started[rows][order]
    end = np.where(np.isnan(history.ended[rows]), np.inf, history.ended[rows])[order]
    same = (history.task[rows].astype(np.int64) * (1 << 32) + history.item[rows])[order]
    category = history.category[rows][order]
    begin = 0
    while begin < len(bounds) - 1:
        # Runs of about one length go together, padded to the longest.
        longest, stop = 0, begin
        while stop < len(bounds) - 1:
            longest = max(longest, int(bounds[stop + 1] - bounds[stop]))
            if stop > begin and (stop + 1 - begin) * longest**2 > CHUNK:
                break
            stop += 1
        first, last = int(bounds[begin]), int(bounds[stop])
        lengths = np.diff(bounds[begin : stop + 1])
        line = np.repeat(np.arange(stop - begin), lengths)
        place = np.arange(last - first) - np.repeat(bounds[begin:stop] - first, lengths)
        shape = (stop - begin, int(lengths.max()))
        s, e = (np.full(shape, np.nan) for _ in range(2))
        s[line, place], e[line, place] = start[first:last], end[first:last]
        which = np.zeros((*shape, width), dtype=np.float32)
        which[line, place, category[first:last]] = 1.0
        who = np.full(shape, -1, dtype=np.int64)
        who[line, place] = same[first:last]
        meets = e[:, None, :] > s[:, :, None]
        # What begins as this one ends waited for it; another attempt at it is no other task.
        meets &= (s[:, None, :] < e[:, :, None]) & (who[:, None, :] != who[:, :, None])
        for number, reach in enumerate(reaches):
            w = np.full(shape, np.nan)
            w[line, place] = start[first:last] + reach[order[first:last]]
            near = meets & (s[:, None, :] <= w[:, :, None])
            block = (near.astype(np.float32) @ which)[line, place] > 0
            found[number, order[first:last], :width] = block
            found[number, order[first:last], width] = block.any(axis=1)
        begin = stop
    return found

"""Which categories run beside each attempt: the condition of contention and interaction."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from athena_prefect.learning.frame import Codes, Floats, History


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


def beside(
    history: History, rows: Codes, reaches: Sequence[Floats], touch: Floats
) -> NDArray[np.bool_]:
    """By reach, row of `rows` and category: whether another task runs beside; last: any.

    Beside is what runs at an attempt's start, or begins within the reach (seconds, by
    row) of it and before its end. What overlaps by no more than `touch` (seconds, by
    row) at either end only touches it: one begins as the other ends, by clocks that
    are no more exact. `rows` are all attempts of their runs that are looked at.

    A sweep: who began by then, less who had ended by the start. So many a category are
    counted by running totals over the attempts in the order of their runs and times.
    """
    width = len(history.categories)
    found = np.zeros((len(reaches), len(rows), width + 1), dtype=np.bool_)
    if not len(rows):
        return found
    start, end, last = _one_after_the_other(history, rows)
    category = history.category[rows]
    by_start, by_end = np.argsort(start, kind="stable"), np.argsort(end, kind="stable")
    starts, ends = start[by_start], end[by_end]
    begun, ended = _totals(category[by_start], width), _totals(category[by_end], width)
    touch = np.minimum(touch, (end - start) / 2)
    since = start + touch
    # What began by the attempt's start and had ended by then began before: it is in both.
    gone = ended[np.searchsorted(ends, since, "right")]
    until_end = np.searchsorted(starts, end - touch, "left")
    own = np.arange(len(rows)), category
    itself = end > since
    again = _overlapping(history, rows, start, end)
    for number, reach in enumerate(reaches):
        within = np.minimum(np.maximum(start + reach, since), last)
        upto = np.minimum(np.searchsorted(starts, within, "right"), until_end)
        count = begun[upto] - gone
        count[own] -= itself
        for one, other in again:
            # Another attempt at it is no other task.
            count[one, category[one]] -= start[other] <= within[one]
        near = count > 0
        found[number, :, :width] = near
        found[number, :, width] = near.any(axis=1)
    return found


def _one_after_the_other(history: History, rows: Codes) -> tuple[Floats, Floats, Floats]:
    """Starts, ends and the last moment of the run, by row, as if each run began after the last
    one was over; what still runs ends after all else in its run.
    """
    runs, run = np.unique(history.run[rows], return_inverse=True)
    start, end = history.started[rows], history.ended[rows]
    first, last = np.full(len(runs), np.inf), np.full(len(runs), -np.inf)
    np.minimum.at(first, run, start)
    np.maximum.at(last, run, np.fmax(start, end))
    shift = np.concatenate(([0.0], np.cumsum(last - first + 2.0)[:-1])) - first
    moved: Floats = start + shift[run]
    over = (last + shift)[run]
    return moved, np.where(np.isnan(end), over + 1.0, end + shift[run]), over


def _totals(category: Codes, width: int) -> NDArray[np.int32]:
    """Running totals of each category, shape (rows + 1, width)."""
    each = np.zeros((len(category) + 1, width), dtype=np.int32)
    each[np.arange(1, len(category) + 1), category] = 1
    total: NDArray[np.int32] = np.cumsum(each, axis=0, out=each)
    return total


def _overlapping(
    history: History, rows: Codes, start: Floats, end: Floats
) -> list[tuple[int, int]]:
    """Pairs of attempts at one task or item, one after the other, that overlap; both ways."""
    who = history.task[rows].astype(np.int64) * (1 << 32) + history.item[rows]
    order = np.lexsort((start, who, history.run[rows]))
    same = (np.diff(who[order]) == 0) & (np.diff(history.run[rows][order]) == 0)
    one, other = order[:-1][same], order[1:][same]
    meet = (end[one] > start[other]) & (start[one] < end[other])
    pairs = list(zip(one[meet].tolist(), other[meet].tolist(), strict=True))
    return [*pairs, *((b, a) for a, b in pairs)]

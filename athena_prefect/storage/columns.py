"""Attempts as columns, read from the database in blocks: no object a row outlives its block."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import CursorResult

from athena_prefect.learning.frame import OUTCOMES, Floats, encode

BLOCK = 1_000
"""Rows that are held as Python objects at once: so many stay in a cache while they become columns,
of ten times as many each takes half as long again."""
Codes = NDArray[np.int32]


def blocks(result: CursorResult[Any], *, sqlite: bool) -> Iterator[Sequence[Any]]:
    """The rows of a result in blocks; of SQLite as the driver gives them.

    Its values are plain already, and an object a row would cost more than reading it.
    """
    if not sqlite or result.cursor is None:
        yield from result.partitions(BLOCK)
        return
    while rows := result.cursor.fetchmany(BLOCK):
        yield rows


class Columns:
    """The columns of `execution_records`, block by block."""

    def __init__(self, rows: Iterable[Sequence[Any]], place: Mapping[str, int], sqlite: bool):
        """`rows`: in the order of `storage.history`'s query; `place`: run → its number."""
        self.ids: dict[str, int] = {}
        """Task id → its code in `name`."""
        outcomes: dict[str | None, int] = {str(o): code for code, o in enumerate(OUTCOMES)}
        known = self.ids
        parts: dict[str, list[NDArray[Any]]] = {name: [] for name in _PLAIN}
        planned, used = _Amounts(), _Amounts()
        for block in rows:
            columns = list(zip(*block, strict=True))
            made: dict[str, NDArray[Any]] = {
                "run": np.array([place[r] for r in columns[0]], dtype=np.int32),
                "name": np.array(
                    [known.setdefault(t, len(known)) for t in columns[1]], dtype=np.int32
                ),
                "item": _numbers(columns[2]).astype(np.int32),
                "attempt": np.array(columns[3], dtype=np.int32),
                "outcome": np.array([outcomes.get(o, -1) for o in columns[4]], dtype=np.int8),
                "started": _moments(columns[5], sqlite),
                "duration": _numbers(columns[6]),
                "planned": _numbers(columns[7]),
                "queued": _numbers(columns[8]),
                "kept": ~np.array(columns[9], dtype=np.bool_),
            }
            for name, column in made.items():
                parts[name].append(column)
            planned.add(columns[10])
            used.add(columns[11])
        self.of = {
            name: np.concatenate(found) if found else np.zeros(0, _PLAIN[name])
            for name, found in parts.items()
        }
        """By name; `name` are codes of tasks' ids."""
        self.resources_planned, self.resources_used = planned.whole(), used.whole()


_PLAIN: Mapping[str, type[np.generic]] = {
    "run": np.int32,
    "name": np.int32,
    "item": np.int32,
    "attempt": np.int32,
    "outcome": np.int8,
    "started": np.float64,
    "duration": np.float64,
    "planned": np.float64,
    "queued": np.float64,
    "kept": np.bool_,
}
"""Columns that are told apart by their kind of number."""


class _Amounts:
    """Texts of amounts by name, as columns."""

    def __init__(self) -> None:
        self._blocks: list[tuple[int, dict[str, Floats]]] = []

    def add(self, texts: Sequence[str | None]) -> None:
        """One block more. A text that comes again is read once, and all of them in one go."""
        code, distinct = encode(texts)
        read = json.loads(f"[{','.join(t or 'null' for t in distinct)}]")
        rows: dict[str, list[int]] = {}
        values: dict[str, list[float]] = {}
        for number, row in enumerate(read):
            for name, amount in (row or {}).items():
                rows.setdefault(name, []).append(number)
                values.setdefault(name, []).append(amount)
        made = {}
        for name, places in rows.items():
            column = np.full(len(distinct), np.nan)
            column[places] = values[name]
            made[name] = column[code]
        self._blocks.append((len(texts), made))

    def whole(self) -> dict[str, Floats]:
        """All blocks together; NaN where a row does not name it."""
        names = dict.fromkeys(name for _, made in self._blocks for name in made)
        return {
            name: np.concatenate(
                [m[name] if name in m else np.full(count, np.nan) for count, m in self._blocks]
            )
            for name in names
        }


def _numbers(values: Sequence[float | None]) -> Floats:
    return np.array(values, dtype=np.float64)


def _moments(values: Sequence[Any], sqlite: bool) -> Floats:
    """Seconds since 1970; SQLite has texts."""
    if not sqlite:
        return _numbers(values)
    stamps = np.array(["NaT" if v is None else v for v in values], dtype="datetime64[us]")
    seconds: Floats = stamps.astype(np.int64) / 1e6
    seconds[np.isnat(stamps)] = np.nan
    return seconds

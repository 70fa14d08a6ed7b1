"""Steps for plans: tables in CSV, JSON and Parquet files.

Plans hand on the path of a table, not the table: results that go from task to
task are kept, and large ones are slow to keep.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict

import pandas as pd


class FrameFile(TypedDict):
    """A table in a file."""

    path: str
    rows: int
    columns: list[str]


def _read_csv(path: Path) -> pd.DataFrame:
    return pd.read_csv(path)


def _read_json(path: Path) -> pd.DataFrame:
    return pd.read_json(path, orient="records")


def _read_lines(path: Path) -> pd.DataFrame:
    return pd.read_json(path, orient="records", lines=True)


def _read_parquet(path: Path) -> pd.DataFrame:
    return pd.read_parquet(path)


def _write_csv(frame: pd.DataFrame, path: Path) -> None:
    frame.to_csv(path, index=False)


def _write_json(frame: pd.DataFrame, path: Path) -> None:
    frame.to_json(path, orient="records", date_format="iso")


def _write_lines(frame: pd.DataFrame, path: Path) -> None:
    frame.to_json(path, orient="records", lines=True, date_format="iso")


def _write_parquet(frame: pd.DataFrame, path: Path) -> None:
    frame.to_parquet(path, index=False)


_FORMATS: Mapping[
    str, tuple[Callable[[Path], pd.DataFrame], Callable[[pd.DataFrame, Path], None]]
] = {
    ".csv": (_read_csv, _write_csv),
    ".json": (_read_json, _write_json),
    ".jsonl": (_read_lines, _write_lines),
    ".parquet": (_read_parquet, _write_parquet),
}


def read_frame(path: str | Path) -> pd.DataFrame:
    """The table in a file; its suffix says the format: .csv, .json, .jsonl, .parquet.

    Parquet needs pyarrow or fastparquet. Raises ValueError for another suffix.
    """
    place = Path(path)
    return _format(place)[0](place)


def write_frame(frame: pd.DataFrame, path: str | Path) -> FrameFile:
    """Write `frame`, whole or not at all, without its index. Raises ValueError as `read_frame`."""
    place = Path(path)
    write = _format(place)[1]
    place.parent.mkdir(parents=True, exist_ok=True)
    part = place.with_name(f".{place.name}.part")
    try:
        write(frame, part)
        part.replace(place)
    finally:
        part.unlink(missing_ok=True)
    return FrameFile(path=str(place), rows=len(frame), columns=[str(c) for c in frame.columns])


def describe_frame(path: str | Path) -> FrameFile:
    """Rows and columns of the table in a file: what success criteria ask about."""
    frame = read_frame(path)
    return FrameFile(path=str(path), rows=len(frame), columns=[str(c) for c in frame.columns])


def convert_frame(source: str | Path, target: str | Path) -> FrameFile:
    """Write the table in `source` to `target`, in the format of its suffix."""
    return write_frame(read_frame(source), target)


def filter_frame(
    source: str | Path,
    target: str | Path,
    equals: Mapping[str, Any] | None = None,
    columns: Sequence[str] | None = None,
) -> FrameFile:
    """Write the rows of `source` whose columns have the given values; `columns` keeps only those.

    Raises ValueError, with the columns that there are, for one that is not there.
    """
    frame = read_frame(source)
    unknown = [c for c in (*(equals or {}), *(columns or ())) if c not in frame.columns]
    if unknown:
        raise ValueError(f"{source} has no column {unknown[0]!r}; it has {list(frame.columns)}")
    for name, value in (equals or {}).items():
        frame = frame[frame[name] == value]
    return write_frame(frame[list(columns)] if columns else frame, target)


def _format(
    path: Path,
) -> tuple[Callable[[Path], pd.DataFrame], Callable[[pd.DataFrame, Path], None]]:
    try:
        return _FORMATS[path.suffix.lower()]
    except KeyError:
        raise ValueError(
            f"{path.name}: no format for {path.suffix or 'a name without suffix'!r}; "
            f"known are {', '.join(_FORMATS)}"
        ) from None

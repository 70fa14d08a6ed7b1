"""Tables in files: what is written is what is read."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from tasks.frames import convert_frame, describe_frame, filter_frame, read_frame, write_frame

FRAME = pd.DataFrame({"n": [1, 2, 3], "s": ["a", "b,", 'c"\n']})


@pytest.mark.parametrize("suffix", [".csv", ".json", ".jsonl"])
def test_a_table_comes_back_as_it_was(tmp_path: Path, suffix: str) -> None:
    written = write_frame(FRAME, tmp_path / "deep" / f"t{suffix}")
    assert (written["rows"], written["columns"]) == (3, ["n", "s"])
    assert read_frame(written["path"]).to_dict("records") == FRAME.to_dict("records")
    assert describe_frame(written["path"]) == written


def test_parquet_works_or_says_what_is_missing(tmp_path: Path) -> None:
    place = tmp_path / "t.parquet"
    try:
        import pyarrow  # type: ignore[import-not-found, import-untyped, unused-ignore]  # noqa: F401
    except ImportError:
        with pytest.raises(ImportError, match="pyarrow"):
            write_frame(FRAME, place)
        assert list(tmp_path.iterdir()) == []
    else:
        assert convert_frame(write_frame(FRAME, place)["path"], tmp_path / "t.csv")["rows"] == 3


def test_converting_keeps_rows_and_columns(tmp_path: Path) -> None:
    source = write_frame(FRAME, tmp_path / "t.csv")
    assert convert_frame(source["path"], tmp_path / "t.jsonl")["rows"] == 3
    assert list(read_frame(tmp_path / "t.jsonl")["s"]) == list(FRAME["s"])


def test_filtering_takes_rows_and_columns(tmp_path: Path) -> None:
    source = write_frame(FRAME, tmp_path / "t.csv")["path"]
    kept = filter_frame(source, tmp_path / "k.csv", equals={"n": 2}, columns=["s"])
    assert (kept["rows"], kept["columns"]) == (1, ["s"])
    with pytest.raises(ValueError, match="no column 'x'; it has"):
        filter_frame(source, tmp_path / "k.csv", equals={"x": 2})


@pytest.mark.parametrize("name", ["t.xlsx", "t"])
def test_an_unknown_format_names_the_known(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match=r"known are \.csv"):
        read_frame(tmp_path / name)


def test_a_failed_write_leaves_what_was_there(tmp_path: Path) -> None:
    place = tmp_path / "t.json"
    write_frame(FRAME, place)
    twice = pd.concat([FRAME, FRAME])
    twice.columns = pd.Index(["n", "n"])
    with pytest.raises(ValueError, match="unique"):
        write_frame(twice, place)
    assert len(read_frame(place)) == 3
    assert list(tmp_path.iterdir()) == [place]

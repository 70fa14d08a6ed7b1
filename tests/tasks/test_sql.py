"""SQL steps: values are bound, rows are bounded, secrets stay out of errors."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.frames import read_frame
from tasks.sql import SqlError, execute, export_query, run_query


@pytest.fixture
def url(tmp_path: Path) -> str:
    """A SQLite database with a table of five rows."""
    place = f"sqlite:///{(tmp_path / 'data.db').as_posix()}"
    execute(place, "create table t (n integer primary key, s text)")
    for n in range(5):
        execute(place, "insert into t values (:n, :s)", {"n": n, "s": f"row {n}; '"})
    return place


def test_values_are_bound_and_never_read_as_sql(url: str) -> None:
    found = run_query(url, "select n from t where s = :s", {"s": "row 3; '"})
    assert found == {"rows": 1, "columns": ["n"], "records": [{"n": 3}], "truncated": False}


def test_rows_are_bounded(url: str) -> None:
    found = run_query(url, "select * from t order by n", limit=2)
    assert (found["rows"], found["truncated"]) == (2, True)
    assert not run_query(url, "select * from t", limit=5)["truncated"]
    with pytest.raises(ValueError, match="1 or more"):
        run_query(url, "select 1", limit=0)


def test_execute_counts_and_commits(url: str) -> None:
    assert execute(url, "delete from t where n > :n", {"n": 1})["rows"] == 3
    assert run_query(url, "select count(*) as c from t")["records"] == [{"c": 2}]


def test_a_file_takes_all_rows(url: str, tmp_path: Path) -> None:
    found = export_query(url, "select * from t", tmp_path / "out" / "t.csv")
    assert (found["rows"], found["columns"]) == (5, ["n", "s"])
    assert list(read_frame(found["path"])["n"]) == [0, 1, 2, 3, 4]


def test_a_statement_without_rows_is_no_query(url: str) -> None:
    with pytest.raises(SqlError, match="execute"):
        run_query(url, "delete from t")


@pytest.mark.parametrize(
    "bad", ["not a url", "nosuchdialect://host/db", "postgresql+psycopg://u:hunter2@", ""]
)
def test_an_unusable_url_is_said_without_its_password(bad: str) -> None:
    with pytest.raises(SqlError) as caught:
        run_query(bad, "select 1")
    assert "hunter2" not in str(caught.value)


def test_neither_values_nor_password_get_into_errors(url: str) -> None:
    with pytest.raises(SqlError) as caught:
        run_query(url, "select :v from nowhere", {"v": "hunter2"})
    assert "nowhere" in str(caught.value)
    assert "hunter2" not in str(caught.value)
    assert caught.value.__cause__ is None
    unreachable = "postgresql+psycopg://user:hunter2@127.0.0.1:1/db?connect_timeout=2"
    with pytest.raises(SqlError) as caught:
        run_query(unreachable, "select 1")
    assert "hunter2" not in str(caught.value)
    assert "127.0.0.1" in str(caught.value)

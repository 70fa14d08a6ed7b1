"""Checks that read a database, PostgreSQL or SQLite: what they see and what they refuse."""

from __future__ import annotations

import socket
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from pydantic import ValidationError
from sqlalchemy import URL, make_url

from athena_prefect.assumptions.checks.base import CheckContext
from athena_prefect.assumptions.checks.making import Made, make
from athena_prefect.assumptions.checks.registry import kind_named
from tests.fixtures.postgres import PostgresServer
from tests.storage.conftest import BOTH

NOW = datetime(2026, 11, 27, 12, tzinfo=UTC)
WRITES = [
    "WITH gone AS (DELETE FROM sales RETURNING id) SELECT count(*) FROM gone",
    "SELECT 1; DELETE FROM sales",
    "SELECT 1; COMMIT; DELETE FROM sales",
]


def fill(url: URL) -> None:
    postgres = url.get_backend_name() == "postgresql"
    moment = "timestamptz" if postgres else "text"
    statements = [
        f"CREATE TABLE sales (id integer, day date, note varchar(20), at {moment})",
        "INSERT INTO sales VALUES (1, '2026-11-25', NULL, '2026-11-27 10:00:00+00:00')",
        "INSERT INTO sales VALUES (2, '2026-11-26', 'a', '2026-11-27 11:00:00+00:00')",
        "INSERT INTO sales VALUES (3, '2026-11-26', 'b', '2026-11-27 11:30:00+00:00')",
        "INSERT INTO sales VALUES (4, '2026-11-26', NULL, NULL)",
        'CREATE TABLE empty (id integer, "od""d.name" integer)',
    ]
    if postgres:
        plain = url.set(drivername="postgresql").render_as_string(hide_password=False)
        with psycopg.connect(plain) as link:
            for statement in statements:
                link.execute(statement.encode())
        return
    assert url.database is not None
    with sqlite3.connect(url.database) as file:
        for statement in statements:
            file.execute(statement)
    file.close()


@pytest.fixture(params=BOTH)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[URL]:
    """A database with a few sales."""
    if request.param == "sqlite":
        made = make_url(f"sqlite:///{tmp_path / 'sales.db'}")
        fill(made)
        yield made
        return
    server: PostgresServer = request.getfixturevalue("postgres")
    made = server.create()
    fill(made)
    yield made
    server.drop(made)


def seen(kind: str, address: URL | str, root: Path = Path(), **options: Any) -> Made:
    if isinstance(address, URL):
        address = address.render_as_string(hide_password=False)
    check = kind_named(kind).model_validate({"env": "SALES_URL", **options})
    return make(check, CheckContext(now=NOW, root=root, environment={"SALES_URL": address}))


def value(kind: str, address: URL | str, **options: Any) -> Any:
    made = seen(kind, address, **options)
    assert made.observation is not None, made.error
    return made.observation.value


def rows_left(url: URL) -> Any:
    return value("row_count", url, table="sales")


def test_one_value(url: URL) -> None:
    assert value("sql", url, query="SELECT max(id) FROM sales;") == 4
    assert value("sql", url, query="-- a comment\nSELECT 'a%b' -- and one") == "a%b"
    assert value("sql", url, query="WITH a AS (SELECT 2 AS n) SELECT n * 1.5 FROM a") == 3.0


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("SELECT id FROM sales", "more than one row"),
        ("SELECT id FROM sales WHERE id > 9", "no row"),
        ("SELECT id, day FROM sales WHERE id = 1", "2 columns"),
        ("SELECT note FROM sales WHERE id = 1", "NULL"),
        ("SELECT nothing FROM sales", "nothing"),
        ("SELECT 1 FROM nowhere", "nowhere"),
    ],
)
def test_anything_but_one_value_is_an_error(url: URL, query: str, said: str) -> None:
    assert said in seen("sql", url, query=query).error


@pytest.mark.parametrize("query", WRITES)
def test_sql_that_writes_is_refused(url: URL, query: str) -> None:
    made = seen("sql", url, query=query)
    assert made.observation is None
    assert rows_left(url) == 4


@pytest.mark.postgres
def test_what_writes_inside_of_a_function_is_refused(postgres: PostgresServer) -> None:
    url = postgres.create()
    try:
        fill(url)
        plain = url.set(drivername="postgresql").render_as_string(hide_password=False)
        with psycopg.connect(plain) as link:
            link.execute(
                "CREATE FUNCTION wipe() RETURNS integer LANGUAGE sql AS "
                "'DELETE FROM sales; SELECT 1'"
            )
        assert seen("sql", url, query="SELECT wipe()").error.endswith("writes, and was refused")
        off = "SELECT set_config('transaction_read_only', 'off', false)"
        assert seen("sql", url, query=off).observation is None
        assert rows_left(url) == 4
    finally:
        postgres.drop(url)


@pytest.mark.parametrize(
    "query", ["DELETE FROM sales", "/* x */ COPY sales TO '/tmp/x'", "PRAGMA query_only = OFF", ""]
)
def test_what_is_no_question_is_a_defect_of_the_plan(query: str) -> None:
    with pytest.raises(ValidationError, match="is no question; a check only reads"):
        kind_named("sql").model_validate({"query": query})


def test_sqlite_is_not_told_to_write_or_to_open_another_file(tmp_path: Path) -> None:
    file = make_url(f"sqlite:///{tmp_path / 'sales.db'}")
    fill(file)
    # The statement begins as a question does, and is none.
    assert "refused" in seen("sql", file, query="WITH a AS (SELECT 1) DELETE FROM sales").error
    assert rows_left(file) == 4


def test_sql_that_runs_for_ever_is_stopped(url: URL) -> None:
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n"
    assert "stopped after 0.8 s" in seen("sql", url, query=endless, timeout="1s").error
    assert rows_left(url) == 4


def test_values_as_the_database_keeps_them(url: URL) -> None:
    postgres = url.get_backend_name() == "postgresql"
    number = value("sql", url, query="SELECT CAST(1.5 AS numeric)")
    assert number == 1.5 and isinstance(number, float)
    day = value("sql", url, query="SELECT max(day) FROM sales")
    assert str(day) == "2026-11-26"
    raw = "SELECT '\\xff'::bytea" if postgres else "SELECT x'ff'"
    assert "bytes were observed" in seen("sql", url, query=raw).error
    if postgres:
        assert value("sql", url, query="SELECT count(*) > 3 FROM sales") is True
        moment = value("sql", url, query="SELECT max(at) FROM sales")
        assert moment == datetime(2026, 11, 27, 11, 30, tzinfo=UTC)


def test_rows_are_counted(url: URL) -> None:
    assert value("row_count", url, table="sales") == 4
    assert value("row_count", url, table="sales", where="day = '2026-11-26' -- yesterday") == 3
    assert value("row_count", url, table="empty") == 0
    assert seen("row_count", url, table="sale").observation is None
    assert seen("row_count", url, table="sales", where="1 = 1); DELETE FROM sales; (").error
    assert rows_left(url) == 4


def test_the_share_that_is_missing(url: URL) -> None:
    assert value("null_share", url, table="sales", column="note") == {
        "share": 0.5, "nulls": 2, "rows": 4,
    }  # fmt: skip
    assert value("null_share", url, table="sales", column="note", where="id = 2")["share"] == 0
    assert "no rows" in seen("null_share", url, table="empty", column="id").error
    assert "no rows" in seen("null_share", url, table="empty", column='od"d.name').error
    assert "nte" in seen("null_share", url, table="sales", column="nte").error


def test_the_age_of_the_newest_row(url: URL) -> None:
    assert value("newest", url, table="sales", column="at") == 1800
    assert value("newest", url, table="sales", column="at", where="id < 3") == 3600
    day = timedelta(days=1, hours=12).total_seconds()
    assert value("newest", url, table="sales", column="day") == day
    in_berlin = value("newest", url, table="sales", column="day", timezone="Europe/Berlin")
    assert in_berlin == day + 3600
    assert "no row" in seen("newest", url, table="empty", column="id").error
    assert "no moment" in seen("newest", url, table="sales", column="note").error


def test_ages_of_what_sqlite_keeps(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    with sqlite3.connect(path) as file:
        file.execute("CREATE TABLE t (unix, ms, mixed, zones)")
        seconds = NOW.timestamp() - 60
        rows = [("2026-11-27", "2026-11-27T10:00:00+02:00"), (5, "2026-11-27T09:00:00+00:00")]
        for mixed, zones in rows:
            file.execute(
                "INSERT INTO t VALUES (?, ?, ?, ?)", (seconds, seconds * 1e3, mixed, zones)
            )
    file.close()
    address = f"sqlite:///{path}"
    assert value("newest", address, table="t", column="unix") == pytest.approx(60)
    assert "no moment" in seen("newest", address, table="t", column="ms").error
    assert "differently" in seen("newest", address, table="t", column="mixed").error
    assert "differently" in seen("newest", address, table="t", column="zones").error


def test_drift_of_a_schema(url: URL) -> None:
    columns: dict[str, Any] = {"id": "int", "day": "date", "note": "varchar", "at": None}
    assert value("schema_drift", url, table="sales", columns=columns)["unchanged"] is True
    columns = {"id": "text", "day": "date", "note": "VARCHAR(30)", "gone": "int"}
    found = seen("schema_drift", url, table="sales", columns=columns).observation
    assert found is not None
    assert found.value["unchanged"] is False and found.value["differences"] == 4
    assert found.value["missing"] == ["gone"] and found.value["new"] == ["at"]
    assert set(found.value["changed"]) == {"id", "note"}
    assert "id is integer, expected text" in found.details.lower()
    lenient = value(
        "schema_drift", url, table="sales", columns={"id": "integer"}, new_columns=False
    )
    assert lenient["unchanged"] is True
    none = seen("schema_drift", url, table="nowhere", columns={"id": None}).observation
    assert none is not None and none.details == "there is no table nowhere"


def test_a_password_in_the_plan_is_refused_and_not_repeated() -> None:
    for address in ("postgresql://me:hunter2@host/db", "postgresql://host/db?password=hunter2"):
        with pytest.raises(ValidationError) as caught:
            kind_named("sql").model_validate({"query": "SELECT 1", "url": address})
        said = str(caught.value.errors(include_input=False)[0]["msg"])
        assert "no place in a plan" in said and "hunter2" not in said


def test_no_password_in_a_message(url: URL) -> None:
    if url.get_backend_name() == "sqlite":
        return
    bad = url.set(password="hunter2-wrong", username="nobody-at-all")
    told = seen("sql", bad, query="SELECT 1").error
    assert "nobody-at-all" in told and "hunter2" not in told
    away = "postgresql://me:hunter2@127.0.0.1:1/db?application_name=x"
    told = seen("sql", away, query="SELECT 1").error
    assert "127.0.0.1" in told and "hunter2" not in told


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("no url at all", "URL is none"),
        ("mysql://host/db", "'mysql' cannot be read"),
        ("sqlite://", "in memory is empty"),
        ("sqlite:///none.db", "there is no file none.db"),
        ("sqlite:///text.db", "not a database"),
    ],
)
def test_databases_that_are_none(tmp_path: Path, address: str, said: str) -> None:
    (tmp_path / "text.db").write_text("not a database, but long enough to be looked into\n" * 90)
    assert said in seen("sql", address, root=tmp_path, query="SELECT 1 FROM t").error
    assert not (tmp_path / "none.db").exists()


def test_a_server_that_says_nothing_is_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"postgresql://me:hunter2@127.0.0.1:{server.getsockname()[1]}/db"
        told = seen("sql", address, query="SELECT 1", timeout="3s").error
    assert "timeout" in told and "hunter2" not in told


def test_where_the_url_comes_from(tmp_path: Path) -> None:
    fill(make_url(f"sqlite:///{tmp_path / 'sales.db'}"))
    sql = kind_named("row_count")
    beside = sql.model_validate({"table": "sales", "url": "sqlite:///sales.db"})
    assert make(beside, CheckContext(now=NOW, root=tmp_path)).observation
    ours = sql.model_validate({"table": "sales"})
    environment = {"ATHENA_DATABASE_URL": f"sqlite:///{tmp_path / 'sales.db'}"}
    assert make(ours, CheckContext(now=NOW, environment=environment)).observation
    named = sql.model_validate({"table": "sales", "env": "NO_SUCH_URL"})
    assert make(named, CheckContext(now=NOW)).error == (
        "the environment variable NO_SUCH_URL is not set"
    )
    with pytest.raises(ValidationError, match="at most one of env, block, url"):
        sql.model_validate({"table": "t", "env": "A", "block": "secret/a"})
    with pytest.raises(ValidationError, match="names no block"):
        sql.model_validate({"table": "t", "block": "a"})

"""The audit's warehouse tables, loaded with pandas: a run's rows once, however often it is loaded.

SQLite in the audit's folder by default, PostgreSQL by URL. A URL is best given
without its password: psycopg takes that from ``PGPASSWORD`` or ``~/.pgpass``.
"""

from __future__ import annotations

import json
import platform
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any, TypedDict
from uuid import UUID

import pandas as pd
import sqlalchemy as sa

from tasks.audit import Integrity, Inventory, Unowned, read_distributions
from tasks.dependencies import Dependencies
from tasks.licences import Licences
from tasks.sql import reported

metadata = sa.MetaData()


def _table(name: str, *columns: sa.Column[Any]) -> sa.Table:
    return sa.Table(name, metadata, sa.Column("run", sa.String(64), primary_key=True), *columns)


def _key(name: str) -> sa.Column[Any]:
    return sa.Column(name, sa.Text, primary_key=True)


def _text(name: str, *, nullable: bool = False) -> sa.Column[Any]:
    return sa.Column(name, sa.Text, nullable=nullable)


def _count(name: str) -> sa.Column[Any]:
    return sa.Column(name, sa.BigInteger, nullable=False)


RUNS = _table("audit_run", _text("audited"), _text("python"), _text("platform"), _text("prefix"))
DISTRIBUTIONS = _table(
    "audit_distribution",
    _key("distribution"),
    _text("name"),
    _text("version"),
    _text("location"),
    _text("installer"),
    _count("bytes"),
    _count("depth"),
    sa.Column("shadowed", sa.Boolean, nullable=False),
    _text("licence"),
    _text("family"),
    _text("licence_source"),
)
REQUIREMENTS = _table(
    "audit_requirement",
    _key("distribution"),
    _key("requirement"),
    _text("target"),
    _text("problem"),
    _text("detail"),
)
CYCLES = _table("audit_cycle", _key("members"))
FILES = _table(
    "audit_file",
    _key("distribution"),
    _key("path"),
    _text("status"),
    _count("size"),
    _text("detail"),
)
UNOWNED = _table("audit_unowned", _key("path"), _count("size"))


class Loaded(TypedDict):
    """Rows that a run has in each table it was loaded into."""

    tables: dict[str, int]


class Checked(TypedDict):
    """What was found wrong with a run's rows; `problems` says it in words."""

    rows: int
    problem_count: int
    problems: list[str]


def prepare_warehouse(
    folder: str | Path, warehouse: str, run: str | UUID, audited: str | date = ""
) -> Loaded:
    """Make the tables that are not there yet and note what is audited, and when."""
    frame = pd.DataFrame(
        {
            "audited": [str(audited)],
            "python": [platform.python_version()],
            "platform": [platform.platform()],
            "prefix": [sys.prefix],
        }
    )
    with opened(folder, warehouse) as engine:
        metadata.create_all(engine)
        return _load(engine, run, {RUNS: frame})


def load_packages(
    folder: str | Path,
    warehouse: str,
    run: str | UUID,
    inventory: Inventory,
    dependencies: Dependencies,
    licences: Licences,
) -> Loaded:
    """Load distributions with their licences, requirements and cycles."""
    graph = json.loads(Path(dependencies["path"]).read_text("utf-8"))
    said = read_csv(licences["path"]).rename(columns={"source": "licence_source"})
    packages = pd.DataFrame(read_distributions(inventory)).merge(
        said, on="distribution", how="left", validate="one_to_one"
    )
    packages["depth"] = packages["key"].map(graph["depths"]).fillna(0).astype("int64")
    needs = pd.DataFrame(
        graph["needs"], columns=["distribution", "requirement", "target", "problem", "detail"]
    )
    cycles = pd.DataFrame({"members": [" -> ".join(c) for c in graph["cycles"]]}, dtype=str)
    with opened(folder, warehouse) as engine:
        return _load(engine, run, {DISTRIBUTIONS: packages, REQUIREMENTS: needs, CYCLES: cycles})


def load_files(folder: str | Path, warehouse: str, run: str | UUID, integrity: Integrity) -> Loaded:
    """Load every recorded file with its status."""
    frame = read_csv(integrity["path"], whole=("size",))
    with opened(folder, warehouse) as engine:
        return _load(engine, run, {FILES: frame})


def load_unowned(folder: str | Path, warehouse: str, run: str | UUID, unowned: Unowned) -> Loaded:
    """Load the files that no distribution owns."""
    frame = read_csv(unowned["path"], whole=("size",))
    with opened(folder, warehouse) as engine:
        return _load(engine, run, {UNOWNED: frame})


def check_rows(
    folder: str | Path, warehouse: str, run: str | UUID, packages: Loaded, files: Loaded
) -> Checked:
    """Hold the run's rows against what was loaded: counts, references, values.

    Keys and nulls are the database's own constraints.
    """
    expected = {**packages["tables"], **files["tables"]}
    problems = []
    with opened(folder, warehouse) as engine, engine.connect() as connection:
        for name, count in expected.items():
            found = _rows(connection, metadata.tables[name], run)
            if found != count:
                problems.append(f"{name} has {found} rows of the run, {count} were loaded")
        for table in (FILES, REQUIREMENTS):
            lost = _strangers(connection, table, run)
            if lost:
                problems.append(f"{table.name} has {lost} rows of distributions that are not there")
        negative = sa.select(sa.func.count()).where(FILES.c.run == str(run), FILES.c.size < 0)
        if connection.scalar(negative):
            problems.append(f"{FILES.name} has negative sizes")
    return Checked(rows=sum(expected.values()), problem_count=len(problems), problems=problems)


def read_table(connection: sa.Connection, table: sa.Table, run: str | UUID) -> pd.DataFrame:
    """A run's rows of a table, in the order of its key."""
    query = sa.select(table).where(table.c.run == str(run)).order_by(*table.primary_key)
    return pd.read_sql(query, connection)


@contextmanager
def opened(folder: str | Path, warehouse: str) -> Iterator[sa.Engine]:
    """An engine for the warehouse: `warehouse`, or SQLite in `folder` where that is empty.

    Raises SqlError, without password or values, for what the database refuses.
    """
    if not warehouse:
        place = Path(folder).resolve()
        place.mkdir(parents=True, exist_ok=True)
        warehouse = f"sqlite:///{(place / 'warehouse.db').as_posix()}"
    with reported(warehouse) as engine:
        yield engine


def read_csv(path: str | Path, whole: tuple[str, ...] = ()) -> pd.DataFrame:
    """A CSV of ours: text, but for the columns of whole numbers; "NA" is a name, not a gap."""
    kinds: dict[str, str] = dict.fromkeys(whole, "int64")
    header = pd.read_csv(path, nrows=0).columns
    return pd.read_csv(
        path, dtype={name: kinds.get(name, "str") for name in header}, keep_default_na=False
    )


def _load(engine: sa.Engine, run: str | UUID, frames: Mapping[sa.Table, pd.DataFrame]) -> Loaded:
    """Replace the run's rows of each table in one transaction: loading twice is loading once."""
    tables: dict[str, int] = {}
    with engine.begin() as connection:
        for table, frame in frames.items():
            connection.execute(sa.delete(table).where(table.c.run == str(run)))
            rows = frame.assign(run=str(run))[[c.name for c in table.columns]]
            # One row a parameter set: many VALUES in one statement take ten times as long.
            rows.to_sql(table.name, connection, if_exists="append", index=False)
            tables[table.name] = len(rows)
    return Loaded(tables=tables)


def _rows(connection: sa.Connection, table: sa.Table, run: str | UUID) -> int:
    counted = sa.select(sa.func.count()).select_from(table).where(table.c.run == str(run))
    return connection.scalar(counted) or 0


def _strangers(connection: sa.Connection, table: sa.Table, run: str | UUID) -> int:
    known = sa.exists().where(
        DISTRIBUTIONS.c.run == table.c.run,
        DISTRIBUTIONS.c.distribution == table.c.distribution,
    )
    counted = sa.select(sa.func.count()).select_from(table)
    return connection.scalar(counted.where(table.c.run == str(run), ~known)) or 0

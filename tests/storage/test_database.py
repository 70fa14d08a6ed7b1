"""The database: its schema, its errors, and its life over pickles, forks and upgrades."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from alembic import command
from sqlalchemy import URL, insert, inspect, select, text
from sqlalchemy.exc import IntegrityError

from athena_prefect.errors import (
    NaiveDatetimeError,
    SchemaError,
    SettingsError,
    StorageError,
    StorageUnavailableError,
)
from athena_prefect.storage import engine, schema
from athena_prefect.storage.db import Database, database_for
from athena_prefect.storage.network_fs import network_file_system
from athena_prefect.storage.sql_journal import SqlJournal
from athena_prefect.storage.tables import Base, ExecutionPatternRow, PlanRow
from tests.storage.facts import RUN, ended


def tables(database: Database) -> set[str]:
    with database.engine.connect() as connection:
        return set(inspect(connection).get_table_names())


# -- schema ---------------------------------------------------------------------------------


def test_migrations_make_what_the_models_say(database: Database) -> None:
    with database.writing() as connection:
        command.check(schema.config(connection))
    assert tables(database) == {*Base.metadata.tables, "athena_alembic_version"}


def test_a_downgrade_leaves_nothing_behind(database: Database) -> None:
    database.downgrade("base")
    assert tables(database) == {"athena_alembic_version"}
    assert database.current() is None
    database.upgrade()
    assert database.current() == schema.head()
    database.check_schema()


def test_others_tables_are_left_alone(database: Database) -> None:
    with database.writing() as connection:
        connection.execute(text("CREATE TABLE flow_run (id INTEGER)"))
        command.check(schema.config(connection))
    database.downgrade("base")
    assert "flow_run" in tables(database)


def test_another_schema_is_refused_with_the_remedy(empty_url: URL | str) -> None:
    database = Database(empty_url)
    if not database.sqlite:
        with pytest.raises(SchemaError, match="athena db upgrade"):
            database.prepare()
        with pytest.raises(SchemaError, match="athena db upgrade"):
            SqlJournal(database).append(ended())
    database.upgrade()
    database.prepare()
    with database.writing() as connection:
        connection.execute(text("UPDATE athena_alembic_version SET version_num = '9999'"))
    with pytest.raises(SchemaError, match="upgrade athena"):
        database.check_schema()
    database.close()


def test_an_empty_sqlite_file_gets_its_tables_by_itself(tmp_path: Path) -> None:
    path = tmp_path / "new" / "100% ours" / "athena.db"
    opened = Database.open(f"sqlite:///{path}")
    assert opened.current() == schema.head()
    opened.close()
    unopened = Database(f"sqlite:///{tmp_path / 'other.db'}")
    assert unopened.current() is None
    SqlJournal(unopened).append(ended())
    assert unopened.current() == schema.head()
    unopened.close()


def test_a_sqlite_file_with_others_tables_is_not_touched(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'theirs.db'}")
    with database.engine.begin() as connection:
        connection.execute(text("CREATE TABLE theirs (id INTEGER)"))
    with pytest.raises(SchemaError, match="athena db upgrade"):
        database.prepare()
    assert tables(database) == {"theirs"}
    database.close()


def test_processes_that_upgrade_at_once_do_it_once(empty_url: URL | str) -> None:
    database = Database(empty_url)
    code = "import pickle,sys; pickle.loads(bytes.fromhex(sys.argv[1])).upgrade()"
    argument = pickle.dumps(database).hex()
    children = [subprocess.Popen([sys.executable, "-c", code, argument]) for _ in range(3)]
    assert [child.wait() for child in children] == [0, 0, 0]
    database.check_schema()
    database.close()


# -- values ---------------------------------------------------------------------------------


def test_moments_are_aware_and_utc_whatever_zone_they_came_in(database: Database) -> None:
    moment = datetime(2026, 5, 4, 14, 0, 0, 123456, tzinfo=timezone(timedelta(hours=2)))
    with database.writing() as connection:
        row = {"namespace": "n", "name": "p", "created_at": moment}
        connection.execute(insert(PlanRow), row)
        found = connection.execute(select(PlanRow.created_at)).scalar_one()
    assert found == moment
    assert found.utcoffset() == timedelta(0)
    naive = {**row, "name": "q", "created_at": moment.replace(tzinfo=None)}
    with pytest.raises(NaiveDatetimeError), database.writing() as connection:
        connection.execute(insert(PlanRow), naive)


def test_defaults_of_the_database_are_moments_in_utc(database: Database) -> None:
    with database.writing() as connection:
        connection.execute(insert(PlanRow), {"namespace": "n", "name": "p"})
        found = connection.execute(select(PlanRow.created_at)).scalar_one()
    assert abs(datetime.now(UTC) - found) < timedelta(minutes=5)


def test_references_hold(database: Database) -> None:
    row = {
        "plan_id": 4711,
        "pattern_type": "duration",
        "description": "",
        "frequency": 1,
        "actionable": False,
    }
    with pytest.raises(IntegrityError), database.writing() as connection:
        connection.execute(insert(ExecutionPatternRow), row)


def test_a_transaction_that_fails_leaves_nothing(database: Database) -> None:
    def fail() -> None:
        with database.writing() as connection:
            connection.execute(insert(PlanRow), {"namespace": "n", "name": "p"})
            connection.execute(text("SELECT nonsense FROM nowhere"))

    with pytest.raises(StorageError):
        fail()
    with database.reading() as connection:
        assert connection.execute(select(PlanRow.id)).all() == []


# -- settings and errors --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("sqlite://", "in memory"),
        ("sqlite:///:memory:", "in memory"),
        ("sqlite:///file:x?mode=memory", "in memory"),
        ("mysql://u:topsecret@host/db", "not supported"),
        ("postgresql+asyncpg://u:topsecret@host/db", "not supported"),
        ("no url, topsecret", "not a database URL"),
    ],
)
def test_a_url_that_cannot_be_used_is_refused_without_its_password(url: str, says: str) -> None:
    with pytest.raises(SettingsError, match=says) as caught:
        Database(url)
    assert "topsecret" not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("driver", ["postgresql", "postgres", "postgresql+psycopg"])
def test_a_database_that_is_away_says_so_without_its_password(driver: str) -> None:
    query = "?password=alsosecret" if driver == "postgres" else ""
    database = Database(f"{driver}://me:topsecret@127.0.0.1:1/athena{query}")
    assert database.url.drivername == "postgresql+psycopg"
    with pytest.raises(StorageUnavailableError) as caught:
        SqlJournal(database).append(ended())
    with pytest.raises(StorageUnavailableError):
        database.check_schema()
    for shown in (str(caught.value), repr(database), database.location, database.fingerprint):
        assert "secret" not in shown
    assert "127.0.0.1" in database.location
    copy: Database = pickle.loads(pickle.dumps(database))
    assert copy.url == database.url, "workers need the password"


def test_a_durability_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'a.db'}", durable="always")  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match="process, power"):
        database.upgrade()


@pytest.mark.parametrize(("durable", "synchronous"), [("process", 1), ("power", 2)])
def test_sqlite_writes_ahead_and_syncs_as_durable_says(
    tmp_path: Path, durable: engine.Durability, synchronous: int
) -> None:
    database = Database(f"sqlite:///{tmp_path / 'a.db'}", durable=durable)
    with database.reading() as connection:
        found = [
            connection.execute(text(f"PRAGMA {name}")).scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys")
        ]
    assert found == ["wal", synchronous, 1]
    database.close()


MOUNTS = """\
22 1 8:1 / / rw - ext4 /dev/sda rw
40 22 0:40 / /net rw shared:1 - nfs4 server:/export rw
41 40 8:2 / /net/local\\040disk rw - xfs /dev/sdb rw
50 22 0:50 / /home rw - fuse.sshfs host: rw
malformed
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/var/lib/athena.db", None),
        ("/net/athena.db", "nfs4"),
        ("/network/athena.db", None),
        ("/net/local disk/athena.db", None),
        ("/home/me/athena.db", "fuse.sshfs"),
    ],
)
def test_network_file_systems_are_told_by_the_deepest_mount(path: str, kind: str | None) -> None:
    assert network_file_system(Path(path), MOUNTS) == kind


def test_sqlite_on_a_network_file_system_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "network_file_system", lambda path: "nfs4")
    with pytest.raises(SettingsError, match="network file system"):
        Database(f"sqlite:///{tmp_path / 'a.db'}")


def test_a_file_that_is_no_database_is_an_error_and_no_outage(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    path.write_text("this is no database, but long enough to be read as one" * 40)
    with pytest.raises(StorageError, match=r"a\.db") as caught:
        SqlJournal(Database(f"sqlite:///{path}")).append(ended())
    assert not isinstance(caught.value, StorageUnavailableError)


# -- processes --------------------------------------------------------------------------------


def test_a_fork_uses_connections_of_its_own(database: Database) -> None:
    journal = SqlJournal(database)
    journal.append(ended("parent"))
    pid = os.fork()
    if pid == 0:
        try:
            journal.append(ended("child"))
            code = 0 if journal.last_position(RUN) == 2 else 1
        except BaseException:
            code = 2
        os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    journal.append(ended("parent again"))
    assert journal.last_position(RUN) == 3


def test_one_database_a_url_and_process(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'a.db'}"
    assert database_for(url) is database_for(url)
    assert database_for(url) is not database_for(url, durable="power")


def test_a_closed_database_opens_again(database: Database) -> None:
    journal = SqlJournal(database)
    journal.append(ended("a"))
    database.close()
    journal.append(ended("b"))
    assert journal.last_position(RUN) == 2


def test_a_writer_that_waits_too_long_for_sqlite_finds_it_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "BUSY_TIMEOUT", 0.05)
    database = Database(f"sqlite:///{tmp_path / 'a.db'}")
    journal = SqlJournal(database)
    journal.append(ended("a"))
    with database.writing(), pytest.raises(StorageUnavailableError, match="locked"):
        journal.append(ended("b"))
    journal.append(ended("b"))
    assert journal.last_position(RUN) == 2
    database.close()

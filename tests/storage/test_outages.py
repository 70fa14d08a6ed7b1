"""Kills and outages: what was acknowledged is in the database or in the spool."""

from __future__ import annotations

import os
import pickle
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from athena_prefect.errors import StorageUnavailableError
from athena_prefect.journal.events import Event
from athena_prefect.journal.journal import Recorded
from athena_prefect.storage.db import Database
from athena_prefect.storage.spool import Spool, SpoolingJournal
from athena_prefect.storage.sql_journal import SqlJournal
from tests.fixtures.postgres import PostgresServer, folder_for
from tests.storage.facts import RUN, ended

WRITER = """
import os, pickle, sys, threading
from athena_prefect.errors import StorageUnavailableError
from athena_prefect.storage.spool import Spool, SpoolingJournal
from athena_prefect.storage.sql_journal import SqlJournal
from tests.storage.facts import ended

class SometimesAway(SqlJournal):
    asked = 0
    def append(self, *events, token=None):
        SometimesAway.asked += 1
        if SometimesAway.asked % 40 > 30:
            raise StorageUnavailableError("away")
        return super().append(*events, token=token)

database = pickle.loads(bytes.fromhex(sys.argv[1]))
journal = SpoolingJournal(SometimesAway(database), Spool(sys.argv[2]))

def work(name):
    for i in range(100_000):
        journal.append(ended(f"{sys.argv[3]}.{name}.{i}", data={"pad": "x" * (i % 700)}))
        # One small write is one piece, however the process dies.
        os.write(1, f"{sys.argv[3]}.{name}.{i}\\n".encode())
        if i % 10 == 0:
            journal.drain()

for name in range(3):
    threading.Thread(target=work, args=(name,)).start()
"""


def test_what_a_killed_process_had_acknowledged_is_there(
    database: Database, tmp_path: Path
) -> None:
    spool, rng, said = Spool(tmp_path / "spool"), random.Random(7), list[str]()
    for round_ in range(3):
        child = subprocess.Popen(
            [
                sys.executable,
                "-c",
                WRITER,
                pickle.dumps(database).hex(),
                str(spool.folder),
                str(round_),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        assert child.stdout is not None
        first = child.stdout.readline()
        lines = [first, *(child.stdout.readline() for _ in range(rng.randrange(20, 120)))]
        os.kill(child.pid, signal.SIGKILL)
        # What stands in the pipe was acknowledged, also if nobody had read it yet.
        lines += child.stdout.read().splitlines(keepends=True)
        child.stdout.close()
        child.wait()
        said += [line.decode().strip() for line in lines if line.endswith(b"\n")]
    journal = SpoolingJournal(SqlJournal(database), spool)
    entries = journal.read(RUN)
    names = [getattr(e.event, "task_id", "") for e in entries]
    assert [e.position for e in entries] == list(range(1, len(entries) + 1))
    assert len(names) == len(set(names))
    assert set(said) <= set(names)
    for writer in {n.rpartition(".")[0] for n in names}:
        order = [int(n.rpartition(".")[2]) for n in names if n.startswith(f"{writer}.")]
        assert order == list(range(len(order))), "in the order in which each thread wrote"
    assert not journal.spool.pending


def test_what_was_meant_for_one_database_is_not_drained_into_another(
    database: Database, tmp_path: Path
) -> None:
    class Away(SqlJournal):
        def append(self, *events: Event, token: int | None = None) -> tuple[Recorded, ...]:
            raise StorageUnavailableError("away")

    spool = Spool(tmp_path / "spool")
    SpoolingJournal(Away(database), spool).append(ended("mine"))
    other = SpoolingJournal(SqlJournal(Database(f"sqlite:///{tmp_path / 'other.db'}")), spool)
    assert other.append(ended("theirs")) == (Recorded.STORED,)
    assert len(other.read(RUN)) == 1
    mine = SpoolingJournal(SqlJournal(database), spool)
    assert mine.drain().events == 1
    assert [e.event for e in mine.read(RUN)] == [ended("mine")]


@pytest.fixture
def own_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    """A server that may be stopped: nobody else uses it."""
    server = PostgresServer(folder_for(tmp_path_factory.mktemp("own")))
    yield server
    server.close()


@pytest.mark.postgres
def test_postgres_stops_in_the_middle_and_nothing_is_lost(
    own_server: PostgresServer, tmp_path: Path
) -> None:
    database = Database(own_server.create())
    database.upgrade()
    said: list[str] = []
    journal = SpoolingJournal(
        SqlJournal(database), Spool(tmp_path / "spool"), on_degraded=said.append
    )
    results: dict[str, list[Recorded]] = {name: [] for name in "abcd"}
    over = threading.Event()

    def work(name: str) -> None:
        while not over.is_set():
            (result,) = journal.append(ended(f"{name}.{len(results[name])}"))
            results[name].append(result)
            time.sleep(0.002)

    def until(wanted: Recorded) -> None:
        for name in results:
            seen = len(results[name])
            while wanted not in results[name][seen:]:
                time.sleep(0.01)

    threads = [threading.Thread(target=work, args=(name,)) for name in results]
    for thread in threads:
        thread.start()
    try:
        for how in ("fast", "immediate"):
            until(Recorded.STORED)
            own_server.stop(how)
            until(Recorded.SPOOLED)
            with pytest.raises(StorageUnavailableError):
                SqlJournal(database).read(RUN)
            own_server.start()
            while journal.drain().left:
                time.sleep(0.05)
    finally:
        over.set()
        for thread in threads:
            thread.join()
    entries = journal.read(RUN)
    names = [getattr(e.event, "task_id", "") for e in entries]
    for name, acknowledged in results.items():
        own = [n for n in names if n.startswith(name)]
        assert own == [f"{name}.{i}" for i in range(len(acknowledged))]
    assert [e.position for e in entries] == list(range(1, len(entries) + 1))
    # Not exactly one each: while a late line waits in the spool, nobody asks the database.
    assert 1 <= len(said) < len(entries)
    database.close()


@pytest.mark.postgres
def test_a_restart_while_nobody_wrote_is_not_noticed(own_server: PostgresServer) -> None:
    database = Database(own_server.create())
    database.upgrade()
    journal = SqlJournal(database)
    journal.append(ended("a"))
    own_server.stop()
    own_server.start()
    assert journal.append(ended("b")) == (Recorded.STORED,)
    assert journal.last_position(RUN) == 2
    database.close()

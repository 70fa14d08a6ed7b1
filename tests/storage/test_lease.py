"""One dispatcher a plan run."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import threading
from datetime import timedelta
from uuid import UUID

import pytest

from athena_prefect.errors import LeaseHeldError, LeaseLostError, NaiveDatetimeError
from athena_prefect.journal.journal import Recorded
from athena_prefect.storage.db import Database
from athena_prefect.storage.lease import Lease, Leases
from athena_prefect.storage.process import Process
from athena_prefect.storage.sql_journal import SqlJournal
from tests.storage.facts import NOW, RUN, ended

TTL = timedelta(seconds=30)
LONG = timedelta(hours=1)


@pytest.fixture
def leases(database: Database) -> Leases:
    return Leases(database)


def test_a_second_dispatcher_is_told_who_holds_the_lease(leases: Leases) -> None:
    first = leases.acquire(RUN, "worker 1", ttl=TTL)
    with pytest.raises(LeaseHeldError, match="worker 1") as caught:
        leases.acquire(RUN, "worker 2", ttl=TTL)
    assert pickle.loads(pickle.dumps(caught.value)).holder == "worker 1"
    assert leases.current(RUN) == first


def test_the_token_grows_by_one_and_is_never_reset(leases: Leases) -> None:
    tokens = []
    for _ in range(3):
        lease = leases.acquire(RUN, "w", ttl=TTL)
        tokens.append(lease.token)
        leases.release(lease)
    lapsed = leases.acquire(RUN, "w", ttl=TTL, now=NOW)
    tokens.append(lapsed.token)
    tokens.append(leases.acquire(RUN, "w", ttl=TTL, now=NOW + TTL).token)
    assert tokens == [1, 2, 3, 4, 5]


def test_a_lease_is_free_from_its_expiry_on_and_not_before(leases: Leases) -> None:
    leases.acquire(RUN, "a", ttl=TTL, now=NOW)
    with pytest.raises(LeaseHeldError):
        leases.acquire(RUN, "b", ttl=TTL, now=NOW + TTL - timedelta(microseconds=1))
    assert leases.current(RUN, now=NOW + TTL) is None
    assert leases.acquire(RUN, "b", ttl=TTL, now=NOW + TTL).expires_at == NOW + 2 * TTL


def test_a_renewed_lease_lives_on(leases: Leases) -> None:
    lease = leases.acquire(RUN, "a", ttl=TTL, now=NOW)
    renewed = leases.renew(lease, ttl=TTL, now=NOW + TTL / 2)
    assert (renewed.token, renewed.expires_at) == (lease.token, NOW + 1.5 * TTL)
    late = NOW + 10 * TTL
    assert leases.renew(lease, ttl=TTL, now=late).expires_at == late + TTL, "nobody took it"


def test_who_was_replaced_can_neither_renew_nor_write_nor_release(
    leases: Leases, database: Database
) -> None:
    journal = SqlJournal(database)
    old = leases.acquire(RUN, "old", ttl=TTL, now=NOW)
    assert journal.append(ended("a"), token=old.token) == (Recorded.STORED,)
    new = leases.acquire(RUN, "new", ttl=TTL, now=NOW + TTL)
    with pytest.raises(LeaseLostError, match="new holds it"):
        leases.renew(old, ttl=TTL, now=NOW + TTL)
    with pytest.raises(LeaseLostError):
        journal.append(ended("b"), token=old.token)
    leases.release(old)
    assert leases.current(RUN, now=NOW + TTL) == new
    assert journal.append(ended("b"), token=new.token) == (Recorded.STORED,)
    assert len(journal.read(RUN)) == 2


def test_a_released_lease_cannot_be_renewed(leases: Leases) -> None:
    lease = leases.acquire(RUN, "a", ttl=TTL)
    leases.release(lease)
    with pytest.raises(LeaseLostError):
        leases.renew(lease, ttl=TTL)
    assert leases.current(RUN) is None
    with pytest.raises(LeaseLostError):
        leases.renew(Lease(plan_run=UUID(int=9), token=1, holder="", expires_at=NOW), ttl=TTL)


def test_a_naive_now_is_refused(leases: Leases) -> None:
    with pytest.raises(NaiveDatetimeError):
        leases.acquire(RUN, "a", ttl=TTL, now=NOW.replace(tzinfo=None))


def test_of_many_threads_one_wins(leases: Leases) -> None:
    won: list[Lease] = []
    lost: list[str] = []
    gate = threading.Barrier(6)

    def work(name: str) -> None:
        gate.wait()
        try:
            won.append(leases.acquire(RUN, name, ttl=TTL))
        except LeaseHeldError as error:
            lost.append(error.holder)

    threads = [threading.Thread(target=work, args=(f"w{i}",)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [lease.token for lease in won] == [1]
    assert set(lost) == {won[0].holder} and len(lost) == 5


CHILD = """
import pickle, sys
from datetime import timedelta
from uuid import UUID
from athena_prefect.errors import LeaseHeldError
from athena_prefect.storage.lease import Leases
database = pickle.loads(bytes.fromhex(sys.argv[1]))
sys.stdout.write("ready\\n"); sys.stdout.flush()
sys.stdin.readline()
try:
    lease = Leases(database).acquire(UUID(sys.argv[2]), "child", ttl=timedelta(hours=1))
    print("won", lease.token, flush=True)
except LeaseHeldError:
    print("lost", flush=True)
sys.stdin.readline()
"""


def child(database: Database) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", CHILD, pickle.dumps(database).hex(), str(RUN)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def ask(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("go\n")
    process.stdin.flush()


def answer(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def end(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.close()
    process.stdout.close()
    process.wait()


def test_of_two_processes_one_wins_and_its_death_frees_the_lease(
    database: Database, leases: Leases
) -> None:
    pair = [child(database), child(database)]
    for process in pair:
        ask(process)
    answers = [answer(process) for process in pair]
    assert sorted(answers) == ["lost", "won 1"]
    winner, loser = pair if answers[0].startswith("won") else pair[::-1]
    with pytest.raises(LeaseHeldError):
        leases.acquire(RUN, "parent", ttl=LONG)
    os.kill(winner.pid, signal.SIGKILL)
    # Dead but not reaped: a zombie runs no more, and its lease need not expire.
    os.waitid(os.P_PID, winner.pid, os.WEXITED | os.WNOWAIT)
    assert leases.acquire(RUN, "parent", ttl=LONG).token == 2
    end(winner)
    end(loser)


def test_only_a_process_of_this_place_can_be_called_gone() -> None:
    here = Process.this()
    assert not here.surely_gone()
    assert Process.parse(str(here)) == here
    assert Process(here.place, here.pid, "another start").surely_gone()
    assert not Process("another host", here.pid, "another start").surely_gone()
    assert Process.parse("worker 1") is None
    assert Process.parse(None) is None

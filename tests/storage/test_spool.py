"""The spool: what it acknowledged is drained, in order, once; the rest is reported."""

from __future__ import annotations

import logging
import os
import pickle
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from athena_prefect.errors import LeaseLostError, RecordingError, StorageUnavailableError
from athena_prefect.journal.events import Event, RunEvent, RunEventKind
from athena_prefect.journal.journal import Entry, MemoryJournal, Recorded
from athena_prefect.storage.spool import Spool, SpoolingJournal
from tests.storage.facts import RUN, ended, new_run, started


class Flaky(MemoryJournal):
    """A journal that can be away."""

    def __init__(self) -> None:
        super().__init__()
        self.away = False
        self.asked = 0

    def append(self, *events: Event, token: int | None = None) -> tuple[Recorded, ...]:
        self.asked += 1
        if self.away:
            raise StorageUnavailableError("the database is away")
        return super().append(*events, token=token)

    def read(self, plan_run: UUID, after: int = 0) -> Sequence[Entry]:
        if self.away:
            raise StorageUnavailableError("the database is away")
        return super().read(plan_run, after)


@pytest.fixture
def primary() -> Flaky:
    return Flaky()


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "spool")


@pytest.fixture
def journal(primary: Flaky, spool: Spool) -> SpoolingJournal:
    return SpoolingJournal(primary, spool)


def lines(spool: Spool) -> list[Path]:
    return list((spool.folder / "pending").glob("*.jsonl"))


def test_nothing_touches_the_disk_while_the_database_is_there(
    journal: SpoolingJournal, spool: Spool
) -> None:
    assert journal.append(ended()) == (Recorded.STORED,)
    assert journal.append() == ()
    assert not spool.folder.exists()
    assert not journal.degraded
    assert journal.drain().events == 0


def test_what_was_written_while_it_was_away_is_drained_in_order(
    journal: SpoolingJournal, primary: Flaky, spool: Spool
) -> None:
    events: list[Event] = [started(), *(ended(f"t{i}") for i in range(5))]
    journal.append(events[0])
    primary.away = True
    assert journal.append(events[1]) == (Recorded.SPOOLED,)
    assert journal.append(*events[2:4]) == (Recorded.SPOOLED,) * 2
    assert journal.drain().left
    primary.away = False
    # Not into the database yet: what waits comes first.
    assert journal.append(events[4]) == (Recorded.SPOOLED,)
    drained = journal.drain()
    assert (drained.events, drained.gaps, drained.left) == (4, (), False)
    assert journal.append(events[5]) == (Recorded.STORED,)
    assert [e.event for e in journal.read(RUN)] == events
    assert lines(spool) == []


def test_an_outage_is_said_once(
    primary: Flaky, spool: Spool, caplog: pytest.LogCaptureFixture
) -> None:
    said: list[str] = []
    journal = SpoolingJournal(primary, spool, on_degraded=said.append)
    primary.away = True
    with caplog.at_level(logging.WARNING):
        for i in range(5):
            journal.append(ended(f"t{i}"))
            journal.drain()
    assert len(said) == 1 and str(spool.folder) in said[0]
    assert [r.levelname for r in caplog.records] == ["ERROR"]
    primary.away = False
    with caplog.at_level(logging.WARNING):
        journal.drain()
    assert "5 spooled events" in caplog.text


def test_hooks_do_not_all_wait_for_a_database_that_is_away(
    journal: SpoolingJournal, primary: Flaky, monkeypatch: pytest.MonkeyPatch
) -> None:
    primary.away = True
    monkeypatch.setattr("time.monotonic", lambda: 1e9)  # all within a moment, however busy it is
    for i in range(20):
        journal.append(ended(f"t{i}"))
    assert primary.asked == 1


def test_an_append_finds_the_database_back_by_itself(
    journal: SpoolingJournal, primary: Flaky, monkeypatch: pytest.MonkeyPatch
) -> None:
    primary.away = True
    journal.append(ended("a"))
    primary.away = False
    monkeypatch.setattr("time.monotonic", lambda: 1e9)
    assert journal.append(ended("b")) == (Recorded.STORED,)
    assert [e.event for e in journal.read(RUN)] == [ended("a"), ended("b")]


def test_a_read_has_what_this_machine_spooled_or_says_that_it_cannot(
    journal: SpoolingJournal, primary: Flaky
) -> None:
    primary.away = True
    journal.append(ended("a"))
    with pytest.raises(StorageUnavailableError):
        journal.read(RUN)
    primary.away = False
    assert [e.event for e in journal.read(RUN)] == [ended("a")]


def test_a_drain_that_is_interrupted_goes_on_where_it_was(
    journal: SpoolingJournal, primary: Flaky
) -> None:
    other = new_run()
    primary.away = True
    for i in range(6):
        # Alternating runs, so that each line is a transaction of its own.
        journal.append(ended(f"t{i}", run=(RUN, other)[i % 2]))
    primary.away = False
    real, calls = primary.append, []

    def three_times(*events: Event, token: int | None = None) -> tuple[Recorded, ...]:
        calls.append(events)
        if len(calls) == 4:
            raise StorageUnavailableError("away again")
        return real(*events, token=token)

    primary.append = three_times  # type: ignore[method-assign]
    assert journal.drain().left
    assert not journal.drain().left
    assert [len(primary.read(r)) for r in (RUN, other)] == [3, 3]


@given(st.integers(1, 80), st.booleans())
def test_a_torn_last_line_was_not_acknowledged_and_is_dropped(
    tmp_path_factory: pytest.TempPathFactory, cut: int, more: bool
) -> None:
    spool = Spool(tmp_path_factory.mktemp("spool"))
    spool.append(ended("whole"))
    spool.append(ended("torn"))
    (file,) = lines(spool)
    file.write_bytes(file.read_bytes()[:-cut])
    if more:
        spool.append(ended("later"))
    journal = SpoolingJournal(MemoryJournal(), spool)
    assert journal.drain().gaps == ()
    expected = [ended("whole")] + [ended("later")] * more
    assert [e.event for e in journal.read(RUN)] == expected
    assert not spool.pending


def test_a_damaged_line_is_kept_aside_and_reported_as_a_gap(primary: Flaky, spool: Spool) -> None:
    for task in "abc":
        spool.append(ended(task))
    (file,) = lines(spool)
    file.write_bytes(file.read_bytes().replace(b'"task_id":"b"', b'"task_id":"x"'))
    said: list[str] = []
    journal = SpoolingJournal(primary, spool, on_degraded=said.append)
    drained = journal.drain()
    assert drained.events == 2
    assert len(drained.gaps) == 1 and drained.gaps[0] in said
    first, gap, last = (e.event for e in journal.read(RUN))
    assert [first, last] == [ended("a"), ended("c")]
    assert isinstance(gap, RunEvent) and gap.kind is RunEventKind.GAP
    (kept,) = (spool.folder / "aside").iterdir()
    assert b'"task_id":"x"' in kept.read_bytes()


def test_a_line_without_a_readable_run_is_a_gap_too(primary: Flaky, spool: Spool) -> None:
    spool.append(ended("a"))
    (file,) = lines(spool)
    file.write_bytes(b"\xff\xfe nothing of ours\n" + file.read_bytes())
    drained = SpoolingJournal(primary, spool).drain()
    assert (drained.events, len(drained.gaps), drained.left) == (1, 1, False)


def test_what_another_version_wrote_is_no_less_a_gap(primary: Flaky, spool: Spool) -> None:
    import zlib

    spool.append(ended("a"))
    (file,) = lines(spool)
    payload = file.read_bytes().partition(b" ")[2].rstrip(b"\n").replace(b'"ended"', b'"ascended"')
    file.write_bytes(b"%08x %s\n" % (zlib.crc32(payload), payload))
    assert len(SpoolingJournal(primary, spool).drain().gaps) == 1


def test_events_of_a_dispatcher_that_was_fenced_off_do_not_count(
    primary: Flaky, journal: SpoolingJournal
) -> None:
    primary.away = True
    primary.fence(RUN, 1)
    journal.append(ended("mine"), token=1)
    journal.append(ended("anybody's"))
    primary.fence(RUN, 2)
    primary.away = False
    drained = journal.drain()
    assert len(drained.gaps) == 1 and "fenced off" in drained.gaps[0]
    kinds = [e.event for e in journal.read(RUN)]
    assert ended("anybody's") in kinds and ended("mine") not in kinds
    with pytest.raises(LeaseLostError):
        journal.append(ended("mine"), token=1)


def test_data_that_the_database_would_refuse_is_refused_at_once(spool: Spool) -> None:
    with pytest.raises(RecordingError):
        spool.append(ended(data={"used": {1, 2}}))
    assert not spool.pending


def test_where_neither_takes_them_the_caller_hears_it(primary: Flaky, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    primary.away = True
    with pytest.raises(StorageUnavailableError, match="neither stored nor spooled"):
        SpoolingJournal(primary, Spool(blocked)).append(ended())


@pytest.mark.parametrize("durable", ["process", "power"])
def test_all_processes_of_a_machine_spool_in_one_order(tmp_path: Path, durable: str) -> None:
    folder = tmp_path / "spool"
    code = (
        "import sys\n"
        "from athena_prefect.storage.spool import Spool\n"
        "from tests.storage.facts import ended\n"
        f"spool = Spool({str(folder)!r}, durable={durable!r})\n"
        "for i in range(20): spool.append(ended(f'{sys.argv[1]}-{i}'))\n"
    )
    children = [
        subprocess.Popen([sys.executable, "-c", code, name], env={**os.environ, "PYTHONPATH": "."})
        for name in "abc"
    ]
    assert [child.wait() for child in children] == [0, 0, 0]
    journal = SpoolingJournal(MemoryJournal(), Spool(folder))
    assert journal.drain().events == 60
    names = [getattr(e.event, "task_id", "") for e in journal.read(RUN)]
    for name in "abc":
        assert [n for n in names if n.startswith(name)] == [f"{name}-{i}" for i in range(20)]


def test_only_one_drains_at_a_time(spool: Spool) -> None:
    spool.append(ended("a"))
    inner = []

    def write(events: tuple[Event, ...], token: int | None) -> None:
        inner.append(Spool(spool.folder).drain(write))

    assert not spool.drain(write).left
    assert [d.left for d in inner] == [True]


def test_what_arrives_during_a_drain_is_drained_or_left_but_never_lost(spool: Spool) -> None:
    written: list[str] = []

    def write(events: tuple[Event, ...], token: int | None) -> None:
        written.extend(getattr(e, "task_id", "") for e in events)
        if len(written) < 3:
            spool.append(ended(f"late-{len(written)}"))

    spool.append(ended("a"))
    assert spool.drain(write).events == 3
    assert written == ["a", "late-1", "late-2"]


def test_a_spool_may_be_pickled(spool: Spool) -> None:
    spool.append(ended("a"))
    copy = pickle.loads(pickle.dumps(spool))
    assert (copy.folder, copy.durable, copy.pending) == (spool.folder, "process", True)

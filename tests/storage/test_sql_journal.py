"""Laws of the journal, on both databases, with the one in memory as the oracle."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Sequence
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from athena_prefect.errors import LeaseLostError, RecordingError
from athena_prefect.journal.events import Event
from athena_prefect.journal.journal import MemoryJournal, Recorded
from athena_prefect.storage.append import Append, Outcome
from athena_prefect.storage.db import Database
from athena_prefect.storage.group_commit import writer_of
from athena_prefect.storage.recall import recall_of
from athena_prefect.storage.sql_journal import SqlJournal
from tests.storage.facts import NOW, RUN, ended, new_run, started


@pytest.fixture
def journal(database: Database) -> SqlJournal:
    return SqlJournal(database)


def test_what_is_written_is_read_back_equal(journal: SqlJournal) -> None:
    events: list[Event] = [started(), ended(data={"used": {"cpu": 1.5}}), ended("b")]
    assert journal.append(*events) == (Recorded.STORED,) * 3
    assert [e.event for e in journal.read(RUN)] == events
    assert [e.position for e in journal.read(RUN)] == [1, 2, 3]
    assert journal.last_position(RUN) == 3
    assert [e.event for e in journal.tail(RUN, 2)] == events[2:]


def test_nothing_is_known_of_a_run_that_wrote_nothing(journal: SqlJournal) -> None:
    assert journal.read(RUN) == ()
    assert journal.last_position(RUN) == 0
    assert journal.append() == ()


def test_a_fact_is_written_once_and_a_contradiction_kept(journal: SqlJournal) -> None:
    assert journal.append(ended()) == (Recorded.STORED,)
    assert journal.append(ended()) == (Recorded.KNOWN,)
    assert journal.append(ended(state="Cached")) == (Recorded.CONFLICT,)
    assert journal.append(ended(state="Cached")) == (Recorded.KNOWN,)
    assert [e.conflict for e in journal.read(RUN)] == [False, True]
    assert journal.last_position(RUN) == 2


steps = st.lists(
    st.lists(
        st.builds(
            lambda task, state, second: ended(task, state=state, after=second),
            st.sampled_from("abc"),
            st.sampled_from(["Completed", "Cached"]),
            st.integers(0, 1),
        ),
        min_size=1,
        max_size=4,
    ),
    max_size=6,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
@given(steps)
def test_it_does_what_the_one_in_memory_does(
    journal: SqlJournal, appends: list[list[Event]]
) -> None:
    run, oracle = new_run(), MemoryJournal()
    for events in appends:
        own = [_of(run, e) for e in events]
        assert journal.append(*own) == oracle.append(*own)
    assert list(journal.read(run)) == list(oracle.read(run))


def test_what_is_remembered_is_what_is_stored(
    journal: SqlJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal.append(started(), ended(data={"used": {"cpu": 1.5}}), ended(state="Cached"))
    remembered = journal.read(RUN)
    recall_of(journal.database).close()
    decoded = journal.read(RUN)
    assert decoded == remembered
    assert [e.conflict for e in decoded] == [False, False, True]

    def refuse(*_: object) -> None:
        raise AssertionError("decoded again")

    monkeypatch.setattr("athena_prefect.storage.sql_journal.to_entry", refuse)
    with pytest.raises(AssertionError, match="decoded again"):
        journal.read(RUN)  # what contradicts is never remembered
    assert [e.event for e in journal.read(new_run())] == []


def test_memory_is_bounded_and_forgets_the_oldest(
    journal: SqlJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("athena_prefect.storage.recall.MOST", 4)
    events = [ended(f"t{i}") for i in range(7)]
    for event in events:
        journal.append(event)
    recall = recall_of(journal.database)
    kept = [e for e in events if recall.event(RUN, e.key) is not None]
    assert len(kept) <= 4
    assert kept[-1] == events[-1]
    assert [e.event for e in journal.read(RUN)] == events


def _of(run: UUID, event: Event) -> Event:
    from dataclasses import replace

    return replace(event, plan_run=run)


def test_one_append_is_of_one_run(journal: SqlJournal) -> None:
    with pytest.raises(RecordingError, match="one plan run"):
        journal.append(ended(), ended(run=new_run()))
    assert journal.read(RUN) == ()


@pytest.mark.parametrize("bad", [float("nan"), {1, 2}, NOW])
def test_data_that_is_no_json_is_refused_and_nothing_is_written(
    journal: SqlJournal, bad: object
) -> None:
    with pytest.raises(RecordingError, match="plain data"):
        journal.append(ended("a"), ended("b", data={"used": bad}))
    assert journal.read(RUN) == ()


def test_text_that_a_database_refuses_is_made_printable(journal: SqlJournal) -> None:
    journal.append(ended(data={"error": "a\0b \udcff c \U0001f600", "n": {"\0": ["\0"]}}))
    (entry,) = journal.read(RUN)
    assert entry.event.data == {"error": "a�b � c \U0001f600", "n": {"�": ["�"]}}


def test_a_key_that_cannot_be_indexed_is_refused(journal: SqlJournal) -> None:
    with pytest.raises(RecordingError, match="key"):
        journal.append(ended(source="x" * 5000))


def test_a_token_that_is_not_the_newest_writes_nothing(journal: SqlJournal) -> None:
    with pytest.raises(LeaseLostError) as caught:
        journal.append(ended(), token=7)
    assert pickle.loads(pickle.dumps(caught.value)).token == 7
    assert journal.read(RUN) == ()


@pytest.mark.parametrize("runs", [1, 5])
def test_positions_have_no_gaps_whoever_writes(journal: SqlJournal, runs: int) -> None:
    ids = [new_run() for _ in range(runs)]

    def work(worker: int) -> None:
        for i in range(12):
            run = ids[(worker + i) % runs]
            # Each fact is reported by two workers: one of them finds it known.
            journal.append(ended(f"t{worker // 2}-{i}", run=ids[i % runs]))
            journal.append(ended(f"own{worker}-{i}", run=run))

    threads = [threading.Thread(target=work, args=(w,)) for w in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    entries = [journal.read(run) for run in ids]
    for run, of_run in zip(ids, entries, strict=True):
        assert [e.position for e in of_run] == list(range(1, len(of_run) + 1))
        assert journal.last_position(run) == len(of_run)
    assert sum(map(len, entries)) == 8 * 12 + 4 * 12


def test_a_pickled_journal_writes_to_the_same_database(journal: SqlJournal) -> None:
    journal.append(ended("a"))
    copy = pickle.loads(pickle.dumps(journal))
    copy.append(ended("b"))
    assert journal.last_position(RUN) == 2
    again = pickle.loads(pickle.dumps(journal))
    assert again.database is copy.database, "one set of connections a process"
    copy.database.close()


def test_an_interrupted_writer_leaves_the_others_appends_to_the_next(
    journal: SqlJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal.append(started())
    writer = writer_of(journal.database)
    real = writer._appender.write
    entered, release = threading.Event(), threading.Event()

    def interrupted(appends: Sequence[Append]) -> list[Outcome]:
        entered.set()
        release.wait()
        real(appends)  # committed, but nobody was told
        raise KeyboardInterrupt

    monkeypatch.setattr(writer._appender, "write", interrupted)
    raised: list[BaseException] = []

    def leader() -> None:
        try:
            journal.append(ended("leader"))
        except KeyboardInterrupt as error:
            raised.append(error)

    thread = threading.Thread(target=leader)
    thread.start()
    entered.wait()
    monkeypatch.setattr(writer._appender, "write", real)
    release.set()
    assert journal.append(ended("follower")) == (Recorded.STORED,)
    thread.join()
    assert len(raised) == 1
    names = [getattr(e.event, "task_id", "") for e in journal.read(RUN)]
    assert sorted(names) == ["", "follower", "leader"]

"""A number means the option that was shown under it, whatever is solved later."""

from __future__ import annotations

import threading
from datetime import timedelta
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from athena_prefect.errors import InputError, StaleOptionError
from athena_prefect.journal.events import (
    Command,
    CommandAnswer,
    RunEvent,
    RunEventKind,
    TaskEvent,
    TaskEventKind,
)
from athena_prefect.journal.state import fold_entries
from athena_prefect.plan.model import Plan
from athena_prefect.replanning.account import told
from athena_prefect.replanning.evaluation import AdaptiveReplanning
from athena_prefect.replanning.wishes import newest_list, wish_from
from athena_prefect.service.by_hand import author
from athena_prefect.service.following import utc_now
from athena_prefect.service.reading import open_run
from athena_prefect.service.replanning import engine_for
from athena_prefect.service.showing import choose, look
from athena_prefect.settings import AthenaSettings
from athena_prefect.storage.db import Database
from athena_prefect.storage.lease import Leases
from athena_prefect.storage.sql_journal import SqlJournal
from tests.service.levers import LEVERS
from tests.service.standin import StandIn


@pytest.fixture
def run(settings: AthenaSettings, tmp_path: Path) -> UUID:
    """A run whose first task has ended."""
    file = tmp_path / "levers.yaml"
    file.write_text(LEVERS)
    plan_run = uuid4()
    StandIn(stops_after=1)(Plan.load(file), settings=settings, plan_run=plan_run, parameters={})
    return plan_run


def journal(settings: AthenaSettings) -> SqlJournal:
    return SqlJournal(Database.open(settings))


def chosen(run: UUID, number: int, settings: AthenaSettings, refusal: str = "") -> Command:
    """What the run's process is asked when somebody chooses; it accepts, or says `refusal`."""
    leases = Leases(Database.open(settings))
    lease = leases.acquire(run, "a test", ttl=timedelta(minutes=5))
    asked: list[Command] = []
    over = threading.Event()

    def process() -> None:
        book = journal(settings)
        while not over.wait(0.02):
            for command in fold_entries(book.read(run)).commands.values():
                asked.append(command)
                book.append(
                    CommandAnswer(
                        plan_run=run, command_id=command.command_id, at=utc_now(),
                        accepted=not refusal, message=refusal,
                    )
                )  # fmt: skip

    thread = threading.Thread(target=process)
    thread.start()
    try:
        choose(str(run), number, settings=settings)
    finally:
        over.set()
        thread.join()
        leases.release(lease)
    return asked[-1]


def test_a_number_means_the_option_of_the_list_that_was_looked_at(
    settings: AthenaSettings, run: UUID
) -> None:
    found = look(str(run), settings=settings, strategy="full")
    number, option = next((o.option_id, o) for o in found.options if len(o.changes) == 1)
    # The list that would be solved now is another one.
    journal(settings).append(
        TaskEvent(
            plan_run=run, task_id="clean", kind=TaskEventKind.STARTED, at=utc_now(), source="c"
        )
    )
    wish = wish_from(chosen(run, number, settings).data)
    assert wish.changes == option.changes and wish.title == option.title
    assert wish.strategy == "full" and wish.revision == 1
    assert wish.means(option) and wish.levers


def test_without_a_list_a_number_means_nothing_and_the_options_are_shown(
    settings: AthenaSettings, run: UUID
) -> None:
    with pytest.raises(StaleOptionError, match="have been looked at, so 0 is none") as error:
        choose(str(run), 0, settings=settings)
    assert error.value.exit_code == 2
    assert error.value.as_dict()["options"][-1]["title"] == "Abort and escalate"
    # What the error has shown is looked at by that.
    assert wish_from(chosen(run, 0, settings).data).title == error.value.options[0]["title"]
    with pytest.raises(InputError, match="there is no option 77; there are 0: "):
        choose(str(run), 77, settings=settings)


def test_what_was_shown_for_an_earlier_revision_is_refused_with_the_new_options(
    settings: AthenaSettings, run: UUID
) -> None:
    look(str(run), settings=settings)
    journal(settings).append(
        RunEvent(plan_run=run, kind=RunEventKind.REVISED, at=utc_now(), source="2",
                 data={"revision": 2, "by_hand": True})
    )  # fmt: skip
    with pytest.raises(StaleOptionError) as error:
        choose(str(run), 0, settings=settings)
    said = str(error.value)
    assert "revision 2 of run" in said and "was shown for revision 1; nothing is adopted" in said
    assert "There are now: 0: " in said


def test_what_the_run_refuses_comes_with_the_new_options(
    settings: AthenaSettings, run: UUID
) -> None:
    look(str(run), settings=settings)
    with pytest.raises(StaleOptionError, match="refused: it has begun; nothing is adopted"):
        chosen(run, 0, settings, refusal="it has begun")


def test_a_list_of_another_person_is_not_meant(settings: AthenaSettings, run: UUID) -> None:
    look(str(run), settings=settings, strategy="full")
    entries = journal(settings).read(run)
    assert newest_list(entries, author()) is not None
    assert newest_list(entries, "somebody else") is None
    assert newest_list(entries, author(), strategy="local") is None
    data = {"strategy": "segment", "options": [{"option_id": 0, "title": "x"}]}
    proposed = RunEvent(
        plan_run=run, kind=RunEventKind.PROPOSED, at=utc_now(), source="p", data=data
    )
    journal(settings).append(proposed)
    entries = journal(settings).read(run)
    theirs = newest_list(entries, "somebody else")
    assert theirs is not None and theirs.wish(0).title == "x"
    mine = newest_list(entries, author())
    assert mine is not None and mine.strategy == "full", "what one has looked at oneself"


def test_an_option_is_found_again_by_its_levers_alone(settings: AthenaSettings, run: UUID) -> None:
    """Where the set that is solved later no longer has it, exactly what it changes is solved."""
    monitor = open_run(str(run), settings=settings)._monitored()
    assert monitor is not None
    engine, now = engine_for(monitor), utc_now()
    deviation = monitor.get_plan_deviation(now=now)
    full = AdaptiveReplanning.FULL
    options = engine.get_replanning_options(deviation, [], now=now, strategy=full)
    real = [told(o) for o in options if o.changes]
    assert real
    for shown in real:
        # A strategy within which it is not made: only its levers are left to find it by.
        wish = wish_from({**shown, "strategy": "abort"})
        engine.get_replanning_options = lambda *_, **__: []  # type: ignore[method-assign]
        found = engine.option_like(wish, deviation, [], now=now)
        assert found is not None and list(found.changes) == shown["changes"]
    gone = wish_from({**real[0], "levers": {"droppable": ["put"]}})
    assert engine.option_like(gone, deviation, [], now=now) is None, "put may not be left out"

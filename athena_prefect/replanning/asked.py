"""What people were asked about the rest of a run, and what they said, by the run's journal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from athena_prefect.journal.events import Reporter, RunEvent, RunEventKind
from athena_prefect.journal.journal import Entry
from athena_prefect.replanning.wishes import Wish, wish_from

SETTLING = (RunEventKind.REVISED, RunEventKind.NOT_REPLANNED, RunEventKind.ENDED)
"""Events after which nothing is asked any more."""
NOBODY = "unanswered"
"""Author of what the plan says for the case that nobody answers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """The answer that counts: the first."""

    wish: Wish | None
    """None to carry on."""
    author: str
    unanswered: bool = False
    at: datetime | None = field(default=None, compare=False)
    """When it was given, where the journal says so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One that was asked by a form, in a flow run that waits for its answer."""

    key: str
    position: int
    """Of the journal."""
    flow_run: UUID
    until: datetime
    data: Mapping[str, Any]
    """Strategy, options and what is recommended, as it was asked."""
    answer: Answered | None = None
    settled: bool = False
    """Whether something has come of it, or the run went another way."""
    outdated: bool = False
    """Whether the run itself has proposed something newer since."""

    @property
    def strategy(self) -> str:
        """What its options stay within."""
        return str(self.data.get("strategy") or "")

    @property
    def again(self) -> bool:
        """Whether it is asked a second time, because the first answer came too late."""
        return bool(self.data.get("again"))

    def default(self, unanswered: str) -> Answered:
        """What is done where nobody answers, as the plan says."""
        best = self.data.get("recommended")
        told = next((o for o in self.data["options"] if o["option_id"] == best), None)
        if unanswered != "recommended" or told is None or told.get("kind") == "abort":
            return Answered(wish=None, author=NOBODY, unanswered=True)
        return Answered(
            wish=wish_from({**told, "strategy": self.strategy}), author=NOBODY, unanswered=True
        )


def newest_question(entries: Iterable[Entry]) -> Question | None:
    """The question that was asked last, with what became of it."""
    found: dict[str, Any] | None = None
    for entry in entries:
        event = entry.event
        if not isinstance(event, RunEvent) or entry.conflict:
            continue
        if event.kind is RunEventKind.ASKED:
            found = {
                "key": event.source,
                "position": entry.position,
                "flow_run": UUID(str(event.data["flow_run"])),
                "until": datetime.fromisoformat(str(event.data["until"])),
                "data": event.data,
            }
        elif found is None:
            continue
        elif event.kind in SETTLING:
            found["settled"] = True
        elif event.kind is RunEventKind.PROPOSED and event.data.get("handed_over"):
            found["outdated"] = True
        elif event.kind is RunEventKind.ANSWERED and event.data.get("question") == found["key"]:
            found.setdefault("answer", _answer(event))
    return None if found is None else Question(**found)


def open_question(entries: Iterable[Entry]) -> Question | None:
    """The question that nothing has come of yet."""
    found = newest_question(entries)
    return None if found is None or found.settled else found


def proposed(entries: Iterable[Entry], revision: int) -> Mapping[str, Any] | None:
    """The options that the run itself has proposed last, for a revision; None without any."""
    found: Mapping[str, Any] | None = None
    for entry in entries:
        event = entry.event
        if not isinstance(event, RunEvent) or entry.conflict:
            continue
        if event.kind in SETTLING:
            found = None
        elif event.kind is RunEventKind.PROPOSED and event.data.get("options"):
            found = event.data if int(event.data.get("revision", revision)) == revision else None
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnQuestion:
    """One that the run's own process asks, for no flow came in time to do so."""

    key: str
    """Of the proposal; empty where an older version wrote it."""
    again: bool
    """Whether it is asked a second time, because the first answer came too late."""
    at: datetime
    position: int
    """Of the journal."""
    data: Mapping[str, Any]
    """Strategy, reason, options and what is recommended, as it was asked."""

    @classmethod
    def of(cls, entry: Entry, event: RunEvent) -> OwnQuestion:
        """The question in a proposal."""
        data = event.data
        return cls(
            key=str(data.get("key") or ""), again=bool(data.get("again")), at=event.at,
            position=entry.position, data=data,
        )  # fmt: skip


def own_question(entries: Iterable[Entry]) -> OwnQuestion | None:
    """What the run's own process asks people, and nothing has come of yet; None of nothing."""
    found: OwnQuestion | None = None
    for entry in entries:
        event = entry.event
        if not isinstance(event, RunEvent) or entry.conflict:
            continue
        if event.kind is RunEventKind.ASKED or event.kind in SETTLING:
            found = None
        elif event.kind is RunEventKind.PROPOSED:  # without options it only escalates
            data = event.data
            asks = data.get("decide") == "ask" and bool(data.get("options"))
            asks = asks and not data.get("handed_over")
            found = OwnQuestion.of(entry, event) if asks else None
    return found


def asked_by_its_process(entries: Iterable[Entry]) -> bool:
    """Whether the run's own process asks people, for no flow came in time to do so."""
    return own_question(entries) is not None


def declined(entries: Iterable[Entry]) -> frozenset[str]:
    """The grounds (see `grounds_of`) on which people have said that nothing is to be changed.

    Also where nobody answered and the plan says to carry on. Whoever takes the run up knows
    by that what is not asked a second time. What the run itself proposes anew is open until
    that is settled, and everything is when somebody goes on with a run that had ended.
    """
    found: set[str] = set()
    asked: set[str] = set()
    unanswered = False
    for entry in entries:
        event = entry.event
        if not isinstance(event, RunEvent) or entry.conflict:
            continue
        data = event.data
        if event.kind is RunEventKind.PROPOSED:
            asks = data.get("decide") == "ask" and bool(data.get("options"))
            asked = about(data) if asks else asked
        elif event.kind is RunEventKind.ASKED:
            asked |= about(data)
            unanswered = True
        elif event.kind is RunEventKind.ANSWERED:
            unanswered = False
        elif event.kind in SETTLING:
            if event.kind is RunEventKind.ENDED:
                found.clear()
            elif data.get("outcome") == "declined" and not unanswered:
                found |= asked | about(data)
            asked, unanswered = set(), False
    return frozenset(found - asked)


def about(data: Mapping[str, Any]) -> set[str]:
    """The grounds of a proposal, a question or an answer."""
    return set(data.get("about") or ())


def _answer(event: RunEvent) -> Answered:
    data = event.data
    wish = data.get("wish")
    return Answered(
        wish=None if wish is None else wish_from(wish),
        author=str(data.get("author") or ""),
        unanswered=bool(data.get("unanswered")),
        at=event.at,
    )


def answered_event(
    plan_run: UUID, question: Question, answer: Answered, *, at: datetime
) -> RunEvent:
    """The answer to a question; of several that are written the first counts."""
    wish = answer.wish
    return RunEvent(
        plan_run=plan_run,
        kind=RunEventKind.ANSWERED,
        at=at,
        source=f"answer to {question.key}",
        reported_by=Reporter.CALLER,
        data={
            "question": question.key,
            "wish": None if wish is None else wish.as_data(),
            "option": "carry on" if wish is None else wish.title,
            "changes": [] if wish is None else list(wish.changes or ()),
            "strategy": question.strategy,
            "author": answer.author,
            "unanswered": answer.unanswered,
        },
    )

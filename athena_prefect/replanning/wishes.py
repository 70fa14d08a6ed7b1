"""What a person has chosen of the options that were shown, and the sets that were shown.

A number means what its list said when it was looked at. The run moves on and the list is
solved again, so an option is kept by what it changes, and found again by that.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from athena_prefect.errors import InputError
from athena_prefect.journal.events import RunEvent, RunEventKind
from athena_prefect.journal.journal import Entry
from athena_prefect.replanning.options import Kind, ReplanningOption
from athena_prefect.schedule.standing import Levers

LISTS = (RunEventKind.SHOWN, RunEventKind.PROPOSED, RunEventKind.ASKED)
"""Events that keep a numbered list of options."""


def levers_data(levers: Levers) -> dict[str, Any]:
    """Levers as JSON-able data."""
    return {
        "modes": {t: list(m) for t, m in levers.modes.items()},
        "droppable": sorted(levers.droppable),
        "soft": sorted([a, b] for a, b in levers.soft),
        "capacity": dict(levers.capacity),
        "timeouts": dict(levers.timeouts),
        "relaxed": sorted(levers.relaxed),
    }


def levers_from(data: Mapping[str, Any]) -> Levers:
    """The levers that `levers_data` wrote down."""
    return Levers(
        modes={t: tuple(m) for t, m in (data.get("modes") or {}).items()},
        droppable=frozenset(data.get("droppable") or ()),
        soft=frozenset((a, b) for a, b in data.get("soft") or ()),
        capacity={n: float(c) for n, c in (data.get("capacity") or {}).items()},
        timeouts={t: float(s) for t, s in (data.get("timeouts") or {}).items()},
        relaxed=frozenset(data.get("relaxed") or ()),
    )


def pulled(option: ReplanningOption) -> Levers:
    """The levers that an option pulls, and no others."""
    proposal = option.proposal
    if proposal is None:
        return Levers()
    standing, schedule = proposal.standing, proposal.answer.schedule
    if schedule is None:
        return Levers()
    chosen = zip(schedule.problem.task_ids, schedule.problem.modes, strict=True)
    left = {*proposal.answer.dropped, *standing.only_mode}
    modes = {t: (m,) for t, m in chosen if t not in left and m != standing.mode_of(t)}
    return Levers(
        modes=modes,
        droppable=frozenset(proposal.answer.dropped),
        soft=proposal.cut,
        capacity=proposal.levers.capacity,
        timeouts=proposal.levers.timeouts,
        relaxed=proposal.levers.relaxed,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """An option as somebody saw it."""

    title: str
    strategy: str
    """What it stays within."""
    changes: tuple[str, ...] | None
    """In words; None where only the title is known."""
    levers: Levers
    """Those that it pulls."""
    revision: int | None = None
    """In force when it was shown."""
    option_id: int | None = None
    abort: bool = False
    """Whether it is the one that stops the work."""

    def means(self, option: ReplanningOption) -> bool:
        """Whether it is this option, whatever its number is by now."""
        if self.changes is None:
            return option.title == self.title
        if self.abort or option.kind is Kind.ABORT:
            return self.abort and option.kind is Kind.ABORT
        return set(option.changes) == set(self.changes)

    @property
    def only_promises(self) -> bool:
        """Whether it changes no task and no capacity; False where only its title is known."""
        return not self.abort and self.changes == ()

    @property
    def words(self) -> str:
        """What it is, for people."""
        what = "; ".join(self.changes or ())
        return f"{self.title!r} ({what})" if what else repr(self.title)

    def as_data(self) -> dict[str, Any]:
        """As JSON-able data, which `wish_from` reads."""
        return {
            "title": self.title,
            "strategy": self.strategy,
            "changes": None if self.changes is None else list(self.changes),
            "levers": levers_data(self.levers),
            "revision": self.revision,
            "option_id": self.option_id,
            "kind": str(Kind.ABORT) if self.abort else "",
        }


def wish_from(data: Mapping[str, Any]) -> Wish:
    """The wish in a command's or an answer's data."""
    changes = data.get("changes")
    return Wish(
        title=str(data.get("title") or ""),
        strategy=str(data.get("strategy") or ""),
        changes=None if changes is None else tuple(changes),
        levers=levers_from(data.get("levers") or {}),
        revision=None if data.get("revision") is None else int(data["revision"]),
        option_id=None if data.get("option_id") is None else int(data["option_id"]),
        abort=data.get("kind") == str(Kind.ABORT),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A numbered list of options, as it was looked at."""

    options: Sequence[Mapping[str, Any]]
    strategy: str
    revision: int
    position: int
    """Of the journal."""

    def wish(self, number: int) -> Wish:
        """The option of that number. Raises InputError where the list has none."""
        for told in self.options:
            if told["option_id"] == number:
                return wish_from({**told, "strategy": self.strategy, "revision": self.revision})
        there = ", ".join(f"{o['option_id']}: {o['title']}" for o in self.options) or "none"
        raise InputError(f"there is no option {number}; there are {there}", field="option_id")


def newest_list(entries: Iterable[Entry], by: str, *, strategy: str | None = None) -> Shown | None:
    """The list that a number means to `by`: the newest that they looked at, else the newest
    that the run itself proposed; None where there is none. Of that strategy, where one is given.
    """
    own: Shown | None = None
    proposed: Shown | None = None
    revision = 1
    for entry in entries:
        event = entry.event
        if not isinstance(event, RunEvent) or entry.conflict:
            continue
        if event.kind is RunEventKind.REVISED:
            revision = int(event.data["revision"])
        if event.kind not in LISTS or not event.data.get("options"):
            continue
        if strategy is not None and event.data.get("strategy") != strategy:
            continue
        found = Shown(
            options=event.data["options"],
            strategy=str(event.data.get("strategy") or ""),
            revision=int(event.data.get("revision", revision)),
            position=entry.position,
        )
        if event.kind is not RunEventKind.SHOWN:
            proposed = found
        elif event.data.get("by") == by:
            own = found
    if own is not None and proposed is not None and own.revision < proposed.revision:
        return proposed
    return own or proposed

"""Options in words: kinds, titles, descriptions, lists of names, spans of time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta

from athena_prefect.plan.model import DEFAULT_MODE
from athena_prefect.plan.revision import Change, ChangeKind
from athena_prefect.replanning.options import Kind
from athena_prefect.schedule.passes import TOLERANCE
from athena_prefect.schedule.proposal import Proposal

_KINDS = {
    ChangeKind.DEPENDENCY: Kind.PARALLELIZE,
    ChangeKind.DROPPED: Kind.REDUCE_SCOPE,
    ChangeKind.CRITERIA: Kind.REDUCE_SCOPE,
    ChangeKind.CAPACITY: Kind.ADD_RESOURCES,
}


def kind_of(proposal: Proposal) -> Kind:
    """What a proposal does, by what it changes.

    A failed task is done again, and an assumption's effect has its mode, in every option:
    that says what one does only where it does nothing else.
    """
    chosen, forced = set[Kind](), set[Kind]()
    for change in proposal.changes:
        kind = _KINDS.get(change.kind) or _of_mode(proposal, change)
        if kind is not None:
            free = change.kind is not ChangeKind.AGAIN
            free &= change.subject not in proposal.standing.only_mode
            (chosen if free else forced).add(kind)
    kinds = chosen or forced
    if len(kinds) > 1:
        return Kind.COMBINE
    return next(iter(kinds), Kind.EXTEND)


def _of_mode(proposal: Proposal, change: Change) -> Kind | None:
    """What another mode does; None where the change is none of the mode."""
    standing, task_id = proposal.standing, change.subject
    before = standing.modes.get(task_id, DEFAULT_MODE)
    if change.kind not in (ChangeKind.MODE, ChangeKind.AGAIN) or change.after == before:
        return None
    task = standing.plan.get_task(task_id)
    had = task.mode(before).resources
    takes = task.mode(str(change.after)).resources
    more = any(amount > had.get(name, 0.0) for name, amount in takes.items())
    return Kind.ADD_RESOURCES if more else Kind.SUBSTITUTE


def title_of(kind: Kind, proposal: Proposal) -> str:
    """An option in a few words: what it changes."""
    if kind is Kind.EXTEND:
        limits = _number(proposal, ChangeKind.TIMEOUT)
        more = f" and {_count(limits, 'time-out')}" if limits else ""
        return f"Extend the timeline{more}"
    said = ", ".join([*_parts(proposal), *_again(proposal)])
    if kind in (Kind.ADD_RESOURCES, Kind.SUBSTITUTE):
        return said[:1].upper() + said[1:]
    return f"{str(kind).capitalize()}: {said}"


def _parts(proposal: Proposal) -> Iterator[str]:
    """What is changed, each sort once; in words that go on."""
    modes = [c for c in proposal.changes if c.kind is ChangeKind.MODE]
    wide = sum(_of_mode(proposal, c) is Kind.ADD_RESOURCES for c in modes)
    cut, relaxed = len(proposal.cut), len(proposal.levers.relaxed)
    if cut:
        yield f"cut {_count(cut, 'soft dependency', 'soft dependencies')}"
    if wide:
        yield f"add resources to {_count(wide, 'task')}"
    if len(modes) > wide:
        yield f"do {_count(len(modes) - wide, 'task')} in another way"
    if _number(proposal, ChangeKind.CAPACITY):
        yield "add capacity"
    if proposal.answer.dropped:
        yield f"leave out {_count(len(proposal.answer.dropped), 'task')}"
    if relaxed:
        yield f"relax the criteria of {_count(relaxed, 'task')}"


def _again(proposal: Proposal) -> Iterator[str]:
    """What is done again in another mode than it failed in."""
    for change in proposal.changes:
        if change.kind is ChangeKind.AGAIN and _of_mode(proposal, change) is not None:
            yield f"do {change.subject} again in mode {change.after}"


def _number(proposal: Proposal, kind: ChangeKind) -> int:
    return sum(c.kind is kind for c in proposal.changes)


def described(words: Sequence[str], impact: timedelta | None) -> str:
    """Its changes and what they do to the finish."""
    what = "; ".join(words) or "The rest is done as planned"
    if impact is None or abs(impact.total_seconds()) <= TOLERANCE:
        return what
    side = "earlier" if impact < timedelta(0) else "later"
    return f"{what}; P50 finish {in_words(abs(impact.total_seconds()))} {side}"


def _count(number: int, one: str, many: str = "") -> str:
    return f"{number} {one if number == 1 else many or one + 's'}"


def listed(names: Sequence[str], most: int = 5) -> str:
    """The first names, and how many more."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def in_words(seconds: float) -> str:
    """A span as a person writes it: whole seconds from ten on, below that hundredths."""
    from athena_prefect.plan.units import format_duration

    rounded = timedelta(seconds=round(seconds) if seconds >= 10 else round(seconds, 2))
    return format_duration(rounded)

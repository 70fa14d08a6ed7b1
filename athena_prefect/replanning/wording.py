"""Options in words: titles, descriptions, lists of names, spans of time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta

from athena_prefect.plan.revision import ChangeKind
from athena_prefect.replanning.options import Kind
from athena_prefect.schedule.passes import TOLERANCE
from athena_prefect.schedule.proposal import Proposal


def title_of(kind: Kind, proposal: Proposal) -> str:
    """An option in a few words."""
    cut, dropped = len(proposal.cut), len(proposal.answer.dropped)
    modes, limits = (
        sum(c.kind is kind for c in proposal.changes)
        for kind in (ChangeKind.MODE, ChangeKind.TIMEOUT)
    )
    titles: dict[Kind, Callable[[], str]] = {
        Kind.EXTEND: lambda: (
            f"Extend the timeline and {_count(limits, 'time-out')}"
            if limits
            else "Extend the timeline"
        ),
        Kind.PARALLELIZE: lambda: (
            f"Parallelize: cut {_count(cut, 'soft dependency', 'soft dependencies')}"
        ),
        Kind.ADD_RESOURCES: lambda: (
            f"Add resources to {_count(modes, 'task')}" if modes else "Add capacity"
        ),
        Kind.SUBSTITUTE: lambda: f"Do {_count(modes, 'task')} in another way",
        Kind.REDUCE_SCOPE: lambda: _scope_title(dropped, len(proposal.levers.relaxed)),
        Kind.COMBINE: lambda: f"Combine {_count(len(proposal.changes), 'change')}",
        Kind.ABORT: lambda: "Abort and escalate",
    }
    return titles[kind]()


def _scope_title(dropped: int, relaxed: int) -> str:
    left = [f"leave out {_count(dropped, 'task')}"] if dropped else []
    left += [f"relax the criteria of {_count(relaxed, 'task')}"] if relaxed else []
    return f"Reduce scope: {' and '.join(left)}"


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

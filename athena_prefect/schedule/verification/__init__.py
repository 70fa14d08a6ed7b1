"""Whether a revision can be carried out, proved by code that no solver uses.

It reads the revised plan's document, what has happened, and when each piece of work is to
run (`claim`). From these it reckons everything anew: it knows no network, no problem and no
profile, and imports nothing of `athena_prefect.schedule` but itself. What both it and the
solver know are the values of a plan's document (`Plan`, `PlanTask`, `Estimate` and a task in
one of its modes).

One file a subject: `structure` (references, circles, deadlocks), `places` (everything has
one, none in the past), `changes` (what a revision may change of the plan), `precedence` (and
lags, and who hands on units to whom), `durations` (and time-outs), `resources`, `modes`,
`goals` (and inputs, and what is blocked), `begun` (work that stays as it is), `deadlines`;
`findings` has what is said, and how.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from athena_prefect.schedule.verification.begun import finished
from athena_prefect.schedule.verification.changes import changed, pinned
from athena_prefect.schedule.verification.claim import MARGIN, RUNNER, Claim, Item, Span
from athena_prefect.schedule.verification.deadlines import late, overdue
from athena_prefect.schedule.verification.durations import durations, timeouts
from athena_prefect.schedule.verification.findings import Flaw, Objection, Verification
from athena_prefect.schedule.verification.goals import blocked, goals, inputs
from athena_prefect.schedule.verification.modes import modes
from athena_prefect.schedule.verification.places import past, unplanned
from athena_prefect.schedule.verification.precedence import handed_on, precedence
from athena_prefect.schedule.verification.reading import Reading
from athena_prefect.schedule.verification.resources import capacity
from athena_prefect.schedule.verification.structure import cycles, deadlock, references

__all__ = [
    "MARGIN",
    "RUNNER",
    "Claim",
    "Flaw",
    "Item",
    "Objection",
    "Span",
    "Verification",
    "verify",
]

Look = Callable[[Reading], Iterator[Objection]]

LOOKS: tuple[Look, ...] = (
    unplanned,
    changed,
    pinned,
    finished,
    goals,
    inputs,
    blocked,
    modes,
    past,
    durations,
    timeouts,
    precedence,
    handed_on,
    capacity,
    deadlock,
)
"""What is looked at where every task waits for tasks, and none in a circle."""


def verify(claim: Claim) -> Verification:
    """Everything that speaks against a revision."""
    reading = Reading(claim)
    found = [*references(reading)]
    if not found:
        found += cycles(reading)
    if not found:
        for look in LOOKS:
            found += look(reading)
    return Verification(
        objections=tuple(found), late=late(reading), overdue=tuple(overdue(reading))
    )

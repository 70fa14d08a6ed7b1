"""Changes that a choice makes, and choices without some of them: what is of no use goes back."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from athena_prefect.schedule.answer import Objective
from athena_prefect.schedule.generation import serial
from athena_prefect.schedule.incumbent import Incumbent
from athena_prefect.schedule.passes import TOLERANCE
from athena_prefect.schedule.rest import Choice, Rest
from athena_prefect.schedule.search import Found
from athena_prefect.schedule.worth import Value


def changes_of(rest: Rest, choice: Choice) -> list[Choice]:
    """Each single thing that a choice changes, what costs most quality or value first."""
    singles = [(0.0, Choice(cut=frozenset([arc]))) for arc in sorted(choice.cut)]
    singles += [(rest.droppable[t], Choice(dropped=frozenset([t]))) for t in sorted(choice.dropped)]
    singles += [
        (rest.ways[task][place].quality_lost, Choice(ways=frozenset([(task, place)])))
        for task, place in sorted(choice.ways)
    ]
    return [single for _, single in sorted(singles, key=lambda pair: -pair[0])]


def without(rest: Rest, choice: Choice, changes: Sequence[Choice]) -> Choice | None:
    """The choice with some of its changes taken back; None where others forbid it."""
    left = Choice(
        ways=choice.ways.difference(*(c.ways for c in changes)),
        dropped=choice.dropped.difference(*(c.dropped for c in changes)),
        cut=choice.cut.difference(*(c.cut for c in changes)),
    )
    for task in left.dropped:
        followers = rest.goes_with.get(task, ())
        if any(t in rest.droppable and t not in left.dropped for t in followers):
            return None
    return left


def take_back(
    changes: list[Choice], works: Callable[[Sequence[Choice]], bool], go_on: Callable[[], bool]
) -> None:
    """Try to take all changes back at once, else each half of them, and so on.

    Where little is of use it is found in few tries. `works` says whether it went well.
    """
    parts = [changes] if changes else []
    while parts and go_on():
        part = parts.pop()
        if not works(part) and len(part) > 1:
            half = len(part) // 2
            parts += [part[half:], part[:half]]


def settle(incumbent: Incumbent) -> None:
    """Take back what the best schedule changes, drops and cuts, where nothing is lost by it."""
    if incumbent.best is not None:
        most = incumbent.best.value
        step = 2 * incumbent.first_cost()
        take_back(
            changes_of(incumbent.rest, incumbent.best.choice),
            lambda part: _kept(incumbent, part, most),
            lambda: incumbent.budget.fits(step),
        )


def _kept(incumbent: Incumbent, part: Sequence[Choice], most: Value) -> bool:
    """Take changes back where the schedule is worth no less than `most`; whether it was."""
    best = incumbent.best
    assert best is not None, "there is something to take back"
    choice = without(incumbent.rest, best.choice, part)
    frame = None if choice is None else incumbent.frame(choice)
    if choice is None or frame is None:
        return False
    starts = np.array(serial(frame, frame.ranked(best.starts)))
    value = incumbent.value(choice)(starts)
    dearer = incumbent.objective is Objective.COST and value[1] > best.value[1] + 1e-9
    if value[0] > most[0] + TOLERANCE or dearer:
        return False
    incumbent.take(Found(starts=starts, choice=choice, value=value, source="taking back"))
    return True

"""Changes that a choice makes, and choices without some of them: what is of no use goes back."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from athena_prefect.schedule.rest import Choice, Rest


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

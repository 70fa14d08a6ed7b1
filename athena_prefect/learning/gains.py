"""What a change to the plan would have gained, measured by replaying runs with it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np

from athena_prefect.learning.blame import Blame
from athena_prefect.learning.bottlenecks import words
from athena_prefect.learning.past import Past
from athena_prefect.learning.replay import as_it_was, replayed
from athena_prefect.learning.results import Recommendation

WORTH = 0.01
"""Share of a run's length that a change must gain: less is not worth a change of the plan."""
REPLAYED = 20_000
"""Nodes that are replayed for all candidates together, the likeliest first: 10,000 take about a
tenth of a second. Of each kind of change the first candidate is replayed whatever it takes."""
MOST_NODES = 5_000
"""Nodes that are replayed for one candidate where there are several runs, the newest first."""
ROOM = 1e-9
"""Rounding of shares that are compared with a threshold: 0.1 is no exact binary number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gains:
    """What a change gained in each run that was replayed, in seconds."""

    seconds: tuple[float, ...]
    lengths: tuple[float, ...]

    @property
    def mean(self) -> float:
        return float(np.mean(self.seconds)) if self.seconds else 0.0

    @property
    def share(self) -> float:
        """Of the runs' length."""
        return sum(self.seconds) / sum(self.lengths) if sum(self.lengths) > 0 else 0.0

    @property
    def confidence(self) -> float | None:
        """P(it gains in the next run) by Jeffreys' prior; None where one run was replayed."""
        if len(self.seconds) < 2:
            return None
        helped = sum(s > WORTH * n for s, n in zip(self.seconds, self.lengths, strict=True))
        return (helped + 0.5) / (len(self.seconds) + 1.0)


class Budget:
    """Nodes that may still be replayed, and which kinds of changes had their first candidate."""

    def __init__(self) -> None:
        self.left = REPLAYED
        self._begun: set[tuple[str, str]] = set()

    def allows(self, kind: str, blames: Sequence[Blame]) -> bool:
        """Whether one candidate more of a kind is replayed."""
        first = (kind, blames[-1].past.run.plan_name if blames else "")
        if first not in self._begun:
            self._begun.add(first)
            return True
        return self.left >= (len(blames[-1].past.tasks) if blames else 0)


def gains_of(
    blames: Sequence[Blame],
    budget: Budget,
    *,
    without: Sequence[tuple[str, str]] = (),
    capacities: Mapping[str, float] | None = None,
    demands: Mapping[str, Mapping[str, float]] | None = None,
    change: Callable[[Past], Mapping[str, Any]] = lambda _: {},
) -> Gains | None:
    """What a change gains in each run, the newest first until enough were replayed.

    `change`: by run what else `replayed` is told.
    """
    seconds: list[float] = []
    lengths: list[float] = []
    nodes = 0
    for one in reversed(blames):
        run = one.past
        if not run.names or (nodes and len(run.tasks) > min(budget.left, MOST_NODES - nodes)):
            continue
        nodes += len(run.tasks)
        budget.left -= len(run.tasks)
        changed = None
        if demands is not None:
            changed = run.demands.copy()
            for task, amounts in demands.items():
                for name, amount in amounts.items():
                    changed[list(run.nodes_of.get(task, ())), run.names.index(name)] = amount
        new = replayed(run, without=without, capacities=capacities, demands=changed, **change(run))
        seconds.append(as_it_was(run) - new)
        lengths.append(run.makespan)
    return Gains(seconds=tuple(seconds), lengths=tuple(lengths)) if seconds else None


def measured(
    name: str,
    area: str,
    suggestion: str,
    rationale: str,
    gains: Gains,
    *,
    effort: str,
    tasks: tuple[str, ...] = (),
    patch: Mapping[str, Any] | None = None,
    data: Mapping[str, Any] | None = None,
) -> Recommendation:
    """The recommendation of a change whose gains were measured, or could not be."""
    measured = bool(gains.seconds)
    text = (
        f"{percent(gains.share)} faster: {words(max(gains.mean, 0.0))} a run, in "
        f"{counted(len(gains.seconds))} replayed"
    )
    return Recommendation(
        recommendation_id=name,
        area=area,
        suggestion=suggestion,
        rationale=rationale,
        potential_benefit=text if measured else "not measured: no run could be replayed",
        implementation_effort=effort,
        confidence=gains.confidence,
        benefit=timedelta(seconds=round(gains.mean, 6)) if measured else None,
        samples=len(gains.seconds),
        affected_tasks=tasks,
        patch=patch or {},
        data={"share": gains.share if measured else None, **(data or {})},
    )


def counted(count: int) -> str:
    """So many runs, in words."""
    return "the 1 run" if count == 1 else f"{count} runs"


def percent(share: float) -> str:
    """A share in words."""
    return f"{share:.0%}".replace("%", " %")

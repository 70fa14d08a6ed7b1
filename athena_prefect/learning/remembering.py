"""From finished runs to what is remembered of them: outcome, patterns, lessons."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime

from athena_prefect.learning.evidence import evidence_of
from athena_prefect.learning.memory import (
    ConsolidationEngine,
    Evidence,
    LessonKind,
    MemoryLayer,
    Outcome,
)
from athena_prefect.learning.policy import LearningPolicy
from athena_prefect.learning.records import RunRecord
from athena_prefect.learning.results import ExecutionPattern

_SUBJECT = 120
"""Letters of a note by which it is known again."""


def remember(
    memory: MemoryLayer,
    engine: ConsolidationEngine,
    *,
    plan_id: int,
    runs: Sequence[RunRecord],
    patterns: Sequence[ExecutionPattern] = (),
    lessons: Sequence[str | Evidence] = (),
    held: bool | None = None,
    policy: LearningPolicy | None = None,
) -> int:
    """Bring runs, patterns and notes into the memory; the outcome's id."""
    said: list[Evidence] = []
    known = memory.lessons()
    for run in runs:
        found = evidence_of(run, known, policy=policy, decision=plan_id)
        said += found
        # What this run is the first to say, the next one may contradict.
        known = (*known, *memory.learn(found, engine))
    at = max((m for r in runs if (m := r.ended or r.started)), default=None)
    notes = [n if isinstance(n, Evidence) else _note(n, runs, at, plan_id) for n in lessons]
    memory.learn([n for n in notes if n is not None], engine)
    return memory.store_outcome(
        Outcome(
            plan_id=plan_id,
            summary=_summary(runs),
            patterns=tuple(
                {
                    "type": str(p.kind),
                    "description": p.description,
                    "frequency": p.frequency,
                    "confidence": p.confidence,
                    "actionable": p.actionable,
                }
                for p in patterns
            ),
            held=held,
        )
    )


def _note(
    text: str, runs: Sequence[RunRecord], at: datetime | None, plan_id: int
) -> Evidence | None:
    """What somebody wrote down about the runs; without a run it has no time and no place."""
    if not runs or at is None or not text.strip():
        return None
    run = runs[-1]
    return Evidence(
        kind=LessonKind.NOTE,
        subject=text.strip()[:_SUBJECT],
        statement=text.strip(),
        at=at,
        run=run.run,
        plan=run.plan_name,
        tags=() if run.plan is None else tuple(run.plan.tags),
        decision=plan_id,
    )


def _summary(runs: Sequence[RunRecord]) -> str:
    counted = Counter(str(t.outcome) for r in runs for t in r.tasks if t.outcome is not None)
    told = ", ".join(f"{n} {name}" for name, n in sorted(counted.items())) or "nothing ended"
    return f"{len(runs)} run{'s' if len(runs) != 1 else ''}: {told}"

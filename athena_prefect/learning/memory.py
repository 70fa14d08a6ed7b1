"""What runs taught, kept for the next plan: lessons, how they are consolidated and recalled.

A lesson is a statement about one subject that a run either bears out or
contradicts. Its evidence is a Beta posterior: each run that bears it out counts for
it, each that contradicts it against it, and both count for half after each
half-life, so that what is not seen again fades to knowing nothing. Its confidence
is the mean of that posterior (Jeffreys' prior): P(the next run bears it out).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Protocol

from pydantic import BaseModel, ConfigDict, Field

from athena_prefect.monitor.records import plain
from athena_prefect.plan.estimate import Estimate
from athena_prefect.plan.model import Plan, PlanTask

PRIOR = 0.5
"""Of each side (Jeffreys): what is known before the first run is nothing."""


class MemoryPolicy(BaseModel):
    """How long lessons hold, and how sure one has to be to use one."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False
    )

    half_life: timedelta = timedelta(days=90)
    """Age at which a run's evidence counts for half: a quarter, in which pipelines, data and
    machines are seldom what they were."""
    least_evidence: float = Field(default=0.5, gt=0)
    """Evidence (runs that count in full) below which a lesson has faded and is not recalled: that
    of one run after one half-life."""
    usable: float = Field(default=0.7, ge=0, le=1)
    """Confidence from which a plan is made with a lesson: two runs that bear it out and none that
    contradicts (0.83), or three against one (0.70)."""
    runs: int = Field(default=50, ge=1)
    """Runs that a lesson names as its evidence, the newest: enough to look into."""


class LessonKind(StrEnum):
    """What a lesson is about."""

    DURATION = "duration"
    """A task takes longer than planned; the value is the buffer it needs."""
    RESOURCE = "resource"
    """What was planned of a resource was not there, or not what was used."""
    ASSUMPTION = "assumption"
    """An assumption does not hold."""
    CONTENTION = "contention"
    """Tasks wait for a resource; the value is the share of the runs' length that it delayed."""
    FAILURE = "failure"
    """A task succeeds only after failed attempts; the value is the seconds they cost."""
    CODE = "code"
    """A task became slower with a commit; the value is how many times as long it takes."""
    NOTE = "note"
    """What somebody wrote down."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What one run says about a subject."""

    kind: LessonKind
    subject: str
    """The task, resource or assumption."""
    statement: str
    at: datetime
    run: str
    """The plan run; the same run counts once."""
    plan: str = ""
    holds: bool = True
    """Whether the run bears the lesson out, or contradicts it."""
    value: float | None = None
    category: str = ""
    call: str = ""
    """``module:function`` of the task."""
    resource: str = ""
    tags: tuple[str, ...] = ()
    decision: int | None = None
    """The planning decision that the run carried out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lesson:
    """What runs taught about a subject, as of `last`."""

    kind: LessonKind
    subject: str
    plan: str
    statement: str
    support: float
    """Evidence for it: runs, each worth less with its age."""
    against: float
    first: datetime
    last: datetime
    value: float | None = None
    """Mean over the runs that bore it out, the newer ones weighing more."""
    samples: int = 0
    """Runs that said something about it."""
    runs: tuple[str, ...] = ()
    """The newest of them."""
    category: str = ""
    call: str = ""
    resource: str = ""
    tags: tuple[str, ...] = ()
    decisions: tuple[int, ...] = ()
    """Planning decisions whose runs taught it."""

    @property
    def key(self) -> tuple[str, str, str]:
        """What makes it the same lesson: plan, kind and subject."""
        return self.plan, str(self.kind), self.subject

    def evidence(self, now: datetime, policy: MemoryPolicy) -> tuple[float, float]:
        """(for, against) as it counts at `now`."""
        age = max((now - self.last) / policy.half_life, 0.0)
        left = 0.5**age
        return self.support * left, self.against * left

    def confidence(self, now: datetime, policy: MemoryPolicy) -> float | None:
        """P(the next run bears it out); None where one run is all there is."""
        if self.samples < 2:
            return None
        support, against = self.evidence(now, policy)
        return (support + PRIOR) / (support + against + 2 * PRIOR)

    def faded(self, now: datetime, policy: MemoryPolicy) -> bool:
        """Whether it is too old to go by."""
        return sum(self.evidence(now, policy)) < policy.least_evidence

    def as_dict(self) -> dict[str, Any]:
        """The lesson as JSON-able data."""
        return {f.name: plain(getattr(self, f.name)) for f in fields(self)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Lesson:
        """The lesson of `as_dict`."""
        known = {f.name for f in fields(cls)}
        given = {k: v for k, v in data.items() if k in known}
        return cls(
            **given
            | {
                "kind": LessonKind(given["kind"]),
                "first": datetime.fromisoformat(given["first"]),
                "last": datetime.fromisoformat(given["last"]),
                "runs": tuple(given.get("runs", ())),
                "tags": tuple(given.get("tags", ())),
                "decisions": tuple(given.get("decisions", ())),
            }
        )


class MemoryLayer(Protocol):
    """Where lessons and outcomes are kept; in a database: `storage.lessons.StoredLessons`."""

    def lessons(self) -> Sequence[Lesson]:
        """All that are kept."""
        ...

    def learn(self, said: Iterable[Evidence], engine: ConsolidationEngine) -> Sequence[Lesson]:
        """Bring what runs said into the lessons, all or none of them; the lessons that changed."""
        ...

    def store_outcome(self, outcome: Outcome) -> int:
        """Keep how a plan was carried out; its id. The same outcome again changes nothing."""
        ...


class ConsolidationEngine(Protocol):
    """How a lesson and new evidence about the same subject become one lesson."""

    def consolidate(self, known: Lesson | None, evidence: Evidence) -> Lesson | None:
        """The lesson afterwards; None where evidence contradicts what nobody has learned."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a planning decision was carried out, and what recurred."""

    plan_id: int
    """The planning decision."""
    summary: str
    patterns: tuple[Mapping[str, Any], ...] = ()
    """``type, description, frequency, confidence, actionable`` of each."""
    held: bool | None = None
    """Whether the decision kept its promise; None where it promised nothing."""


class Consolidation:
    """Consolidation by Beta posteriors with decay."""

    def __init__(self, policy: MemoryPolicy | None = None) -> None:
        self.policy = policy or MemoryPolicy()

    def consolidate(self, known: Lesson | None, evidence: Evidence) -> Lesson | None:
        """`known` with one run more; the same run again changes nothing."""
        if known is None:
            return _first(evidence) if evidence.holds else None
        if evidence.run in known.runs:
            return known
        support, against = known.evidence(max(evidence.at, known.last), self.policy)
        value = known.value
        if evidence.holds and evidence.value is not None:
            weight = support / (support + 1.0) if value is not None else 0.0
            value = weight * (value or 0.0) + (1 - weight) * evidence.value
        newer = evidence.holds and evidence.at >= known.last
        decisions = (*known.decisions, *([evidence.decision] if evidence.decision else []))
        return replace(
            known,
            statement=evidence.statement if newer else known.statement,
            support=support + (1.0 if evidence.holds else 0.0),
            against=against + (0.0 if evidence.holds else 1.0),
            first=min(known.first, evidence.at),
            last=max(known.last, evidence.at),
            value=value,
            samples=known.samples + 1,
            runs=(*known.runs, evidence.run)[-self.policy.runs :],
            category=evidence.category or known.category,
            call=evidence.call or known.call,
            tags=tuple(dict.fromkeys((*known.tags, *evidence.tags))),
            decisions=tuple(dict.fromkeys(decisions))[-self.policy.runs :],
        )


def _first(evidence: Evidence) -> Lesson:
    return Lesson(
        kind=evidence.kind,
        subject=evidence.subject,
        plan=evidence.plan,
        statement=evidence.statement,
        support=1.0,
        against=0.0,
        first=evidence.at,
        last=evidence.at,
        value=evidence.value,
        samples=1,
        runs=(evidence.run,),
        category=evidence.category,
        call=evidence.call,
        resource=evidence.resource,
        tags=evidence.tags,
        decisions=(evidence.decision,) if evidence.decision else (),
    )


class Memory:
    """Lessons and outcomes in memory; the twin of the database's for tests."""

    def __init__(self) -> None:
        self._lessons: dict[tuple[str, str, str], Lesson] = {}
        self._outcomes: list[Outcome] = []

    def lessons(self) -> Sequence[Lesson]:
        """All that are kept."""
        return tuple(self._lessons.values())

    def learn(self, said: Iterable[Evidence], engine: ConsolidationEngine) -> Sequence[Lesson]:
        """Bring what runs said into the lessons; those that changed."""
        changed = consolidated(self._lessons, said, engine)
        self._lessons.update({lesson.key: lesson for lesson in changed})
        return changed

    def store_outcome(self, outcome: Outcome) -> int:
        """Keep an outcome; its number, from 1."""
        if outcome not in self._outcomes:
            self._outcomes.append(outcome)
        return self._outcomes.index(outcome) + 1


def consolidated(
    known: Mapping[tuple[str, str, str], Lesson],
    said: Iterable[Evidence],
    engine: ConsolidationEngine,
) -> tuple[Lesson, ...]:
    """The lessons that what was said changes or makes, in the order of their runs."""
    changed: dict[tuple[str, str, str], Lesson] = {}
    for evidence in sorted(said, key=lambda f: (f.at, f.run)):
        key = evidence.plan, str(evidence.kind), evidence.subject
        before = changed.get(key) or known.get(key)
        after = engine.consolidate(before, evidence)
        if after is not None and after != before:
            changed[key] = after
    return tuple(changed.values())


# -- recall -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Recalled:
    """A lesson that concerns a plan."""

    lesson: Lesson
    tasks: tuple[str, ...]
    """The plan's tasks that it concerns."""
    because: str
    """What it has in common with the plan."""
    confidence: float | None

    def __str__(self) -> str:
        sure = "seen once" if self.confidence is None else f"P {self.confidence:.2f}"
        return f"{self.lesson.statement} ({self.because}; {self.lesson.samples} runs, {sure})"


def recall(
    lessons: Iterable[Lesson],
    plan: Plan,
    *,
    now: datetime,
    policy: MemoryPolicy | None = None,
) -> tuple[Recalled, ...]:
    """The lessons that concern a plan, the surest first; faded ones are left out.

    The plan's own are matched by task, resource or assumption; those of other plans
    by the function that is called, the category, the resource or a tag.
    """
    rules = policy or MemoryPolicy()
    found = []
    for lesson in lessons:
        if lesson.faded(now, rules):
            continue
        match = _match(lesson, plan)
        if match is not None:
            tasks, because = match
            found.append(
                Recalled(
                    lesson=lesson,
                    tasks=tasks,
                    because=because,
                    confidence=lesson.confidence(now, rules),
                )
            )
    return tuple(
        sorted(
            found, key=lambda r: (-(r.confidence or 0.0), r.lesson.plan != plan.name, r.lesson.key)
        )
    )


def _match(lesson: Lesson, plan: Plan) -> tuple[tuple[str, ...], str] | None:
    """The tasks that a lesson concerns, and why; None where none of the plan is concerned."""
    own = lesson.plan == plan.name
    if lesson.kind is LessonKind.ASSUMPTION:
        known = [a for a in plan.assumptions if a.assumption_id == lesson.subject]
        if known and (own or _shared_tags(lesson, plan)):
            return tuple(known[0].affects), "the same assumption"
    elif own and lesson.subject in plan.task_ids:
        return (lesson.subject,), "the same task"
    if lesson.resource:
        takers = tuple(t.id for t in plan.tasks if t.resources.get(lesson.resource, 0) > 0)
        return (takers, f"takes {lesson.resource}") if takers else None
    if not own:
        for attribute, told in (("call", "calls"), ("category", "category")):
            wanted = getattr(lesson, attribute)
            tasks = tuple(t.id for t in plan.tasks if wanted and _of(t, attribute) == wanted)
            if tasks:
                return tasks, f"{told} {wanted}"
    tags = _shared_tags(lesson, plan)
    # A tag in common is no ground to change a task's estimate: it concerns the plan.
    return ((), f"tag {', '.join(tags)}") if tags and not own else None


def _of(task: PlanTask, attribute: str) -> str:
    return (task.call or "") if attribute == "call" else task.group


def _shared_tags(lesson: Lesson, plan: Plan) -> tuple[str, ...]:
    return tuple(t for t in lesson.tags if t in plan.tags)


def estimates_with(
    plan: Plan, recalled: Iterable[Recalled], policy: MemoryPolicy | None = None
) -> tuple[Mapping[str, Estimate], tuple[Recalled, ...]]:
    """Estimates of tasks with the buffers that were learned, and the lessons that gave them.

    Of several lessons about a task the surest counts. Those that one run taught, or
    that are not sure enough, change nothing.
    """
    rules = policy or MemoryPolicy()
    estimates: dict[str, Estimate] = {}
    used = []
    for found in recalled:
        lesson = found.lesson
        if lesson.kind is not LessonKind.DURATION or not lesson.value:
            continue
        if found.confidence is None or found.confidence < rules.usable:
            continue
        tasks = [t for t in found.tasks if t not in estimates and plan.get_task(t).estimate]
        for task in tasks:
            estimate = plan.get_task(task).estimate
            assert estimate is not None
            factor = 1.0 + lesson.value
            estimates[task] = Estimate(
                optimistic=estimate.optimistic * factor,
                likely=estimate.likely * factor,
                pessimistic=estimate.pessimistic * factor,
            )
        if tasks:
            used.append(replace(found, tasks=tuple(tasks)))
    return estimates, tuple(used)


__all__ = [
    "Consolidation",
    "ConsolidationEngine",
    "Evidence",
    "Lesson",
    "LessonKind",
    "Memory",
    "MemoryLayer",
    "MemoryPolicy",
    "Outcome",
    "Recalled",
    "consolidated",
    "estimates_with",
    "recall",
]

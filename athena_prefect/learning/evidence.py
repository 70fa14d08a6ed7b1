"""What a finished run says: for the lessons that it bears out, against those that it does not."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any

import numpy as np

from athena_prefect.journal.events import TaskOutcome
from athena_prefect.learning.blame import Blame, blame
from athena_prefect.learning.bottlenecks import words
from athena_prefect.learning.code import Slowdown
from athena_prefect.learning.memory import Evidence, Lesson, LessonKind
from athena_prefect.learning.past import SAME, Past, past
from athena_prefect.learning.policy import LearningPolicy
from athena_prefect.learning.records import RunRecord
from athena_prefect.plan.model import Plan
from athena_prefect.schedule.problem import RUNNER

ROUNDING = 1e-9
"""Of shares that are compared with a threshold: 0.1 is no exact binary number."""


def evidence_of(
    run: RunRecord,
    known: Iterable[Lesson] = (),
    *,
    policy: LearningPolicy | None = None,
    decision: int | None = None,
    blamed: Blame | None = None,
) -> tuple[Evidence, ...]:
    """What `run` says, `known` being the lessons that it may contradict.

    A run bears out that a task is slow, an assumption fails or a resource is short
    where it shows that; it contradicts a known lesson where it shows the opposite.
    About what it did not show it says nothing.
    """
    the_past = blamed.past if blamed is not None else past(run)
    at = run.ended or run.started
    if at is None:
        return ()
    rules = policy or LearningPolicy()
    lessons = {(str(k.kind), k.subject) for k in known if k.plan == run.plan_name}
    reading = _Reading(run, at, rules, lessons, decision)
    found = [*reading.assumptions()]
    if the_past is not None:
        one = blamed or blame(the_past)
        found += [
            *reading.durations(the_past),
            *reading.resources(the_past),
            *reading.contention(one),
            *reading.failures(the_past),
        ]
    return tuple(found)


class _Reading:
    """One run being read."""

    def __init__(
        self,
        run: RunRecord,
        at: datetime,
        policy: LearningPolicy,
        known: set[tuple[str, str]],
        decision: int | None,
    ) -> None:
        self.run = run
        self.plan: Plan | None = run.plan
        self.at = at
        self.policy = policy
        self.known = known
        self.decision = decision

    def evidence(self, kind: LessonKind, subject: str, statement: str, **more: Any) -> Evidence:
        return Evidence(
            kind=kind, subject=subject, statement=statement, at=self.at, run=self.run.run,
            plan=self.run.plan_name, decision=self.decision,
            tags=() if self.plan is None else tuple(self.plan.tags), **more,
        )  # fmt: skip

    def _task(self, name: str) -> dict[str, str]:
        """Category and callable of a task."""
        if self.plan is not None and name in self.plan.task_ids:
            task = self.plan.get_task(name)
            return {"category": task.group, "call": task.call or ""}
        record = next(t for t in self.run.tasks if t.task_id == name)
        return {"category": record.category}

    def _either(
        self, kind: LessonKind, subject: str, statement: str, holds: bool, **more: Any
    ) -> Iterator[Evidence]:
        """Evidence where it holds, and against what is known where it does not."""
        if holds or (str(kind), subject) in self.known:
            yield self.evidence(kind, subject, statement, holds=holds, **more)

    def durations(self, run: Past) -> Iterator[Evidence]:
        for task, nodes in run.nodes_of.items():
            known = [i for i in nodes if run.estimated[i] > 0 and run.actual[i] > 0]
            if not known:
                continue
            over = float(run.actual[known].sum() / run.estimated[known].sum()) - 1.0
            buffer = over / run.utilisation(task)
            holds = min(over, buffer) >= self.policy.least_bias - ROUNDING
            statement = f"{task} needs a buffer of {buffer:.0%}".replace("%", " %")
            yield from self._either(
                LessonKind.DURATION, task, statement, holds, value=buffer, **self._task(task)
            )

    def assumptions(self) -> Iterator[Evidence]:
        verdicts: dict[str, list[bool]] = defaultdict(list)
        for check in self.run.checks:
            if check.holds is not None:
                verdicts[check.assumption_id].append(check.holds)
        for name, held in verdicts.items():
            violated = held.count(False)
            statement = f"assumption {name} was invalid"
            yield from self._either(
                LessonKind.ASSUMPTION, name, statement, violated > 0,
                value=violated / len(held),
            )  # fmt: skip
            for resource in self._capacities(name):
                yield from self._either(
                    LessonKind.RESOURCE, resource,
                    f"resource estimate of {resource} needs improvement: {name} did not hold",
                    violated > 0, resource=resource,
                )  # fmt: skip

    def _capacities(self, assumption: str) -> tuple[str, ...]:
        """The resources whose capacity an assumption is about."""
        for known in () if self.plan is None else self.plan.assumptions:
            if known.assumption_id == assumption and known.effect is not None:
                return tuple(known.effect.capacity or ())
        return ()

    def resources(self, run: Past) -> Iterator[Evidence]:
        """Tasks that use another amount of a resource than was planned for them."""
        used: dict[str, list[float]] = defaultdict(list)
        for record in run.run.tasks:
            for name, amount in record.resources_used.items():
                planned = record.resources_planned.get(name, 0.0)
                if planned > 0:
                    used[name].append(amount / planned)
        taken = {r for a in (self.plan.assumptions if self.plan else ())
                 for r in self._capacities(a.assumption_id)}  # fmt: skip
        for name in sorted(set(used) - taken):
            mean = float(np.mean(used[name]))
            holds = mean > 1.0 + self.policy.least_bias - ROUNDING
            statement = f"tasks use {mean:.0%} of the {name} planned for them".replace("%", " %")
            yield from self._either(
                LessonKind.RESOURCE, name, statement, holds, value=mean - 1.0, resource=name
            )

    def contention(self, one: Blame) -> Iterator[Evidence]:
        delays: dict[str, float] = defaultdict(float)
        for name, seconds in zip(one.past.resource, one.queue.tolist(), strict=True):
            if name in one.past.names:
                delays[name] += seconds
        length = one.past.makespan
        for name in sorted({*delays, *(s for k, s in self.known if k == LessonKind.CONTENTION)}):
            share = delays.get(name, 0.0) / length if length > 0 else 0.0
            what = "the runner's slots" if name == RUNNER else name
            yield from self._either(
                LessonKind.CONTENTION, name,
                f"waiting for {what} delays the finish by {words(delays.get(name, 0.0))}",
                share >= self.policy.least_bias - ROUNDING, value=share,
                resource="" if name == RUNNER else name,
            )  # fmt: skip

    def failures(self, run: Past) -> Iterator[Evidence]:
        for task, nodes in run.nodes_of.items():
            lost = float(run.retries[list(nodes)].sum())
            yield from self._either(
                LessonKind.FAILURE, task, f"{task} succeeds only after failed attempts",
                lost > SAME, value=lost, **self._task_or_none(task),
            )  # fmt: skip

    def _task_or_none(self, name: str) -> dict[str, str]:
        seen = any(t.task_id == name for t in self.run.tasks)
        return self._task(name) if seen else {}


def code_evidence(
    slow: Iterable[Slowdown],
    known: Iterable[Lesson],
    run: RunRecord,
    *,
    decision: int | None = None,
) -> tuple[Evidence, ...]:
    """What the newest run says of tasks that became slower with their code.

    It bears out that those of `slow` are; of a task that a known lesson tells of, that
    is not among them and ran, it says the opposite.
    """
    at = run.ended or run.started
    if at is None:
        return ()
    shared: dict[str, Any] = {
        "kind": LessonKind.CODE, "at": at, "run": run.run, "plan": run.plan_name,
        "decision": decision, "tags": () if run.plan is None else tuple(run.plan.tags),
    }  # fmt: skip
    found = {
        s.task_id: Evidence(
            subject=s.task_id, statement=str(s), value=s.change.ratio, call=s.calls, **shared
        )
        for s in slow
    }
    ran = {t.task_id for t in run.tasks if t.outcome is TaskOutcome.SUCCESS and not t.cached}
    for lesson in known:
        own = lesson.plan == run.plan_name and lesson.kind is LessonKind.CODE
        if own and lesson.subject not in found and lesson.subject in ran:
            found[lesson.subject] = Evidence(
                subject=lesson.subject, statement=lesson.statement, holds=False, **shared
            )
    return tuple(found.values())

"""Where a run stands, as replanning looks at it: what may be planned anew, and what must not."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property
from typing import Any, Protocol

import numpy as np

from athena_prefect.journal.events import CheckEvent
from athena_prefect.journal.state import Status
from athena_prefect.monitor.chain import JOIN
from athena_prefect.monitor.effects import NO_EFFECTS, Effects, combined
from athena_prefect.monitor.monitor import ExecutionMonitor
from athena_prefect.monitor.tally import mode_of
from athena_prefect.plan.model import DEFAULT_MODE, Criticality, Effect, Plan
from athena_prefect.plan.policy import ReplanningPolicy
from athena_prefect.schedule.standing import Item, Span, Standing


class Violation(Protocol):
    """An assumption that does not hold, as replanning needs to know it."""

    @property
    def assumption_id(self) -> str:
        """Which one."""
        ...

    @property
    def replanning_required(self) -> bool:
        """Whether its effect calls for a response."""
        ...

    @property
    def actual_value(self) -> Any:
        """What was observed."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """A violation and the unfinished tasks that rest on the assumption."""

    violation: Violation
    tasks: tuple[str, ...]
    effect: Effect | None
    criticality: Criticality

    @property
    def id(self) -> str:
        """Id of the assumption."""
        return self.violation.assumption_id


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A run at a moment with the violations that are in force."""

    monitor: ExecutionMonitor
    now: datetime
    calm: Standing
    """The run without any effect of a violation; what failed for good stays undone."""
    reaches: tuple[Reach, ...]
    failed: tuple[str, ...]
    """Tasks that failed for good, in the order of the plan."""
    policy: ReplanningPolicy
    kept: Mapping[Item, Span] = field(default_factory=dict)
    """Finished items of mapped tasks that stay undone in `calm`: done again, they keep them."""

    @property
    def plan(self) -> Plan:
        """The revision in force."""
        return self.calm.plan

    @cached_property
    def unfinished(self) -> tuple[str, ...]:
        """Tasks that are still to be done or run, or failed, in the order of the plan."""
        skipped = self._skipped
        over = {t for t in self.plan.task_ids if self.monitor.state.status(t).good}
        return tuple(t for t in self.plan.task_ids if t not in over and t not in skipped)

    @cached_property
    def unstarted(self) -> tuple[str, ...]:
        """Those of them of which nothing has begun, in the order of their starts so far."""
        begun = {item[0] for item in self.calm.spans}
        first: dict[str, float] = {}
        for (task, _), start in self.calm.previous.items():
            first[task] = min(start, first.get(task, start))
        place = {t: k for k, t in enumerate(self.plan.task_ids)}
        free = [t for t in self.unfinished if t not in begun]
        return tuple(sorted(free, key=lambda t: (first.get(t, float("inf")), place[t])))

    @cached_property
    def _skipped(self) -> frozenset[str]:
        status = self.monitor.state.status
        return frozenset(t for t in self.plan.task_ids if status(t) is Status.SKIPPED)

    @cached_property
    def descendants(self) -> Mapping[str, frozenset[str]]:
        """Task → all unfinished tasks behind it, over hard and soft edges."""
        behind: dict[str, set[str]] = {t: set() for t in self.plan.task_ids}
        for task in self.plan.tasks:
            for arc in task.upstream:
                if arc.task in behind:
                    behind[arc.task].add(task.id)
        return {t: frozenset(_reached(t, behind)) for t in self.plan.task_ids}

    def cone(self, tasks: Iterable[str]) -> frozenset[str]:
        """The unfinished ones of `tasks` with their descendants."""
        open_ = set(self.unfinished)
        found = {t for t in tasks if t in open_}
        for task in tuple(found):
            found |= self.descendants[task] & open_
        return frozenset(found)

    def ways_on(self, task_id: str) -> tuple[str, ...]:
        """The modes in which a failed task may be done again; none where there is no way on."""
        task = self.plan.get_task(task_id)
        effects = self._effects_of(self.reaches)
        if task_id in effects.blocked:
            return ()
        only = effects.modes.get(task_id)
        if only is not None:
            return (only,)
        state = self.monitor.state
        # Of a mapped task it is its items that were tried, and some of them failed.
        own = [state.task(task_id), *state.items(task_id).values()]
        tried = {mode_of(task, a) for s in own if not s.status.good for a in s.attempts}
        unused = tuple(
            m for m in task.mode_names if m not in tried and _known(self.calm, task_id, m)
        )
        if task.rerunnable:
            return (*[m for m in task.mode_names if m in tried], *unused)
        return unused

    def _effects_of(self, reaches: Sequence[Reach]) -> Effects:
        """What these violations do to what is unfinished."""
        if not reaches:
            return NO_EFFECTS
        checks = {
            r.id: CheckEvent(
                plan_run=self.monitor.context.plan_run,
                assumption_id=r.id,
                check_id="",
                at=self.now,
                verdict="violated",
                data={"value": r.violation.actual_value},
            )
            for r in reaches
        }
        return combined([self.plan.get_assumption(r.id) for r in reaches], checks)

    def carried_on(self, reaches: Sequence[Reach] | None = None) -> Standing:
        """The run as it goes on by itself under the effects of these violations (of all)."""
        if reaches is None:
            return self._carried_on
        effects = self._effects_of(reaches)
        open_ = set(self.unfinished)
        blocked = frozenset(t for t in effects.blocked if t in open_)
        return replace(
            self.calm,
            only_mode={t: m for t, m in effects.modes.items() if t in open_},
            factors={t: f for t, f in effects.factors.items() if t in open_},
            capacities=effects.capacities,
            blocked=blocked,
            left_out=self._out(blocked, frozenset(self.failed)),
            spans=self._spans(effects.factors),
        )

    @cached_property
    def _carried_on(self) -> Standing:
        return self.carried_on(self.reaches)

    @cached_property
    def standing(self) -> Standing:
        """What a revision is made from: failed tasks that have a way on are to be done again.

        Of a capacity that was observed to be less, a share stays unplanned.
        """
        return self.standing_with({})

    def standing_with(self, replaced: Mapping[str, str]) -> Standing:
        """`standing` where somebody says in which modes some failed tasks are done again."""
        carried = self.carried_on()
        asked = {t: (m,) for t, m in replaced.items() if t not in carried.blocked}
        again = {t: ways for t in self.failed if (ways := asked.get(t) or self.ways_on(t))}
        lost = frozenset(t for t in self.failed if t not in again)
        capacities = self._buffered(carried)
        if not again and capacities == carried.capacities:
            # Whoever plans for it reads it once.
            return carried
        standing = self.done_again(carried, again, self._out(carried.blocked, lost))
        return replace(standing, capacities=capacities, overran=dict(self._overran(again)))

    def done_again(
        self, carried: Standing, again: Mapping[str, tuple[str, ...]], left_out: frozenset[str]
    ) -> Standing:
        """`carried` with failed tasks done again; what is done of their items stays done."""
        kept = {item: span for item, span in self.kept.items() if item[0] not in left_out}
        return replace(
            carried,
            again=again,
            left_out=left_out,
            spans={**carried.spans, **kept},
            over=carried.over | kept.keys(),
        )

    def _overran(self, again: Iterable[str]) -> Iterator[tuple[tuple[str, str], float]]:
        """Share of the attempts under the time-out in force that ran past it, by task and mode."""
        for task_id in again:
            state = self.monitor.state
            own = [state.task(task_id), *state.items(task_id).values()]
            ended = [a for s in own for a in s.attempts if a.ended is not None]
            newest = max((int(a.data.get("revision", 1)) for a in ended), default=1)
            told: dict[str, list[bool]] = {}
            for attempt in ended:
                if int(attempt.data.get("revision", 1)) == newest:
                    mode = mode_of(self.plan.get_task(task_id), attempt)
                    told.setdefault(mode, []).append(attempt.timed_out)
            for mode, found in told.items():
                if any(found):
                    yield (task_id, mode), sum(found) / len(found)

    def _buffered(self, carried: Standing) -> dict[str, float]:
        """Observed capacities less the buffer, where what has to run still fits."""
        result = {}
        for name, amount in carried.capacities.items():
            planned = amount * (1.0 - self.policy.resource_buffer)
            needed = max(
                (
                    self.plan.get_task(t).mode(carried.mode_of(t)).resources.get(name, 0.0)
                    for t in self.unstarted
                ),
                default=0.0,
            )
            declared = self.plan.resources[name].capacity
            reduced = amount < declared
            result[name] = max(planned, min(needed, amount)) if reduced else amount
        return result

    def _spans(self, factors: Mapping[str, float]) -> dict[Item, Span]:
        """Of what runs, the expected end under the factors."""
        found = dict(self.calm.spans)
        for item, (start, end) in self.calm.spans.items():
            factor = factors.get(item[0], 1.0)
            if item not in self.calm.over and factor != 1.0:
                found[item] = (start, max(start + factor * (end - start), self.calm.now))
        return found

    def _out(self, blocked: Collection[str], lost: Collection[str]) -> frozenset[str]:
        """Skipped tasks, and those that will not be done with everything that needs them."""
        begun = {item[0] for item in self.calm.spans}
        out = {t for t in (*blocked, *lost) if t not in begun}
        hard: dict[str, list[str]] = {}
        for task in self.plan.tasks:
            for arc in task.upstream:
                if arc.hard:
                    hard.setdefault(arc.task, []).append(task.id)
        todo = list(out)
        while todo:
            for after in hard.get(todo.pop(), ()):
                if after not in out and after not in begun:
                    out.add(after)
                    todo.append(after)
        return frozenset(out) | self._skipped

    def stopped(self, standing: Standing) -> frozenset[str]:
        """Required tasks that a standing leaves undone: with any of them it never finishes."""
        open_ = set(self.unfinished)
        return frozenset(t for t in standing.left_out if t in self.plan.required and t in open_)


def _known(standing: Standing, task_id: str, mode: str) -> bool:
    return standing.estimate_of(standing.plan.get_task(task_id), mode) is not None


def _reached(start: str, behind: Mapping[str, set[str]]) -> set[str]:
    found: set[str] = set()
    todo = [start]
    while todo:
        for after in behind[todo.pop()]:
            if after not in found:
                found.add(after)
                todo.append(after)
    return found


def _behind(plan: Plan, task_id: str, dead: Collection[str]) -> bool:
    """Whether a task waits, over a hard dependency, for one that will not be done."""
    return any(d.hard and d.task in dead for d in plan.get_task(task_id).upstream)


def picture(
    monitor: ExecutionMonitor,
    violations: Sequence[Violation] = (),
    *,
    now: datetime | None = None,
    policy: ReplanningPolicy | None = None,
) -> Picture:
    """The run that `monitor` watches, at `now` (its clock's), under these violations."""
    rules = policy or monitor.policy
    moment, progress = monitor.brought_up(now)
    if progress.effects != NO_EFFECTS:
        # The monitor reckons with the violations already; here they are weighed one by one.
        progress = progress.supposing(NO_EFFECTS, moment)
    plan = progress.plan
    given = progress.underway(moment)
    known = {**progress.chain.modes, **given.modes}
    spans = {item: span for item, span in given.spans.items() if item[0] not in given.left_out}
    state = progress.state
    over = frozenset(item for item in spans if state.task(*item).in_force is not None)
    kept = {
        item: span
        for item, span in given.spans.items()
        if item[0] in given.left_out and item[1] is not None and state.task(*item).status.good
    }
    course = progress.course
    previous = {
        item: float(start)
        for item, start in given.places.items()
        if item[1] != JOIN and item not in spans and (item[0], None) not in spans
    }
    status = state.status
    dead = {
        t
        for t in plan.task_ids
        if t in progress.tally.stopped and status(t) in (Status.FAILURE, Status.BLOCKED)
    }
    failed = tuple(
        t
        for t in plan.task_ids
        # What is blocked only behind another goes on when that is done again.
        if t in dead and (status(t) is Status.FAILURE or not _behind(plan, t, dead))
    )
    bound = monitor.bound
    calm = Standing(
        plan=plan,
        now=given.now,
        spans=spans,
        over=over,
        modes={t: m for t, m in known.items() if m != DEFAULT_MODE},
        items=given.items,
        left_out=frozenset(given.left_out),
        previous=previous,
        previous_makespan=float(np.max(course.finish, initial=given.now)),
        estimates=monitor.learned_estimates(),
        deadline=bound,
    )
    good = {t for t in plan.task_ids if status(t).good}
    reaches = []
    for violation in violations:
        assumption = plan.get_assumption(violation.assumption_id)
        reaches.append(
            Reach(
                violation=violation,
                tasks=tuple(t for t in assumption.affects if t not in good),
                effect=assumption.effect,
                criticality=assumption.criticality,
            )
        )
    return Picture(
        monitor=monitor,
        now=moment,
        calm=calm,
        reaches=tuple(reaches),
        failed=failed,
        policy=rules,
        kept=kept,
    )

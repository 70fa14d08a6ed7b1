"""A solved, verified and simulated way to go on: what a run revision is made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod
from typing import Protocol

import numpy as np

from athena_prefect.plan.model import DEFAULT_MODE, Plan
from athena_prefect.plan.revision import Change, ChangeKind, changes_between, revised
from athena_prefect.schedule.answer import Answer, Objective
from athena_prefect.schedule.overruns import overruns_of
from athena_prefect.schedule.partial_order import ResourceArcs
from athena_prefect.schedule.problem import RUNNER
from athena_prefect.schedule.robustness import Robustness, Scenario, named_scenarios
from athena_prefect.schedule.search import Clock
from athena_prefect.schedule.standing import NO_LEVERS, Item, Levers, Span, Standing
from athena_prefect.schedule.verification import Claim, Verification

HOUR = 3600.0


@dataclass(frozen=True, kw_only=True)
class Proposal:
    """A way to go on from where a run stands; seconds from the start of the run."""

    standing: Standing
    levers: Levers = NO_LEVERS
    answer: Answer
    verification: Verification
    robustness: Robustness | None = None
    """None where there is no schedule."""

    def found(
        self, *, verification: Verification | None = None, robustness: Robustness | None = None
    ) -> Proposal:
        """The same proposal with what was found about it; what was made of it is kept."""
        result = replace(
            self,
            verification=verification or self.verification,
            robustness=robustness or self.robustness,
        )
        for name in ("cut", "modes", "plan", "overruns", "changes", "spans", "starts"):
            if name in self.__dict__:
                result.__dict__[name] = self.__dict__[name]
        return result

    @property
    def feasible(self) -> bool:
        """Whether there is a schedule, and nothing speaks against it."""
        return self.answer.schedule is not None and self.verification.passed

    @property
    def why_not(self) -> str:
        """What speaks against it; empty where nothing does."""
        if self.answer.schedule is None:
            return self.answer.conflict
        return "" if self.verification.passed else str(self.verification)

    @property
    def arcs(self) -> ResourceArcs:
        """The order in which units of resources are handed on."""
        return self.answer.arcs

    @cached_property
    def cut(self) -> frozenset[tuple[str, str]]:
        """Soft dependencies that are not kept, (before, after)."""
        problem = self.answer.rest.problem
        names, task_of = problem.task_ids, problem.task_of
        return frozenset((names[task_of[a]], names[task_of[b]]) for a, b in self.answer.choice.cut)

    @cached_property
    def modes(self) -> dict[str, str]:
        """Task → mode, where it is not the default one."""
        schedule = self.answer.schedule
        if schedule is None:
            return dict(self.standing.modes)
        chosen = zip(schedule.problem.task_ids, schedule.problem.modes, strict=True)
        dropped = frozenset(self.answer.dropped)
        return {t: m for t, m in chosen if m != DEFAULT_MODE and t not in dropped}

    @cached_property
    def plan(self) -> Plan:
        """The revised plan."""
        more = {n: c for n, c in self.levers.capacity.items() if n != RUNNER}
        return revised(
            self.standing.plan,
            dropped=self.answer.dropped,
            cut=self.cut,
            capacities=more,
            timeouts=self.levers.timeouts,
            relaxed=self.levers.relaxed,
        )

    @cached_property
    def overruns(self) -> dict[str, float]:
        """Task that is still to be done → P(it runs past its time-out), where that is above 0."""
        return overruns_of(self.standing, self.plan, self.modes, self.levers.timeouts)

    @property
    def within_timeouts(self) -> float:
        """P(no required task runs past its time-out), as if their durations were independent."""
        plan = self.standing.plan
        return prod(1.0 - p for t, p in self.overruns.items() if t in plan.required)

    @property
    def success(self) -> float | None:
        """P(in time, and nothing runs past its time-out); None where nothing was simulated.

        The product of both, which is never above the probability that both hold: short
        durations are good for either (Harris 1960).
        """
        robust = self.robustness
        if robust is None:
            return None
        in_time = robust.p_deadline if robust.p_deadline is not None else 1.0
        return in_time * self.within_timeouts

    @cached_property
    def changes(self) -> tuple[Change, ...]:
        """What it does differently, in the order of the plan."""
        before = {
            t.id: self.standing.modes.get(t.id, DEFAULT_MODE) for t in self.standing.plan.tasks
        }
        again = [
            Change(kind=ChangeKind.AGAIN, subject=t, after=self.modes.get(t, DEFAULT_MODE))
            for t in self.standing.again
            if t not in self.answer.dropped  # left out after all
        ]
        after = {t: m for t, m in self.modes.items() if t not in self.standing.again}
        before = {t: m for t, m in before.items() if t not in self.standing.again}
        return (
            *again,
            *changes_between(self.standing.plan, self.plan, old_modes=before, new_modes=after),
        )

    @cached_property
    def spans(self) -> dict[Item, Span]:
        """When each task, or item of a mapped one, runs."""
        return spans_of(self.standing, self.answer)

    @cached_property
    def starts(self) -> dict[str, float]:
        """Start of each task; of a mapped one that of its first item, of one that is done again
        that of the first item to be done.
        """
        found: dict[str, float] = {}
        again, kept = self.standing.again, self.standing.spans
        for item, (start, _) in self.spans.items():
            if item[0] not in again or item not in kept:
                found[item[0]] = min(start, found.get(item[0], start))
        return found

    @cached_property
    def scenarios(self) -> dict[Scenario, float]:
        """The finish in the five named scenarios; empty where there is no schedule."""
        if self.answer.schedule is None or self.robustness is None:
            return {}
        return named_scenarios(
            self.answer.rest,
            self.answer.schedule,
            self.arcs,
            self.robustness.criticality,
            running=running_of(self.standing, self.answer),
        )

    @cached_property
    def cost(self) -> float:
        """Σ resources × hours × price of all that is still to be done, more capacity included."""
        rest, answer = self.answer.rest, self.answer
        total = rest.cost_of(answer.choice)
        finish = answer.makespan
        if finish is None:
            return total
        hours = max(finish - self.standing.now, 0.0) / HOUR
        for name, amount in self.levers.capacity.items():
            resource = self.standing.plan.resources.get(name)
            if resource is not None:
                have = self.standing.capacities.get(name, resource.capacity)
                total += max(amount - have, 0.0) * hours * resource.cost_per_hour
        return total

    @property
    def quality_lost(self) -> float:
        """Σ 1 − quality of the modes of what is still to be done."""
        plan = self.standing.plan
        return sum(
            1.0 - plan.get_task(t).mode(m).quality
            for t, m in self.modes.items()
            if not self.standing.begun(t)
        )

    @property
    def value_lost(self) -> float:
        """Σ value of the tasks that are left out."""
        return sum(self.standing.plan.get_task(t).value for t in self.answer.dropped)


class Phase6Orchestrator(Protocol):
    """Makes proposals: generate, verify, simulate, refine."""

    def generate(
        self,
        standing: Standing,
        levers: Levers = NO_LEVERS,
        *,
        objective: Objective = Objective.TARDINESS,
        budget_s: float | None = None,
        seed: int = 0,
    ) -> Answer:
        """A schedule of what is left."""
        ...

    def verify(
        self, standing: Standing, answer: Answer, levers: Levers = NO_LEVERS
    ) -> Verification:
        """What speaks against it."""
        ...

    def simulate(
        self, standing: Standing, answer: Answer, *, seed: int = 0, criticality: bool = False
    ) -> Robustness:
        """How it fares when durations vary."""
        ...

    def propose(
        self,
        standing: Standing,
        levers: Levers = NO_LEVERS,
        *,
        objective: Objective = Objective.TARDINESS,
        budget_s: float | None = None,
        seed: int = 0,
        exactly: bool = False,
    ) -> Proposal:
        """All of it, and again where what comes out is not sure enough.

        `exactly`: every lever is pulled, not only what is of use; once.
        """
        ...

    @property
    def clock(self) -> Clock:
        """Seconds, to keep budgets by."""
        ...


def spans_of(standing: Standing, answer: Answer) -> dict[Item, Span]:
    """When each task, or item of a mapped one, runs by an answer."""
    schedule = answer.schedule
    if schedule is None:
        return {}
    problem, found = schedule.problem, dict[Item, Span]()
    starts, finishes = schedule.starts.tolist(), schedule.finishes.tolist()
    rows = problem.rows.tolist()
    dropped = answer.choice.dropped
    for t, name in enumerate(problem.task_ids):
        if t in dropped:
            continue
        first, item = rows[t], (name, None)
        if item in standing.spans:
            found[item] = standing.spans[item]
        elif name not in standing.mapped:
            found[item] = (starts[first], finishes[first])
        else:
            for k in range(int(problem.items[t])):
                begun = standing.spans.get((name, k))
                found[name, k] = begun or (starts[first + k], finishes[first + k])
    return found


def running_of(standing: Standing, answer: Answer) -> dict[int, float]:
    """Activities that run → their expected end."""
    problem, found = answer.rest.problem, dict[int, float]()
    for item, (_, end) in standing.spans.items():
        if item in standing.over or item[0] not in problem.task_index:
            continue
        t = problem.task_index[item[0]]
        first, count = int(problem.rows[t]), int(problem.items[t])
        rows = range(first, first + count) if item[1] is None else [first + item[1]]
        found.update(dict.fromkeys(rows, end))
    return found


def claim_of(
    standing: Standing,
    answer: Answer,
    levers: Levers,
    plan: Plan,
    modes: Mapping[str, str],
    *,
    spans: Mapping[Item, Span] | None = None,
) -> Claim:
    """What an answer claims, for `verification.verify`; `spans` where they are known already."""
    if spans is None:
        spans = spans_of(standing, answer)
    arcs = answer.arcs
    items = items_of(standing, answer)
    pairs = [
        (items[a], items[b])
        for a, b in zip(arcs.pred.tolist(), arcs.succ.tolist(), strict=True)
        if items[a] in spans and items[b] in spans
    ]
    capacities = {**standing.capacities, **levers.capacity}
    dropped = set(answer.dropped)
    return Claim(
        plan=plan,
        original=standing.plan,
        now=standing.now,
        spans=spans,
        begun={i: s for i, s in standing.spans.items() if i[0] not in standing.left_out},
        over=standing.over,
        modes={**standing.modes, **modes},
        begun_in={t: m for t, m in standing.modes.items() if standing.begun(t)},
        again=standing.again,
        items=standing.items,
        only_mode=standing.only_mode,
        barred=standing.barred,
        pinned={t: standing.mode_of(t) for t in standing.pinned},
        factors=standing.factors,
        estimates=standing.estimates,
        capacities={n: c for n, c in capacities.items() if n != RUNNER},
        blocked=standing.blocked,
        left_out=standing.left_out - dropped,
        arcs=pairs,
        deadline=standing.deadline,
    )


def items_of(standing: Standing, answer: Answer) -> list[Item]:
    """What each activity is; the join of a mapped task is the task as a whole."""
    problem, found = answer.rest.problem, list[Item]()
    sizes, counts = np.diff(problem.rows).tolist(), problem.items.tolist()
    for name, size, count in zip(problem.task_ids, sizes, counts, strict=True):
        if name not in standing.mapped:
            found += [(name, None)] * size
        else:
            found += [(name, k if k < count else None) for k in range(size)]
    return found


def stability(
    standing: Standing,
    old_starts: Mapping[str, float],
    old_makespan: float,
    proposal: Proposal,
) -> Stability:
    """How much of the old plan a proposal keeps (see `Stability`)."""
    open_ = [t for t in old_starts if not standing.begun(t) and t not in standing.left_out]
    new = proposal.starts
    span = max(old_makespan - standing.now, 1e-9)
    shifts = [abs(new[t] - old_starts[t]) for t in open_ if t in new]
    delta = sum(min(1.0, s / span) for s in shifts)
    changed = sum(
        proposal.modes.get(t, DEFAULT_MODE) != standing.modes.get(t, DEFAULT_MODE)
        for t in open_
        if t in new
    )
    dropped = sum(t not in new for t in open_)
    added = sum(
        t not in old_starts and t not in standing.left_out and not standing.begun(t) for t in new
    )
    count = len(open_) + added
    lost = (delta + 0.5 * changed + dropped + added) / (1.5 * count) if count else 0.0
    return Stability(
        value=1.0 - lost,
        mean_shift=float(np.mean(shifts)) if shifts else 0.0,
        moved=sum(s > 1e-6 for s in shifts) / len(shifts) if shifts else 0.0,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Stability:
    """How much of the old plan is kept.

    1 − (Δ + 0.5·M + X) / (1.5·Σ w) over the tasks U that had not started: Δ their
    start shifts as shares of the old rest, each at most 1, M changed modes, X dropped
    and added ones; w = 1. 1 is unchanged. After Fox, Gerevini, Long, Serina (2006) and
    Van de Vonder et al. (2008).
    """

    value: float
    mean_shift: float
    """Mean |new − old start| in seconds."""
    moved: float
    """Share of the tasks that start at another time."""

"""What to change in the next plan, each with what it would have gained in the runs that were.

Every benefit is measured by replaying past runs with the change (`replay`), every
confidence is computed from how many of them it helped, and is None where there was
only one. A patch is what `athena learn PLAN --apply` writes into the plan.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import numpy as np

from athena_prefect.learning.blame import Blame, blame
from athena_prefect.learning.bottlenecks import words
from athena_prefect.learning.past import SAME, Past, past
from athena_prefect.learning.policy import LearningPolicy
from athena_prefect.learning.records import RunRecord
from athena_prefect.learning.replay import as_it_was, replayed
from athena_prefect.learning.results import Recommendation
from athena_prefect.learning.statistics import beta_below, corrected, student_upper
from athena_prefect.plan.estimate import Estimate
from athena_prefect.plan.graph import Floats
from athena_prefect.plan.model import Assumption, Plan
from athena_prefect.plan.scalars import Criticality
from athena_prefect.plan.units import format_duration
from athena_prefect.schedule.passes import forward
from athena_prefect.schedule.problem import RUNNER

SURE = 0.9
"""Confidence from which a change is recommended where it can be computed."""
WORTH = 0.01
"""Share of a run's length that a change must gain: less is not worth a change of the plan."""
WASTE = 0.8
"""Share of what was planned of a resource below which a task's largest use calls for less."""
REPLAYED = 20_000
"""Nodes that are replayed for all candidates together, the likeliest first: 10,000 take about a
tenth of a second. Of each kind of change the first candidate is replayed whatever it takes."""
PASSED = 50_000
"""Nodes that are passed over for buffers, one pass a buffer and run: of 10,000 some 5 ms."""
MOST_NODES = 5_000
"""Nodes that are replayed for one candidate where there are several runs, the newest first."""
MOST = 10
"""Tasks that are told of at most, each kind of change: nobody edits a hundred estimates."""
NEVER = 0.05
"""P(violated) below which a check, with 95 % confidence, may be made half as often."""
ROOM = 1e-9
"""Rounding of shares that are compared with a threshold: 0.1 is no exact binary number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Gains:
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


class _Budget:
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


def recommendations(
    runs: Sequence[RunRecord],
    context: Mapping[str, Any] | None = None,
    *,
    policy: LearningPolicy | None = None,
    blames: Sequence[Blame] | None = None,
) -> tuple[Recommendation, ...]:
    """What `runs`, the oldest first, teach for the next plan, the most of it first.

    `context`: `fixed`, the resources whose capacity cannot be changed, `areas`, the
    areas that are asked for, by default all. Of runs of several plans each plan
    has its own.
    """
    given = context or {}
    fixed = frozenset(given.get("fixed", ()))
    rules = policy or LearningPolicy()
    seen = [b.past for b in blames] if blames is not None else [p for r in runs if (p := past(r))]
    told = list(blames) if blames is not None else [blame(p) for p in seen]
    found: list[Recommendation] = []
    budget = _Budget()
    for name in dict.fromkeys(p.run.plan_name for p in seen):
        own = [b for b in told if b.past.run.plan_name == name]
        plan = next((b.past.run.plan for b in reversed(own) if b.past.run.plan), None)
        found += _buffers(own, plan, rules)
        if plan is not None:
            found += _parallel(own, plan, budget)
            found += _resources(own, plan, fixed, budget)
            found += _demands(own, plan, budget)
            found += _hidden(own, plan)
            found += _checks([r for r in runs if r.plan_name == name], plan)
        found += _failures(own)
    areas = given.get("areas")
    ranked = sorted(found, key=lambda r: (-_seconds(r.benefit), r.recommendation_id))
    return tuple(r for r in ranked if areas is None or r.area in areas)


def _seconds(benefit: timedelta | None) -> float:
    return 0.0 if benefit is None else benefit.total_seconds()


# -- estimates ------------------------------------------------------------------------------


def _buffers(
    blames: Sequence[Blame], plan: Plan | None, policy: LearningPolicy
) -> Iterator[Recommendation]:
    """Buffers for tasks that take longer than planned: overrun ÷ utilisation.

    A task that used less of its resources than planned while it took longer would
    have needed that much more time of all of them.
    """
    overruns: dict[str, list[tuple[float, float, Past]]] = defaultdict(list)
    delayed: dict[str, float] = defaultdict(float)
    for one in blames:
        planned, actual = one.past.estimated, one.past.actual
        usable = (planned > 0) & (actual > 0)
        for task, nodes in one.past.nodes_of.items():
            known = [i for i in nodes if usable[i]]
            if known:
                delayed[task] += float(one.duration[known].sum())
                over = float(actual[known].sum() / planned[known].sum()) - 1.0
                overruns[task].append((over, one.past.utilisation(task), one.past))
    p_values = _p_values({t: np.array([o for o, _, _ in s]) for t, s in overruns.items()}, policy)
    # What delayed the runs most is what a plan gains most by; each is a pass over a run's nodes.
    largest = max((len(b.past.tasks) for b in blames), default=1)
    left = min(MOST, max(3, PASSED // largest))
    for task in sorted(overruns, key=lambda t: (-delayed[t], t)):
        samples = overruns[task]
        errors = np.array([o for o, _, _ in samples])
        buffer = float(np.mean([o / u for o, u, _ in samples]))
        if not left or min(buffer, errors.mean()) < policy.least_bias - ROOM:
            continue
        p = p_values.get(task)
        # Of one sample only what delayed its run is worth telling: any task may be long once.
        if (p is None and delayed[task] <= SAME) or (p is not None and 1 - p < SURE):
            continue
        left -= 1
        # No surer than so many runs can make it (Jeffreys' prior).
        most = (len(errors) + 0.5) / (len(errors) + 1.0)
        yield _buffer(task, buffer, errors, samples, None if p is None else min(1 - p, most), plan)


def _p_values(overruns: Mapping[str, Floats], policy: LearningPolicy) -> dict[str, float]:
    """P(so much longer by chance), by Student's t, corrected for the tasks that were tested."""
    tested = [task for task, over in overruns.items() if len(over) > 1]
    if not tested:
        return {}
    counts = np.array([len(overruns[t]) for t in tested], dtype=np.float64)
    means = np.array([overruns[t].mean() for t in tested])
    errors = np.array([overruns[t].std(ddof=1) for t in tested]) / np.sqrt(counts)
    # Without any spread, as in a simulation, t has no end.
    t = np.divide(means, errors, out=np.sign(means) * 1e9, where=errors > ROOM)
    p = corrected(student_upper(t, counts - 1), policy.correction)
    return dict(zip(tested, p.tolist(), strict=True))


def _buffer(
    task: str,
    buffer: float,
    over: Floats,
    samples: Sequence[tuple[float, float, Past]],
    confidence: float | None,
    plan: Plan | None,
) -> Recommendation:
    missed: list[float] = []
    still: list[float] = []
    for _, _, run in samples:
        nodes = np.array(run.nodes_of[task])
        longer = run.planned.copy()
        known = nodes[run.estimated[nodes] > 0]
        longer[known] = run.estimated[known] * (1.0 + buffer)
        finish = forward(run.network, run.planned_wait + longer)[1].max()
        missed.append(abs(run.makespan - run.planned_makespan))
        still.append(abs(run.makespan - float(finish)))
    gain = float(np.mean(missed) - np.mean(still))
    runs = _runs(len(samples))
    used = float(np.mean([u for _, u, _ in samples]))
    rationale = f"it took {_percent(float(over.mean()))} longer than planned in {runs}"
    if used < 1.0 - ROOM:
        rationale += f" with {_percent(used)} of the resources planned for it"
    planned = None if plan is None else plan.get_task(task).estimate
    patch: dict[str, Any] = {}
    if planned is not None:
        patch = {"tasks": {task: {"duration": _scaled(planned, 1.0 + buffer)}}}
    return Recommendation(
        recommendation_id=f"buffer:{task}",
        area="estimation",
        suggestion=f"{_percent(buffer)} buffer for {task}",
        rationale=rationale,
        potential_benefit=(
            f"the finish is {words(float(np.mean(still)))} off its plan instead of "
            f"{words(float(np.mean(missed)))}, in {runs} replayed"
        ),
        implementation_effort="trivial",
        confidence=confidence,
        benefit=timedelta(seconds=round(gain, 6)),
        samples=len(samples),
        affected_tasks=(task,),
        patch=patch,
        data={"buffer": buffer, "overrun": float(over.mean()), "utilisation": used},
    )


def _scaled(estimate: Estimate, factor: float) -> Any:
    """An estimate so many times as long, as a document says it; to the second from 10 s on."""

    def told(length: timedelta) -> str:
        seconds = length.total_seconds() * factor
        return format_duration(timedelta(seconds=round(seconds, 0 if seconds >= 10 else 3)))

    if estimate.certain:
        return told(estimate.likely)
    names = ("optimistic", "likely", "pessimistic")
    return {name: told(getattr(estimate, name)) for name in names}


# -- order and resources ----------------------------------------------------------------------


def _parallel(blames: Sequence[Blame], plan: Plan, budget: _Budget) -> Iterator[Recommendation]:
    """Soft dependencies that the runs would have been over earlier without."""
    soft = [(d.task, t.id) for t in plan.tasks for d in t.upstream if not d.hard]
    waited = _waited_over(blames)
    for before, after in sorted(soft, key=lambda arc: -waited.get(arc, 0.0)):
        if not waited.get((before, after)) or not budget.allows("parallelization", blames):
            break
        gains = _gains(blames, budget, without=((before, after),))
        if gains is None or gains.share < WORTH:
            continue
        kept = [
            d.model_dump(mode="json", exclude_defaults=True)
            for d in plan.get_task(after).depends_on
            if d.task != before
        ]
        yield _measured(
            f"parallelize:{before}->{after}",
            "parallelization",
            f"Run {after} without waiting for {before}",
            f"{after} depends softly on {before}, and waited for it in {_runs(len(gains.seconds))}",
            gains,
            effort="moderate",
            tasks=(before, after),
            patch={"tasks": {after: {"depends_on": kept}}},
        )


def _waited_over(blames: Sequence[Blame]) -> dict[tuple[str, str], float]:
    """Seconds that tasks waited over soft arcs after all else that they wait for had ended."""
    found: dict[tuple[str, str], float] = defaultdict(float)
    for one in blames:
        run = one.past
        into: dict[int, list[tuple[float, int, bool]]] = defaultdict(list)
        ends = run.finishes.tolist()
        for arc in run.arcs[: run.dependencies]:
            into[arc.head].append((ends[arc.tail] + arc.lag, arc.tail, arc.hard))
        for head, arrivals in into.items():
            last = max(arrivals)
            if last[2]:
                continue
            others = max((a[0] for a in arrivals if a is not last), default=0.0)
            if last[0] - others > SAME:
                found[run.tasks[last[1]], run.tasks[head]] += last[0] - others
    return found


def _resources(
    blames: Sequence[Blame], plan: Plan, fixed: frozenset[str], budget: _Budget
) -> Iterator[Recommendation]:
    """More of a resource that tasks waited for."""
    waited: dict[str, float] = defaultdict(float)
    step: dict[str, float] = defaultdict(float)
    for one in blames:
        run = one.past
        for i, name, seconds in _resource_waits(run):
            if name in run.names and name not in fixed:
                waited[name] += seconds
                step[name] = max(step[name], float(run.demands[i, run.names.index(name)]))
    for name in sorted(waited, key=lambda n: -waited[n]):
        before = plan.runner.max_workers if name == RUNNER else plan.resources[name].capacity
        after = before + step[name]
        if not budget.allows("resources", blames):
            break
        gains = _gains(blames, budget, capacities={name: after})
        if gains is None or gains.share < WORTH:
            continue
        price = 0.0 if name == RUNNER else plan.resources[name].cost_per_hour
        hours = float(np.mean([b.past.makespan for b in blames])) / 3600
        cost = f"; it costs {price * step[name] * hours:.2f} a run" if price else ""
        what = "the runner's slots" if name == RUNNER else name
        patch: dict[str, Any] = (
            {"runner": {"max_workers": int(after)}}
            if name == RUNNER
            else {"resources": {name: {"capacity": _plain(after)}}}
        )
        yield _measured(
            f"capacity:{name}",
            "resources",
            f"{after:g} instead of {before:g} of {what}",
            f"tasks waited {words(waited[name] / len(blames))} a run for {what}{cost}",
            gains,
            effort="trivial" if name == RUNNER else "hard",
            patch=patch,
            data={"cost": price * step[name] * hours},
        )


def _resource_waits(run: Past) -> Iterator[tuple[int, str, float]]:
    """(node, resource, seconds) of all waits for resources, the planned ones among them."""
    for i in np.flatnonzero(run.queue > SAME).tolist():
        yield i, run.resource[i], float(run.queue[i])
    ready: dict[int, float] = defaultdict(float)
    ends = run.finishes.tolist()
    for arc in run.arcs[: run.dependencies]:
        ready[arc.head] = max(ready[arc.head], ends[arc.tail] + arc.lag)
    for arc in run.arcs[run.dependencies :]:
        waited = ends[arc.tail] - ready[arc.head]
        both = run.demands[arc.head] * (run.demands[arc.tail] > 0)
        if waited > SAME and both.any():
            yield arc.head, run.names[int(np.argmax(both / run.capacities))], waited


def _demands(blames: Sequence[Blame], plan: Plan, budget: _Budget) -> Iterator[Recommendation]:
    """Less of a resource for tasks that never used what was planned for them."""
    used: dict[tuple[str, str], list[float]] = defaultdict(list)
    for one in blames:
        for record in one.past.run.tasks:
            for name, amount in record.resources_used.items():
                if record.resources_planned.get(name, 0.0) > 0:
                    used[record.task_id, name].append(float(amount))
    largest = {
        key: max(amounts)
        for key, amounts in used.items()
        if key[1] in plan.resources and key[0] in plan.task_ids
    }
    by_task: dict[str, dict[str, float]] = defaultdict(dict)
    for (task, name), most in largest.items():
        planned = plan.get_task(task).resources.get(name, 0.0)
        if planned > 0 and 0 < most < WASTE * planned - ROOM:
            by_task[task][name] = _plain(_rounded_up(most))
    for task, wanted in by_task.items():
        samples = min(len(used[task, name]) for name in wanted)
        gains = (
            _gains(blames, budget, demands={task: wanted})
            if budget.allows("demands", blames)
            else None
        )
        told = ", ".join(
            f"{amount:g} instead of {plan.get_task(task).resources[name]:g} {name}"
            for name, amount in wanted.items()
        )
        freed = max(1 - a / plan.get_task(task).resources[n] for n, a in wanted.items())
        found = _measured(
            f"demand:{task}",
            "resources",
            f"Plan {task} with {told}",
            f"it never used more, in {samples} attempts",
            gains or _Gains(seconds=(), lengths=()),
            effort="trivial",
            tasks=(task,),
            patch={"tasks": {task: {"resources": {**plan.get_task(task).resources, **wanted}}}},
        )
        text = f"{_percent(freed)} less resources for {task}"
        if found.benefit is not None and gains is not None and gains.share >= WORTH:
            text += f", {found.potential_benefit}"
        # The largest of n uses is not passed by the next with probability n / (n + 1).
        sure = samples / (samples + 1) if samples > 1 else None
        yield replace(found, potential_benefit=text, confidence=sure, samples=samples)


def _rounded_up(amount: float) -> float:
    """To two significant digits, never below."""
    digits = 1 - int(np.floor(np.log10(amount)))
    factor = 10.0**digits
    return float(np.ceil(amount * factor - ROOM) / factor)


def _plain(amount: float) -> float | int:
    return int(amount) if float(amount).is_integer() else amount


def _gains(
    blames: Sequence[Blame],
    budget: _Budget,
    *,
    without: Sequence[tuple[str, str]] = (),
    capacities: Mapping[str, float] | None = None,
    demands: Mapping[str, Mapping[str, float]] | None = None,
) -> _Gains | None:
    """What a change gains in each run, the newest first until enough were replayed."""
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
        new = replayed(run, without=without, capacities=capacities, demands=changed)
        seconds.append(as_it_was(run) - new)
        lengths.append(run.makespan)
    return _Gains(seconds=tuple(seconds), lengths=tuple(lengths)) if seconds else None


def _measured(
    name: str,
    area: str,
    suggestion: str,
    rationale: str,
    gains: _Gains,
    *,
    effort: str,
    tasks: tuple[str, ...] = (),
    patch: Mapping[str, Any] | None = None,
    data: Mapping[str, Any] | None = None,
) -> Recommendation:
    measured = bool(gains.seconds)
    text = (
        f"{_percent(gains.share)} faster: {words(max(gains.mean, 0.0))} a run, in "
        f"{_runs(len(gains.seconds))} replayed"
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


# -- what the plan does not have ---------------------------------------------------------------


def _hidden(blames: Sequence[Blame], plan: Plan) -> Iterator[Recommendation]:
    """Tasks that each time waited until another ended that they do not depend on."""
    met: dict[tuple[str, str], list[float]] = defaultdict(list)
    held: dict[str, int] = defaultdict(int)
    for one in blames:
        run = one.past
        ends = run.finishes
        waits = np.flatnonzero(run.hold > SAME)
        order = np.argsort(ends, kind="stable") if len(waits) else waits
        sorted_ends = ends[order]
        for i in waits.tolist():
            began = float(ends[i] - run.actual[i] - run.retries[i] - run.queue[i])
            held[run.tasks[i]] += 1
            low, high = np.searchsorted(sorted_ends, [began - SAME, began + EXACT_END])
            others = {run.tasks[j] for j in order[low:high].tolist() if run.actual[j] > 0}
            for other in others - {run.tasks[i]}:
                met[other, run.tasks[i]].append(float(run.hold[i]))
    for (before, after), waits_ in met.items():
        if len(waits_) < 2 or len(waits_) < held[after]:
            continue
        if before not in plan.task_ids or _waits_already(plan, before, after):
            continue
        task = plan.get_task(after)
        kept = [d.model_dump(mode="json", exclude_defaults=True) for d in task.depends_on]
        mean = float(np.mean(waits_))
        yield Recommendation(
            recommendation_id=f"depend:{before}->{after}",
            area="dependencies",
            suggestion=f"Let {after} depend on {before}",
            rationale=(
                f"{after} began when {before} ended, {words(mean)} after all that it depends "
                f"on, each of the {len(waits_)} times that it was held back"
            ),
            potential_benefit=f"{words(mean)} of waiting is planned instead of a surprise",
            implementation_effort="moderate",
            confidence=(len(waits_) + 0.5) / (len(waits_) + 1.0),
            benefit=timedelta(0),
            samples=len(waits_),
            affected_tasks=(before, after),
            patch={"tasks": {after: {"depends_on": [*kept, {"task": before}]}}},
            data={"waited": mean},
        )


EXACT_END = 0.1
"""Seconds by which a task may be told to have started before the other's end was written down."""


def _waits_already(plan: Plan, before: str, after: str) -> bool:
    """Whether there is a way between the two tasks, in either direction."""
    for start, goal in ((before, after), (after, before)):
        seen, todo = {goal}, [goal]
        while todo:
            for d in plan.get_task(todo.pop()).upstream:
                if d.task == start:
                    return True
                if d.task not in seen:
                    seen.add(d.task)
                    todo.append(d.task)
    return False


def _failures(blames: Sequence[Blame]) -> Iterator[Recommendation]:
    """Checks for what tasks need, where failed attempts delayed the runs."""
    lost: dict[str, list[float]] = defaultdict(list)
    for one in blames:
        for i in np.flatnonzero(one.retries > SAME).tolist():
            lost[one.past.tasks[i]].append(float(one.retries[i]))
    whole = sum(b.past.makespan for b in blames)
    for task, seconds in lost.items():
        if sum(seconds) < WORTH * whole:
            continue
        mean = sum(seconds) / len(blames)
        yield Recommendation(
            recommendation_id=f"check:{task}",
            area="checks",
            suggestion=f"Check what {task} needs before it starts",
            rationale=(f"failed attempts at {task} delayed {len(seconds)} of {_runs(len(blames))}"),
            potential_benefit=(
                f"up to {_percent(sum(seconds) / whole)} faster: {words(mean)} a run went to "
                "attempts that failed"
            ),
            implementation_effort="moderate",
            confidence=((len(seconds) + 0.5) / (len(blames) + 1.0) if len(blames) > 1 else None),
            benefit=timedelta(seconds=round(mean, 6)),
            samples=len(blames),
            affected_tasks=(task,),
        )


def _checks(runs: Sequence[RunRecord], plan: Plan) -> Iterator[Recommendation]:
    """Checks that never found anything: made half as often."""
    made: dict[str, int] = defaultdict(int)
    bad: dict[str, int] = defaultdict(int)
    for run in runs:
        for check in run.checks:
            made[check.assumption_id] += 1
            bad[check.assumption_id] += check.holds is not True
    for assumption in plan.assumptions:
        name, count = assumption.assumption_id, made[assumption.assumption_id]
        if bad[name] or not count or not _may_relax(assumption):
            continue
        # P(violated) with no violation in n checks is Beta(1/2, n + 1/2) (Jeffreys).
        sure = float(beta_below(NEVER, 0.5, count + 0.5))
        if sure < 0.95:
            continue
        assert assumption.validation_frequency is not None
        wider = assumption.validation_frequency * 2
        yield Recommendation(
            recommendation_id=f"seldom:{name}",
            area="checks",
            suggestion=f"Check {name} every {format_duration(wider)} only",
            rationale=f"all {count} checks found that it holds",
            potential_benefit=f"{count // 2} of {count} checks less",
            implementation_effort="trivial",
            confidence=sure,
            benefit=timedelta(0),
            samples=count,
            affected_tasks=tuple(assumption.affects),
            patch={"assumptions": {name: {"validation_frequency": format_duration(wider)}}},
        )


def _may_relax(assumption: Assumption) -> bool:
    careful = (Criticality.HIGH, Criticality.CRITICAL)
    return bool(assumption.validation_frequency) and assumption.criticality not in careful


def _runs(count: int) -> str:
    return "the 1 run" if count == 1 else f"{count} runs"


def _percent(share: float) -> str:
    return f"{share:.0%}".replace("%", " %")

"""Whatever is broken about a revision of a plan that has everything is refused, and nothing else.

The revisions are real ones, of runs under way; each is changed at random, and a second
reckoning, made moment by moment and written for these tests alone, says whether what came
of it can still be carried out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from functools import cache
from random import Random
from typing import TypeVar

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from athena_prefect.assumptions.validator import AssumptionValidator
from athena_prefect.orchestrator import PlanOrchestrator
from athena_prefect.plan.model import DEFAULT_MODE, Dependency
from athena_prefect.replanning.picture import picture
from athena_prefect.replanning.scope import levers_of_all
from athena_prefect.schedule.proposal import claim_of
from athena_prefect.schedule.verification import Claim, Flaw, verify
from tests.replanning.rich import rich_run
from tests.schedule.rests import steps_for_seconds, ticking
from tests.schedule.verification.reckoning import can_be_carried_out

Item = tuple[str, int | None]
T = TypeVar("T", str, Item)
Mutated = tuple[Claim, frozenset[str]]
"""A changed claim, and tasks of which at least one must be named where it is refused."""
Mutation = Callable[[Claim, Random], Mutated | None]

SECOND = timedelta(seconds=1)
SEEDS = range(160)


@cache
def _claim(seed: int) -> Claim | None:
    """The revision of a run with all that its plan has; None where there is none."""
    monitor = rich_run(Random(seed))
    violations = AssumptionValidator(monitor.plan, monitor).get_violated_assumptions()
    view = picture(monitor, violations)
    planner = PlanOrchestrator(clock=ticking(0.01), policy=monitor.policy, workers=1)
    with steps_for_seconds():
        found = planner.propose(view.standing, levers_of_all(view, monitor.policy), budget_s=0.3)
    if not found.feasible:
        return None
    return claim_of(found.standing, found.answer, found.levers, found.plan, found.modes)


# -- what is changed ----------------------------------------------------------------------


def _free(claim: Claim) -> list[Item]:
    return [i for i in claim.spans if i not in claim.begun and (i[0], None) not in claim.begun]


def _moved(claim: Claim, item: Item, to: float) -> Claim:
    start, end = claim.spans[item]
    # So that what takes no time takes none wherever it is moved to.
    return replace(claim, spans={**claim.spans, item: (to, to + (end - start))})


def _with(claim: Claim, task_id: str, **fields: object) -> Claim:
    tasks = tuple(t.model_copy(update=fields) if t.id == task_id else t for t in claim.plan.tasks)
    return replace(claim, plan=claim.plan.model_copy(update={"tasks": tasks}))


def _without(claim: Claim, task_id: str) -> Claim:
    tasks = tuple(t for t in claim.plan.tasks if t.id != task_id)
    spans = {i: s for i, s in claim.spans.items() if i[0] != task_id}
    return replace(claim, spans=spans, plan=claim.plan.model_copy(update={"tasks": tasks}))


def _names(*names: str) -> frozenset[str]:
    return frozenset(names)


def _before_what_it_waits_for(claim: Claim, rng: Random) -> Mutated | None:
    waiting = [
        (i, arc, s[1])
        for i in _free(claim)
        for arc in claim.plan.get_task(i[0]).upstream
        for j, s in claim.spans.items()
        if j[0] == arc.task
    ]
    if not waiting:
        return None
    item, arc, end = rng.choice(waiting)
    early = end + arc.lag / SECOND - rng.choice([0.01, 0.5, 3.0])
    return _moved(claim, item, early), _names(item[0])


def _elsewhere(claim: Claim, rng: Random) -> Mutated | None:
    item = rng.choice(_free(claim))
    to = claim.spans[item][0] + rng.choice([-5.0, -1.0, -0.1, 0.1, 2.0, 30.0])
    return _moved(claim, item, to), frozenset(claim.plan.task_ids)


def _beside_another(claim: Claim, rng: Random) -> Mutated | None:
    item, other = rng.choice(_free(claim)), rng.choice(sorted(claim.spans, key=str))
    return _moved(claim, item, claim.spans[other][0]), frozenset(claim.plan.task_ids)


def _scarcer(claim: Claim, rng: Random) -> Mutated | None:
    if not claim.plan.resources:
        return None
    name = rng.choice(sorted(claim.plan.resources))
    have = claim.capacities.get(name, claim.plan.resources[name].capacity)
    less = {**claim.capacities, name: have * rng.choice([0.0, 0.3, 0.6, 0.99])}
    return replace(claim, capacities=less), frozenset(claim.plan.task_ids)


def _fewer_workers(claim: Claim, rng: Random) -> Mutated | None:
    runner = claim.plan.runner.model_copy(update={"max_workers": 1})
    plan = claim.plan.model_copy(update={"runner": runner})
    return replace(claim, plan=plan), frozenset(claim.plan.task_ids)


def _another_mode(claim: Claim, rng: Random) -> Mutated | None:
    item = rng.choice(_free(claim))
    mode = rng.choice([*claim.plan.get_task(item[0]).mode_names, "no such"])
    # Who runs beside it may be named where another amount is the trouble.
    return replace(claim, modes={**claim.modes, item[0]: mode}), frozenset(claim.plan.task_ids)


def _longer(claim: Claim, rng: Random) -> Mutated | None:
    item = rng.choice(_free(claim))
    start, end = claim.spans[item]
    spans = {**claim.spans, item: (start, end + rng.choice([-0.5, 0.01, 10.0]))}
    return replace(claim, spans=spans), _names(item[0])


def _not_there(claim: Claim, rng: Random) -> Mutated | None:
    item = rng.choice(_free(claim))
    return replace(claim, spans={i: s for i, s in claim.spans.items() if i != item}), _names(
        item[0]
    )


def _one_item_more(claim: Claim, rng: Random) -> Mutated | None:
    mapped = [i for i in _free(claim) if i[1] is not None]
    if not mapped:
        return None
    item = rng.choice(mapped)
    more = (item[0], 1 + max(i[1] or 0 for i in claim.spans if i[0] == item[0]))
    return replace(claim, spans={**claim.spans, more: claim.spans[item]}), _names(item[0])


def _producer_gone(claim: Claim, rng: Random) -> Mutated | None:
    """A task is taken out of the plan; whoever names it, and goals that need it, are left."""
    name = rng.choice(_free(claim))[0]
    after = [t.id for t in claim.plan.tasks if any(d.task == name for d in t.upstream)]
    return _without(claim, name), _names(name, *after)


def _left_undone(claim: Claim, rng: Random) -> Mutated | None:
    """A task that will not run; its place in the schedule is given up."""
    name = rng.choice(_free(claim))[0]
    if any(i[0] == name for i in claim.begun):
        return None
    spans = {i: s for i, s in claim.spans.items() if i[0] != name}
    out = frozenset(claim.left_out) | {name}
    takers = [t.id for t in claim.plan.tasks if name in t.inputs.values()]
    return replace(claim, spans=spans, left_out=out), _names(name, *takers)


def _circle(claim: Claim, rng: Random) -> Mutated | None:
    arcs = [(t, d) for t in claim.plan.tasks for d in t.upstream]
    if not arcs:
        return None
    task, arc = rng.choice(arcs)
    back = (*claim.plan.get_task(arc.task).depends_on, Dependency(task=task.id))
    return _with(claim, arc.task, depends_on=back), _names(task.id, arc.task)


def _of_nobody(claim: Claim, rng: Random) -> Mutated | None:
    task = rng.choice(claim.plan.tasks)
    arcs = (*task.depends_on, Dependency(task="nobody"))
    return _with(claim, task.id, depends_on=arcs), _names(task.id)


def _handed_on_in_a_circle(claim: Claim, rng: Random) -> Mutated | None:
    free = _free(claim)
    one, other = rng.choice(free), rng.choice(free)
    arcs = [*claim.arcs, (one, other), (other, one)]
    return replace(claim, arcs=arcs), _names(one[0], other[0])


def _what_has_begun_moved(claim: Claim, rng: Random) -> Mutated | None:
    if not claim.begun:
        return None
    item = rng.choice(sorted(claim.begun, key=str))
    start, end = claim.spans[item]
    spans = {**claim.spans, item: rng.choice([(start, end + 1.0), (start + 1.0, end + 1.0)])}
    return replace(claim, spans=spans), _names(item[0])


def _later_now(claim: Claim, rng: Random) -> Mutated | None:
    return replace(claim, now=claim.now + rng.choice([0.5, 5.0])), frozenset(claim.plan.task_ids)


def _slower(claim: Claim, rng: Random) -> Mutated | None:
    name = rng.choice(_free(claim))[0]
    factors = {**claim.factors, name: claim.factors.get(name, 1.0) * rng.choice([0.5, 2.0])}
    return replace(claim, factors=factors), _names(name)


def _held_up(claim: Claim, rng: Random) -> Mutated | None:
    name = rng.choice(_free(claim))[0]
    return replace(claim, blocked=frozenset(claim.blocked) | {name}), _names(name)


def _not_in_its_mode(claim: Claim, rng: Random) -> Mutated | None:
    name = rng.choice(_free(claim))[0]
    mode = claim.modes.get(name, DEFAULT_MODE)
    if rng.random() < 0.5:
        return replace(claim, barred={**claim.barred, name: {mode}}), _names(name)
    other = rng.choice(claim.plan.get_task(name).mode_names)
    return replace(claim, only_mode={**claim.only_mode, name: other}), _names(name)


MUTATIONS: tuple[Mutation, ...] = (
    _before_what_it_waits_for, _elsewhere, _beside_another, _scarcer, _fewer_workers,
    _another_mode, _longer, _not_there, _one_item_more, _producer_gone, _left_undone, _circle,
    _of_nobody, _handed_on_in_a_circle, _what_has_begun_moved, _later_now, _slower, _held_up,
    _not_in_its_mode,
)  # fmt: skip


@pytest.mark.parametrize("mutate", MUTATIONS, ids=lambda m: m.__name__[1:])
@settings(max_examples=80, deadline=None)
@given(seed=st.sampled_from(SEEDS), luck=st.integers(0, 2**32))
def test_what_is_broken_is_refused_and_named_and_nothing_else_is(
    mutate: Mutation, seed: int, luck: int
) -> None:
    claim = _claim(seed)
    assume(claim is not None and _free(claim))
    assert claim is not None
    assert verify(claim).passed and can_be_carried_out(claim)
    changed = mutate(claim, Random(luck))
    assume(changed is not None)
    assert changed is not None
    broken, names = changed
    found = verify(broken)
    assert found.passed == can_be_carried_out(broken), str(found)
    if not found.passed:
        named = {t for o in found.objections for t in o.tasks}
        assert named & names, f"{found} names none of {names}"
        assert all(any(t in o.message for t in o.tasks) for o in found.objections)


def _some_claim(begun: bool) -> Claim:
    """The first revision in which something runs, or in which nothing has begun."""
    found = (c for c in map(_claim, SEEDS) if c is not None and _free(c))
    return next(c for c in found if bool(c.begun) == begun)


def test_how_work_that_has_begun_is_done_stays_as_it_is() -> None:
    claim = _some_claim(begun=True)
    name = next(iter(claim.begun))[0]
    for changed in (
        replace(claim, modes={**claim.modes, name: "other"}),
        _with(claim, name, resources={"cpu": 0.25}),
        _with(claim, name, inputs={"x": "nobody"}),
    ):
        found = verify(changed).objections
        assert any(o.flaw in (Flaw.FINISHED, Flaw.REFERENCE) and name in o.message for o in found)
    (mode,) = (
        o for o in verify(replace(claim, begun_in={name: "wide"})).objections
        if o.flaw is Flaw.FINISHED
    )  # fmt: skip
    assert "has begun in mode wide, and the revision has it in" in mode.message


@settings(max_examples=60, deadline=None)
@given(seed=st.sampled_from(SEEDS), share=st.floats(0, 1))
def test_a_deadline_is_missed_just_where_something_ends_after_it(seed: int, share: float) -> None:
    claim = _claim(seed)
    assume(claim is not None and claim.spans)
    assert claim is not None
    end = max(finish for _, finish in claim.spans.values())
    found = verify(replace(claim, deadline=end * share))
    assert found.passed, "late is told, not refused"
    missed = end > end * share + 2e-6
    assert (found.late is not None) == missed
    if found.late is not None:
        last = [i[0] for i, (_, finish) in claim.spans.items() if finish >= end - 1e-6]
        assert set(last) & set(found.late.tasks) and "after the deadline" in found.late.message

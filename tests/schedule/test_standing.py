"""What is left of a plan, read from where its run stands."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import numpy as np
import pytest

from athena_prefect.orchestrator import PlanOrchestrator
from athena_prefect.plan.estimate import Estimate
from athena_prefect.plan.model import Plan
from athena_prefect.schedule.answer import Objective
from athena_prefect.schedule.proposal import Proposal
from athena_prefect.schedule.standing import Levers, Standing, rest_of, takers_of
from athena_prefect.schedule.verification import verify
from tests.schedule.rests import ticking


def _mapped(**more: Any) -> Plan:
    return Plan.model_validate(
        {
            "name": "mapped",
            "resources": {"cpu": {"capacity": 2, "cost_per_hour": 36.0}},
            "runner": {"max_workers": 4},
            "tasks": [
                {"id": "list", "duration": 2},
                {
                    "id": "hash", "duration": 3, "inputs": {"files": "list"},
                    "map_over": "files", "expected_items": 4, "resources": {"cpu": 1},
                    "modes": [{"name": "fast", "duration": 1, "resources": {"cpu": 2}}],
                },
                {"id": "join", "duration": 1, "depends_on": ["hash"]},
                {"id": "extra", "duration": 5, "depends_on": ["list"], "optional": True,
                 "value": 0.4},
                {"id": "use", "duration": 1, "inputs": {"x": "extra"}, "optional": True},
            ],
            **more,
        }
    )  # fmt: skip


def _propose(standing: Standing, levers: Levers = Levers()) -> Proposal:  # noqa: B008
    planner = PlanOrchestrator(clock=ticking(), workers=1)
    return planner.propose(standing, levers, objective=Objective.TARDINESS, budget_s=1.0)


def test_items_are_scheduled_one_by_one_and_share_a_mode() -> None:
    slow = _propose(Standing(plan=_mapped(), deadline=100.0))
    assert slow.feasible and slow.answer.makespan is not None
    # Two at a time, twice: 2 + 3 + 3 + 1.
    assert slow.spans["join", None] == (8.0, 9.0)
    assert {item for item in slow.spans if item[0] == "hash"} == {("hash", k) for k in range(4)}
    fast = _propose(
        Standing(plan=_mapped(goals=["join"]), deadline=7.5), Levers(modes={"hash": ("fast",)})
    )
    assert fast.feasible and fast.modes == {"hash": "fast"}
    assert fast.spans["join", None] == (6.0, 7.0), "one at a time, a second each"


@pytest.mark.parametrize("whole", [False, True])
def test_what_has_begun_of_a_mapped_task_stays(whole: bool) -> None:
    spans: dict[tuple[str, int | None], tuple[float, float]] = {("list", None): (0.0, 2.0)}
    if whole:
        spans["hash", None] = (2.0, 9.0)
        over = frozenset(spans)
        now = 9.0
    else:
        spans |= {("hash", 0): (2.0, 5.0), ("hash", 1): (2.0, 6.0)}
        over = frozenset({("list", None), ("hash", 0)})
        now = 5.0
    standing = Standing(
        plan=_mapped(), now=now, spans=spans, over=over, items={"hash": 3}, deadline=50.0
    )
    proposal = _propose(standing, Levers(modes={"hash": ("fast",)}))
    assert proposal.feasible, proposal.why_not
    if whole:
        assert proposal.spans["hash", None] == (2.0, 9.0)
        assert proposal.spans["join", None][0] == 9.0
    else:
        assert proposal.spans["hash", 0] == (2.0, 5.0)
        assert proposal.spans["hash", 2][0] >= 5.0
        assert proposal.modes == {}, "what has begun keeps its mode"
    assert proposal.robustness is not None


def test_a_known_end_of_a_mapped_task_lets_lags_count_from_it() -> None:
    document = _mapped().model_dump(mode="json", by_alias=True, exclude_defaults=True)
    document["tasks"][2]["depends_on"] = [{"task": "hash", "lag": 10}]
    spans: dict[tuple[str, int | None], tuple[float, float]] = {
        ("list", None): (0.0, 2.0), **{("hash", k): (2.0, 5.0) for k in range(2)}
    }  # fmt: skip
    standing = Standing(
        plan=Plan.model_validate(document),
        now=9.0, spans=spans, over=frozenset(spans), items={"hash": 2},
    )  # fmt: skip
    assert _propose(standing).spans["join", None][0] == 15.0


def test_without_items_only_the_join_is_left() -> None:
    spans: dict[tuple[str, int | None], tuple[float, float]] = {("list", None): (0.0, 2.0)}
    standing = Standing(
        plan=_mapped(), now=2.0, spans=spans, over=frozenset(spans), items={"hash": 0}
    )
    proposal = _propose(standing)
    assert proposal.feasible and proposal.spans["join", None][0] == 2.0


def test_a_task_is_only_dropped_with_what_takes_its_result() -> None:
    plan = _mapped(goals=["join"])
    assert takers_of(plan)["extra"] == ("use",)
    both = rest_of(Standing(plan=plan), Levers(droppable=frozenset({"extra", "use"})))
    index = both.problem.task_index
    assert both.droppable == {index["extra"]: 0.4, index["use"]: 0.0}
    assert both.goes_with[index["extra"]] == (index["use"],)
    one = rest_of(Standing(plan=plan), Levers(droppable=frozenset({"extra"})))
    assert one.droppable == {}, "`use` would be left without its input"
    proposal = _propose(
        Standing(plan=plan, deadline=9.0), Levers(droppable=frozenset({"extra", "use"}))
    )
    assert proposal.feasible and verify_again(proposal)


def verify_again(proposal: Proposal) -> bool:
    from athena_prefect.schedule.proposal import claim_of

    claim = claim_of(
        proposal.standing, proposal.answer, proposal.levers, proposal.plan, proposal.modes
    )
    return verify(claim).passed


def test_estimates_factors_and_prices() -> None:
    plan = _mapped()
    learned = Estimate(
        optimistic=timedelta(seconds=4), likely=timedelta(seconds=4),
        pessimistic=timedelta(seconds=4),
    )  # fmt: skip
    standing = Standing(plan=plan, estimates={"hash": learned}, factors={"hash": 2.0})
    rest = rest_of(standing, Levers(modes={"hash": ("fast",)}))
    t = rest.problem.task_index["hash"]
    rows = list(rest.rows_of(t))
    assert rest.problem.durations[rows].tolist() == [8.0] * 4
    assert [w.duration for w in rest.ways[t]] == [8.0, 2.0]
    # 2 + 4 × 8 + 1 + 5 + 1 s; only the items of `hash` take cpu, at 36 an hour and unit.
    assert rest.cost_of(rest_choice(rest, t, 0)) == pytest.approx(4 * 8 / 3600 * 36)
    assert rest.cost_of(rest_choice(rest, t)) < rest.cost_of(rest_choice(rest, t, 0))
    assert not np.isnan(rest.problem.durations).any()


def rest_choice(rest: Any, task: int, way: int = 1) -> Any:
    from athena_prefect.schedule.rest import Choice

    return Choice.of({task: way})


def test_effects_that_force_a_mode_leave_no_choice() -> None:
    standing = Standing(plan=_mapped(), only_mode={"hash": "fast"})
    rest = rest_of(standing, Levers(modes={"hash": ("default",)}))
    assert rest.ways == {} and rest.problem.modes[rest.problem.task_index["hash"]] == "fast"
    proposal = _propose(standing)
    assert proposal.feasible and proposal.modes == {"hash": "fast"}

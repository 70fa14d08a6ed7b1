"""A mapped task of which some items failed, done again: only those items, in what was promised,
in what is forecast, and in what the dispatcher does.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import pytest

from athena_prefect.assumptions.validator import AssumptionValidator
from athena_prefect.journal.events import TaskOutcome
from athena_prefect.journal.state import Status
from athena_prefect.monitor.context import ExecutionContext
from athena_prefect.monitor.monitor import ExecutionMonitor
from athena_prefect.orchestrator import PlanOrchestrator
from athena_prefect.plan.model import Plan
from athena_prefect.replanning.engine import AdaptiveReplanningEngine
from athena_prefect.replanning.results import ReplanResult
from athena_prefect.replanning.why import why
from athena_prefect.runtime.adopting import Revision, adopt, priority_of
from athena_prefect.schedule.proposal import claim_of
from athena_prefect.schedule.verification import Flaw, verify
from tests.runtime import simulated
from tests.runtime.simulated import RUN, T0, World
from tests.schedule.rests import ticking

GOOD, BAD = TaskOutcome.SUCCESS, TaskOutcome.FAILURE


def _plan(workers: int) -> Plan:
    return Plan.model_validate(
        {
            "name": "redone",
            "deadline": 1000,
            "runner": {"max_workers": workers},
            "tasks": [
                {"id": "list", "duration": 10},
                {
                    "id": "hash", "duration": 20, "inputs": {"x": "list"}, "map_over": "x",
                    "expected_items": 4, "modes": [{"name": "lite", "duration": 5}],
                },
                {"id": "join", "duration": 10, "inputs": {"hashes": "hash"}},
            ],
            "replanning": {"cooldown": 0},
        }
    )  # fmt: skip


class Run:
    """A run in virtual time, and the monitor that looks at its journal."""

    def __init__(self, plan: Plan) -> None:
        self.world = World(plan)
        self.watch(plan)

    def watch(self, plan: Plan) -> None:
        world = self.world
        context = ExecutionContext(
            plan_run=RUN, clock=world.clock, started_at=T0, journal=world.journal
        )
        self.monitor = ExecutionMonitor(plan, context, samples=60)

    @property
    def engine(self) -> AdaptiveReplanningEngine:
        validator = AssumptionValidator(self.monitor.plan, self.monitor)
        planner = PlanOrchestrator(clock=ticking(0.01), policy=self.monitor.policy, workers=1)
        return AdaptiveReplanningEngine(self.monitor, validator, planner)

    def at(self, seconds: float) -> None:
        """So many seconds after the start of the run."""
        now = (self.world.clock() - T0).total_seconds()
        self.world.clock.advance(timedelta(seconds=seconds - now))

    def end(self, at: float, *failing: int) -> None:
        """All that runs ends then, these items of it badly."""
        self.at(at)
        for body in self.world.running():
            self.world.finish(body, BAD if body.item[1] in failing else GOOD)
        self.world.turn()
        self.monitor.refresh()

    def adopt(self, result: ReplanResult) -> None:
        """The dispatcher goes on by it."""
        world, refusals = self.world, list[str | None]()
        assert result.proposal is not None
        revision = Revision(
            number=result.revision,
            plan=result.new_plan,
            modes=result.modes,
            changes=result.details,
            priority=priority_of(result.proposal.starts, result.new_plan),
            promised=result.acceptance,
            strategy=str(result.strategy),
            reason="drawn",
        )
        world.turns.put(lambda: refusals.append(adopt(world.dispatcher, revision)))
        world.turn()
        assert refusals == [None]
        world.turn()
        self.watch(world.plan)

    @property
    def forecast(self) -> float:
        """The P50 finish, in seconds from the start of the run."""
        found = self.monitor.get_plan_deviation().estimated_completion
        assert found is not None
        return (found - T0).total_seconds()

    def shares_add_up(self) -> float:
        """The slip by `why`, in seconds, which its shares make up."""
        validator = AssumptionValidator(self.monitor.plan, self.monitor)
        told = why(self.monitor, validator.get_violated_assumptions())
        assert told.slip is not None
        total = sum((s.amount for s in told.shares), timedelta(0))
        assert total.total_seconds() == pytest.approx(told.slip.total_seconds(), abs=1e-6)
        return told.slip.total_seconds()


@pytest.fixture
def failed(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """Items 0 to 3 have run, from 10 s to 30 s; those of the parameter failed."""
    monkeypatch.setattr(simulated, "ITEMS", 4)
    run = Run(_plan(workers=4))
    run.world.turn()
    run.end(10)
    run.end(30, *request.param)
    assert run.world.dispatcher.held == {"hash"}
    yield run
    if run.world.end is None:
        run.world.kill()


@pytest.mark.parametrize(("failed", "count"), [((2,), 1), ((1, 3), 2)], indirect=["failed"])
def test_only_what_failed_is_done_again(failed: Run, count: int) -> None:
    run, before = failed, len(failed.world.starts)
    result = run.engine.full_replan("an item failed", {})
    assert result.verification_passed and result.proposal is not None
    spans = result.proposal.spans
    redone = [k for k in range(4) if spans["hash", k][0] >= 30]
    assert len(redone) == count and result.modes == {"hash": "lite"}
    assert result.proposal.starts["hash"] == 30
    # 5 s in the other mode, all at once, and the join.
    assert result.acceptance["p50"] == pytest.approx(45)
    run.adopt(result)
    assert [(i[1], run.world.dispatcher.state.task(*i).attempts[-1].data["mode"])
            for i, _ in run.world.starts[before:]] == [(k, "lite") for k in redone]  # fmt: skip
    assert run.forecast == pytest.approx(45)
    assert run.shares_add_up() == pytest.approx(0, abs=1e-6)
    run.end(35)
    assert not run.monitor.get_plan_deviation().blocked
    assert run.forecast == pytest.approx(45)
    run.end(45)
    assert run.world.end is not None and run.world.end.status == "completed"
    assert run.forecast == pytest.approx(45) and run.shares_add_up() == pytest.approx(0, abs=1e-6)
    assert len(run.world.starts) == before + count + 1, "nothing else ran"


@pytest.mark.parametrize("failed", [(1, 3)], indirect=True)
def test_one_after_the_other_is_not_given_up_between_them(failed: Run) -> None:
    """While one of two items has been done again and the other waits for its turn, all goes on."""
    run = failed
    narrow = run.engine.full_replan("items failed", {})
    run.adopt(replace(narrow, new_plan=narrow.new_plan.model_copy(
        update={"runner": narrow.new_plan.runner.model_copy(update={"max_workers": 1})}
    )))  # fmt: skip
    (first,) = run.world.running()
    assert first.item == ("hash", 1)
    assert run.forecast == pytest.approx(50), "one after the other, and the join"
    run.at(35)
    run.world.finish(first, GOOD)
    run.monitor.refresh()
    assert run.monitor.state.status("hash") is Status.FAILURE, "the other one did not begin yet"
    assert not run.monitor.get_plan_deviation().blocked
    assert run.forecast == pytest.approx(50)
    run.world.turn()
    run.end(40)
    run.end(50)
    assert run.world.end is not None and run.world.end.status == "completed"
    assert run.forecast == pytest.approx(50)


@pytest.mark.parametrize("failed", [(2,)], indirect=True)
def test_the_checker_refuses_to_move_a_finished_item_of_what_is_done_again(failed: Run) -> None:
    proposal = failed.engine.full_replan("an item failed", {}).proposal
    assert proposal is not None
    claim = claim_of(
        proposal.standing, proposal.answer, proposal.levers, proposal.plan, proposal.modes
    )
    assert not verify(claim).objections
    moved = replace(claim, spans={**claim.spans, ("hash", 0): (30.0, 35.0)})
    assert {o.flaw for o in verify(moved).objections} == {Flaw.FINISHED}
    undone = replace(claim, spans={**claim.spans, ("hash", 2): (10.0, 30.0)})
    assert {o.flaw for o in verify(undone).objections} >= {Flaw.PAST}

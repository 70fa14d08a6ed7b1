"""The dispatcher under everything at once: its laws hold after every event, in any order.

In virtual time and without a server. `--hypothesis-profile=search` looks wider.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from itertools import count
from typing import Any
from uuid import UUID

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from athena_prefect.assumptions.validator import AssumptionValidator
from athena_prefect.journal.events import (
    CheckEvent,
    Command,
    CommandKind,
    Reporter,
    RunEvent,
    RunEventKind,
    TaskOutcome,
)
from athena_prefect.journal.state import Status
from athena_prefect.monitor.context import ExecutionContext
from athena_prefect.monitor.monitor import ExecutionMonitor
from athena_prefect.orchestrator import PlanOrchestrator
from athena_prefect.plan.document import as_dict
from athena_prefect.plan.model import Plan
from athena_prefect.replanning.engine import AdaptiveReplanningEngine
from athena_prefect.replanning.evaluation import AdaptiveReplanning
from athena_prefect.replanning.options import Kind, ReplanningOption
from athena_prefect.replanning.results import ReplanResult
from athena_prefect.runtime.adopting import Revision, adopt, priority_of
from athena_prefect.runtime.ending import settled
from athena_prefect.service.rest_storing import figures_of
from tests.runtime.simulated import RUN, T0, World, fenced_off
from tests.schedule.standings import plans

GOOD, BAD = TaskOutcome.SUCCESS, TaskOutcome.FAILURE
ENOUGH = 400
"""Turns in which every plan of these has come to its end."""


@st.composite
def runnable(draw: st.DrawFn) -> Plan:
    """Plans with every lever, time-outs and assumptions of every effect."""
    document = as_dict(draw(plans(least=3, uncertain=True)))
    tasks = document["tasks"]
    for task in tasks:
        if draw(st.booleans()):
            task["rerunnable"] = True
        if draw(st.integers(0, 3)) == 0:
            task["timeout"] = draw(st.integers(1, 6))
        if draw(st.integers(0, 3)) == 0:
            task["success_criteria"] = {"n": {"min": 2}, "relaxed": {"n": {"min": 1}}}
        if draw(st.integers(0, 3)) == 0:
            task["retries"] = draw(st.integers(1, 2))
    optional = {t["id"] for t in tasks if t.get("optional")}
    for task in tasks:
        arcs = [d if isinstance(d, dict) else {"task": d} for d in task.get("depends_on", ())]
        hard = [d["task"] for d in arcs if d.get("kind", "hard") == "hard"]
        hard = [t for t in hard if t not in optional]  # whose result must be there
        if hard and draw(st.integers(0, 2)) == 0:
            task["inputs"] = {"x": draw(st.sampled_from(hard))}
            task |= {"map_over": "x", "expected_items": draw(st.integers(1, 4))}
    names = [t["id"] for t in tasks]
    some = st.lists(st.sampled_from(names), min_size=1, max_size=3, unique=True)
    effects: list[dict[str, Any]] = [
        {"affects": draw(some), "effect": {"duration_factor": 2.0}},
        {"affects": draw(some), "effect": {"capacity": {"cpu": "observed"}}},
        {"affects": draw(some), "effect": {"block": True}},
    ]
    other = [t["id"] for t in tasks if t.get("modes")]
    if other:
        effects.append({"affects": [draw(st.sampled_from(other))], "effect": {"mode": "other"}})
    document["assumptions"] = [
        {"id": f"a{k}", "validation_frequency": "1h", **e} for k, e in enumerate(effects)
    ]
    document["replanning"] = {"policy": {"budget_s": 0.2}}
    if draw(st.booleans()):
        document["deadline"] = draw(st.integers(1, 40))
    if draw(st.booleans()):
        most = document["resources"]["cpu"]["capacity"] + 2
        document["resources"]["cpu"]["max_capacity"] = most
    return Plan.model_validate(document)


def _ticking() -> Callable[[], float]:
    ticks = count()
    return lambda: next(ticks) * 0.05


class Runs(RuleBasedStateMachine):
    """One plan run, and all that may befall it."""

    world: World

    @initialize(plan=runnable())
    def begin(self, plan: Plan) -> None:
        self.world = World(plan)
        self.serial = 0
        self.refused: list[str] = []
        self._watch(plan)

    def _watch(self, plan: Plan) -> None:
        world = self.world
        context = ExecutionContext(
            plan_run=RUN, clock=world.clock, started_at=T0, journal=world.journal
        )
        self.watched = plan
        self.monitor = ExecutionMonitor(plan, context, samples=50)

    @property
    def live(self) -> bool:
        return self.world.end is None

    # -- what happens -----------------------------------------------------------------------

    @precondition(lambda self: self.live)
    @rule()
    def turn(self) -> None:
        self.world.turn()

    @precondition(lambda self: self.live)
    @rule(seconds=st.integers(1, 7))
    def time_passes(self, seconds: int) -> None:
        self.world.clock.advance(timedelta(seconds=seconds))

    @precondition(lambda self: self.world.running())
    @rule(data=st.data(), outcome=st.sampled_from([GOOD, GOOD, TaskOutcome.PARTIAL, BAD, None]))
    def a_body_ends(self, data: st.DataObject, outcome: TaskOutcome | None) -> None:
        self.world.finish(data.draw(st.sampled_from(self.world.running())), outcome)

    @precondition(lambda self: self._may_retry())
    @rule(data=st.data())
    def an_attempt_fails_and_is_retried(self, data: st.DataObject) -> None:
        self.world.fail_and_retry(data.draw(st.sampled_from(self._may_retry())))

    def _may_retry(self) -> list[Any]:
        world = self.world
        tasks = world.plan.tasks
        retries = {t.id: t.retries for t in tasks}
        return [
            b for b in world.running()
            if b.tries <= retries.get(b.item[0], 0) and not self._given_up(b)
        ]  # fmt: skip

    @precondition(lambda self: self.live)
    @rule(data=st.data(), verdict=st.sampled_from(["holds", "violated", "violated", "unknown"]),
          value=st.integers(1, 4))  # fmt: skip
    def an_assumption_is_checked(self, data: st.DataObject, verdict: str, value: int) -> None:
        names = [a.id for a in self.world.plan.assumptions]
        if names:
            self._check(data.draw(st.sampled_from(names)), verdict, value)

    def _check(self, name: str, verdict: str, value: int = 4) -> None:
        self.serial += 1
        self.world.journal.append(
            CheckEvent(
                plan_run=RUN, assumption_id=name, check_id=f"c{self.serial}",
                at=self.world.clock(), verdict=verdict, reported_by=Reporter.CALLER,
                data={"value": value},
            )
        )  # fmt: skip

    @precondition(lambda self: self.live)
    @rule(data=st.data(), kind=st.sampled_from(
        [CommandKind.PAUSE, CommandKind.CONTINUE, CommandKind.SKIP, CommandKind.DONE,
         CommandKind.RERUN]))  # fmt: skip
    def somebody_commands(self, data: st.DataObject, kind: CommandKind) -> None:
        self._command(kind, data.draw(st.sampled_from(self.world.plan.task_ids)))

    def _command(self, kind: CommandKind, task_id: str = "") -> None:
        self.serial += 1
        self.world.journal.append(
            Command(
                plan_run=RUN, command_id=str(UUID(int=5000 + self.serial)), kind=kind,
                at=self.world.clock(), author="somebody", data={"task_id": task_id},
            )
        )  # fmt: skip

    @precondition(lambda self: self.live)
    @rule(data=st.data(), strategy=st.sampled_from(
        [AdaptiveReplanning.LOCAL, AdaptiveReplanning.SEGMENT, AdaptiveReplanning.FULL]),
          meanwhile=st.booleans())  # fmt: skip
    def it_is_replanned(
        self, data: st.DataObject, strategy: AdaptiveReplanning, meanwhile: bool
    ) -> None:
        self._replan(data, strategy, meanwhile)

    def _replan(self, data: st.DataObject, strategy: AdaptiveReplanning, meanwhile: bool) -> None:
        world = self.world
        if world.dispatcher.superseded:
            return
        found = self._option(data, strategy)
        if found is None:
            return
        option, result = found
        assert result.proposal is not None
        revision = Revision(
            number=result.revision, plan=result.new_plan, modes=result.modes,
            changes=result.details,
            priority=priority_of(result.proposal.starts, result.new_plan),
            promised={k: v for k, v in result.acceptance.items() if k != "revision"},
            strategy=str(strategy), reason="drawn", option=option.title,
        )  # fmt: skip
        if meanwhile:  # the run goes on while somebody thinks
            world.turn()
            for body in world.running()[:1]:
                world.finish(body, GOOD)
        before = world.plan

        def in_dispatcher() -> None:
            refusal = adopt(world.dispatcher, revision)
            if refusal is None:
                assert world.plan is revision.plan
            else:
                self.refused.append(refusal)
                assert world.plan is before
                world.dispatcher.let_go()

        world.turns.put(in_dispatcher)
        world.turn()

    def _option(
        self, data: st.DataObject, strategy: AdaptiveReplanning
    ) -> tuple[ReplanningOption, ReplanResult] | None:
        """One of the options that there are for the rest, and its revision."""
        world = self.world
        if self.watched is not world.plan:
            self._watch(world.plan)
        self.monitor.refresh()
        engine = AdaptiveReplanningEngine(
            self.monitor,
            AssumptionValidator(world.plan, self.monitor),
            PlanOrchestrator(clock=_ticking(), policy=self.monitor.policy, workers=1),
        )
        violations = engine.validator.get_violated_assumptions()
        deviation = self.monitor.get_plan_deviation()
        options = engine.get_replanning_options(deviation, violations, strategy=strategy)
        real = [o for o in options if o.kind is not Kind.ABORT]
        if not real:
            return None
        option = data.draw(st.sampled_from(real))
        return option, engine.adopt(option, strategy)

    @precondition(lambda self: self.live)
    @rule(data=st.data(), meanwhile=st.booleans())
    def the_whole_rest_is_replanned(self, data: st.DataObject, meanwhile: bool) -> None:
        self._replan(data, AdaptiveReplanning.FULL, meanwhile)

    @precondition(lambda self: self.live and not self.world.dispatcher.superseded)
    @rule(data=st.data(), strategy=st.sampled_from(
        [AdaptiveReplanning.SEGMENT, AdaptiveReplanning.FULL]))  # fmt: skip
    def another_process_replans_it(self, data: st.DataObject, strategy: AdaptiveReplanning) -> None:
        """As the replanning flow does; the run has not gone past what it found."""
        found = self._option(data, strategy)
        if found is not None:
            option, result = found
            self.world.give(result.new_plan, figures_of(option, result))

    @precondition(lambda self: self.world.handed_over)
    @rule()
    def its_continuation_goes_on(self) -> None:
        running = self.world.running()
        assert all(self._given_up(b) for b in running), "what ran was not waited for"
        self.world.kill()
        self.world.end = None
        self.world.take()

    def _given_up(self, body: Any) -> bool:
        attempts = self.world.truth.task(*body.item).attempts
        return any(a.source == body.source and a.abandoned for a in attempts)

    @precondition(lambda self: self.live and self.world.dispatcher.held)
    @rule()
    def nothing_better_is_found(self) -> None:
        self.world.turns.put(self.world.dispatcher.let_go)

    @precondition(lambda self: self.live)
    @rule(seldom=st.integers(0, 3))
    def its_process_is_killed_and_another_goes_on(self, seldom: int) -> None:
        if seldom:
            return
        self.world.kill()
        self.world.take()

    @precondition(lambda self: not self.live and not self.world.handed_over)
    @rule(data=st.data(), again=st.booleans())
    def it_is_gone_on_with_after_its_end(self, data: st.DataObject, again: bool) -> None:
        if again:
            self._command(CommandKind.RERUN, data.draw(st.sampled_from(self.world.plan.task_ids)))
        self.world.kill()
        self.world.end = None
        self.world.take()

    @precondition(lambda self: self.world.lost)
    @rule(data=st.data(), outcome=st.sampled_from([GOOD, BAD]))
    def a_lost_body_reports(self, data: st.DataObject, outcome: TaskOutcome) -> None:
        body = data.draw(st.sampled_from(self.world.lost))
        self.world.lost.remove(body)
        fenced_off(self.world, body, outcome)

    # -- what holds -------------------------------------------------------------------------

    @invariant()
    def the_journal_folds_to_what_the_dispatcher_knows(self) -> None:
        truth = self.world.truth
        self.world.dispatcher.take_in(fresh=True)
        known = self.world.dispatcher.state
        assert dict(known.tasks) == dict(truth.tasks)
        assert (known.revision, known.paused) == (truth.revision, truth.paused)

    @invariant()
    def a_body_that_ended_well_is_a_success_unless_it_was_given_up(self) -> None:
        truth = self.world.truth
        for body in self.world.bodies:
            found = [a for a in truth.task(*body.item).attempts if a.source == body.source]
            assert len(found) == (body.tries if body.begun else 0)
            for attempt in found[-1:]:
                if body.over and body.outcome is not None and not attempt.abandoned:
                    assert attempt.outcome is body.outcome

    @invariant()
    def one_success_is_in_force_at_most(self) -> None:
        for item, task in self.world.truth.tasks.items():
            good = [
                a for a in task.attempts
                if a.outcome is not None and a.outcome.good
                and not a.abandoned and not a.invalidated
            ]  # fmt: skip
            assert len(good) <= 1, f"{item} has succeeded {len(good)} times"

    @invariant()
    def no_more_run_than_there_are_threads(self) -> None:
        assert len(self.world.running()) <= self.world.plan.runner.max_workers

    @invariant()
    def revisions_are_a_chain(self) -> None:
        numbers = [
            int(e.event.data["revision"])
            for e in self.world.journal.read(RUN)
            if isinstance(e.event, RunEvent) and e.event.kind is RunEventKind.REVISED
        ]
        assert numbers == list(range(2, 2 + len(numbers)))
        assert sorted(self.world.revisions) == [1, *numbers]

    def teardown(self) -> None:
        """Left alone, with nothing against it, every run comes to its end."""
        if not hasattr(self, "world"):
            return
        world = self.world
        if world.error is not None:
            return
        try:
            for name in [a.id for a in world.plan.assumptions]:
                self._check(name, "holds")
            for _ in range(ENOUGH):
                if world.handed_over:
                    self.its_continuation_goes_on()
                if world.end is not None:
                    break
                if world.truth.paused:
                    self._command(CommandKind.CONTINUE)
                if world.dispatcher.held:
                    world.turns.put(world.dispatcher.let_go)
                for body in world.running():
                    world.finish(body, GOOD)
                world.clock.advance(timedelta(seconds=3))
                world.turn()
            assert world.end is not None, f"it does not end: open {world.dispatcher.open}"
            state = world.truth
            left = [t for t in world.plan.required if not settled(state, t)]
            assert (world.end.status == "completed") == (not left), (world.end, left)
            assert not state.commands, "every command is answered"
        finally:
            if world.end is None and world.thread.is_alive():
                world.kill()
            world.recorder.listen(RUN, None)


Runs.TestCase.settings = settings(
    stateful_step_count=50,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
TestRuns = Runs.TestCase


def test_what_maps_over_a_task_that_was_done_by_hand_without_a_result_is_blocked() -> None:
    """It has nothing to map over; the rest of the run goes on."""
    task = {"call": "made:up", "duration": 1}
    plan = Plan.model_validate(
        {
            "name": "mapped-by-hand",
            "tasks": [
                {"id": "before", **task},
                {"id": "made", "depends_on": ["before"], **task},
                {"id": "each", "inputs": {"one": "made"}, "map_over": "one", **task},
                {"id": "beside", "depends_on": ["made"], **task},
            ],
        }
    )
    world = World(plan)
    world.journal.append(
        Command(plan_run=RUN, command_id="by hand", kind=CommandKind.DONE, at=world.clock(),
                data={"task_id": "made"})
    )  # fmt: skip
    while world.end is None:
        world.turn()
        for body in world.running():
            world.finish(body, GOOD)
    assert world.end.status == "failed" and "return a list" in world.end.reason
    assert world.truth.status("each") is Status.BLOCKED and world.truth.status("beside").good

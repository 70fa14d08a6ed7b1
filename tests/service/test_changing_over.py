"""The steps of the replanning flow, cut off anywhere, taken twice and by two; without a server."""

from __future__ import annotations

import importlib.util
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import pytest
from prefect.exceptions import ObjectNotFound
from prefect.states import Running, Scheduled

from athena_prefect.journal.events import RunEvent, RunEventKind, TaskEvent, TaskEventKind
from athena_prefect.journal.state import ExecutionState, fold_entries
from athena_prefect.monitor.context import ExecutionContext
from athena_prefect.monitor.monitor import ExecutionMonitor
from athena_prefect.plan.model import Plan
from athena_prefect.runtime.admission import Earlier, _Look
from athena_prefect.runtime.continuing import (
    changeovers,
    flows_answer,
    last_revised,
    unanswered,
    waiting_revision,
)
from athena_prefect.runtime.seams import VARIABLE
from athena_prefect.service.changing_over import Rest, claim_of, rest_of
from athena_prefect.settings import AthenaSettings
from athena_prefect.storage.db import Database
from athena_prefect.storage.lease import Leases
from athena_prefect.storage.plans import PlanStore
from athena_prefect.storage.replans import replanning_events
from athena_prefect.storage.sql_journal import SqlJournal
from tests.service import seams

PLACES = (
    "evaluated", "options", "chosen", "verified", "stored", "in force", "redeployed",
)  # fmt: skip
LATER = timedelta(seconds=30)
"""When the next one looks: what a process that died has left lying is old enough by then."""


class Server:
    """What the steps ask of Prefect: a plan's deployments, and runs made of them once a key."""

    def __init__(self, plan: str, pool: str | None = "default") -> None:
        self.deployments: dict[str, Any] = {
            name: SimpleNamespace(id=uuid4(), work_pool_name=pool, tags=["athena", "run:old"],
                                  version="old", parameters={})
            for name in (f"{plan}/{plan}.continuation", "replan/replan")
        }  # fmt: skip
        self.runs: dict[str, Any] = {}
        self.state: Any = None
        self.states: dict[UUID, Any] = {}
        """Of flow runs; of all others it is `state`."""
        self.inputs: dict[UUID, Any] = {}

    def read_deployment_by_name(self, name: str) -> Any:
        if name not in self.deployments:
            raise ObjectNotFound(KeyError(name))
        return self.deployments[name]

    def read_flow_run(self, flow_run_id: UUID) -> Any:
        state = self.states.get(flow_run_id, self.state)
        return SimpleNamespace(id=flow_run_id, deployment_id=uuid4(), state=state)

    def set_flow_run_state(self, flow_run_id: UUID, state: Any, force: bool = False) -> None:
        self.states[flow_run_id] = state

    def resume_flow_run(self, flow_run_id: UUID, run_input: Any = None) -> Any:
        paused = self.states[flow_run_id].is_paused()
        if paused:
            self.states[flow_run_id] = Scheduled()
            self.inputs[flow_run_id] = run_input
        status = SimpleNamespace(value="ACCEPT" if paused else "REJECT")
        return SimpleNamespace(status=status, details=None)

    def request(self, method: str, path: str, *, path_params: Any, json: Any) -> Any:
        (found,) = [d for d in self.deployments.values() if str(d.id) == path_params["id"]]
        found.__dict__.update(json)
        return SimpleNamespace(raise_for_status=lambda: None)

    def create_flow_run_from_deployment(
        self, id: UUID, *, idempotency_key: str, **more: Any
    ) -> Any:
        made = SimpleNamespace(id=uuid4(), deployment_id=id, **more)
        return self.runs.setdefault(idempotency_key, made)


class Scene:
    """A run whose first task lasts far longer than was planned.

    `ways`: whether the tasks after it can be done faster, in another mode.
    """

    def __init__(self, settings: AthenaSettings, *, ways: bool = True, **more: Any) -> None:
        fast = [{"name": "fast", "duration": "5s", "quality": 0.9}] if ways else []
        chain: list[dict[str, Any]] = [{"id": "first", "duration": "4s"}]
        for before, name in (("first", "one"), ("one", "two"), ("two", "last")):
            chain.append({"id": name, "duration": "20s", "depends_on": [before], "modes": fast})
        self.plan = Plan.model_validate({"name": "orders", "tasks": chain, **more})
        self.settings = settings
        self.database = Database.open(settings)
        self.store, self.journal = PlanStore(self.database), SqlJournal(self.database)
        self.run, self.now = uuid4(), datetime.now(UTC)
        self.start = self.now - timedelta(seconds=25)
        self.server = Server("orders")
        self.store.open_run(self.run, self.plan, started=self.start, flow_run_id=self.run)
        self.write(RunEventKind.STARTED, revision=1, flow_run_id=str(self.run), at=self.start)
        ExecutionMonitor(
            self.plan,
            ExecutionContext(plan_run=self.run, clock=lambda: self.start, started_at=self.start,
                             journal=self.journal),
        )  # fmt: skip
        self.begin("first", at=self.start)

    def write(self, kind: RunEventKind, *, at: datetime | None = None, **data: Any) -> None:
        event = RunEvent(plan_run=self.run, kind=kind, at=at or self.now, source=str(uuid4()),
                         data=data)  # fmt: skip
        self.journal.append(event)

    def begin(self, task: str, *, at: datetime | None = None) -> None:
        self.journal.append(
            TaskEvent(plan_run=self.run, task_id=task, kind=TaskEventKind.STARTED,
                      at=at or self.now, source=f"{task} 1")
        )  # fmt: skip

    @property
    def state(self) -> ExecutionState:
        return fold_entries(self.journal.read(self.run))

    def rest(self) -> Rest:
        client: Any = self.server
        return Rest(self.run, settings=self.settings, client=client, clock=lambda: self.now)

    def flow(self, flow_run: UUID | None = None) -> Any:
        """The replanning flow's body, its tasks being plain calls."""
        module = flow_file()
        steps = ("evaluate", "find_options", "choose", "verify", "store", "redeploy", "ask")
        for name in (*steps, "take_answer"):
            setattr(module, name, getattr(module, name).fn)
        client: Any = self.server
        module.rest_of = partial(  # type: ignore[attr-defined]
            rest_of, client=client, clock=lambda: self.now, flow_run=flow_run
        )
        module.current_settings = lambda: self.settings  # type: ignore[attr-defined]
        return module.replan.fn

    def replan(self, run: UUID | None = None) -> Any:
        return self.flow()(str(run or self.run), "a test")

    @contextmanager
    def dispatched(self) -> Iterator[None]:
        """Some process holds the run's lease."""
        leases = Leases(self.database)
        lease = leases.acquire(self.run, "a test", ttl=timedelta(minutes=5))
        try:
            yield
        finally:
            leases.release(lease)

    def holds(self) -> None:
        """One revision, in force, decided once; one continuation, and it says so."""
        entries = self.journal.read(self.run)
        made = [d.revision for d in self.store.decisions(plan_run=self.run)]
        assert sorted(made) == [1, 2]
        events = [e.event for e in entries if isinstance(e.event, RunEvent)]
        revised = [e for e in events if e.kind is RunEventKind.REVISED]
        assert [r.data["revision"] for r in revised] == [2]
        assert revised[0].data["continuation"] is True
        assert revised[0].data["modes"] and "last" in revised[0].data["starts"]
        assert self.state.revision == 2 and self.state.replans == 1
        ids = [d.id for d in self.store.decisions(plan_run=self.run)]
        decided = replanning_events(self.database, ids)
        assert [d.outcome for d in decided if d.new_plan_id in ids] == ["adopted"]
        (run,) = self.server.runs.values()
        assert run.parameters == {"plan_run": str(self.run), "revision": 2}
        deployment = self.server.deployments["orders/orders.continuation"]
        assert deployment.version.endswith("-r2") and deployment.parameters == run.parameters
        assert deployment.tags == ["athena", "revision:2", f"run:{str(self.run)[:8]}"]
        assert waiting_revision(entries) == 2


def flow_file() -> ModuleType:
    file = Path(__file__).parents[2] / "flows" / "replan.py"
    spec = importlib.util.spec_from_file_location("replan_flow", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def scene(settings: AthenaSettings, monkeypatch: pytest.MonkeyPatch) -> Scene:
    monkeypatch.setenv(VARIABLE, "tests.service.seams:reached")
    seams.at.clear()
    return Scene(settings)


def test_a_run_that_is_late_gets_another_plan(scene: Scene) -> None:
    done = scene.replan()
    assert done.name == "Replanned", done.message
    scene.holds()
    figures = scene.store.figures(scene.run, 2)
    assert figures is not None and set(figures["starts"]) >= {"one", "two", "last"}
    assert scene.store.revision(scene.run, 2).task_ids == scene.plan.task_ids


@pytest.mark.parametrize("place", PLACES)
def test_a_kill_at_any_place_leaves_one_revision_and_one_continuation(
    scene: Scene, place: str
) -> None:
    seams.at.append(place)
    with pytest.raises(seams.Killed):
        scene.replan()
    scene.now += LATER
    done = scene.replan()
    early = place in ("evaluated", "options", "chosen", "verified")
    assert done.name == ("Replanned" if early else "AlreadyReplanned")
    assert scene.replan().name == "AlreadyReplanned"
    scene.holds()


def test_what_was_stored_a_moment_ago_is_anothers_to_bring_into_force(scene: Scene) -> None:
    seams.at.append("stored")
    with pytest.raises(seams.Killed):
        scene.replan()
    scene.now = datetime.now(UTC)
    done = scene.replan()
    assert (done.name, scene.state.revision) == ("AlreadyReplanned", 1)
    assert "another replan was faster" in done.message


def test_where_a_process_runs_the_plan_that_one_starts_the_continuation(scene: Scene) -> None:
    with scene.dispatched():
        assert scene.replan().name == "Replanned"
    assert not scene.server.runs
    assert scene.server.deployments["orders/orders.continuation"].version.endswith("-r2")


def test_the_same_trigger_twice_makes_one_revision(scene: Scene) -> None:
    assert scene.replan().name == "Replanned"
    assert scene.replan().name == "AlreadyReplanned"
    scene.holds()


def test_of_two_at_once_one_gives_way_before_it_begins(scene: Scene) -> None:
    client: Any = scene.server
    with rest_of(scene.run, settings=scene.settings, client=client) as rest:
        assert isinstance(rest, Rest)
        assert Leases(scene.database).current(claim_of(scene.run)) is not None
        lost = scene.replan()
        assert lost.name == "AlreadyReplanned" and "under way" in lost.message
    assert Leases(scene.database).current(claim_of(scene.run)) is None
    assert scene.replan().name == "Replanned"


def test_of_two_that_store_at_once_one_wins(scene: Scene) -> None:
    """Also where the claim of the first has run out."""
    ready = []
    for rest in (scene.rest(), scene.rest()):
        assert rest.evaluate().replans
        option = rest.choose(rest.options())
        assert option is not None
        ready.append((rest, option, rest.verify(option)))
    results: list[Any] = []
    threads = [
        threading.Thread(target=lambda r=r, o=o, v=v: results.append(r.store_revision(o, v)))
        for r, o, v in ready
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(r.stored for r in results) == [False, True]
    scene.rest().redeploy(2)
    scene.holds()


def test_a_run_that_has_gone_past_it_is_solved_anew(scene: Scene) -> None:
    rest = scene.rest()
    assert rest.evaluate().replans
    option = rest.choose(rest.options())
    assert option is not None
    result = rest.verify(option)
    scene.begin(next(iter(result.modes)))
    found = rest.store_revision(option, result)
    assert (found.stored, found.again) == (False, True)
    assert "has begun meanwhile" in found.reason
    assert scene.state.revision == 1


@pytest.mark.parametrize(
    ("more", "name", "why"),
    [
        ({"replanning": {"decide": "advise"}}, "Advised", "decide: advise"),
        ({"replanning": {"policy": {"segment_slip": 9}}}, "NothingToDo", "its own process"),
        ({"replanning": {"policy": {"tolerated_slip": 9, "segment_slip": 9}}}, "NothingToDo", ""),
        ({"replanning": {"max_replans": 0}}, "NothingToDo", "used up"),
    ],
)
def test_what_is_not_this_flows_to_do(
    settings: AthenaSettings, more: dict[str, Any], name: str, why: str
) -> None:
    scene = Scene(settings, **more)
    done = scene.replan()
    assert done.name == name and why in done.message
    assert scene.state.revision == 1 and not scene.server.runs


def test_a_run_that_is_only_monitored_is_advised_about(settings: AthenaSettings) -> None:
    scene = Scene(settings)
    other = uuid4()
    scene.store.open_run(other, scene.plan, started=scene.start, flow_run_id=other)
    for entry in scene.journal.read(scene.run):
        event = entry.event
        if isinstance(event, RunEvent):
            data = {**event.data, "attached": True} if event.kind == "started" else event.data
            copy: Any = RunEvent(plan_run=other, kind=event.kind, at=event.at, data=data)
        else:
            assert isinstance(event, TaskEvent)
            copy = TaskEvent(plan_run=other, task_id=event.task_id, kind=event.kind, at=event.at,
                             source=event.source)  # fmt: skip
        scene.journal.append(copy)
    done = scene.replan(other)
    assert done.name == "Advised" and "only monitored" in done.message


def test_a_run_that_is_served_or_over_or_unknown_is_left_alone(scene: Scene) -> None:
    scene.write(RunEventKind.PAUSED)
    assert "paused" in scene.replan().message
    scene.write(RunEventKind.CONTINUED)
    scene.server.deployments["orders/orders.continuation"].work_pool_name = None
    assert "its own process" in scene.replan().message
    scene.write(RunEventKind.ENDED, status="completed")
    assert "the run is over" in scene.replan().message
    assert "no plan run" in scene.replan(uuid4()).message


def test_a_run_that_changes_over_still_works_for_those_that_would_overlap(scene: Scene) -> None:
    with scene.dispatched():
        assert scene.replan().name == "Replanned"
    asks: Any = SimpleNamespace(id=uuid4(), deployment_id=uuid4())
    client: Any = scene.server

    def earlier(after: timedelta) -> Earlier:
        look = _Look(plan=scene.plan, flow_run=asks, client=client, settings=scene.settings,
                     clock=lambda: scene.now + after)  # fmt: skip
        (found,) = look._recorded()
        return found

    assert earlier(timedelta(0)).works, "nobody holds the lease, and somebody will"
    assert not earlier(timedelta(minutes=11)).works, "nobody ever did"
    other = uuid4()
    scene.write(RunEventKind.RESUMED, revision=2, flow_run_id=str(other))
    scene.server.state = Running()
    found = earlier(timedelta(minutes=11))
    assert found.works and found.flow_run_id == other, "what is to be cancelled, if anything"


def test_who_waits_for_an_answer_gets_one(settings: AthenaSettings) -> None:
    scene = Scene(settings, replanning={"max_replans": 0})
    scene.write(RunEventKind.PROPOSED, handed_over=True)
    asked = unanswered(scene.journal.read(scene.run))
    assert asked is not None
    scene.replan()
    entries = scene.journal.read(scene.run)
    assert unanswered(entries) is None
    answer = flows_answer(entries, asked[0])
    assert answer is not None and "used up" in answer
    assert flows_answer(entries, entries[-1].position) is None, "it rests on what came before"


def test_a_run_that_asks_people_itself_waits_for_no_flow(settings: AthenaSettings) -> None:
    scene = Scene(settings)
    scene.write(RunEventKind.PROPOSED, handed_over=True, options=[{"option_id": 0}])
    scene.write(RunEventKind.PROPOSED, escalate=True, options=[])
    assert unanswered(scene.journal.read(scene.run)) is not None
    scene.write(RunEventKind.PROPOSED, options=[{"option_id": 0}])
    assert unanswered(scene.journal.read(scene.run)) is None


def leaves_it_to_the_runs_own_process(scene: Scene) -> None:
    done = scene.replan()
    assert done.name == "NothingToDo" and "its own process sees to it" in done.message
    assert "the finish slips" in done.message, "it is late, and greater than LOCAL"
    assert scene.state.revision == 1 and not scene.server.runs
    assert scene.server.deployments["orders/orders.continuation"].version == "old"


def test_where_nothing_can_be_changed_no_flow_run_is_begun_for_a_promise(
    settings: AthenaSettings,
) -> None:
    scene = Scene(settings, ways=False)
    scene.write(RunEventKind.PROPOSED, handed_over=True)
    leaves_it_to_the_runs_own_process(scene)
    assert unanswered(scene.journal.read(scene.run)) is None, "whoever waits is told"


def test_where_all_has_begun_no_flow_run_is_begun(scene: Scene) -> None:
    for task in ("one", "two", "last"):
        scene.begin(task)
    scene.now += timedelta(minutes=2)
    leaves_it_to_the_runs_own_process(scene)


def test_what_only_promises_is_not_stored_for_a_continuation(settings: AthenaSettings) -> None:
    """Where the last task that it changes has begun since it was evaluated."""
    scene = Scene(settings)
    rest = scene.rest()
    assert rest.evaluate().replans
    (promise,) = [o for o in rest.options() if o.only_promises]
    found = rest.store_revision(promise, rest.verify(promise))
    assert (found.stored, found.again) == (False, True)
    assert "nothing can be changed" in found.reason
    assert scene.state.revision == 1


def test_nothing_is_started_for_a_run_that_ended_while_it_drained(scene: Scene) -> None:
    rest = scene.rest()
    assert rest.evaluate().replans
    option = rest.choose(rest.options())
    assert option is not None
    assert rest.store_revision(option, rest.verify(option)).stored
    scene.write(RunEventKind.ENDED, status="completed")
    assert rest.redeploy(2).flow_run_id is None
    assert not scene.server.runs


def test_what_the_journal_says_of_a_change_over(scene: Scene) -> None:
    assert waiting_revision(scene.journal.read(scene.run)) is None
    assert scene.replan().name == "Replanned"
    assert last_revised(scene.journal.read(scene.run)) == scene.now
    took = timedelta(seconds=7)
    scene.write(RunEventKind.RESUMED, revision=2, flow_run_id=str(uuid4()), at=scene.now + took)
    entries = scene.journal.read(scene.run)
    assert waiting_revision(entries) is None
    assert changeovers(entries) == (took,)
    scene.write(RunEventKind.REVISED, revision=3, at=scene.now + took)
    assert waiting_revision(scene.journal.read(scene.run)) is None, "adopted in place"
    scene.write(RunEventKind.REVISED, revision=4, continuation=True, at=scene.now + took)
    assert waiting_revision(scene.journal.read(scene.run)) == 4
    scene.write(RunEventKind.ENDED, status="failed")
    assert waiting_revision(scene.journal.read(scene.run)) is None

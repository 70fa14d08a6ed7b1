"""A deployed run that goes late changes over to its continuation, and nothing is done twice."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId

from athena_prefect.journal.events import Event, RunEvent, RunEventKind
from athena_prefect.journal.state import ExecutionState, fold_entries
from athena_prefect.plan.model import Plan
from athena_prefect.runtime.events import emit
from athena_prefect.runtime.recorder import recording_of
from tests.chaos.deployed import PATIENCE, Installation, wait_for
from tests.chaos.support import starts
from tests.chaos.test_deployed import runs_of

pytestmark = [pytest.mark.prefect, pytest.mark.slow]

slow = pytest.mark.skipif(
    not os.environ.get("ATHENA_SLOW_TESTS"), reason="takes minutes: set ATHENA_SLOW_TESTS=1"
)
AUTOMATION = "athena: replan what deviates"


class Late:
    """A deployed plan whose first task lasts until it is told to end, and a run of it.

    It is planned to take seconds, so the run goes late; two of the three tasks after it
    can be done faster, in another mode.
    """

    def __init__(
        self,
        installation: Installation,
        name: str,
        folder: Path,
        env: Mapping[str, str] | None = None,
        start: bool = True,
        **more: Any,
    ) -> None:
        self.installation, self.name, self.folder = installation, name, folder
        folder.mkdir()
        self.plan = Plan.load(installation.write(name, self.document(**more)))
        assert self.plan.source is not None
        seam = {"ATHENA_SEAM": "deeds:killed_at", "ATHENA_SEAM_FILE": str(folder / "seam")}
        # On a busy machine a flow takes longer than the run's own process waits for it.
        patient = {"DEEDS_HANDED_OVER_SECONDS": str(PATIENCE)}
        installation.deploy(self.plan.source, env={**(env or seam), **patient})
        if start:
            self.start()

    def document(self, **more: Any) -> dict[str, Any]:
        def noted(name: str, after: str, **more: Any) -> dict[str, Any]:
            given = {"folder": str(self.folder), "name": name, "seconds": 0.2}
            return {
                "id": name, "call": "deeds:note", "with": given, "inputs": {}, "duration": "20s",
                "depends_on": [after], **more,
            }  # fmt: skip

        fast = [{"name": "fast", "duration": "5s", "quality": 0.9}]
        waits = {"path": str(self.folder / "go"), "seconds": 1200}
        first = {"id": "first", "call": "deeds:wait_for_file", "with": waits, "duration": "4s"}
        return {
            "tasks": [
                first, noted("one", "first", modes=fast), noted("two", "one", modes=fast),
                noted("last", "two", duration="1s"),
            ],
            "replanning": {
                "max_replans": 1, "policy": {"tolerated_slip": 0.15, "segment_slip": 0.15},
            },
            **more,
        }  # fmt: skip

    def start(self) -> None:
        with self.installation.client() as client:
            deployment = client.read_deployment_by_name(f"{self.name}/{self.name}")
            self.run = UUID(str(client.create_flow_run_from_deployment(deployment.id).id))

    # -- what is known ----------------------------------------------------------------------

    @property
    def events(self) -> list[Event]:
        journal = recording_of(self.installation.settings, self.plan).open_journal()
        return [e.event for e in journal.read(self.run)]

    def of_kind(self, kind: RunEventKind) -> list[RunEvent]:
        return [e for e in self.events if isinstance(e, RunEvent) and e.kind is kind]

    @property
    def state(self) -> ExecutionState:
        journal = recording_of(self.installation.settings, self.plan).open_journal()
        return fold_entries(journal.read(self.run))

    def flow_runs(self) -> list[Any]:
        """The flow runs that took the plan run up, the oldest first."""
        kinds = (RunEventKind.STARTED, RunEventKind.RESUMED)
        ids = [e.data["flow_run_id"] for e in self.events
               if isinstance(e, RunEvent) and e.kind in kinds]  # fmt: skip
        with self.installation.client() as client:
            return [client.read_flow_run(UUID(i)) for i in dict.fromkeys(ids)]

    def replanning(self) -> list[Any]:
        """The replanning flows that were started for the run."""
        with self.installation.client() as client:
            deployment = client.read_deployment_by_name("replan/replan")
            runs = runs_of(client, deployment)
        return [r for r in runs if r.parameters.get("plan_run") == str(self.run)]

    def replanning_over(self) -> list[str]:
        """Names of the final states of the replanning flows, when all of them are over.

        But for those that no worker could begin: a busy server says 503, and Prefect counts
        them as crashed.
        """
        found = wait_for(
            f"the end of the replanning flows of {self.name}",
            lambda: (r := self.replanning()) and all(x.state.is_final() for x in r) and r,
        )
        return [
            r.state.name
            for r in found
            if not (r.state.is_crashed() and str(r.state.message).startswith("Failed to submit"))
        ]

    # -- what happens -----------------------------------------------------------------------

    def revised(self) -> RunEvent:
        wait_for(f"a revision of {self.name}", lambda: self.of_kind(RunEventKind.REVISED))
        return self.of_kind(RunEventKind.REVISED)[0]

    def drains(self) -> None:
        """Wait until the dispatcher has seen the revision: until then it goes on by the old one."""
        places = self.folder / "seam.places"
        wait_for(
            f"{self.name} drains",
            lambda: places.exists() and "draining" in places.read_text().splitlines(),
        )

    def let_go(self) -> None:
        """The first task ends."""
        (self.folder / "go").touch()

    def ends(self, *, cut_off: Sequence[str] = ()) -> None:
        """The plan is finished by its continuation; what had succeeded is not repeated.

        `cut_off` may have begun when their process died.
        """
        try:
            wait_for(f"the end of {self.name}", lambda: self.state.end_status)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.installation.words()}") from None
        state = self.state
        assert state.end_status == "completed", (state.end_reason, self.installation.words())
        assert (state.revision, state.replans) == (2, 1)
        assert dict(starts(self.folder)) == {"one": 1, "two": 1, "last": 1}
        once = set(self.plan.task_ids) - set(cut_off)
        assert all(len(state.task(t).attempts) == 1 for t in once)
        assert all(state.task(t).in_force for t in self.plan.task_ids)
        continued = [r for r in self.flow_runs() if r.parameters.get("revision") == 2]
        assert len(continued) == 1, "one continuation"
        assert len(self.of_kind(RunEventKind.REVISED)) == 1
        assert not state.gaps


def test_a_late_run_changes_over_to_its_continuation(
    installation: Installation, tmp_path: Path
) -> None:
    late = Late(installation, "late", tmp_path / "late")
    revised = late.revised()
    assert revised.data["strategy"] in ("segment", "full")
    assert revised.data["continuation"] is True
    late.drains()
    late.let_go()
    late.ends()
    assert {t: late.state.task(t).attempts[0].data["mode"] for t in revised.data["modes"]} == (
        revised.data["modes"]
    )
    with installation.client() as client:
        old, new = wait_for(
            "both final states",
            lambda: (r := late.flow_runs()) and all(x.state.is_final() for x in r) and r,
        )
        assert (old.state.type.value, old.state.name) == ("COMPLETED", "Superseded")
        assert str(new.id) in old.state.message
        assert new.state.name == "Completed"
        deployment = client.read_deployment_by_name("late/late.continuation")
        assert new.deployment_id == deployment.id
        assert deployment.version is not None and deployment.version.endswith("-r2")
        assert deployment.parameters == {"plan_run": str(late.run), "revision": 2}
        assert {"revision:2", f"run:{str(late.run)[:8]}", "athena"} <= set(deployment.tags)
        shown = wait_for(
            "the carried task",
            lambda: {
                t.name: t.state.name
                for t in client.read_task_runs(
                    flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[new.id]))
                )
                if t.state
            },
        )
    assert shown["first"] == "Carried"
    ends = late.replanning_over()
    assert ends.count("Replanned") == 1
    assert set(ends) <= {"Replanned", "AlreadyReplanned", "NothingToDo"}
    (superseded,) = late.of_kind(RunEventKind.SUPERSEDED)
    assert superseded.data == {"revision": 2, "flow_run_id": str(old.id)}


@slow
def test_where_nothing_can_be_changed_the_same_flow_run_goes_on(
    installation: Installation, tmp_path: Path
) -> None:
    """Only a later finish is promised: that needs no flow run, and no second revision."""
    waits = {"path": str(tmp_path / "promised" / "go"), "seconds": 1200}
    note = {"folder": str(tmp_path / "promised"), "name": "last", "seconds": 0.2}
    tasks = [
        {"id": "first", "call": "deeds:wait_for_file", "with": waits, "duration": "4s"},
        {"id": "last", "call": "deeds:note", "with": note, "duration": "1s",
         "depends_on": ["first"]},
    ]  # fmt: skip
    late = Late(installation, "promised", tmp_path / "promised", tasks=tasks)
    revised = late.revised()
    assert revised.data["strategy"] in ("segment", "full") and revised.data["changes"] == []
    assert not revised.data.get("continuation")
    deviated(late)
    ends = late.replanning_over()
    assert set(ends) <= {"NothingToDo", "AlreadyReplanned"}
    late.let_go()
    wait_for(f"the end of {late.name}", lambda: late.state.end_status)
    assert (late.state.end_status, late.state.revision) == ("completed", 2)
    (only,) = late.flow_runs()
    with installation.client() as client:
        final = wait_for(
            "its final state",
            lambda: (s := client.read_flow_run(only.id).state) and s.is_final() and s,
        )
    assert final.name == "Completed"


def deviated(late: Late) -> None:
    """The event that the automation waits for, told by somebody else once more."""
    with late.installation.here():
        assert emit(
            "athena.plan.deviated", late.name, key=str(uuid4()), at=datetime.now(UTC),
            plan_run=late.run,
        )  # fmt: skip


@slow
def test_without_automations_the_watching_flow_does_it(
    installation: Installation, tmp_path: Path
) -> None:
    late = Late(installation, "unwatched", tmp_path / "unwatched", start=False)
    with installation.client() as client:
        (automation,) = client.read_automations_by_name(AUTOMATION)
        client.pause_automation(automation.id)
        try:
            late.start()
            late.revised()
            late.let_go()
            late.ends()
            triggers = {r.parameters["trigger"] for r in late.replanning()}
        finally:
            client.resume_automation(automation.id)
    assert triggers == {"watch-plan"}


@slow
def test_a_worker_that_is_killed_in_the_middle(installation: Installation, tmp_path: Path) -> None:
    late = Late(installation, "workerless", tmp_path / "workerless")
    late.revised()
    installation.stop(installation.worker, signal.SIGKILL)
    late.let_go()
    installation.start_worker()
    # Looks that were killed hold the watching flow's slots for as long as Prefect counts them.
    late.ends(cut_off=["first"])
    assert not late.of_kind(RunEventKind.SUPERSEDED), "the one that drained was killed"


@slow
def test_a_server_that_restarts_in_the_middle(installation: Installation, tmp_path: Path) -> None:
    late = Late(installation, "serverless", tmp_path / "serverless")
    late.revised()
    installation.stop(installation.server, signal.SIGKILL)
    late.let_go()
    wait_for("the old run has drained", lambda: late.of_kind(RunEventKind.SUPERSEDED))
    installation.start_server()
    late.ends()


@slow
def test_two_plans_at_once_and_every_event_twice(
    installation: Installation, tmp_path: Path
) -> None:
    both = [Late(installation, name, tmp_path / name) for name in ("left", "right")]
    for late in both:
        wait_for(f"a breach of {late.name}", lambda x=late: x.state.breaches)  # type: ignore[misc]
        deviated(late)
        deviated(late)
    for late in both:
        late.revised()
        late.let_go()
    for late in both:
        late.ends()
        ends = late.replanning_over()
        assert len(late.replanning()) >= 3, "the event was delivered as often as it was told"
        assert ends.count("Replanned") == 1
        assert set(ends) <= {"Replanned", "AlreadyReplanned", "NothingToDo"}


@slow
@pytest.mark.parametrize("place", ["verified", "stored", "in force", "redeployed", "drained"])
def test_a_kill_between_two_steps(installation: Installation, tmp_path: Path, place: str) -> None:
    name = f"killed-{place.replace(' ', '-')}"
    seam = tmp_path / "seam"
    seam.write_text(place)
    env = {"ATHENA_SEAM": "deeds:killed_at", "ATHENA_SEAM_FILE": str(seam)}
    late = Late(installation, name, tmp_path / name, env=env)
    late.revised()
    late.let_go()
    late.ends()
    assert not seam.exists(), "the kill met nobody"

"""A deployed run that goes late changes over to its continuation, and nothing is done twice."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId

from athena_prefect.journal.events import Event, RunEvent, RunEventKind
from athena_prefect.journal.state import ExecutionState, fold_entries
from athena_prefect.plan.model import Plan
from athena_prefect.runtime.session import recording_of
from tests.chaos.deployed import Installation, wait_for
from tests.chaos.support import starts

pytestmark = [pytest.mark.prefect, pytest.mark.slow]


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    made = Installation(tmp_path_factory.mktemp("installation"))
    try:
        made.start_server()
        made.start_worker()
        wait_for("the work pool", made.pools)
        yield made
    finally:
        made.close()


class Late:
    """A deployed plan whose first task lasts until it is told to end, and a run of it.

    It is planned to take seconds, so the run goes late; two of the three tasks after it
    can be done faster, in another mode.
    """

    def __init__(self, installation: Installation, name: str, folder: Path, **more: Any) -> None:
        self.installation, self.name, self.folder = installation, name, folder
        folder.mkdir()
        self.plan = Plan.load(installation.write(name, self.document(**more)))
        assert self.plan.source is not None
        installation.deploy(self.plan.source)
        self.start()

    def document(self, **more: Any) -> dict[str, Any]:
        def noted(name: str, after: str, **more: Any) -> dict[str, Any]:
            given = {"folder": str(self.folder), "name": name, "seconds": 0.2}
            return {
                "id": name, "call": "deeds:note", "with": given, "inputs": {}, "duration": "20s",
                "depends_on": [after], **more,
            }  # fmt: skip

        fast = [{"name": "fast", "duration": "5s", "quality": 0.9}]
        waits = {"path": str(self.folder / "go"), "seconds": 300}
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

    # -- what happens -----------------------------------------------------------------------

    def revised(self) -> RunEvent:
        wait_for(f"a revision of {self.name}", lambda: self.of_kind(RunEventKind.REVISED))
        return self.of_kind(RunEventKind.REVISED)[0]

    def let_go(self) -> None:
        """The first task ends."""
        (self.folder / "go").touch()

    def ends(self) -> None:
        """The plan is finished by its continuation; what had succeeded is not repeated."""
        try:
            wait_for(f"the end of {self.name}", lambda: self.state.end_status)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.installation.words()}") from None
        state = self.state
        assert state.end_status == "completed", (state.end_reason, self.installation.words())
        assert (state.revision, state.replans) == (2, 1)
        assert dict(starts(self.folder)) == {"one": 1, "two": 1, "last": 1}
        assert all(len(state.task(t).attempts) == 1 for t in self.plan.task_ids)
        assert len(self.of_kind(RunEventKind.REVISED)) == 1
        assert not state.gaps


def test_a_late_run_changes_over_to_its_continuation(
    installation: Installation, tmp_path: Path
) -> None:
    late = Late(installation, "late", tmp_path / "late")
    revised = late.revised()
    assert revised.data["strategy"] in ("segment", "full")
    assert revised.data["continuation"] is True
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
    (superseded,) = late.of_kind(RunEventKind.SUPERSEDED)
    assert superseded.data == {"revision": 2, "flow_run_id": str(old.id)}

"""People are asked about a deployed run, by a form of the replanning flow, and it changes over."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from prefect.exceptions import PrefectHTTPStatusError

from athena_prefect.journal.events import RunEvent, RunEventKind
from athena_prefect.service.showing import choose
from tests.chaos.deployed import Installation, wait_for
from tests.chaos.support import starts
from tests.chaos.test_change_over import Late

pytestmark = [pytest.mark.prefect, pytest.mark.slow]

slow = pytest.mark.skipif(
    not os.environ.get("ATHENA_SLOW_TESTS"), reason="takes minutes: set ATHENA_SLOW_TESTS=1"
)
POLICY = {"tolerated_slip": 0.15, "segment_slip": 0.15}


class LateAndAsked(Late):
    """A late run about which people are asked, once."""

    def __init__(self, installation: Installation, name: str, folder: Path, **ask: Any) -> None:
        replanning = {"decide": "ask", "max_replans": 1, "policy": POLICY, **ask}
        super().__init__(installation, name, folder, replanning=replanning)

    def told(self) -> list[str]:
        """What happened to the run, and to the flows that were to ask, for a test that failed."""
        events = [e for e in self.events if isinstance(e, RunEvent)]
        flows = [f"{r.name}: {r.state.name} {r.state.message}" for r in self.replanning()]
        return [f"{e.at:%H:%M:%S} {e.kind} {e.data.get('reason', '')}" for e in events] + flows

    def asks(self) -> Any:
        """The flow run that shows the form, once it does."""
        try:
            wait_for(f"a question about {self.name}", lambda: self.of_kind(RunEventKind.ASKED))
        except AssertionError as error:
            raise AssertionError(f"{error}: {self.told()}\n{self.installation.words()}") from None
        asked = self.of_kind(RunEventKind.ASKED)[-1]

        def paused() -> Any:
            with self.installation.client() as client:
                found = client.read_flow_run(UUID(asked.data["flow_run"]))
            return found.state is not None and found.state.is_paused() and found

        return wait_for(f"the form about {self.name}", paused)


def resumed(client: Any, form: Any, **answer: str) -> str:
    """What the server says to an answer in the form; sent again while it is too busy."""

    def said() -> str | None:
        try:
            return str(client.resume_flow_run(form.id, run_input=answer).status.value)
        except PrefectHTTPStatusError as error:
            if error.response.status_code < 500:
                raise
            return None

    return str(wait_for("the server's word on an answer", said))


def test_an_answer_in_the_form_changes_a_deployed_run_over(
    installation: Installation, tmp_path: Path
) -> None:
    late = LateAndAsked(installation, "asked", tmp_path / "asked")
    form = late.asks()
    assert not late.of_kind(RunEventKind.REVISED), "nothing changes before somebody answers"
    with installation.client() as client:
        keys = form.state.state_details.run_input_keyset
        text = client.read_flow_run_input(form.id, keys["description"])
        schema = client.read_flow_run_input(form.id, keys["schema"])
        assert "Abort and escalate" in text and "Carry on as planned" in schema
        best = late.of_kind(RunEventKind.ASKED)[-1].data
        choice = f"{best['recommended']}: {best['option']} (recommended)"
        assert resumed(client, form, choice="9: no such") == "REJECT"
        assert resumed(client, form, choice=choice, name="Ada") == "ACCEPT"
        assert resumed(client, form, choice=choice, name="Kim") != "ACCEPT", "one answer counts"
    revised = late.revised()
    assert revised.data["author"] == "Ada (claimed)" and revised.data["continuation"] is True
    late.drains()
    late.let_go()
    late.ends()
    assert "Replanned" in late.replanning_over()


@slow
def test_an_answer_by_command_changes_a_deployed_run_over(
    installation: Installation, tmp_path: Path
) -> None:
    late = LateAndAsked(installation, "by-command", tmp_path / "by-command")
    late.asks()
    best = late.of_kind(RunEventKind.ASKED)[-1].data["recommended"]
    with installation.here():
        told = choose(str(late.run), best, settings=installation.settings)
    assert told.told is True
    late.revised()
    late.drains()
    late.let_go()
    late.ends()


@slow
@pytest.mark.parametrize("unanswered", ["carry_on", "recommended"])
def test_nobody_answers_and_the_processes_that_asked_are_dead(
    installation: Installation, tmp_path: Path, unanswered: str
) -> None:
    """The watching flow does what the plan says, though neither flow nor run is there."""
    name = f"silent-{unanswered.replace('_', '-')}"
    late = LateAndAsked(
        installation, name, tmp_path / name, answer_within="40s", unanswered=unanswered
    )
    late.asks()
    installation.stop(installation.worker, signal.SIGKILL)
    installation.start_worker()
    # The run that is started again works meanwhile: over, it would need no answer.
    wait_for(f"what {name} says", lambda: late.of_kind(RunEventKind.ANSWERED))
    if unanswered == "recommended":
        late.revised()
        late.drains()
        late.let_go()
        late.ends(cut_off=["first"])
        return
    late.let_go()
    wait_for(f"the end of {name}", lambda: late.state.end_status, 600.0)
    assert late.state.end_status == "completed" and late.state.revision == 1
    assert dict(starts(late.folder)) == {"one": 1, "two": 1, "last": 1}
    (answered,) = late.of_kind(RunEventKind.ANSWERED)
    assert answered.data["unanswered"] is True and answered.data["wish"] is None

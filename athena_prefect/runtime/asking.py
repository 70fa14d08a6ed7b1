"""The form in Prefect's UI by which a person chooses an option.

It is a flow run of its own, which is paused until it is resumed with an answer: no
process waits in it. Prefect's open-source server knows no users, so the form asks for
a name, which is kept as claimed.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal
from uuid import UUID, uuid4

import httpx

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.input import RunInput

logger = logging.getLogger(__name__)

FLOW = "athena.replan.answer"
"""The flow of the runs that carry forms."""
CARRY_ON = "Carry on as planned"
"""The choice that changes nothing."""
GRACE = timedelta(seconds=10)
"""How much longer the form may be resumed than the answer is waited for, so that one that is sent
in the last second is not refused by the server before anybody has read it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What somebody has chosen."""

    title: str | None
    """Of an option; None to carry on."""
    name: str
    """As claimed; empty where none was given."""
    withdrawn: bool = False
    """The flow run was ended by hand: nobody answers through it any more."""


@dataclass(slots=True, kw_only=True)
class Form:
    """A form that is open."""

    client: SyncPrefectClient
    flow_run: UUID
    keyset: Mapping[str, str]
    choices: Mapping[str, str | None]
    """What the form shows → title of the option, None to carry on."""
    said: bool = field(default=False)

    def answer(self) -> Answer | None:
        """What was chosen; None while nobody has. Raises httpx.HTTPError."""
        state = self.client.read_flow_run(self.flow_run).state
        if state is None or state.is_paused():
            return None
        if not state.is_running():
            return Answer(title=None, name="", withdrawn=True)
        said = json.loads(self.client.read_flow_run_input(self.flow_run, self.keyset["response"]))
        return Answer(
            title=self.choices[said["choice"]], name=" ".join(str(said.get("name", "")).split())
        )

    def close(self, name: str, message: str) -> None:
        """End the flow run. A server that does not answer is logged."""
        from prefect.states import Completed

        state: Any = Completed(name=name, message=message)
        try:
            self.client.set_flow_run_state(self.flow_run, state, force=True)
        except httpx.HTTPError as error:
            logger.warning("the form of flow run %s stays open: %s", self.flow_run, error)


def choices_of(options: list[Mapping[str, Any]], recommended: int | None) -> dict[str, str | None]:
    """What a form offers, the recommended one first."""
    ordered = sorted(options, key=lambda o: o["option_id"] != recommended)
    found: dict[str, str | None] = {}
    for option in ordered:
        mark = " (recommended)" if option["option_id"] == recommended else ""
        found[f"{option['option_id']}: {option['title']}{mark}"] = option["title"]
    return {**found, CARRY_ON: None}


def form_model(choices: Mapping[str, Any]) -> type[RunInput]:
    """The typed form: one of the choices, and a name."""
    from prefect.input import RunInput
    from pydantic import Field, create_model

    choice: Any = Literal[tuple(choices)]
    make: Any = create_model
    made: type[RunInput] = make(
        "ReplanAnswer",
        __base__=RunInput,
        choice=(
            choice,
            Field(title="What to do", description="As the table above numbers them."),
        ),
        name=(
            str,
            Field(
                default="",
                title="Your name",
                description="Kept with the decision as you claim it.",
                max_length=100,
            ),
        ),
    )
    return made


def ask(
    client: SyncPrefectClient,
    *,
    plan: str,
    plan_run: UUID,
    text: str,
    options: list[Mapping[str, Any]],
    recommended: int | None,
    within: timedelta,
) -> Form:
    """Open a form over `options`, with `text` (Markdown) above it. Raises httpx.HTTPError."""
    from prefect import Flow
    from prefect.client.schemas.objects import StateDetails
    from prefect.input.run_input import keyset_from_paused_state
    from prefect.states import Paused, Running

    choices = choices_of(options, recommended)
    running: Any = Running()
    run = client.create_flow_run(
        Flow(_never, name=FLOW),
        name=f"{plan}-{str(plan_run)[:8]}-{uuid4().hex[:4]}",
        tags=["athena", f"plan:{plan}", f"plan-run:{plan_run}"],
        state=running,
    )
    seconds = int((within + GRACE).total_seconds())
    paused: Any = Paused(timeout_seconds=seconds, pause_key=uuid4().hex, message=f"about {plan}")
    keyset: dict[str, str] = {**keyset_from_paused_state(paused)}  # type: ignore[dict-item]
    details: StateDetails = paused.state_details
    details.run_input_keyset = keyset
    form = Form(client=client, flow_run=run.id, keyset=keyset, choices=choices)
    schema = form_model(choices).model_json_schema(by_alias=True)
    try:
        # The inputs first: a run that is paused without its schema can be resumed with anything.
        client.create_flow_run_input(run.id, keyset["schema"], json.dumps(schema))
        client.create_flow_run_input(run.id, keyset["description"], json.dumps(text))
        client.set_flow_run_state(run.id, paused, force=True)
    except httpx.HTTPError:
        form.close("Withdrawn", "it could not be opened")  # nobody can answer in half a form
        raise
    return form


def left_open(
    client: SyncPrefectClient, plan_run: UUID, choices: Mapping[str, str | None]
) -> Iterator[tuple[Form, bool]]:
    """The forms of a run that nobody has closed, the newest first, and which offer `choices`.

    Also those that were answered while no process read it. Raises httpx.HTTPError.
    """
    from prefect.client.schemas import filters
    from prefect.client.schemas.objects import StateType

    still = filters.FlowRunFilterStateType(any_=[StateType.PAUSED, StateType.RUNNING])
    runs = client.read_flow_runs(
        flow_filter=filters.FlowFilter(name=filters.FlowFilterName(any_=[FLOW])),
        flow_run_filter=filters.FlowRunFilter(
            tags=filters.FlowRunFilterTags(all_=[f"plan-run:{plan_run}"]),
            state=filters.FlowRunFilterState(type=still),
        ),
    )
    for run in sorted(runs, key=lambda r: str(r.created), reverse=True):
        kept = (s.state_details.run_input_keyset for s in client.read_flow_run_states(run.id))
        keyset = next((k for k in kept if k), None)
        offered: list[str] = []
        if keyset is not None:  # else its process ended before it was open
            schema = json.loads(client.read_flow_run_input(run.id, keyset["schema"]))
            offered = schema["properties"]["choice"]["enum"]
        form = Form(client=client, flow_run=run.id, keyset=keyset or {}, choices=choices)
        yield form, bool(offered) and offered == list(choices)


def close_form(client: SyncPrefectClient, flow_run: UUID, name: str, message: str) -> None:
    """End a flow run that waits for an answer, where it still does. Raises httpx.HTTPError."""
    from prefect.exceptions import ObjectNotFound
    from prefect.states import Completed

    try:
        state = client.read_flow_run(flow_run).state
    except ObjectNotFound:
        return
    if state is not None and state.is_paused():
        ended: Any = Completed(name=name, message=message)
        client.set_flow_run_state(flow_run, ended, force=True)


def _never() -> None:
    raise AssertionError("the flow run only carries a form; nothing runs in it")

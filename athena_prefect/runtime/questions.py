"""What people are asked while a plan runs: a paused flow run with a typed form for each question.

Nobody's process waits for an answer. The question is a flow run that exists only on the
server, in the state that Prefect's UI shows a form for; whoever resumes it has answered.
An answer given elsewhere (by the command line, in Python) closes it.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, create_model

from athena_prefect.assumptions.checks.base import Observation
from athena_prefect.assumptions.checks.making import Made
from athena_prefect.assumptions.validator import check_event
from athena_prefect.journal.events import CheckEvent, Reporter
from athena_prefect.journal.state import ExecutionState
from athena_prefect.monitor.effects import in_order
from athena_prefect.plan.model import Assumption, ValidationMethod
from athena_prefect.runtime.gate import MARK
from athena_prefect.runtime.watcher import Chore

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

    from athena_prefect.runtime.facts import RunFacts

logger = logging.getLogger(__name__)

FLOW = "answer-assumption"
TAG = "athena-question"
LOOK_SECONDS = 2.0
"""How late an answer is taken in, at most: as late as a cancel from the UI."""
_RUN, _ASSUMPTION = "plan-run:", "assumption:"


def asks_a_person(assumption: Assumption) -> bool:
    """Whether nothing but a person can say whether it holds."""
    return assumption.check is None or assumption.validation_method is ValidationMethod.MANUAL


def standing_answer(
    assumption: Assumption, state: ExecutionState, now: datetime
) -> CheckEvent | None:
    """The newest answer of a person that has not expired."""
    for check in reversed(in_order(state.checks.get(assumption.id, ()))):
        if check.verdict == "unknown" or check.check_id.startswith(MARK):
            continue
        frequency = assumption.validation_frequency
        return check if frequency is None or now - check.at <= frequency else None
    return None


# -- the form -------------------------------------------------------------------------------

YES_NO = ("yes", "no")
"""A list to choose from rather than a box to tick: a box that was left alone says no, too."""


def form_of(assumption: Assumption) -> type[BaseModel]:
    """What is asked: a value of the expected one's type, a remark, and who says so."""
    said = Field(title=assumption.description or assumption.id)
    return create_model(
        "Answer",
        __config__=ConfigDict(extra="forbid"),
        value=(_type_of(assumption), said),
        remark=(str, Field("", title="Remark")),
        name=(str, Field("", title="Your name, as it is to be recorded")),
    )


def _type_of(assumption: Assumption) -> Any:
    expected = assumption.expected_value
    if expected is None or isinstance(expected, bool):
        return Literal[YES_NO]
    if isinstance(expected, int | float):
        return float
    if isinstance(expected, Mapping):
        choices = expected.get("one_of")
        if choices and all(isinstance(c, str) for c in choices):
            return Literal[tuple(choices)]
        if expected.keys() & {"min", "max"}:
            return float
    return str


def value_of(assumption: Assumption, given: Any) -> Any:
    """The value that an answer in the form means."""
    expected = assumption.expected_value
    if expected is None or isinstance(expected, bool):
        return given == YES_NO[0]
    if isinstance(expected, str) or not isinstance(given, str):
        return given
    try:
        return json.loads(given)
    except ValueError:
        return given


def described(assumption: Assumption, plan: str, plan_run: UUID) -> str:
    """The form's text, in Markdown."""
    rows = [f"**{plan}** takes for granted: {assumption.description or assumption.id}."]
    if assumption.expected_value is not None:
        sense = f"{assumption.sense.value.replace('_', ' ')} " if assumption.sense else ""
        rows.append(f"Expected: {sense}`{json.dumps(assumption.expected_value, default=str)}`.")
    if assumption.affects:
        rows.append(f"On it rest: {', '.join(assumption.affects)}.")
    if assumption.impact:
        rows.append(f"If it does not hold: {assumption.impact}.")
    rows.append(f"*Plan run `{plan_run}`, assumption `{assumption.id}`.*")
    return "\n\n".join(rows)


# -- asking ---------------------------------------------------------------------------------


@dataclass(slots=True)
class Question:
    """One that is open."""

    flow_run: UUID
    asked: datetime


@dataclass(slots=True, kw_only=True)
class Questions:
    """Asks what people have to say about a run's assumptions, and takes in their answers."""

    facts: RunFacts
    client: SyncPrefectClient
    state: Callable[[], ExecutionState]
    wake: Callable[[], object]
    clock: Callable[[], datetime] = field(default=lambda: datetime.now(UTC))
    open: dict[str, Question] = field(default_factory=dict)
    _recorded: dict[str, str] = field(default_factory=dict)
    """Of each assumption the check that was recorded last, until the state knows it."""
    _found: bool = False

    @property
    def assumptions(self) -> tuple[Assumption, ...]:
        """Those that people answer."""
        return tuple(a for a in self.facts.plan.assumptions if asks_a_person(a))

    def chores(self) -> tuple[Chore, ...]:
        """What is done again and again while the run lives; nothing without such assumptions."""
        if not self.assumptions:
            return ()
        return (Chore(name="asking people", every=LOOK_SECONDS, do=self.look),)

    def look(self) -> None:
        """Take in answers, close what is settled, ask what is open.

        Raises what Prefect's client raises, and LeaseLostError.
        """
        if not self._found:
            self._take_over()
        state, now = self.state(), self.clock()
        answers = self._answers()
        for assumption in self.assumptions:
            known = state.checks.get(assumption.id, ())
            if self._recorded.get(assumption.id) not in {None, *(c.check_id for c in known)}:
                continue
            question = self.open.get(assumption.id)
            if question is not None and question.flow_run in answers:
                self._take(assumption, question, answers[question.flow_run])
            elif question is None:
                if _is_wanted(assumption, state, now):
                    self._ask(assumption, now)
            elif not _is_wanted(assumption, state, now):
                self._close(
                    assumption.id, "Settled", "it was answered elsewhere, or is needed no more"
                )
            elif any(c.verdict == "unknown" and c.at > question.asked for c in known):
                self._close(assumption.id, "Expired", "nobody has answered in time")
                self._ask(assumption, now)

    def end(self) -> None:
        """The run is over: nothing is asked any more."""
        for name in tuple(self.open):
            self._close(name, "Settled", "the run is over")

    def _take(self, assumption: Assumption, question: Question, given: Mapping[str, Any]) -> None:
        event = check_event(
            assumption,
            Made(
                observation=Observation(
                    value=value_of(assumption, given.get("value")),
                    details=str(given.get("remark") or ""),
                )
            ),
            plan_run=self.facts.plan_run,
            now=self.clock(),
            # The same answer, read again by whoever takes the run up, is the same check.
            check_id=f"answer|{question.flow_run}",
            method=ValidationMethod.MANUAL,
            author=str(given.get("name") or ""),
            field=None,
            reported_by=Reporter.DISPATCHER,
        )
        self.facts.recorder.record(event, token=self.facts.token)
        self._recorded[assumption.id] = event.check_id
        self.wake()
        logger.info("assumption %s was answered: %s", assumption.id, event.data.get("reason"))
        self._close(assumption.id, "Answered", str(event.data.get("reason", "")))

    # -- Prefect --------------------------------------------------------------------------

    def _take_over(self) -> None:
        """Find what another process has asked for this run."""
        from prefect.client.schemas import filters
        from prefect.client.schemas.objects import StateType

        still = filters.FlowRunFilterStateType(any_=[StateType.PAUSED, StateType.RUNNING])
        found = self.client.read_flow_runs(
            flow_run_filter=filters.FlowRunFilter(
                tags=filters.FlowRunFilterTags(all_=[TAG, f"{_RUN}{self.facts.plan_run}"]),
                state=filters.FlowRunFilterState(type=still),
            )
        )
        for run in found:
            name = next(t for t in run.tags if t.startswith(_ASSUMPTION)).removeprefix(_ASSUMPTION)
            asked: Any = run.created or self.clock()
            self.open[name] = Question(run.id, datetime.fromtimestamp(asked.timestamp(), UTC))
        self._found = True

    def _answers(self) -> dict[UUID, Mapping[str, Any]]:
        """What was answered of what is open."""
        from prefect.client.schemas import filters

        if not self.open:
            return {}
        runs = self.client.read_flow_runs(
            flow_run_filter=filters.FlowRunFilter(
                id=filters.FlowRunFilterId(any_=[q.flow_run for q in self.open.values()])
            )
        )
        resumed = [r.id for r in runs if r.state is not None and not r.state.is_paused()]
        return {run: json.loads(self._input(run)) for run in resumed}

    def _input(self, run: UUID) -> str:
        from prefect.exceptions import PrefectHTTPStatusError

        try:
            return self.client.read_flow_run_input(run, _keys(run)["response"])
        except PrefectHTTPStatusError as error:
            if error.response.status_code != 404:
                raise
            return "{}"  # somebody set another state by hand: no value is no answer

    def _ask(self, assumption: Assumption, now: datetime) -> None:
        from prefect import Flow
        from prefect.states import Paused

        facts = self.facts
        made = self.client.create_flow_run(
            Flow(_nothing, name=FLOW),
            name=f"{facts.plan.name}: {assumption.id}?",
            tags=[TAG, f"{_RUN}{facts.plan_run}", f"{_ASSUMPTION}{assumption.id}"],
        )
        keys = _keys(made.id)
        form = json.dumps(form_of(assumption).model_json_schema())
        text = json.dumps(described(assumption, facts.plan.name, facts.plan_run))
        self.client.create_flow_run_input(made.id, keys["schema"], form)
        self.client.create_flow_run_input(made.id, keys["description"], text)
        state: Any = Paused(pause_key=str(made.id), message=f"Is it so? {assumption.description}")
        state.state_details.run_input_keyset = keys
        # Forced: no process of Prefect's runs it that could be paused.
        self.client.set_flow_run_state(made.id, state, force=True)
        self.open[assumption.id] = Question(made.id, now)

    def _close(self, name: str, word: str, why: str) -> None:
        from prefect.states import Completed

        question = self.open.pop(name)
        state: Any = Completed(name=word, message=why)
        self.client.set_flow_run_state(question.flow_run, state, force=True)


def _keys(run: UUID) -> dict[str, str]:
    return {word: f"athena-{run}-{word}" for word in ("description", "response", "schema")}


def _nothing() -> None:
    """A question's flow has no body: it is never run."""


def _is_wanted(assumption: Assumption, state: ExecutionState, now: datetime) -> bool:
    """Whether an answer would change anything."""
    affects = assumption.affects
    if affects and all(state.status(t).good for t in affects):
        return False
    standing = standing_answer(assumption, state, now)
    # What does not hold and never expires is asked again: somebody may mend it.
    return standing is None or (
        standing.verdict == "violated" and assumption.validation_frequency is None
    )

"""One attempt at a task: what happens around the user's function, in the task's own process.

The body that Prefect runs is ours. It records the start, fills in the
arguments, calls the function (in a child where the plan says so), judges the
success criteria, stores the result and only then returns. What Prefect decides
after that — the final state and its time — is recorded by `TaskHook`.
"""

from __future__ import annotations

import inspect
import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast
from uuid import UUID

from prefect.client.schemas.objects import State, TaskRun
from prefect.context import TaskRunContext

from athena_prefect.errors import AthenaError, CriteriaNotMetError, RunError
from athena_prefect.journal.events import Reporter, TaskEvent, TaskEventKind, TaskOutcome
from athena_prefect.learning.spots import Spot
from athena_prefect.plan.expectation import Expectation, field_of
from athena_prefect.plan.model import SuccessCriteria
from athena_prefect.plan.templates import Template, render
from athena_prefect.runtime.calls import function_of, secret, variable
from athena_prefect.runtime.child import Job, run_in_child
from athena_prefect.runtime.context import AttemptContext, Partial, attempt_context
from athena_prefect.runtime.profiling import profiled
from athena_prefect.runtime.recorder import Recorder, Recording, recorder_for
from athena_prefect.runtime.results import attempt_key

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptSpec:
    """Everything that a body and its hook need to know; pickles into another process."""

    plan_run: UUID
    flow_run_id: str
    token: int | None
    task_id: str
    map_index: int | None
    revision: int
    mode: str
    call: str | None
    deployment: str | None
    root: Path
    secrets: Mapping[str, Any]
    """Arguments that hold a secret, as templates: filled in here and nowhere else."""
    values: Mapping[str, Any]
    """What the other templates of those arguments stand for, by ``namespace.name``."""
    criteria: SuccessCriteria | None
    isolated: bool
    timeout: float | None
    """Seconds, of an isolated body; the dispatcher watches the others."""
    result_key: str
    definition: str
    input_revision: int
    allocated: Mapping[str, float]
    ready: datetime
    recording: Recording
    profile: float | None = None
    """Expected seconds of a body whose time is sampled, 0 if unknown; None: it is not."""
    data: Mapping[str, Any] = field(default_factory=dict)

    def event(self, kind: TaskEventKind, at: datetime, source: str, **more: Any) -> TaskEvent:
        """An event of this attempt."""
        return TaskEvent(
            plan_run=self.plan_run,
            task_id=self.task_id,
            map_index=self.map_index,
            kind=kind,
            at=at,
            source=source,
            **more,
        )


@dataclass(slots=True)
class _Finished:
    """What the body knows of its end and the hook writes down."""

    outcome: TaskOutcome
    at: datetime | None = None
    checksum: str | None = None
    share: float | None = None
    usage: Mapping[str, float] = field(default_factory=dict)
    profile: Sequence[Mapping[str, Any]] = ()
    reason: str = ""


# Between a body and its hook, which run in the same process: task run -> its end.
_finished: dict[tuple[UUID, int], _Finished] = {}
# Attempts that no longer count, so that Prefect makes no retry of them.
_abandoned: set[UUID] = set()
_retries_lock = threading.Lock()


def abandon(task_run_id: UUID) -> None:
    """Take back an attempt whose body may still run: no retry follows it."""
    with _retries_lock:
        _abandoned.add(task_run_id)


def is_abandoned(task_run_id: UUID) -> bool:
    """Whether the attempt was taken back in this process."""
    return task_run_id in _abandoned


def plain(moment: datetime) -> datetime:
    """`moment` as a standard datetime in UTC: Prefect's own class stays out of the journal."""
    m = moment.astimezone(UTC)
    return datetime(m.year, m.month, m.day, m.hour, m.minute, m.second, m.microsecond, tzinfo=UTC)


AFTER = "athena_after"
"""A parameter that carries nothing: Prefect's edges hang on parameters."""


def make_body(
    spec: AttemptSpec, names: tuple[str, ...], *, asynchronous: bool
) -> Callable[..., Any]:
    """The function that Prefect runs for `spec`; it takes `names` by keyword."""

    async def awaited(**arguments: Any) -> Any:
        with _attempt(spec) as attempt:
            function = function_of(spec.call or "", spec.root)
            filled = attempt.fill(arguments)
            if spec.profile is None:
                return attempt.conclude(await function(**filled))
            with profiled(spec.root, expected=spec.profile or None, asynchronous=True) as spots:
                attempt.spots = spots
                value = await function(**filled)
            return attempt.conclude(value)

    def called(**arguments: Any) -> Any:
        with _attempt(spec) as attempt:
            return attempt.conclude(attempt.run(attempt.fill(arguments)))

    body: Any = awaited if asynchronous and not spec.isolated else called
    body.__name__ = body.__qualname__ = spec.task_id
    body.__signature__ = inspect.Signature(
        [inspect.Parameter(n, inspect.Parameter.KEYWORD_ONLY) for n in names]
    )
    made: Callable[..., Any] = body
    return made


@dataclass(slots=True)
class _Attempt:
    spec: AttemptSpec
    recorder: Recorder
    task_run: TaskRun
    context: AttemptContext
    finished: _Finished = field(default_factory=lambda: _Finished(TaskOutcome.FAILURE))
    known_secrets: list[str] = field(default_factory=list)
    spots: list[Spot] = field(default_factory=list)

    def fill(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """The arguments with the secrets that only this process sees."""
        arguments.pop(AFTER, None)
        if not self.spec.secrets:
            return arguments
        return {**arguments, **render(dict(self.spec.secrets), self._look_up)}

    def _look_up(self, template: Template) -> Any:
        if template.namespace == "secret":
            value = secret(template.name)
            self.known_secrets.append(value)
            return value
        if template.namespace == "variable":
            return variable(template.name)
        return self.spec.values[f"{template.namespace}.{template.name}"]

    def without_secrets(self, error: BaseException) -> BaseException:
        """`error`, or one without its secrets where its text holds any."""
        text = f"{type(error).__name__}: {error}"
        hidden = text
        for value in self.known_secrets:
            hidden = hidden.replace(value, "********") if value else hidden
        return error if hidden == text else RunError(hidden)

    def run(self, arguments: Mapping[str, Any]) -> Any:
        """The function's value: called here, in a child, or as another deployment's run."""
        spec = self.spec
        if spec.deployment is not None:
            from athena_prefect.runtime.subdeployment import run_as_task

            return run_as_task(spec.deployment, arguments)
        if not spec.isolated:
            function = function_of(spec.call or "", spec.root)
            if spec.profile is None:
                return function(**arguments)
            with profiled(spec.root, expected=spec.profile or None) as spots:
                try:
                    return function(**arguments)
                finally:
                    self.spots = spots
        job = Job(
            call=spec.call or "",
            root=str(spec.root),
            arguments=dict(arguments),
            plan_run=spec.plan_run,
            task_id=spec.task_id,
            map_index=spec.map_index,
            input_revision=spec.input_revision,
            profile=spec.profile,
        )
        answer = run_in_child(job, timeout=spec.timeout)
        self.context.usage.update(answer.usage)
        self.spots = list(answer.spots)
        if answer.error is not None:
            raise answer.error
        return answer.value

    def conclude(self, returned: Any) -> Any:
        """Judge and store what the function returned; the value that downstream tasks get."""
        value, share, partial = returned, None, False
        if isinstance(returned, Partial):
            value, share, partial = returned.value, returned.share, True
        relaxed = judge(self.spec.task_id, self.spec.criteria, value)
        key = attempt_key(self.spec.result_key, str(self.task_run.id))
        self.finished.checksum = self.recorder.vault.put(key, value, task_id=self.spec.task_id)
        self.finished.share = share
        self.finished.outcome = TaskOutcome.PARTIAL if partial or relaxed else TaskOutcome.SUCCESS
        self.finished.reason = relaxed or ""
        return value


def judge(task_id: str, criteria: SuccessCriteria | None, value: Any) -> str | None:
    """None where `value` meets the criteria; why not, where it meets only the relaxed ones.

    Raises CriteriaNotMetError where it meets neither.
    """
    if criteria is None:
        return None
    unmet = _unmet(criteria.fields, value)
    if not unmet:
        return None
    reason = "; ".join(unmet)
    if criteria.relaxed is not None:
        still = _unmet({**criteria.fields, **criteria.relaxed}, value)
        if not still:
            return f"only the relaxed criteria are met: {reason}"
        reason = f"{reason}; relaxed: {'; '.join(still)}"
    raise CriteriaNotMetError(
        f"task {task_id!r} does not meet its success criteria: {reason}", task_id=task_id
    )


def _unmet(fields: Mapping[str, Expectation], value: Any) -> list[str]:
    reasons = ((name, e.unmet(field_of(value, name))) for name, e in fields.items())
    return [f"{name} {reason}" for name, reason in reasons if reason]


@contextmanager
def _attempt(spec: AttemptSpec) -> Iterator[_Attempt]:
    """Record the start of an attempt, and keep what its hook needs when it ends."""
    context = TaskRunContext.get()
    assert context is not None, "a task's body runs inside a Prefect task run"
    task_run = context.task_run
    recorder = recorder_for(spec.recording)
    usage = AttemptContext(spec.plan_run, spec.task_id, spec.map_index, spec.input_revision)
    attempt = _Attempt(spec, recorder, task_run, usage)
    count = task_run.run_count
    assert task_run.state is not None
    events = [_started(spec, task_run, plain(task_run.state.timestamp))]
    if count > 1:
        events.insert(0, _retried(spec, task_run))
    # With the token: a body that a dead dispatcher's pool still starts is fenced off here.
    recorder.record(*events, token=spec.token)
    try:
        with attempt_context(usage):
            yield attempt
    except Exception as error:
        shown = attempt.without_secrets(error)
        attempt.finished.outcome = TaskOutcome.FAILURE
        attempt.finished.reason = brief(shown)
        if shown is not error:
            raise shown from None
        raise
    finally:
        attempt.finished.at = datetime.now(UTC)
        attempt.finished.usage = dict(usage.usage)
        attempt.finished.profile = [s.as_dict() for s in attempt.spots]
        _finished[task_run.id, count] = attempt.finished


def _started(spec: AttemptSpec, task_run: TaskRun, at: datetime) -> TaskEvent:
    state = task_run.state
    return spec.event(
        TaskEventKind.STARTED,
        at,
        str(task_run.id),
        run_count=max(task_run.run_count, 1),
        state_type="RUNNING",
        state_name=state.name if state is not None and state.is_running() else "Running",
        reported_by=Reporter.HOOK,
        data={
            "flow_run_id": spec.flow_run_id,
            "revision": spec.revision,
            "mode": spec.mode,
            "allocated": dict(spec.allocated),
            "definition": spec.definition,
            "input_revision": spec.input_revision,
            "ready": spec.ready.isoformat(),
            **spec.data,
        },
    )


def _retried(spec: AttemptSpec, task_run: TaskRun) -> TaskEvent:
    """The end of the attempt before: Prefect calls no hook for it."""
    count = task_run.run_count - 1
    before = _finished.pop((task_run.id, count), _Finished(TaskOutcome.FAILURE))
    assert task_run.state is not None
    return spec.event(
        TaskEventKind.ENDED,
        before.at or plain(task_run.state.timestamp),
        str(task_run.id),
        run_count=count,
        state_type="FAILED",
        state_name="Retrying",
        outcome=TaskOutcome.FAILURE,
        reported_by=Reporter.HOOK,
        data=_end_data(before),
    )


def _end_data(finished: _Finished) -> dict[str, Any]:
    data: dict[str, Any] = {}
    if finished.usage:
        data["used"] = dict(finished.usage)
    if finished.profile:
        data["profile"] = list(finished.profile)
    if finished.checksum is not None:
        data["checksum"] = finished.checksum
    if finished.share is not None:
        data["share"] = finished.share
    if finished.reason:
        data["reason"] = finished.reason
    return data


def brief(error: BaseException) -> str:
    """An error in one line: its kind and message, cut at 500 characters."""
    return f"{type(error).__name__}: {error}"[:500]


def make_hook(spec: AttemptSpec) -> Callable[[Any, TaskRun, State[Any]], None]:
    """The hook that records the final state of a task run of `spec`."""

    def athena_record(task: Any, task_run: TaskRun, state: State[Any]) -> None:
        try:
            _record_end(spec, task_run, state)
        except AthenaError as error:
            # Fenced off, or unreadable: the run that took over has the say.
            logger.warning("task %s: its end was not recorded: %s", spec.task_id, error)

    return athena_record


def _record_end(spec: AttemptSpec, task_run: TaskRun, state: State[Any]) -> None:
    recorder = recorder_for(spec.recording)
    count = max(task_run.run_count, 1)
    finished = _finished.pop((task_run.id, count), None)
    key = attempt_key(spec.result_key, str(task_run.id))
    events = []
    data: dict[str, Any] = {}
    if finished is None and state.is_completed():
        # Prefect answered from a cache: the body never ran.
        value: Any = cast(Any, state).result(raise_on_failure=False, _sync=True)
        checksum = recorder.vault.put(key, value, task_id=spec.task_id)
        finished = _Finished(TaskOutcome.SUCCESS, checksum=checksum)
        data["cached"] = True
        events.append(_started(spec, task_run, plain(task_run.start_time or state.timestamp)))
    elif finished is None:
        finished = _Finished(TaskOutcome.FAILURE, reason=state.message or "")
    good = state.is_completed() and finished.outcome.good
    outcome = finished.outcome if good else TaskOutcome.FAILURE
    data |= _end_data(finished)
    events.append(
        spec.event(
            TaskEventKind.ENDED,
            plain(state.timestamp),
            str(task_run.id),
            run_count=count,
            state_type=state.type.value,
            state_name=state.name,
            outcome=outcome,
            result_key=key if good else None,
            reported_by=Reporter.HOOK,
            data=data,
        )
    )
    recorder.record(*events)


class QuietHooks(logging.Filter):
    """Drops Prefect's two log lines about each call of our hook; users' own stay."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether `record` is somebody else's."""
        return "'athena_record'" not in str(record.msg)

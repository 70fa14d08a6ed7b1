"""From a ready task to a Prefect task run: its arguments, its body, its edges in the UI."""

from __future__ import annotations

import copy
import hashlib
import inspect
import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, cast

from prefect import Task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.context import FlowRunContext
from prefect.futures import PrefectFuture
from prefect.utilities.annotations import quote

from athena_prefect.errors import LeaseLostError, RunError
from athena_prefect.journal.events import TaskEvent, TaskEventKind, TaskOutcome
from athena_prefect.journal.state import Attempt, Item
from athena_prefect.plan.model import (
    Isolation,
    PlanTask,
    ResolvedMode,
    RunnerKind,
)
from athena_prefect.plan.templates import references, render
from athena_prefect.runtime.attempt import (
    AFTER,
    AttemptSpec,
    brief,
    is_abandoned,
    make_body,
    make_hook,
    plain,
)
from athena_prefect.runtime.calls import check_arguments, is_async, is_task, target_of
from athena_prefect.runtime.facts import RunFacts, label
from athena_prefect.runtime.frontier import results_taken
from athena_prefect.runtime.handles import Handles
from athena_prefect.runtime.results import result_key

if TYPE_CHECKING:
    pass

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Said:
    """What the plan says of a task, with its templates filled in but for secrets."""

    mode: ResolvedMode
    definition: str
    arguments: Mapping[str, Any]
    secrets: Mapping[str, Any]
    values: Mapping[str, Any]


class Submitter:
    """Makes Prefect task runs of a plan's tasks, in the flow run that is current."""

    def __init__(self, facts: RunFacts) -> None:
        self._facts = facts
        self._targets: dict[str, Any] = {}
        self._bases: dict[str, Task[..., Any]] = {}
        self._made: Task[..., Any] | None = None
        self._all_said: dict[str, _Said] = {}
        for task in facts.plan.tasks:
            # Also the modes that nothing calls for yet: an assumption may, in mid-run.
            for name in (*task.mode_names, facts.mode_of(task.id)):
                self._take(task, task.mode(name))

    def _take(self, task: PlanTask, mode: ResolvedMode) -> None:
        if mode.call is not None:
            target = target_of(mode.call, self._facts.root)
            check_arguments(target, {**mode.with_, **task.inputs}, task.id)
            self._targets[task.id] = target

    def renewed(self) -> Submitter:
        """A submitter of the plan in force. Raises AthenaError where it cannot be called."""
        return Submitter(self._facts)

    def modes_changed(self) -> None:
        """Look again at what each task calls: it may be another mode's by now."""
        self._all_said.clear()
        self._bases.clear()
        for task in self._facts.plan.tasks:
            self._take(task, self._facts.resolved(task))

    def _asynchronous(self, task: PlanTask) -> bool:
        target = self._targets.get(task.id)
        return target is not None and is_async(target) and task.isolation is not Isolation.PROCESS

    def ends_itself(self, task: PlanTask) -> bool:
        """Whether its time-out is kept by somebody else: the child's parent, or Prefect."""
        return (
            task.isolation is Isolation.PROCESS
            or self._asynchronous(task)
            or self._facts.plan.runner.kind is RunnerKind.PROCESSES
        )

    def submit(
        self,
        task: PlanTask,
        index: int | None,
        handles: Handles,
        *,
        ready: datetime,
        input_revision: int,
        leases: tuple[Any, ...],
    ) -> PrefectFuture[Any]:
        """Submit a task (or item). Raises ResultUnreadableError where an input is lost."""
        said = self._said(task)
        parameters = dict(said.arguments)
        for name, source in task.inputs.items():
            mapped = index is not None and name == task.map_over
            parameters[name] = (
                quote(handles.over(task)[index or 0]) if mapped else handles.argument(source)
            )
        state = handles.state()
        passed = {
            s for n, s in task.inputs.items() if not (index is not None and n == task.map_over)
        }
        after = [
            d.task for d in task.upstream if d.task not in passed and state.status(d.task).good
        ]
        spec = self._spec(task, said, index, ready, input_revision, leases)
        # What it waited for is over: the edges are told, and nothing is waited for again.
        parameters[AFTER] = None
        edges = handles.edges(after, passed=passed)
        return self._start(
            self._prefect_task(task, spec, tuple(parameters)),
            parameters,
            dependencies={AFTER: edges} if edges else None,
        )

    def _start(
        self, prefect_task: Task[..., Any], parameters: dict[str, Any], **more: Any
    ) -> PrefectFuture[Any]:
        context = FlowRunContext.get()
        assert context is not None, "a plan runs inside a Prefect flow run"
        future: PrefectFuture[Any] = context.task_runner.submit(
            prefect_task, parameters=parameters, **more
        )
        return future

    def _said(self, task: PlanTask) -> _Said:
        """What the plan says of a task, worked out once a run."""
        found = self._all_said.get(task.id)
        if found is None:
            found = self._all_said[task.id] = self._work_out(task)
        return found

    def _work_out(self, task: PlanTask) -> _Said:
        facts = self._facts
        mode = facts.resolved(task)
        secrets = {n: v for n, v in mode.with_.items() if _secret_in(v)}
        others = {
            f"{r.template.namespace}.{r.template.name}": facts.look_up(r.template)
            for r in references(secrets)
            if r.template is not None and r.template.namespace in ("parameters", "run")
        }
        plain_ones = {n: v for n, v in mode.with_.items() if n not in secrets}
        return _Said(
            mode=mode,
            definition=definition_of(task, mode),
            arguments=render(plain_ones, facts.look_up),
            secrets=secrets,
            values=others,
        )

    def _spec(
        self,
        task: PlanTask,
        said: _Said,
        index: int | None,
        ready: datetime,
        input_revision: int,
        leases: tuple[Any, ...],
    ) -> AttemptSpec:
        facts, mode, definition = self._facts, said.mode, said.definition
        isolated = task.isolation is Isolation.PROCESS and mode.call is not None
        return AttemptSpec(
            plan_run=facts.plan_run,
            flow_run_id=str(facts.flow_run_id),
            token=facts.token,
            task_id=task.id,
            map_index=index,
            revision=facts.revision,
            mode=mode.name,
            call=mode.call,
            deployment=mode.deployment,
            root=facts.root,
            secrets=said.secrets,
            values=said.values,
            criteria=task.success_criteria,
            isolated=isolated,
            timeout=_seconds(task.timeout) if isolated else None,
            result_key=result_key(facts.plan_run, task.id, index, definition, input_revision),
            definition=definition,
            input_revision=input_revision,
            allocated=dict(mode.resources),
            ready=ready,
            recording=facts.recording,
            profile=_expected(mode) if task.id in facts.profiled else None,
            data={"limits": [str(lease) for lease in leases]} if leases else {},
        )

    def _prefect_task(
        self, task: PlanTask, spec: AttemptSpec, names: tuple[str, ...]
    ) -> Task[..., Any]:
        """A copy of the task's base with this attempt's body: making one anew costs more."""
        body = make_body(spec, names, asynchronous=self._asynchronous(task))
        base = self._bases.get(task.id)
        if base is None:
            base = self._bases[task.id] = self._base(task, body)
        made = copy.copy(base)
        made.fn = body
        made.task_run_name = label((spec.task_id, spec.map_index))
        hook = make_hook(spec)
        made.on_completion_hooks = [*base.on_completion_hooks, hook]
        made.on_failure_hooks = [*base.on_failure_hooks, hook]
        made.retry_condition_fn = _retry_condition(base.retry_condition_fn)
        return made

    def _base(self, task: PlanTask, body: Callable[..., Any]) -> Task[..., Any]:
        native = self._asynchronous(task) or (
            self._facts.plan.runner.kind is RunnerKind.PROCESSES
            and task.isolation is not Isolation.PROCESS
        )
        # Not given where the plan says nothing, so that a ready-made @task keeps its own.
        options: dict[str, Any] = {"tags": [*task.tags]}
        if task.retries:
            options |= {"retries": task.retries}
            options |= {"retry_delay_seconds": _seconds(task.retry_delay) or None}
        if native and task.timeout is not None:
            options["timeout_seconds"] = _seconds(task.timeout)
        target = self._targets.get(task.id)
        if target is not None and is_task(target):
            options["tags"] = [*target.tags, *task.tags]
            base: Task[..., Any] = target.with_options(name=task.id, **options)
            if task.timeout is not None and not native:
                base.timeout_seconds = None  # on a thread it is the dispatcher's to keep
            return base
        function = getattr(target, "__doc__", None)
        made = cast(Any, copy.copy(self._template(body)))
        made.name = made.task_key = task.id
        made.description = task.description or inspect.cleandoc(function or "") or None
        made.tags = set(options["tags"])
        made.retries = options.get("retries", 0)
        made.retry_delay_seconds = options.get("retry_delay_seconds")
        made.timeout_seconds = options.get("timeout_seconds")
        made.isasync = self._asynchronous(task)
        return cast("Task[..., Any]", made)

    def _template(self, body: Callable[..., Any]) -> Task[..., Any]:
        """One task to copy: making one reads and hashes its source, which costs a millisecond."""
        if self._made is None:
            self._made = Task(
                fn=body,
                name="template",
                persist_result=False,  # results are ours to keep, checked and with a checksum
                cache_policy=NO_CACHE,
            )
        return self._made

    def show_blocked(self, task: PlanTask, handles: Handles) -> PrefectFuture[Any] | None:
        """A task run that Prefect itself finds not ready, so that the UI shows the block."""
        failed = [f for f in handles.futures(task.upstream) if not is_abandoned(f.task_run_id)]
        if not failed:
            return None

        def body() -> None:
            raise RunError(f"task {task.id!r} was blocked and must not run")

        blocked = Task(
            fn=body,
            name=task.id,
            task_run_name=task.id,
            tags=[*task.tags],
            persist_result=False,
            cache_policy=NO_CACHE,
        )
        return self._start(blocked, {}, wait_for=failed)

    def end_of(
        self, item: Item, future: PrefectFuture[Any], attempt: Attempt | None, now: datetime
    ) -> list[TaskEvent]:
        """The end of an attempt whose hook did not write it: a crash, a lost database."""
        state = _final_state(future)
        at, kind, name, reason = now, "CRASHED", "Crashed", "its process ended"
        if state is not None:
            at, kind, name = plain(state.timestamp), state.type.value, state.name or ""
            reason = state.message or ""
        else:
            reason = _crash_of(future) or reason
        # Without the hook nobody has said that a result is stored, so a success is none.
        outcome = TaskOutcome.BLOCKED if kind == "PENDING" else TaskOutcome.FAILURE
        if kind == "COMPLETED":
            reason = "it completed, but its end could not be recorded"
        return [
            self._facts.event(
                TaskEventKind.ENDED,
                at,
                item,
                str(future.task_run_id),
                run_count=attempt.run_count if attempt else 1,
                state_type=kind,
                state_name=name,
                outcome=outcome,
                reason=reason,
            )
        ]


def withdrawn(future: PrefectFuture[Any]) -> bool:
    """Whether the body was still waiting for a thread, and will not begin any more."""
    wrapped = getattr(future, "wrapped_future", None)
    return wrapped is not None and not wrapped.done() and bool(wrapped.cancel())


def _final_state(future: PrefectFuture[Any]) -> State[Any] | None:
    # Not `future.state`: for a crash it would ask the API, which may not know yet.
    try:
        future.wait(0.1)
    except BaseException:  # noqa: BLE001 - the body's own, SystemExit included; see `_crash_of`
        return None
    return getattr(future, "_final_state", None)


def _crash_of(future: PrefectFuture[Any]) -> str | None:
    wrapped = getattr(future, "wrapped_future", None)
    error = wrapped.exception(0) if wrapped is not None and wrapped.done() else None
    return brief(error) if error is not None else None


def _retry_condition(own: Any) -> Callable[..., bool]:
    def worth_another_try(task: Any, task_run: Any, state: State[Any]) -> bool:
        if is_abandoned(task_run.id) or isinstance(state.data, LeaseLostError):
            return False
        return bool(own(task, task_run, state)) if own is not None else True

    return worth_another_try


def definition_of(task: PlanTask, mode: ResolvedMode) -> str:
    """A hash of all that says what the task computes: its call, arguments, inputs and mode."""
    said = {
        "call": mode.call,
        "deployment": mode.deployment,
        "with": dict(mode.with_),
        "inputs": dict(task.inputs),
        "map_over": task.map_over,
        "taken": sorted(results_taken(task)),
        "mode": mode.name,
    }
    return hashlib.sha256(json.dumps(said, sort_keys=True, default=str).encode()).hexdigest()


def _secret_in(value: Any) -> bool:
    return any(
        r.template is not None and r.template.namespace == "secret" for r in references(value)
    )


def _expected(mode: ResolvedMode) -> float:
    """Seconds that a task is expected to take; 0 where nobody knows."""
    return 0.0 if mode.estimate is None else mode.estimate.mean.total_seconds()


def _seconds(value: timedelta | None) -> float | None:
    return None if value is None else value.total_seconds()

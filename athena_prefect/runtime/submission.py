"""From a ready task to a Prefect task run: its arguments, its body, its edges in the UI."""

from __future__ import annotations

import copy
import hashlib
import inspect
import json
import logging
import queue
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

from prefect import Task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, StateDetails
from prefect.context import FlowRunContext
from prefect.futures import PrefectFuture
from prefect.states import Completed
from prefect.utilities.annotations import quote

from athena_prefect.errors import LeaseLostError, ResultUnreadableError, RunError
from athena_prefect.journal.events import Event, Reporter, TaskEvent, TaskEventKind, TaskOutcome
from athena_prefect.journal.state import Attempt, ExecutionState, Item
from athena_prefect.plan.model import (
    DEFAULT_MODE,
    Isolation,
    Plan,
    PlanTask,
    ResolvedMode,
    RunnerKind,
)
from athena_prefect.plan.templates import Template, references, render
from athena_prefect.runtime.attempt import (
    AttemptSpec,
    brief,
    is_abandoned,
    make_body,
    make_hook,
    plain,
)
from athena_prefect.runtime.calls import check_arguments, is_async, is_task, target_of, variable
from athena_prefect.runtime.frontier import results_taken
from athena_prefect.runtime.reconcile import CARRIED
from athena_prefect.runtime.recorder import Recorder, Recording
from athena_prefect.runtime.results import result_key

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

logger = logging.getLogger(__name__)


@dataclass(slots=True, kw_only=True)
class RunFacts:
    """What stays the same while one dispatcher runs."""

    plan: Plan
    plan_run: UUID
    revision: int
    root: Path
    parameters: Mapping[str, Any]
    logical_date: datetime
    started_at: datetime
    flow_run_id: UUID
    session: str
    """Unique to this dispatcher, so that its run events are facts of their own."""
    token: int | None
    recorder: Recorder
    recording: Recording
    client: SyncPrefectClient
    modes: Mapping[str, str] = field(default_factory=dict)
    heard: queue.SimpleQueue[Event] = field(default_factory=queue.SimpleQueue)

    def mode_of(self, task_id: str) -> str:
        """The mode in which the revision in force runs a task."""
        return self.modes.get(task_id, DEFAULT_MODE)

    def hear(self, events: Iterable[Event]) -> None:
        """Take note of what this process has recorded, for when the database is away."""
        for event in events:
            self.heard.put(event)

    def heard_since(self) -> list[Event]:
        """What this process has recorded since the last time."""
        events = []
        while not self.heard.empty():
            events.append(self.heard.get())
        return events

    def look_up(self, template: Template) -> Any:
        """The value of a template that is no secret."""
        if template.namespace == "parameters":
            return self.parameters[template.name]
        if template.namespace == "variable":
            return variable(template.name)
        return {
            "logical_date": self.logical_date,
            "started_at": self.started_at,
            "id": str(self.plan_run),
            "plan": self.plan.name,
        }[template.name]


def label(item: Item) -> str:
    """The name of an item's task run."""
    return item[0] if item[1] is None else f"{item[0]}[{item[1]}]"


class Handles:
    """The results of tasks that have ended, as futures of this process or from storage."""

    def __init__(self, facts: RunFacts, state: Callable[[], ExecutionState]) -> None:
        self._facts = facts
        self._state = state
        self._futures: dict[Item, PrefectFuture[Any]] = {}
        self._values: dict[Item, Any] = {}
        self._carried: dict[Item, State[Any]] = {}

    def put(self, item: Item, future: PrefectFuture[Any]) -> None:
        """A future of this process; it outranks what was carried."""
        self._futures[item] = future

    def future(self, item: Item) -> PrefectFuture[Any] | None:
        """The future of an item that this process has submitted."""
        return self._futures.get(item)

    def drop_failed(self, item: Item) -> None:
        """Nothing is kept of an attempt that gave no result."""
        self._values.pop(item, None)

    def forget(self, task_id: str) -> None:
        """Forget the results of a task and its items: they are made again."""
        kept: dict[Item, Any]
        for kept in (self._futures, self._values, self._carried):
            for item in [i for i in kept if i[0] == task_id]:
                kept.pop(item)

    def carry(self, item: Item, state: State[Any]) -> None:
        """`state` stands for the task run that did the work of `item`, in the UI's graph."""
        self._carried[item] = state

    def _items(self, task_id: str) -> list[Item]:
        count = self._state().task(task_id).items
        return [(task_id, None)] if count is None else [(task_id, i) for i in range(count)]

    def value(self, task_id: str) -> Any:
        """The result of a task; of a mapped one the list of its items'.

        Raises ResultUnreadableError.
        """
        items = self._items(task_id)
        if items and items[0][1] is not None:
            return [self._value(item) for item in items]
        return self._value(items[0]) if items else []

    def _value(self, item: Item) -> Any:
        future = self._futures.get(item)
        if future is not None:
            return future.result()
        if item not in self._values:
            attempt = self._state().task(*item).in_force
            if attempt is None or attempt.result_key is None:
                raise ResultUnreadableError(
                    f"no result of task {label(item)!r} is stored", task_id=item[0], key=None
                )
            self._values[item] = self._facts.recorder.vault.get(
                attempt.result_key, attempt.data.get("checksum"), task_id=item[0]
            )
        return self._values[item]

    def argument(self, task_id: str) -> Any:
        """What to pass for the result of a task: its future, so that the UI draws the edge."""
        items = self._items(task_id)
        if items and items[0][1] is not None:
            return [self._argument(item) for item in items]
        return self._argument(items[0]) if items else []

    def _argument(self, item: Item) -> Any:
        future = self._futures.get(item)
        # A value read from storage is quoted: Prefect would walk through all of it otherwise.
        return future if future is not None else quote(self._value(item))

    def edges(self, task_ids: Iterable[str]) -> list[Any]:
        """What to wait for, so that the UI draws an edge from each of `task_ids`."""
        found: list[Any] = []
        for task_id in task_ids:
            for item in self._items(task_id):
                if item in self._futures:
                    found.append(self._futures[item])
                elif item in self._carried:
                    found.append(self._carried[item])
        return found

    def expand(self, task: PlanTask) -> int:
        """The number of items that a mapped task has. Raises ResultUnreadableError."""
        return len(self.over(task))

    def over(self, task: PlanTask) -> list[Any]:
        """The items that `task` maps over. Raises RunError where they are none."""
        assert task.map_over is not None
        source = task.inputs[task.map_over]
        value = self.value(source)
        if isinstance(value, str | bytes | Mapping) or not isinstance(value, Iterable):
            raise RunError(
                f"task {task.id!r} maps over the result of {source!r}, which is a "
                f"{type(value).__name__}; return a list",
                task_id=task.id,
            )
        return value if isinstance(value, list) else list(value)


class Submitter:
    """Makes Prefect task runs of a plan's tasks, in the flow run that is current."""

    def __init__(self, facts: RunFacts) -> None:
        self._facts = facts
        self._targets: dict[str, Any] = {}
        self._bases: dict[str, Task[..., Any]] = {}
        for task in facts.plan.tasks:
            mode = task.mode(facts.mode_of(task.id))
            if mode.call is not None:
                target = target_of(mode.call, facts.root)
                check_arguments(target, {**mode.with_, **task.inputs}, task.id)
                self._targets[task.id] = target

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
        mode = task.mode(self._facts.mode_of(task.id))
        parameters = self._plain_arguments(mode)
        for name, source in task.inputs.items():
            mapped = index is not None and name == task.map_over
            parameters[name] = (
                quote(handles.over(task)[index or 0]) if mapped else handles.argument(source)
            )
        state = handles._state()
        passed = {
            s for n, s in task.inputs.items() if not (index is not None and n == task.map_over)
        }
        after = [
            d.task for d in task.upstream if d.task not in passed and state.status(d.task).good
        ]
        spec = self._spec(task, mode, index, ready, input_revision, leases)
        return self._start(
            self._prefect_task(task, spec, tuple(parameters)), parameters, handles.edges(after)
        )

    def _start(
        self, prefect_task: Task[..., Any], parameters: dict[str, Any], wait_for: list[Any]
    ) -> PrefectFuture[Any]:
        context = FlowRunContext.get()
        assert context is not None, "a plan runs inside a Prefect flow run"
        future: PrefectFuture[Any] = context.task_runner.submit(
            prefect_task, parameters=parameters, wait_for=wait_for
        )
        return future

    def _plain_arguments(self, mode: ResolvedMode) -> dict[str, Any]:
        plain_ones = {n: v for n, v in mode.with_.items() if not _secret_in(v)}
        return dict(render(plain_ones, self._facts.look_up))

    def _spec(
        self,
        task: PlanTask,
        mode: ResolvedMode,
        index: int | None,
        ready: datetime,
        input_revision: int,
        leases: tuple[Any, ...],
    ) -> AttemptSpec:
        facts = self._facts
        definition = definition_of(task, mode)
        secrets = {n: v for n, v in mode.with_.items() if _secret_in(v)}
        others = {
            f"{r.template.namespace}.{r.template.name}": facts.look_up(r.template)
            for r in references(secrets)
            if r.template is not None and r.template.namespace in ("parameters", "run")
        }
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
            secrets=secrets,
            values=others,
            criteria=task.success_criteria,
            isolated=isolated,
            timeout=_seconds(task.timeout) if isolated else None,
            result_key=result_key(facts.plan_run, task.id, index, definition, input_revision),
            definition=definition,
            input_revision=input_revision,
            allocated=dict(mode.resources),
            ready=ready,
            recording=facts.recording,
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
        return Task(
            fn=body,
            name=task.id,
            description=task.description or inspect.cleandoc(function or "") or None,
            persist_result=False,  # results are ours to keep, checked and with a checksum
            cache_policy=NO_CACHE,
            **options,
        )

    def show_blocked(self, task: PlanTask, handles: Handles) -> PrefectFuture[Any] | None:
        """A task run that Prefect itself finds not ready, so that the UI shows the block."""
        failed = [
            f
            for d in task.upstream
            for f in handles.edges([d.task])
            if isinstance(f, PrefectFuture) and not is_abandoned(f.task_run_id)
        ]
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
        return self._start(blocked, {}, failed)

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
            TaskEvent(
                plan_run=self._facts.plan_run,
                task_id=item[0],
                map_index=item[1],
                kind=TaskEventKind.ENDED,
                at=at,
                source=str(future.task_run_id),
                run_count=attempt.run_count if attempt else 1,
                state_type=kind,
                state_name=name,
                outcome=outcome,
                reported_by=Reporter.DISPATCHER,
                data={"reason": reason},
            )
        ]


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


def carried_state(attempt: Attempt, task_run_id: UUID, *, data: Any = None) -> State[Any]:
    """A final state that stands for work done by an earlier flow run.

    Passed as an argument it needs some `data`, or Prefect misses its result; the
    API gets none.
    """
    done_by = attempt.data.get("flow_run_id", "an earlier run")
    state: State[Any] = Completed(
        name=CARRIED,
        data=data,
        message=f"done by flow run {done_by}, task run {attempt.source}",
        state_details=StateDetails(task_run_id=task_run_id),
    )
    return state


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


def _seconds(value: timedelta | None) -> float | None:
    return None if value is None else value.total_seconds()

"""A plan out of what Prefect has recorded of a flow: a first draft, to be read and corrected.

Durations are those of the recorded runs. Dependencies are the results that task runs
took from one another, as far as Prefect saw it: a value that was taken out of its
result and is passed on as a plain number is no recorded dependency, so that the plan's
are a lower bound.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from statistics import median, median_high
from typing import TYPE_CHECKING, Any
from uuid import UUID

from athena_prefect.errors import InputError, UnknownNameError
from athena_prefect.plan.model import Plan
from athena_prefect.runtime.attempt import plain
from athena_prefect.runtime.matching import candidates, normal, task_name
from athena_prefect.runtime.reconcile import task_runs_of

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.objects import TaskRun

_IDENTIFIER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-]*")
_NO_ARGUMENT = frozenset({"__parents__", "wait_for"})
"""What Prefect keeps beside the arguments: the tasks that called it, and those it waited for."""
MOST_FLOWS = 200
"""Flows among which the nearest name is looked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedTask:
    """One task run of a completed flow run."""

    id: UUID
    name: str
    """Its task's name, or the name that the run was given."""
    function: str
    named: bool
    """Whether the run was given a name of its own."""
    started: datetime | None
    seconds: float | None
    """How long its body ran; None where it did not succeed at the first try, or was not run."""
    took: Mapping[str, tuple[UUID, ...]] = field(default_factory=dict)
    """Argument → task runs whose results are in it."""


RecordedRun = Sequence[RecordedTask]
"""The task runs of one completed flow run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inferred:
    """A plan and what is to be known of it."""

    plan: Plan
    notes: tuple[str, ...]


# -- what Prefect has recorded ------------------------------------------------------------------


def read_history(client: SyncPrefectClient, flow: str, most: int) -> list[RecordedRun]:
    """The newest completed runs of a flow, at most so many.

    Raises UnknownNameError, InputError where none is completed, and what Prefect's
    client raises.
    """
    from prefect.client.schemas.filters import (
        FlowFilter,
        FlowFilterName,
        FlowRunFilter,
        FlowRunFilterState,
        FlowRunFilterStateType,
    )
    from prefect.client.schemas.objects import StateType
    from prefect.client.schemas.sorting import FlowRunSort

    named = FlowFilter(name=FlowFilterName(any_=[flow]))
    if not client.read_flows(flow_filter=named, limit=1):
        known = [f.name for f in client.read_flows(limit=MOST_FLOWS)]
        raise UnknownNameError("flow", flow, known)
    completed = FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.COMPLETED]))
    runs = client.read_flow_runs(
        flow_filter=named,
        flow_run_filter=FlowRunFilter(state=completed),
        sort=FlowRunSort.END_TIME_DESC,
        limit=most,
    )
    found = [[_recorded(t) for t in task_runs_of(client, [run.id])] for run in runs]
    history: list[RecordedRun] = [run for run in found if run]
    if not history:
        raise InputError(
            f"flow {flow!r} has no completed run with tasks to learn from; run it once"
        )
    return history


def _recorded(run: TaskRun) -> RecordedTask:
    name, state = task_name(run), run.state
    good = state is not None and state.is_completed() and state.name != "Cached"
    seconds = None
    if good and run.run_count == 1 and run.start_time and run.end_time:
        seconds = (run.end_time - run.start_time).total_seconds()
    took = {
        argument: tuple(i.id for i in inputs if i.input_type == "task_run")
        for argument, inputs in run.task_inputs.items()
        if argument != "__parents__"
    }
    return RecordedTask(
        id=run.id,
        name=name,
        function=candidates(run)[-1],
        named=name == run.name,
        started=None if run.start_time is None else plain(run.start_time),
        seconds=seconds,
        took={argument: ids for argument, ids in took.items() if ids},
    )


# -- the plan -------------------------------------------------------------------------------------


def infer(flow: str, runs: Sequence[RecordedRun]) -> Inferred:
    """The plan that the runs of a flow amount to. Raises PlanDocumentError where none can be."""
    history = _History(runs)
    arcs, cycles = history.arcs()
    tasks = [history.document_of(task_id, arcs.get(task_id, [])) for task_id in history.task_ids]
    plan = Plan.model_validate({"name": identifier(flow), "tasks": tasks})
    return Inferred(plan=plan, notes=(*history.notes(flow), *cycles))


def identifier(name: str) -> str:
    """`name` where a plan takes it as it is, else its normal form, which `attach` matches too."""
    return name if _IDENTIFIER.fullmatch(name) else normal(name) or "task"


class _History:
    def __init__(self, runs: Sequence[RecordedRun]) -> None:
        self.runs = runs
        self._given = Counter(n for run in runs for n in {t.name for t in run if t.named})
        self._of: dict[UUID, str] = {t.id: self._task_id(t) for run in runs for t in run}
        self.by_task: dict[str, list[RecordedTask]] = {}
        for run in runs:
            for task in run:
                self.by_task.setdefault(self._of[task.id], []).append(task)
        self.calls = {t: self._calls(t) for t in self.by_task}

    def _task_id(self, task: RecordedTask) -> str:
        # Names made of a date or a file are other ones each time: then it is the function.
        recurs = not task.named or 2 * self._given[task.name] >= len(self.runs)
        return identifier(task.name if recurs else task.function)

    def _calls(self, task_id: str) -> list[int]:
        counts = [sum(self._of[t.id] == task_id for t in run) for run in self.runs]
        return [c for c in counts if c]

    @property
    def task_ids(self) -> list[str]:
        """In the order in which they begin."""
        return sorted(self.by_task, key=lambda t: (self._begins(t), t))

    def _begins(self, task_id: str) -> float:
        starts = []
        for run in self.runs:
            began = [t.started for t in run if t.started is not None]
            own = [t.started for t in run if t.started and self._of[t.id] == task_id]
            if own:
                starts.append((min(own) - min(began)).total_seconds())
        return median(starts) if starts else float("inf")

    def arcs(self) -> tuple[dict[str, list[str]], list[str]]:
        """Task → what it took results from; and, in words, what was left out of a circle."""
        seen: Counter[tuple[str, str]] = Counter()
        for run in self.runs:
            pairs = {
                (self._of[up], self._of[task.id])
                for task in run
                for ups in task.took.values()
                for up in ups
                if up in self._of
            }
            seen.update(p for p in pairs if p[0] != p[1])
        kept: dict[str, list[str]] = {}
        left: list[str] = []
        # What was seen most often first; the earlier task before the later one.
        place = {task_id: i for i, task_id in enumerate(self.task_ids)}
        for (up, task_id), _ in sorted(
            seen.items(), key=lambda p: (-p[1], place[p[0][0]], place[p[0][1]])
        ):
            if task_id in _ancestors(up, kept):
                left.append(
                    f"{task_id} also took results of {up}, which waits for it: called by turns"
                )
            else:
                kept.setdefault(task_id, []).append(up)
        return kept, left

    def document_of(self, task_id: str, upstream: Sequence[str]) -> dict[str, Any]:
        """The task as a plan document says it."""
        document: dict[str, Any] = {"id": task_id}
        duration = estimate(t.seconds for t in self.by_task[task_id] if t.seconds is not None)
        if duration is not None:
            document["duration"] = duration
        items = median_high(self.calls[task_id])
        over = self._mapped_over(task_id, upstream) if items > 1 else None
        if over is not None:
            argument, source = over
            document |= {"inputs": {argument: source}, "map_over": argument}
            document["expected_items"] = items
        rest = [u for u in upstream if over is None or u != over[1]]
        if rest:
            document["depends_on"] = rest
        return document

    def _mapped_over(self, task_id: str, upstream: Sequence[str]) -> tuple[str, str] | None:
        """The argument that brings an item to each call, and the task that it comes from."""
        sources: dict[str, set[UUID]] = {}
        origin: dict[str, str] = {}
        for task in self.by_task[task_id]:
            for argument, ids in task.took.items():
                known = [self._of[i] for i in ids if self._of.get(i) in upstream]
                if argument not in _NO_ARGUMENT and known:
                    sources.setdefault(argument, set()).update(ids)
                    origin.setdefault(argument, known[0])
        if not sources:
            return None
        argument = max(sources, key=lambda a: (len(sources[a]), a))
        return argument, origin[argument]

    def notes(self, flow: str) -> list[str]:
        """What somebody who reads the plan has to know."""
        count = len(self.runs)
        said = [
            f"Inferred from the {'newest' if count > 1 else 'one'} "
            f"{f'{count} completed runs' if count > 1 else 'completed run'} of flow {flow!r}.",
            "Dependencies are the results that tasks took from one another as Prefect saw it: a "
            "lower bound. Add what is missing.",
        ]
        if count > 1:
            said.append(
                "Durations are the shortest, the median and the longest of the successful calls."
            )
        for task_id in self.task_ids:
            calls = self.calls[task_id]
            if len(calls) < count:
                said.append(f"{task_id} was called in {len(calls)} of {count} runs")
            if median_high(calls) > 1 and not any(t.took for t in self.by_task[task_id]):
                said.append(
                    f"{task_id} was called {median_high(calls)} times a run, on nothing that "
                    "another task returned: each call counts as an attempt at it"
                )
        return said


def _ancestors(task_id: str, arcs: Mapping[str, Sequence[str]]) -> set[str]:
    """The task and all that it waits for."""
    found, todo = {task_id}, [task_id]
    while todo:
        new = [u for u in arcs.get(todo.pop(), ()) if u not in found]
        found.update(new)
        todo += new
    return found


def estimate(seconds: Iterable[float]) -> Any:
    """Shortest, median and longest as a plan says them, to the millisecond; None of nothing."""
    found = sorted(round(s, 3) for s in seconds)
    if not found:
        return None
    if found[0] == found[-1]:
        return found[0]
    return {
        "optimistic": found[0],
        "likely": round(median(found), 3),
        "pessimistic": found[-1],
    }

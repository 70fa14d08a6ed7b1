"""The results of tasks that have ended, as downstream tasks take them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any
from uuid import UUID

from prefect.client.schemas.objects import RunInput, State, StateDetails, TaskRunResult
from prefect.futures import PrefectFuture
from prefect.states import Completed
from prefect.utilities.annotations import quote

from athena_prefect.errors import ResultUnreadableError, RunError
from athena_prefect.journal.state import Attempt, ExecutionState, Item
from athena_prefect.plan.model import Dependency, PlanTask
from athena_prefect.runtime.facts import RunFacts, label
from athena_prefect.runtime.reconcile import CARRIED


class Handles:
    """The results of tasks that have ended, as futures of this process or from storage."""

    def __init__(self, facts: RunFacts, state: Callable[[], ExecutionState]) -> None:
        self._facts = facts
        self.state = state
        self._futures: dict[Item, PrefectFuture[Any]] = {}
        self._values: dict[Item, Any] = {}
        self._carried: dict[Item, UUID] = {}
        self._over: dict[str, list[Any]] = {}

    def put(self, item: Item, future: PrefectFuture[Any]) -> None:
        """A future of this process; it outranks what was carried."""
        self._futures[item] = future

    def future(self, item: Item) -> PrefectFuture[Any] | None:
        """The future of an item that this process has submitted."""
        return self._futures.get(item)

    def withdraw(self, item: Item, future: PrefectFuture[Any]) -> None:
        """The future is not to be waited for: it was taken back before it began."""
        if self._futures.get(item) is future:
            del self._futures[item]

    def drop_failed(self, item: Item) -> None:
        """Nothing is kept of an attempt that gave no result."""
        self._values.pop(item, None)

    def forget(self, task_id: str) -> None:
        """Forget the results of a task and its items: they are made again."""
        self._over.clear()
        kept: dict[Item, Any]
        for kept in (self._futures, self._values, self._carried):
            for item in [i for i in kept if i[0] == task_id]:
                kept.pop(item)

    def carry(self, item: Item, task_run_id: UUID) -> None:
        """`task_run_id` stands for the work of `item` in the UI's graph."""
        self._carried[item] = task_run_id

    def _items(self, task_id: str) -> list[Item]:
        count = self.state().task(task_id).items
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
            attempt = self.state().task(*item).in_force
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

    def edges(self, task_ids: Iterable[str], *, passed: Iterable[str] = ()) -> set[RunInput]:
        """The task runs from which the UI is to draw an edge: those of `task_ids`.

        Results that are `passed` as futures draw their own; those that were read
        from storage are values, whose edges are drawn here.
        """
        found: set[RunInput] = set()
        for task_id in task_ids:
            for item in self._items(task_id):
                if item in self._futures:
                    found.add(TaskRunResult(id=self._futures[item].task_run_id))
                elif item in self._carried:
                    found.add(TaskRunResult(id=self._carried[item]))
        for task_id in passed:
            for item in self._items(task_id):
                if item not in self._futures and item in self._carried:
                    found.add(TaskRunResult(id=self._carried[item]))
        return found

    def futures(self, arcs: Iterable[Dependency]) -> list[PrefectFuture[Any]]:
        """The futures of what `arcs` come from, as far as this process has submitted them."""
        items = (item for arc in arcs for item in self._items(arc.task))
        return [self._futures[item] for item in items if item in self._futures]

    def expand(self, task: PlanTask) -> int:
        """The number of items that a mapped task has. Raises ResultUnreadableError."""
        return len(self.over(task))

    def over(self, task: PlanTask) -> list[Any]:
        """The items that `task` maps over. Raises RunError where they are none."""
        assert task.map_over is not None
        if task.id in self._over:
            return self._over[task.id]
        source = task.inputs[task.map_over]
        value = self.value(source)
        if isinstance(value, str | bytes | Mapping) or not isinstance(value, Iterable):
            raise RunError(
                f"task {task.id!r} maps over the result of {source!r}, which is a "
                f"{type(value).__name__}; return a list",
                task_id=task.id,
            )
        items = self._over[task.id] = value if isinstance(value, list) else list(value)
        return items


def carried_state(attempt: Attempt, task_run_id: UUID) -> State[Any]:
    """A final state that stands for work done by an earlier flow run."""
    done_by = attempt.data.get("flow_run_id", "an earlier run")
    state: State[Any] = Completed(
        name=CARRIED,
        message=f"done by flow run {done_by}, task run {attempt.source}",
        state_details=StateDetails(task_run_id=task_run_id),
    )
    return state

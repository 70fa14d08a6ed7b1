"""What a dispatcher needs of whatever executes its tasks: a small port, and nothing of Prefect.

`Submitter` makes Prefect task runs of them; tests have an executor in virtual time.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol, Self

if TYPE_CHECKING:
    from athena_prefect.journal.events import TaskEvent
    from athena_prefect.journal.state import Attempt, Item
    from athena_prefect.plan.model import PlanTask
    from athena_prefect.runtime.handles import Handles


class Executor(Protocol):
    """Executes tasks of the plan in force. Starts and ends go to the journal by themselves."""

    def submit(
        self,
        task: PlanTask,
        index: int | None,
        handles: Handles,
        *,
        ready: datetime,
        input_revision: int,
        leases: tuple[Any, ...],
    ) -> Any:
        """Have a task (or item) executed; its future. Raises ResultUnreadableError."""
        ...

    def ends_itself(self, task: PlanTask) -> bool:
        """Whether the task's time-out is kept by somebody else than the dispatcher."""
        ...

    def show_blocked(self, task: PlanTask, handles: Handles) -> Any | None:
        """Show that a task is blocked; the future that does, where there is one."""
        ...

    def end_of(
        self, item: Item, future: Any, attempt: Attempt | None, now: datetime
    ) -> Sequence[TaskEvent]:
        """The end of an attempt that was not written down."""
        ...

    def modes_changed(self) -> None:
        """Look again at what each task calls."""
        ...

    def renewed(self) -> Self:
        """An executor of the plan in force, which is another now. Raises AthenaError."""
        ...

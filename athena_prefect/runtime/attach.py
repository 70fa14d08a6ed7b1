"""Monitor a flow that somebody wrote by hand: `attach(flow, plan)`.

The flow stays the object that it is, with its function, its options and its own
hooks; hooks of ours stand behind them. They run in whatever process Prefect calls
them in: beside the flow, or, after a crash or a cancellation, in its worker.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, overload

from athena_prefect.errors import InputError
from athena_prefect.plan.model import Plan
from athena_prefect.plan.references import project_root

if TYPE_CHECKING:
    from prefect import Flow
    from prefect.client.schemas.objects import FlowRun, State

    from athena_prefect.runtime.attached import Attachment

logger = logging.getLogger(__name__)

F = TypeVar("F", bound="Flow[..., Any]")
_OURS = "athena_attached"
_ENDS = ("on_completion_hooks", "on_failure_hooks", "on_crashed_hooks", "on_cancellation_hooks")


@overload
def attach(flow: F, plan: Plan | str | Path, /, *, names: Mapping[str, str] | None = None) -> F: ...


@overload
def attach(
    plan: Plan | str | Path, /, *, names: Mapping[str, str] | None = None
) -> Callable[[F], F]: ...


def attach(
    flow: Any, plan: Plan | str | Path | None = None, /, *, names: Mapping[str, str] | None = None
) -> Any:
    """Have every run of `flow` monitored against `plan`; the same flow, as it was but for that.

    As a decorator, ``@attach("deployments/orders/plan.yaml")`` stands above ``@flow``. A
    relative path starts at the project root (the nearest folder with ``prefect.yaml`` or
    ``pyproject.toml``) of the file that calls this. A task run is that task of the plan
    whose id it is named, as ``names`` says ({"name in Prefect": "id in the plan"}), by
    the very id, or by the id but for case and signs. The plan is read when a run begins:
    one that cannot be read, like every other failure of the monitor, is an error in the
    flow run's log and no reason for the flow to fail. Raises InputError for what is no flow.
    """
    caller = sys._getframe(1).f_globals.get("__file__")
    if plan is None:
        given = flow
        if not isinstance(given, Plan | str | Path):
            raise InputError(
                f"attach was given {given!r} and no plan; write attach(flow, plan), or "
                '@attach("plan.yaml") above @flow'
            )
        return lambda decorated: _attached(decorated, given, names, caller)
    return _attached(flow, plan, names, caller)


def _attached(
    flow: Any, plan: Plan | str | Path, names: Mapping[str, str] | None, caller: str | None
) -> Any:
    from prefect import Flow

    from athena_prefect.runtime.attached import Attachment

    if not isinstance(flow, Flow):
        raise InputError(
            f"attach was given {getattr(flow, '__name__', flow)!r}, which is no flow; "
            "put @attach above @flow"
        )
    found = plan if isinstance(plan, Plan) else _beside(Path(plan), caller)
    attachment = Attachment(plan=found, names=dict(names or {}))
    flow.on_running_hooks = _with(flow.on_running_hooks, _begins(attachment))
    for hooks in _ENDS:
        setattr(flow, hooks, _with(getattr(flow, hooks), _ends(attachment)))
    return flow


def _beside(path: Path, caller: str | None) -> Path:
    if path.is_absolute() or caller is None:
        return path.absolute()
    return project_root(Path(caller).resolve()) / path


def _with(hooks: list[Any], ours: Any) -> list[Any]:
    """The hooks of the flow's own in a list of ours, behind them the one that is ours."""
    return [*(h for h in hooks if not getattr(h, _OURS, False)), ours]


def _begins(attachment: Attachment) -> Any:
    def athena_attached(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:
        from athena_prefect.runtime.attached import begin

        begin(attachment, flow, flow_run, state)

    return _marked(athena_attached)


def _ends(attachment: Attachment) -> Any:
    def athena_attached(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:
        from athena_prefect.runtime.attached import end

        end(flow_run.id, state)

    return _marked(athena_attached)


def _marked(hook: Any) -> Any:
    def guarded(flow: Any, flow_run: Any, state: Any) -> None:
        try:
            hook(flow, flow_run, state)
        except Exception as error:  # noqa: BLE001 - the boundary between the monitor and the pipeline
            logger.error("athena: this run is not monitored: %r", error)

    guarded.__name__ = guarded.__qualname__ = hook.__name__
    setattr(guarded, _OURS, True)
    return guarded

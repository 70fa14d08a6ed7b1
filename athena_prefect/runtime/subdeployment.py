"""Another deployment, run as one task of a plan."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from athena_prefect.errors import RunError
from athena_prefect.runtime.context import idempotency_token


def run_as_task(name: str, arguments: Mapping[str, Any]) -> dict[str, str]:
    """Run deployment `name` and wait for it; its flow run's id, name and state.

    The idempotency key is the task's own, so an attempt that was cut off finds
    the run that it had started. Raises RunError unless that run completes.
    """
    from prefect.deployments import run_deployment

    run: Any = run_deployment(  # type: ignore[call-arg, unused-ignore]
        name,
        parameters=dict(arguments),
        idempotency_key=idempotency_token(),
        as_subflow=True,
        _sync=True,
    )
    state = run.state
    if state is None or not state.is_completed():
        shown = "no state" if state is None else f"{state.name}: {state.message}"
        raise RunError(f"deployment {name!r} ended as {shown}", flow_run_id=str(run.id))
    return {"flow_run_id": str(run.id), "name": run.name, "state": state.name}

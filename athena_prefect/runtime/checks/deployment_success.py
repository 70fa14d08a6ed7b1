"""deployment_success: when a deployment last ran through."""

from __future__ import annotations

from typing import Any, ClassVar

from athena_prefect.assumptions.checks.base import CheckContext, Observation
from athena_prefect.plan.model import Sense
from athena_prefect.plan.scalars import DeploymentName
from athena_prefect.runtime.checks.asking import PrefectCheck

_NO_SUCCESS = ("Superseded", "AlreadyReplanned")
"""Names of Completed states of a run that another one carried on."""
_ENDED = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")


class DeploymentSuccess(PrefectCheck):
    """Last success of a deployment: `age`, the seconds since a run of it ended Completed, and
    whether the last run that ended `succeeded`.

    `age` is null where the server remembers no success, which is unknown: records are deleted.
    """

    kind: ClassVar[str] = "deployment_success"
    sense: ClassVar[Sense] = Sense.AT_MOST
    counts: ClassVar[str | None] = "age"

    deployment: DeploymentName
    """The deployment, as ``flow/name``."""

    def _what(self) -> str:
        return f"deployment {self.deployment!r}"

    def observe(self, context: CheckContext) -> Observation:
        """Ask for its last runs."""
        with self.asking(context) as client:
            deployment = client.read_deployment_by_name(self.deployment)
            success = _last(client, deployment.id, ("COMPLETED",))
            last = _last(client, deployment.id, _ENDED)
        if last is None:
            age, told = None, "no run of it has ended"
        elif success is None:
            age, told = None, f"no run of it has succeeded; the last ended {last.state_name}"
        else:
            age = (context.now - success.end_time).total_seconds()
            told = f"succeeded {success.end_time.isoformat()}; the last ended {last.state_name}"
        succeeded = None if last is None else success is not None and last.id == success.id
        return Observation(
            value={"age": age, "succeeded": succeeded}, unit="s", details=f"{self._what()}: {told}"
        )


def _last(client: Any, deployment: Any, types: tuple[str, ...]) -> Any:
    from prefect.client.schemas.filters import DeploymentFilter, FlowRunFilter
    from prefect.client.schemas.sorting import FlowRunSort

    state = {"type": {"any_": types}, "name": {"not_any_": _NO_SUCCESS}}
    found = client.read_flow_runs(
        deployment_filter=DeploymentFilter.model_validate({"id": {"any_": [deployment]}}),
        flow_run_filter=FlowRunFilter.model_validate({"state": state}),
        sort=FlowRunSort.END_TIME_DESC,
        limit=1,
    )
    return found[0] if found and found[0].end_time is not None else None

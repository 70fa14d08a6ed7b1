"""Looks at every live run: reconciles, assesses, raises what is late, resumes what vanished."""

from typing import Any

from prefect import flow

from athena_prefect.runtime.blocks import current_settings
from athena_prefect.runtime.naming import service_run_name
from athena_prefect.service.watching import watch_live


@flow(name="watch-plan", flow_run_name=service_run_name)
def watch_plan(plan: str | None = None) -> dict[str, Any]:
    """One look at the live runs of the namespace, or of one plan."""
    return watch_live(plan, settings=current_settings()).as_dict()

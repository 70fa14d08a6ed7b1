"""Checks one assumption of a plan now, by its schedule: while the plan runs, or always."""

from pathlib import Path
from typing import Any

from prefect import flow

from athena_prefect.plan.references import put_first
from athena_prefect.runtime.naming import service_run_name

# Loaded from wherever it is: its steps are those of its own project.
put_first(Path(__file__).parents[1])

from tasks.assumptions import check, pause  # noqa: E402


@flow(name="check-assumption", flow_run_name=service_run_name)
def check_assumption(plan: str, assumption: str) -> dict[str, Any]:
    """One check of `assumption` of the plan document `plan`, a path below the project."""
    document = Path(__file__).parents[1] / plan
    found = check(document, assumption)
    if not found["needed"]:
        pause(document)
    return found

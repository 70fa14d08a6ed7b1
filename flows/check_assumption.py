"""Checks one assumption of a plan now; scheduled for those that are checked always."""

from pathlib import Path
from typing import Any

from prefect import flow

from athena_prefect.runtime.blocks import current_settings
from athena_prefect.service.checking import check_scheduled


@flow(name="check-assumption")
def check_assumption(plan: str, assumption: str) -> dict[str, Any]:
    """One check of `assumption` of the plan document `plan`, a path below the project."""
    document = Path(__file__).parents[1] / plan
    return check_scheduled(document, assumption, settings=current_settings()).as_dict()

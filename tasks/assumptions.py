"""Steps of `flows/check_assumption.py`: one assumption is checked as its schedule asks."""

from pathlib import Path
from typing import Any

from prefect import task

from athena_prefect.runtime.blocks import current_settings
from athena_prefect.service.checking import check_scheduled, pause_unneeded


@task(name="check", task_run_name="check {assumption}")
def check(document: Path, assumption: str) -> dict[str, Any]:
    """Make the check for each live run that leaves it to the schedule, and write it down."""
    return check_scheduled(document, assumption, settings=current_settings()).as_dict()


@task(name="pause schedules that no run needs")
def pause(document: Path) -> int:
    """Where a run's process vanished, nobody has paused the schedules of its plan."""
    return pause_unneeded(document, settings=current_settings())

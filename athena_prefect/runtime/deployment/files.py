"""The flow files that a project is given once, and the writing of those that it lacks."""

from __future__ import annotations

from pathlib import Path

from athena_prefect.errors import InputError
from athena_prefect.runtime.deployment import names
from athena_prefect.runtime.deployment.state import FlowFile

_WATCH = '''\
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
'''


def watch_file() -> FlowFile:
    """The watching flow's file, as a new project has it."""
    return FlowFile(path=names.WATCH_FILE, text=_WATCH)


def replan_files() -> tuple[FlowFile, ...]:
    """The replanning flow's file and that of its steps, as a new project has them."""
    return tuple(
        FlowFile(path=path, text=(shipped() / path).read_text(encoding="utf-8"))
        for path in (names.REPLAN_FILE, names.REPLAN_STEPS)
    )


def shipped() -> Path:
    """Where the example project is: in the wheel, or the root of a source checkout."""
    package = Path(__file__).resolve().parents[2]
    inside = package / "_project"
    return inside if inside.is_dir() else package.parent


def write(file: FlowFile, root: Path) -> None:
    """Write the file where there is none. Raises InputError where that cannot be."""
    path = root / file.path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as opened:
            opened.write(file.text)
    except FileExistsError:
        pass  # its owner's
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}", path=str(path)) from error

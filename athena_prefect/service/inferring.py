"""A first draft of a plan, out of the history of a flow that has none."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from pathlib import Path

from athena_prefect.errors import InputError
from athena_prefect.service.results import _Answer

WIDTH = 96
"""Columns of the remarks at the document's head."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InferredPlan(_Answer):
    """A plan document inferred from recorded runs."""

    flow: str
    name: str
    runs: int
    """Completed runs that it rests on."""
    tasks: int
    dependencies: int
    """A lower bound: what Prefect saw."""
    notes: tuple[str, ...]
    document: str
    """The plan document, in YAML, with the notes as remarks."""
    file: Path | None = None
    """Where it was written."""


def infer(flow: str, *, most: int = 20, output: Path | None = None) -> InferredPlan:
    """The plan of `flow` as its newest completed runs have it, written to `output` if given.

    Raises UnknownNameError, InputError where there is no API, no completed run, or
    the file is there already.
    """
    from athena_prefect.plan.document import dumps
    from athena_prefect.runtime.infer import infer as infer_plan
    from athena_prefect.runtime.infer import read_history
    from athena_prefect.runtime.watching import connected

    if most < 1:
        raise InputError(f"--runs is {most}; look at one run or more")
    if output is not None and output.exists():
        raise InputError(f"{output} is there already; name another file", file=str(output))
    with connected() as api:
        if api is None:
            raise InputError(
                "no Prefect API is configured, so there is no history; set PREFECT_API_URL"
            )
        history = read_history(api.client, flow, most)
    found = infer_plan(flow, history)
    document = remarks(found.notes) + dumps(found.plan)
    if output is not None:
        _write(output, document)
    return InferredPlan(
        flow=flow,
        name=found.plan.name,
        runs=len(history),
        tasks=len(found.plan.tasks),
        dependencies=sum(len(t.upstream) for t in found.plan.tasks),
        notes=found.notes,
        document=document,
        file=None if output is None else output.resolve(),
    )


def remarks(notes: tuple[str, ...]) -> str:
    """The notes as remarks of a YAML document."""
    lines = [
        line
        for note in notes
        for line in textwrap.wrap(note, WIDTH, initial_indent="# ", subsequent_indent="#   ")
    ]
    return "\n".join(lines) + "\n"


def _write(output: Path, document: str) -> None:
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        with output.open("x", encoding="utf-8") as file:
            file.write(document)
    except OSError as error:
        raise InputError(
            f"cannot write the plan to {output}: {error.strerror}; name another file with -o",
            file=str(output),
        ) from None

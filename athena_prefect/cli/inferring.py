"""The command that drafts a plan for a flow that has none."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from athena_prefect.cli.base import Json, answer_of, app, examples

if TYPE_CHECKING:
    from athena_prefect.service.inferring import InferredPlan


@app.command(
    help_epilogue=examples(
        "athena infer nightly", "athena infer nightly --runs 50 -o deployments/nightly/plan.yaml"
    ),
)
def infer(
    flow: Annotated[str, Parameter(help="A flow's name in Prefect.")],
    /,
    *,
    runs: Annotated[int, Parameter(help="How many of its completed runs to look at.")] = 20,
    output: Annotated[
        Path | None, Parameter(name=["--output", "-o"], help="Where to write the plan.")
    ] = None,
    json: Json = False,
) -> int:
    """Draft a plan for a flow out of its recorded runs: tasks, durations, dependencies.

    Needs a Prefect server (PREFECT_API_URL). Dependencies are those that Prefect has
    recorded, which is a lower bound. The plan has nothing to call: `attach` monitors
    the flow against it.
    """
    from athena_prefect.service import infer as use_case

    what = "reading the flow's runs"
    answer_of(what, lambda: use_case(flow, most=runs, output=output), json, _drafted)
    return 0


def _drafted(found: InferredPlan) -> str:
    if found.file is None:
        return found.document.rstrip("\n")
    return (
        f"{found.file}: {found.tasks} tasks, {found.dependencies} dependencies at least, "
        f"from {found.runs} run{'s' if found.runs != 1 else ''}"
    )

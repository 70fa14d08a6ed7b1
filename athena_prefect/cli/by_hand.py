"""Commands that change a run by hand: skip, done, rerun."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from athena_prefect.cli.base import Json, RunId, answer, answer_of, app, examples, settings_here
from athena_prefect.cli.progress import working

if TYPE_CHECKING:
    from athena_prefect.service.by_hand import ChangedByHand

TaskId = Annotated[str, Parameter(help="A task of the plan.")]
TELLING = "telling the run"
Reason = Annotated[str, Parameter(help="Why; kept with your name in the run's revision.")]


@app.command(help_epilogue=examples('athena skip 5f2c licences --reason "not needed today"'))
def skip(run: RunId, task: TaskId, /, *, reason: Reason = "", json: Json = False) -> int:
    """Leave a task out of a run.

    Tasks that take its result are left out too; those that only wait for it go on.
    A run that nobody runs now obeys when it is gone on with.
    """
    from athena_prefect.service import skip as use_case

    settings = settings_here()
    answer_of(TELLING, lambda: use_case(run, task, reason=reason, settings=settings), json, _told)
    return 0


@app.command(
    help_epilogue=examples(
        "athena done 5f2c approve", "athena done 5f2c extract --result '{\"rows\": 120}'"
    ),
)
def done(
    run: RunId,
    task: TaskId,
    /,
    *,
    result: Annotated[
        str | None, Parameter(help="What the task returned, as JSON; null if not given.")
    ] = None,
    reason: Reason = "",
    json: Json = False,
) -> int:
    """Say that a task is done: somebody did its work elsewhere.

    Tasks downstream get the result that is given here.
    """
    from athena_prefect.service import done as use_case

    settings = settings_here()
    answer_of(
        TELLING,
        lambda: use_case(run, task, result=result, reason=reason, settings=settings),
        json,
        _told,
    )
    return 0


@app.command(
    help_epilogue=examples(
        "athena rerun 5f2c --from load", "athena rerun 5f2c --from load --no-start"
    ),
)
def rerun(
    run: RunId,
    /,
    *,
    from_: Annotated[str, Parameter(name="--from", help="The task to begin with.")],
    reason: Reason = "",
    start: Annotated[
        bool, Parameter(help="Go on with the run now, where nobody runs it and no worker does.")
    ] = True,
    json: Json = False,
) -> int:
    """Have a task, and all that follows from it, run again; what is upstream stays as it is.

    Also in a run that is over, whether it failed or not.
    """
    from athena_prefect.service import rerun as use_case

    settings = settings_here()
    with working(TELLING, quiet=json):
        found = use_case(run, from_, reason=reason, settings=settings)
    if not start or found.go_on is None or found.source is None:
        answer(found, json, _told)
        return 0
    from athena_prefect.cli.runs import watched_run

    return watched_run(found.source, json=json, resume=str(found.plan_run))


def _told(found: ChangedByHand) -> str:
    what = {"rerun": f"rerun from {found.task_id}"}.get(
        str(found.kind), f"{found.kind} {found.task_id}"
    )
    run = str(found.plan_run)[:8]
    if found.answered:
        return f"{what}: done, revision {found.revision} of run {run} of {found.plan}"
    if found.live:
        return f"{what}: sent to run {run}, which has not answered yet; `athena status {run}`"
    if found.deployed:
        return f"{what}: a worker was asked to go on with run {run} of {found.plan}"
    return f"{what}: run {run} of {found.plan} obeys when it is gone on with:\n  {found.go_on}"

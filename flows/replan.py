"""Gives what is left of a deployed run another plan: started where a run deviates."""

from pathlib import Path
from typing import Any

from prefect import flow
from prefect.states import Completed

from athena_prefect.plan.references import put_first
from athena_prefect.runtime.blocks import current_settings
from athena_prefect.runtime.naming import service_run_name
from athena_prefect.runtime.seams import reached
from athena_prefect.service.asking import Form, wait_for_answer
from athena_prefect.service.changing_over import ALREADY, DECLINED, NOTHING_TO_DO, Rest, rest_of

# Loaded from wherever it is: its steps are those of its own project.
put_first(Path(__file__).parents[1])

from tasks.replanning import (  # noqa: E402
    ask,
    choose,
    evaluate,
    find_options,
    redeploy,
    store,
    take_answer,
    verify,
)

TRIES = 3
"""How often the rest is solved anew because the run has gone past what was found."""


@flow(name="replan", flow_run_name=service_run_name, validate_parameters=False)
def replan(plan_run: str, trigger: str = "") -> Any:
    """Evaluate, find the options, choose one, verify it, store it, redeploy the continuation.

    Where people are to choose, the flow run is suspended with a form, and begins anew when it
    is resumed.
    """
    while True:
        with rest_of(plan_run, settings=current_settings()) as rest:
            if isinstance(rest, str):
                return Completed(name=ALREADY, message=rest)
            found = another_plan(rest)
        if not isinstance(found, Form):
            return found
        reached("asked")
        take_answer(rest, found, wait_for_answer(found))
        reached("answered")


def another_plan(rest: Rest) -> Any:
    """One way through the steps: the final state, or the form that people are to answer."""
    why = ""
    for _ in range(TRIES):
        called = evaluate(rest)
        reached("evaluated")
        if called.waiting:
            redeploy(rest, called.revision)
        if called.asks:
            return ask(rest)
        if not called.replans:
            return Completed(name=called.state, message=called.reason)
        options = find_options(rest)
        reached("options")
        option = choose(rest, options)
        reached("chosen")
        if option is None and called.answered:
            form = ask(rest)
            if form is not None:
                return form
            rest.decline(f"what was chosen cannot be done: {rest.refused}", called.strategy)
            return Completed(name=DECLINED, message=rest.refused)
        if option is None:
            why = "no option can be carried out"
            break
        result = verify(rest, option)
        reached("verified")
        if not result.verification_passed:
            why = result.why_not
            break
        stored = store(rest, option, result)
        reached("in force")
        if stored.stored:
            found = redeploy(rest, stored.revision)
            done = f"revision {stored.revision}: {option.title}; {found.deployment}"
            return Completed(name="Replanned", message=done)
        why = stored.reason
        if not stored.again:
            return Completed(name=ALREADY, message=why)
    rest.decline(why, called.strategy)
    return Completed(name=NOTHING_TO_DO, message=why)

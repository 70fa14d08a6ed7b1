"""Prompts: how to go about the two questions that people ask of a run."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

Which = Annotated[str, Field(description="The plan_id; the one live run if not given.")]


def why_is_it_late(plan_id: Which = "") -> str:
    """Find out why a run ends when it does, and what could be done."""
    which = f"the run of plan_id {plan_id}" if plan_id else "the live run"
    read = f"athena://plans/{plan_id or '{plan_id}'}/forecast"
    return (
        f"Find out why {which} is late.\n"
        f"1. Call get_plan_deviation{_of(plan_id)}. If several runs live, ask me which is meant.\n"
        f"2. Read {read}: which tasks took longer than planned, which wait, which failed?\n"
        "3. Call check_replanning_need: which reasons are there, and which assumptions broke?\n"
        "4. If another plan is called for, call generate_replanning_options and show me the "
        "options with finish, cost, success probability and risks, the recommended one first.\n"
        "Tell measured figures from forecasts, and say what is not known. Change nothing: "
        "execute_replan only when I have named an option."
    )


def post_mortem(plan_id: Which = "") -> str:
    """Look back at a run that is over: what went otherwise than planned, and what to learn."""
    which = f"the run of plan_id {plan_id}" if plan_id else "the run that I name"
    base = f"athena://plans/{plan_id or '{plan_id}'}"
    return (
        f"Write a post-mortem of {which}.\n"
        f"1. Read {base}/forecast and {base}/revisions, and {base} for what was planned.\n"
        "2. Set out the course: when it began and ended, which tasks were late or failed, which "
        "assumptions broke, what was replanned, by whom and why.\n"
        "3. Call get_estimation_accuracy, get_execution_patterns and "
        "get_execution_recommendations: which of it has been seen before?\n"
        "4. Name at most five changes to the plan, each with the figure that speaks for it and "
        "how many runs that rests on.\n"
        "Where the history is too short to tell, say so instead of guessing."
    )


def _of(plan_id: str) -> str:
    return f" with plan_id {plan_id}" if plan_id else ""


def add_prompts(server: Any) -> None:
    """Give `server` every prompt."""
    server.prompt(why_is_it_late, name="why_is_it_late", title="Why is it late")
    server.prompt(post_mortem, name="post_mortem", title="Post-mortem")

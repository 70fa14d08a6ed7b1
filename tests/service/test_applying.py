"""Which recommendations are written into a plan without being named."""

from __future__ import annotations

from athena_prefect.learning.results import Recommendation
from athena_prefect.plan.model import Plan
from athena_prefect.service.applying import chosen_of

PLAN = Plan.model_validate(
    {"name": "p", "tasks": [{"id": t, "duration": "1h"} for t in ("a", "b", "c")]}
)


def after(task: str, before: str, confidence: float = 0.9) -> Recommendation:
    return Recommendation(
        recommendation_id=f"slowed:{before}:{task}", area="dependencies", suggestion="",
        rationale="", potential_benefit="", implementation_effort="moderate",
        confidence=confidence, patch={"tasks": {task: {"depends_on": [{"task": before}]}}},
    )  # fmt: skip


def test_changes_that_would_make_a_circle_are_not_taken_together() -> None:
    found = [after("b", "a"), after("c", "b"), after("a", "c")]
    assert chosen_of(PLAN, found, ()) == (found[0], found[1])
    assert chosen_of(PLAN, found[1:], ()) == (found[1], found[2])


def test_what_is_not_sure_enough_is_not_taken() -> None:
    assert chosen_of(PLAN, [after("b", "a", 0.6)], ()) == ()

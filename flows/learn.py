"""Learns from finished runs: after each of them, and every night from all of them."""

from typing import Any

from prefect import flow

from tasks.learning import known_plans, publish, study


@flow(name="learn")
def learn(plan: str | None = None) -> dict[str, Any]:
    """What the runs of `plan` teach, or those of each plan of the namespace, kept and shown."""
    result = {}
    for name in [plan] if plan else known_plans():
        found = study(name)
        if found.runs:
            publish(found)
        result[name] = {
            "runs": found.runs,
            "lessons": len(found.lessons),
            "recommendations": [r.suggestion for r in found.recommendations],
        }
    return result

"""Learns from finished runs: after each of them, and every night from all of them."""

from pathlib import Path
from typing import Any

from prefect import flow

from athena_prefect.plan.references import put_first
from athena_prefect.runtime.naming import service_run_name

# Loaded from wherever it is: its steps are those of its own project.
put_first(Path(__file__).parents[1])

from tasks.learning import known_plans, publish, study  # noqa: E402


@flow(name="learn", flow_run_name=service_run_name)
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

"""Runs one plan document in a process of its own, for tests that kill it.

``python runner.py PLAN.json RUN_ID``; prints the final state's type and message.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from athena_prefect.plan.model import Plan
from athena_prefect.runtime.compiler import compile_plan


def main(path: str, plan_run: str) -> None:
    """Run the plan as plan run `plan_run`."""
    plan = Plan.load(path)
    flow = compile_plan(plan, root=Path(__file__).parent.parent / "runtime" / "project")
    state: Any = flow(plan_run=plan_run, return_state=True)
    print(state.type.value, state.message)


if __name__ == "__main__":
    main(*sys.argv[1:3])

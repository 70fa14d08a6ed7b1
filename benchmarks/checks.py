"""What checks cost a run: the same plan without assumptions, with 200, and with 200 in children.

200 tasks of 50 ms on 8 threads, in twenty layers, against one Prefect server, in turns. Each
assumption is checked at the start and then once a second, so that far more checks
are due than a real plan has: what is made is bounded by the places that there are. Printed: wall
time of the flow, CPU time of the process, and how many checks were made.

    python benchmarks/checks.py [--rounds 3] [--assumptions 200] [--json]
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from uuid import uuid4

HOME = Path(tempfile.mkdtemp(prefix="athena-checks-"))
os.environ.update(
    PREFECT_HOME=str(HOME / "prefect"),
    ATHENA_HOME=str(HOME / "athena"),
    PREFECT_LOGGING_LEVEL="ERROR",
    PREFECT_SERVER_ANALYTICS_ENABLED="false",
)
sys.path.insert(0, str(Path(__file__).parents[1]))

LAYERS, TASKS = 20, 200
KINDS: dict[str, dict[str, Any]] = {
    "without": {},
    "in the process": {"kind": "memory", "unit": "B"},
    "in children": {"kind": "disk_free", "path": ".", "unit": "B"},
}


def plan_of(check: dict[str, Any], count: int) -> Any:
    """The plan with `count` assumptions by this check."""
    from athena_prefect.plan.model import Plan

    width = TASKS // LAYERS
    tasks = [
        {
            "id": f"t{i}",
            "call": "benchmarks.checks:work",
            "depends_on": [f"t{(i // width - 1) * width + k % width}" for k in (i, i + 1)]
            if i >= width
            else [],
            "duration": 0.05,
        }
        for i in range(TASKS)
    ]
    assumptions = [
        {
            "id": f"a{i}",
            "check": check,
            "expected_value": 1,
            "validation_frequency": "1s",
            "milestones": [{"at": "start"}],
        }
        for i in range(count if check else 0)
    ]
    return Plan.model_validate(
        {
            "name": "checked",
            "runner": {"max_workers": 8},
            "tasks": tasks,
            "assumptions": assumptions,
        }
    )


def work() -> int:
    """A task that waits, as one that reads or asks does."""
    time.sleep(0.05)
    return 1


def one(plan: Any) -> dict[str, float]:
    """One run: seconds of wall and CPU time, checks made."""
    from athena_prefect.journal.state import fold_entries
    from athena_prefect.runtime.afterwards import wait_for_afterwards
    from athena_prefect.runtime.compiler import compile_plan
    from athena_prefect.runtime.recorder import recording_of
    from athena_prefect.settings import AthenaSettings

    run = uuid4()
    flow = compile_plan(plan, root=Path(__file__).parents[1])
    cpu, wall = time.process_time(), time.perf_counter()
    final: Any = flow(plan_run=str(run), return_state=True)
    took = time.perf_counter() - wall
    wait_for_afterwards(60)
    used = time.process_time() - cpu
    assert final.is_completed(), final.message
    state = fold_entries(recording_of(AthenaSettings(), plan).open_journal().read(run))
    return {"wall": took, "cpu": used, "checks": sum(map(len, state.checks.values()))}


def main() -> None:
    """Run all in turns and print medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--assumptions", type=int, default=200)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    from athena_prefect.runtime.server import prefect_server

    logging.disable(logging.WARNING)
    found: dict[str, list[dict[str, float]]] = {name: [] for name in KINDS}
    with prefect_server(HOME / "server.log"):
        one(plan_of({}, 0))  # imports, and the database's first look
        for _ in range(options.rounds):
            for name, check in KINDS.items():
                found[name].append(one(plan_of(check, options.assumptions)))
    result = {
        name: {key: statistics.median(r[key] for r in rounds) for key in rounds[0]}
        for name, rounds in found.items()
    }
    if options.json:
        print(json.dumps(result, indent=2))
        return
    for name, row in result.items():
        print(
            f"{name:<16} wall {row['wall']:6.2f} s   CPU {row['cpu']:6.2f} s   "
            f"{row['checks']:.0f} checks"
        )


if __name__ == "__main__":
    main()

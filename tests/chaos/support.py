"""A plan of thirty tasks that write down what they do, and processes that run it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from uuid import UUID

from athena_prefect.journal.state import ExecutionState
from athena_prefect.plan.model import Plan

RUNNER = Path(__file__).parent / "runner.py"
ROOT = Path(__file__).parents[2]


def thirty_tasks(folder: Path, seconds: float = 0.15) -> Path:
    """The document of a plan of six layers of five tasks, each after two of the layer before."""
    tasks = []
    for layer in range(6):
        for place in range(5):
            before = [f"t{layer - 1}{place}", f"t{layer - 1}{(place + 1) % 5}"] if layer else []
            tasks.append(
                {
                    "id": f"t{layer}{place}",
                    "call": "deeds:note",
                    "with": {"folder": str(folder), "name": f"t{layer}{place}", "seconds": seconds},
                    "depends_on": before,
                    "duration": f"{seconds}s",
                }
            )
    path = folder / "plan.json"
    path.write_text(json.dumps({"name": "thirty", "tasks": tasks}))
    return path


def start(plan: Path, plan_run: UUID, **env: str) -> subprocess.Popen[str]:
    """Run the plan in a process that can be killed."""
    return subprocess.Popen(
        [sys.executable, str(RUNNER), str(plan), str(plan_run)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PREFECT_LOGGING_LEVEL": "WARNING", **env},
    )


def written(folder: Path) -> list[tuple[str, str]]:
    """What the tasks wrote down, in order: (`start` or `end`, task)."""
    log = folder / "log"
    if not log.exists():
        return []
    lines = [line.split() for line in log.read_text().splitlines()]
    return [(words[0], words[1]) for words in lines if len(words) >= 2]


def starts(folder: Path) -> Counter[str]:
    """How often each task's body began."""
    return Counter(task for what, task in written(folder) if what == "start")


def in_force(state: ExecutionState, plan: Plan) -> set[str]:
    """The tasks whose success is in force."""
    return {t for t in plan.task_ids if state.task(t).in_force is not None}


def check_against_the_tasks_own_words(state: ExecutionState, plan: Plan, folder: Path) -> list[str]:
    """Hold the journal against what the tasks wrote; the attempts in flight at a kill.

    Every body that began is an attempt; every attempt but one in flight when
    its process died began; each task has exactly one success.
    """
    began = starts(folder)
    listed = []
    for task in plan.task_ids:
        attempts = state.task(task).attempts
        assert sum(a.outcome == "success" for a in attempts) == 1, task
        cut_off = [a for a in attempts if a.state_name == "Abandoned"]
        listed += [f"{task}: {a.source}" for a in cut_off]
        assert len(attempts) - len(cut_off) <= began[task] <= len(attempts), (task, attempts)
        assert all(a.state_name in ("Abandoned", "Completed") for a in attempts), (task, attempts)
    return listed

"""The checker shares no code with what makes schedules."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

CHECKER = "athena_prefect.schedule.verification"
FOLDER = Path(__file__).resolve().parents[3] / CHECKER.replace(".", "/")
VALUES = {
    "athena_prefect.plan.estimate": {"Estimate"},
    "athena_prefect.plan.model": {"DEFAULT_MODE", "Plan", "PlanTask", "ResolvedMode"},
}
"""All that it takes from outside itself: the values of a plan's document."""


def test_it_takes_the_values_of_a_plan_and_nothing_else() -> None:
    taken: dict[str, set[str]] = {}
    for file in FOLDER.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                taken |= {alias.name: set() for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                taken.setdefault(node.module, set()).update(alias.name for alias in node.names)
    outside = {
        module: names
        for module, names in taken.items()
        if not module.startswith(CHECKER)
        and module.partition(".")[0] not in sys.stdlib_module_names
    }
    assert outside == VALUES


def test_no_module_of_the_solver_is_loaded_by_it() -> None:
    """Not through others either: in a process that imports nothing else."""
    code = (
        f"import sys, {CHECKER}\n"
        "print(*sorted(m for m in sys.modules if m.startswith('athena_prefect.schedule.')))\n"
        "print(*sorted({'ortools', 'athena_prefect.replanning'} & sys.modules.keys()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert done[0].split() == sorted(
        [CHECKER, *(f"{CHECKER}.{f.stem}" for f in FOLDER.glob("[!_]*.py"))]
    )
    assert done[1] == ""

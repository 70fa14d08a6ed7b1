"""Runs of small plans against a real Prefect server, and what their journals say."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from athena_prefect.journal.state import ExecutionState, fold_entries
from athena_prefect.plan.model import Plan
from athena_prefect.runtime.afterwards import wait_for_afterwards
from athena_prefect.runtime.compiler import compile_plan
from athena_prefect.runtime.recorder import recording_of
from athena_prefect.settings import AthenaSettings

PROJECT = Path(__file__).parent / "project"


def plan_of(*tasks: dict[str, Any], name: str = "test-plan", **more: Any) -> Plan:
    """A plan of `tasks`, whose calls are functions of the test project's `deeds`."""
    full = [{**t, **({"call": f"deeds:{t['call']}"} if "call" in t else {})} for t in tasks]
    return Plan.model_validate({"name": name, "tasks": full, **more})


class Run:
    """A finished plan run."""

    def __init__(self, plan: Plan, plan_run: UUID, final: Any) -> None:
        self.plan = plan
        self.plan_run = plan_run
        self.final = final

    @property
    def state(self) -> ExecutionState:
        """What its journal folds to."""
        return state_of(self.plan, self.plan_run)

    def value(self, task_id: str) -> Any:
        """The stored result of a task."""
        attempt = self.state.task(task_id).in_force
        assert attempt is not None, f"{task_id}: {self.state.task(task_id)}"
        assert attempt.result_key is not None
        vault = recording_of(AthenaSettings(), self.plan).open_vault()
        return vault.get(attempt.result_key, attempt.data["checksum"], task_id=task_id)


def state_of(plan: Plan, plan_run: UUID) -> ExecutionState:
    """The state of a plan run, read from the database."""
    journal = recording_of(AthenaSettings(), plan).open_journal()
    return fold_entries(journal.read(plan_run))


def run(plan: Plan, plan_run: UUID | None = None, **parameters: Any) -> Run:
    """Run a plan's flow to its end in this process."""
    plan_run = plan_run or uuid4()
    flow = compile_plan(plan, root=PROJECT)
    final = flow(**parameters, plan_run=str(plan_run), return_state=True)
    assert wait_for_afterwards(240)
    return Run(plan, plan_run, final)

"""A plan with levers of every kind, and a run of it that has begun."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID, uuid4

from athena_prefect.plan.model import Plan
from athena_prefect.settings import AthenaSettings
from tests.service.standin import StandIn

LEVERS = """
name: made-up
deadline: 40s
resources: {cpu: {capacity: 2}}
replanning: {policy: {budget_s: 0.3}}
tasks:
  - {id: get, call: "json:dumps", duration: 10s, resources: {cpu: 1}}
  - id: clean
    call: "json:dumps"
    depends_on: [get]
    duration: 20s
    modes: [{name: wide, duration: 5s, resources: {cpu: 2}}]
  - {id: put, call: "json:dumps", depends_on: [{task: clean, kind: soft}, get], duration: 10s}
  - {id: extra, call: "json:dumps", depends_on: [put], duration: 30s, optional: true, value: 0.2}
goals: [clean, put]
assumptions:
  - id: fast
    affects: [clean]
    milestones: [{after: get}]
    effect: {duration_factor: 3}
  - id: nothing
    affects: [put]
    milestones: [{after: get}]
"""


def begun(settings: AthenaSettings, tmp_path: Path, text: str = LEVERS) -> UUID:
    """A run whose first task has ended, 6 s ago."""
    file = tmp_path / "levers.yaml"
    file.write_text(text)
    plan_run = uuid4()
    StandIn(stops_after=1)(Plan.load(file), settings=settings, plan_run=plan_run, parameters={})
    return plan_run

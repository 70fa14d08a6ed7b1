"""Plans and targets for what should be on a server, without one."""

from __future__ import annotations

from typing import Any

from athena_prefect.plan.model import Plan
from athena_prefect.runtime.deployment.pool import Pool
from athena_prefect.runtime.deployment.state import Masked
from athena_prefect.runtime.deployment.wanted import PlannedFlow, Target

URL = "postgresql+psycopg://me:s3cr3t@db.example/athena"
PROCESS = Pool(
    name="default",
    type="process",
    template={"variables": {"properties": {"env": {}, "working_dir": {}, "command": {}}}},
)
DOCKER = Pool(
    name="docks",
    type="docker",
    template={
        "job_configuration": {"image": "{{ image }}", "env": "{{ env }}"},
        "variables": {
            "properties": {
                "image": {"type": "string"},
                "env": {"type": "object"},
                "networks": {"type": "array"},
            }
        },
    },
)
KUBERNETES = Pool(
    name="cluster",
    type="kubernetes",
    template={
        "job_configuration": {"namespace": "{{ namespace }}", "job_manifest": {}},
        "variables": {
            "properties": {
                "image": {"type": "string", "default": "registry.example/base:1"},
                "namespace": {"type": "string", "default": "default"},
                "env": {"type": "object"},
                "service_account_name": {"type": "string"},
            }
        },
    },
)


def plan(name: str = "orders", **more: Any) -> Plan:
    """A plan of one task."""
    tasks = [{"id": "only", "call": "steps:work", "duration": "1s"}]
    return Plan.model_validate({"name": name, "tasks": tasks, **more})


def flow(plan: Plan) -> PlannedFlow:
    """The plan's flow, as its file and Prefect would say it."""
    return PlannedFlow(
        plan=plan,
        file=f"flows/{plan.name}.py",
        variable=plan.name,
        version="0123456789abcdef",
        parameter_schema={"type": "object", "properties": {}},
        document=f"deployments/{plan.name}/plan.yaml",
    )


def target(pool: Pool | None = PROCESS, **more: Any) -> Target:
    """Where it is deployed to."""
    fields = {"directory": "/srv/project", "database": Masked(URL), "block": "athena", **more}
    return Target(pool=pool, **fields)

"""The same deployments as a `prefect.yaml`, for those who deploy with `prefect deploy`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import yaml

from athena_prefect.runtime.deployment import names
from athena_prefect.runtime.deployment.state import Deployment, ServerState

HERE = "{{ $PWD }}"
"""Prefect's own word for the folder in which `prefect deploy` is run."""
STEP = "athena_prefect.service.deploying.shared"

_HEAD = """\
# What `prefect deploy --all` reads, run here; `athena` takes the folder with this file for the
# project's root. `athena deploy PLAN… --pool POOL --prefect-yaml` writes it anew.
"""


def prefect_yaml(state: ServerState, documents: Sequence[str], namespace: str) -> str:
    """The text of the `prefect.yaml` that deploys `state`, of the plans in `documents`.

    What such a file cannot say (limits, automation, block) is made by a build step
    of the watching flow's deployment.
    """
    content = {
        "name": names.OURS,
        "pull": [{"prefect.deployments.steps.set_working_directory": {"directory": HERE}}],
        "deployments": [_entry(d, documents, namespace) for d in state.deployments],
    }
    return _HEAD + yaml.safe_dump(content, sort_keys=False, width=96, allow_unicode=True)


def _entry(item: Deployment, documents: Sequence[str], namespace: str) -> dict[str, Any]:
    limit = {"limit": item.limit, "collision_strategy": item.collision}
    pool = {
        "name": item.pool,
        "work_queue_name": item.queue,
        "job_variables": dict(item.job_variables),
    }
    shared = {STEP: {"plans": list(documents), "namespace": namespace}}
    build = shared if item.flow == names.WATCH_FLOW else None
    entry = {
        "name": item.deployment,
        "entrypoint": item.entrypoint,
        # The flow's own, which is the plan's digest; in a git checkout it would be the commit.
        "version_type": "prefect:simple",
        "description": item.description,
        "tags": list(item.tags),
        "build": None if build is None else [build],
        # Named, also where there is none: Prefect would ask for one.
        "schedules": [
            {"slug": slug, **s, **({} if item.active else {"active": False})}
            for slug, s in item.schedules.items()
        ],
        "concurrency_limit": None if item.limit is None else limit,
        "parameters": dict(item.parameters) or None,
        "work_pool": {k: v for k, v in pool.items() if v},
    }
    return {k: v for k, v in entry.items() if v is not None}

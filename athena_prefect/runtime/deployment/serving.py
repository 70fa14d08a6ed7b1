"""Deployments without a work pool: a process of our own polls for their runs and starts them."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.exceptions import TerminationSignal
from prefect.runner import Runner

from athena_prefect.runtime.server import environment


class _Applied:
    """A deployment that is on the server already, in the form in which a runner takes one."""

    storage = None

    def __init__(self, name: str, id: UUID) -> None:
        self.name, self._id = name, id

    async def aapply(self) -> UUID:
        return self._id

    apply = aapply


def serve_deployments(
    names: Sequence[str], root: Path, variables: Mapping[str, str], limit: int | None
) -> None:
    """Run what is scheduled for the deployments, at most `limit` at once, until interrupted.

    Runs are processes with `variables` in their environment. A schedule goes on while
    nobody serves it: what was missed is treated as `catch_up` says.
    """
    with get_client(sync_client=True) as client:
        there = [_Applied(n, client.read_deployment_by_name(n).id) for n in names]
    runner = Runner(name="athena serve", limit=limit, pause_on_shutdown=False)
    for deployment in there:
        made: Any = deployment
        runner.add_deployment(made)
    before = Path.cwd()
    os.chdir(root)
    try:
        with environment(variables):
            asyncio.run(runner.start())
    except (KeyboardInterrupt, TerminationSignal):
        pass
    finally:
        os.chdir(before)

"""How long a run takes from a breach to the first task of its new revision.

In one process (`--tasks 100`): a plan of so many tasks in ten layers, in which one of the
second layer fails and can be done another way; the same run of Prefect's as `athena run`
makes. From the failure in the run's journal to the start of the first task of the new revision.

Deployed: a server, a process worker and a plan of four tasks whose second one fails, and
can be done another way; no other task runs then, so nothing has to drain. The times are those
of the run's journal and of the flow runs' states. *Prefect's own* is the time from an event
sent to a flow run made of it, and from a flow run made to its body begun: the worker's
look (two seconds here, as the worker is told to), a process started, Prefect imported,
the flow loaded.

    python benchmarks/change_over.py [--rounds 3] [--tasks 100 | --deployed] [--json]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

HOME = Path(tempfile.mkdtemp(prefix="athena-change-over-"))
os.environ.update(
    PREFECT_HOME=str(HOME / "prefect"),
    ATHENA_HOME=str(HOME / "athena"),
    PREFECT_LOGGING_LEVEL="ERROR",
    PREFECT_SERVER_ANALYTICS_ENABLED="false",
)
sys.path.insert(0, str(Path(__file__).parents[1]))

TASKS = [
    {"id": "first", "call": "deeds:one", "duration": "5s"},
    {"id": "bad", "call": "deeds:fail", "duration": "5s", "depends_on": ["first"],
     "modes": [{"name": "other", "call": "deeds:one", "duration": "6s"}]},
    {"id": "next", "call": "deeds:one", "duration": "5s", "depends_on": ["bad"]},
    {"id": "last", "call": "deeds:one", "duration": "5s", "depends_on": ["next"]},
]  # fmt: skip


@contextmanager
def installation() -> Iterator[Any]:
    """A server and a worker of its own."""
    from tests.chaos.deployed import Installation, wait_for

    made = Installation(HOME)
    try:
        made.start_server()
        made.start_worker()
        wait_for("the work pool", made.pools)
        yield made
    finally:
        made.close()


def one_round(made: Any, name: str) -> dict[str, float]:
    """Seconds of one change-over, by its parts."""
    from athena_prefect.journal.events import RunEvent, TaskEvent
    from athena_prefect.journal.state import fold_entries
    from athena_prefect.plan.model import Plan
    from athena_prefect.runtime.recorder import recording_of
    from tests.chaos.deployed import wait_for
    from tests.chaos.test_deployed import runs_of

    plan = Plan.load(made.write(name, {"tasks": TASKS}))
    made.deploy(plan.source, watch_every=600.0)  # no watcher beside it
    with made.client() as client:
        deployment = client.read_deployment_by_name(f"{name}/{name}")
        run = UUID(str(client.create_flow_run_from_deployment(deployment.id).id))
        journal = recording_of(made.settings, plan).open_journal()
        wait_for("the end", lambda: fold_entries(journal.read(run)).end_status)
        events = [e.event for e in journal.read(run)]
        replanning = min(
            (r for r in runs_of(client, client.read_deployment_by_name("replan/replan"))
             if r.parameters.get("plan_run") == str(run)),
            key=lambda r: r.start_time,
        )  # fmt: skip
        (resumed,) = [e for e in events if isinstance(e, RunEvent) and e.kind == "resumed"]
        continuation = client.read_flow_run(UUID(resumed.data["flow_run_id"]))

    def at(kind: str) -> datetime:
        return next(e.at for e in events if isinstance(e, RunEvent) and e.kind == kind)

    started = [e for e in events if isinstance(e, TaskEvent) and e.kind == "started"]
    breach = next(
        e.at for e in events if isinstance(e, TaskEvent) and e.outcome == "failure"
    )  # fmt: skip
    first = next(e.at for e in started if e.at > resumed.at)
    own = {
        "event to flow run": replanning.created - at("proposed"),
        "flow run to body, replanning": replanning.start_time - replanning.created,
        "flow run to body, continuation": continuation.start_time - continuation.created,
    }
    parts = {
        "breach to proposal": at("proposed") - breach,
        **own,
        "body to revision in force": at("revised") - replanning.start_time,
        "revision to drained": at("superseded") - at("revised"),
        "body to first task, continuation": first - continuation.start_time,
        "whole": first - breach,
    }
    found = {name: part.total_seconds() for name, part in parts.items()}
    return found | {"Prefect's own": sum(p.total_seconds() for p in own.values())}


# -- in one process -------------------------------------------------------------------------


def layered(tasks: int, name: str) -> dict[str, Any]:
    """Ten layers, each task after two of the layer before; one of the second fails."""
    wide = max(tasks // 10, 1)
    listed: list[dict[str, Any]] = []
    for k in range(tasks):
        layer, place = divmod(k, wide)
        before = (
            [f"t{(layer - 1) * wide + p}" for p in sorted({place, (place + 1) % wide})]
            if layer else []
        )  # fmt: skip
        task: dict[str, Any] = {
            "id": f"t{k}", "call": "deeds:hang", "with": {"seconds": 0.05},
            "duration": "50ms", "depends_on": before,
        }  # fmt: skip
        if layer == 1:
            task["modes"] = [{"name": "other", "duration": "60ms"}]
        listed.append(task)
    bad = listed[wide]
    document: dict[str, Any] = {
        "name": name, "tasks": listed, "runner": {"max_workers": 4},
        "replanning": {"max_replans": 1},
    }  # fmt: skip
    bad["call"], bad["with"] = "deeds:fail", {}
    bad["modes"][0] |= {"call": "deeds:hang", "with": {"seconds": 0.05}}
    return document


def in_process(made: Any, tasks: int, name: str) -> dict[str, float]:
    """Seconds from a failure to the first task after the revision, of one run here."""
    from athena_prefect.journal.events import RunEvent, TaskEvent
    from athena_prefect.plan.model import Plan
    from athena_prefect.runtime.compiler import compile_plan
    from athena_prefect.runtime.recorder import recording_of

    plan = Plan.load(made.write(name, layered(tasks, name)))
    flow = compile_plan(plan, root=made.project)
    run = uuid4()
    with made.here():
        flow(plan_run=str(run), return_state=True)
    events = [e.event for e in recording_of(made.settings, plan).open_journal().read(run)]
    broken = min(
        e.at for e in events
        if isinstance(e, TaskEvent) and e.outcome == "failure"
    )  # fmt: skip
    revised = [e.at for e in events if isinstance(e, RunEvent) and e.kind == "revised"]
    if not revised:
        raise SystemExit(f"{name}: no revision was adopted")
    first = min(
        e.at for e in events
        if isinstance(e, TaskEvent) and e.kind == "started" and e.at >= revised[0]
    )  # fmt: skip
    return {
        "failure to revision in force": (revised[0] - broken).total_seconds(),
        "failure to first task of the revision": (first - broken).total_seconds(),
    }


@contextmanager
def server() -> Iterator[Any]:
    """A server of its own, and no worker."""
    from tests.chaos.deployed import Installation

    made = Installation(HOME)
    try:
        made.start_server()
        yield made
    finally:
        made.close()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tasks", type=int, default=100)
    parser.add_argument("--deployed", action="store_true")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    if given.deployed:
        with installation() as made:
            rounds = [one_round(made, f"round-{n}") for n in range(given.rounds)]
    else:
        with server() as made:
            rounds = [in_process(made, given.tasks, f"failure-{n}") for n in range(given.rounds)]
    medians = {k: statistics.median(r[k] for r in rounds) for k in rounds[0]}
    if given.json:
        print(json.dumps({"rounds": rounds, "medians": medians}, indent=2))
        return
    for name, seconds in medians.items():
        least, most = min(r[name] for r in rounds), max(r[name] for r in rounds)
        print(f"{name:44} {seconds:6.2f} s   {least:6.2f} to {most:6.2f}")


if __name__ == "__main__":
    main()

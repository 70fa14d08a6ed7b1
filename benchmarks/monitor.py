"""Time from an event to the new deviation, and from scratch, against a networkx longest path.

    python benchmarks/monitor.py [--sizes 100 1000 10000 100000] [--history 5] [--json]

"After an event" is what a running monitor does: one completion is written to a
`MemoryJournal`, folded, the forward pass brought up to date, and the whole
deviation read (severity, tasks at risk, critical path). "Simulated" is the same
where the quantiles are simulated anew as well, "all nodes anew" where every node
is reckoned again and nothing is simulated. "From scratch" is a monitor taken
up from the journal of the run, with its first deviation.
With `--history N` forecasts rest on N finished runs of the plan, in ten categories.
The peer, in the same process on the same network, is what a monitor without an
incremental pass would do for one event: `networkx.dag_longest_path_length`.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from random import Random
from typing import Any
from uuid import UUID

import networkx as nx
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from athena_prefect.journal.events import TaskOutcome
from athena_prefect.journal.journal import MemoryJournal
from athena_prefect.monitor.capacity import first_come
from athena_prefect.monitor.context import ExecutionContext, VirtualClock
from athena_prefect.monitor.history import History, PastRun, PastTask
from athena_prefect.monitor.monitor import ExecutionMonitor
from athena_prefect.plan.graph import Network
from athena_prefect.plan.model import Plan
from benchmarks.machine import this_machine

T0 = datetime(2026, 1, 5, 8, tzinfo=UTC)
SIZES = (100, 1_000, 10_000, 100_000)
WIDTH = 20
"""Tasks side by side: layers of twenty, as wide as the capacity."""
EVENTS = 30
"""Events timed at most; at 100,000 tasks a tenth, since each needs a fresh simulation before it."""


def layered(size: int, seed: int = 1) -> Plan:
    """`size` tasks in layers of `WIDTH`, each after two of the layer before it."""
    rng = Random(seed)
    tasks = []
    for k in range(size):
        layer = k // WIDTH
        before = range((layer - 1) * WIDTH, layer * WIDTH) if layer else []
        low = rng.uniform(20, 60)
        tasks.append(
            {
                "id": f"t{k}",
                "category": f"c{k % 10}",
                "duration": {
                    "optimistic": low,
                    "likely": low * rng.uniform(1.1, 1.5),
                    "pessimistic": low * rng.uniform(2, 4),
                },
                "depends_on": [f"t{i}" for i in rng.sample(list(before), 2)] if layer else [],
                "resources": {"cpu": 1},
            }
        )
    return Plan.model_validate(
        {
            "name": f"layered-{size}",
            "resources": {"cpu": {"capacity": WIDTH}},
            "runner": {"max_workers": WIDTH},
            "tasks": tasks,
        }
    )


def timed(work: Callable[[], Any]) -> float:
    """Milliseconds that `work` takes."""
    start = time.perf_counter()
    work()
    return (time.perf_counter() - start) * 1000


class Replay:
    """A run in virtual time: each task ends as planned, give or take a few per cent."""

    def __init__(self, plan: Plan, history: History | None = None) -> None:
        self.plan = plan
        self.clock = VirtualClock(T0)
        self.journal = MemoryJournal()
        self.rng = Random(2)
        self.context = ExecutionContext(
            plan_run=UUID(int=1), clock=self.clock, started_at=T0, journal=self.journal
        )
        self.monitor = ExecutionMonitor(plan, self.context, history=history)
        self._ended: set[str] = set()
        self._open: list[tuple[datetime, str]] = []
        self._order = iter(sorted(plan.task_ids, key=lambda t: int(t[1:])))
        self._next = next(self._order, None)

    def step(self) -> str | None:
        """Start what can start, move on to the next end; its task."""
        while self._next is not None and len(self._open) < WIDTH:
            task = self.plan.get_task(self._next)
            if any(d.task not in self._ended for d in task.upstream):
                break
            self.monitor.record_task_start(task.id, self.clock(), {"cpu": 1})
            assert task.planned_duration is not None
            ends = self.clock() + task.planned_duration * self.rng.uniform(0.97, 1.03)
            self._open.append((ends, task.id))
            self._next = next(self._order, None)
        if not self._open:
            return None
        self._open.sort()
        ends, ended = self._open.pop(0)
        self.clock.move_to(ends)
        self._ended.add(ended)
        return ended

    def end(self, task_id: str) -> None:
        """Record the end of `task_id` now."""
        self.monitor.record_task_completion(
            task_id, self.clock(), None, {"cpu": 1}, TaskOutcome.SUCCESS
        )


def finished(plan: Plan, runs: int) -> History:
    """The history of `runs` runs: a factor of the run, and a spread of a fifth."""
    rng = np.random.default_rng(3)
    network = Network.of(plan)
    planned = np.array([t.planned_duration.total_seconds() for t in plan.tasks])  # type: ignore[union-attr]
    past = []
    for k in range(runs):
        took = planned * np.exp(rng.normal(0.1, 0.1) + rng.normal(0, 0.2, len(planned)))
        starts, _ = first_come(network, took, WIDTH)
        tasks = [
            PastTask(
                id=t.id,
                category=t.group,
                planned=p,
                actual=a,
                started=s,
                after=tuple(d.task for d in t.upstream),
            )
            for t, p, a, s in zip(
                plan.tasks, planned.tolist(), took.tolist(), starts.tolist(), strict=True
            )
        ]
        past.append(PastRun(key=str(k), plan=plan.name, tasks=tasks, slots=WIDTH))
    return History.of(past)


def longest_path(plan: Plan) -> tuple[nx.DiGraph[str], Callable[[], float]]:
    """The peer: the plan's network in networkx, and its longest path from scratch."""
    graph: nx.DiGraph[str] = nx.DiGraph()
    for task in plan.tasks:
        assert task.planned_duration is not None
        for arc in task.upstream:
            before = plan.get_task(arc.task).planned_duration
            assert before is not None
            graph.add_edge(arc.task, task.id, weight=before.total_seconds())
    return graph, lambda: float(nx.dag_longest_path_length(graph))


def measure(size: int, runs: int = 0) -> dict[str, Any]:
    """The figures for one size, in milliseconds (medians); `runs`: finished ones."""
    plan = layered(size)
    history = finished(plan, runs) if runs else None
    begun = time.perf_counter()
    replay = Replay(plan, history)
    making = (time.perf_counter() - begun) * 1000
    replay.monitor.get_plan_deviation()
    for _ in range(min(size // 10, 100)):
        ended = replay.step()
        if ended is None:
            break
        replay.end(ended)
    # Within the life of one simulation: what an event costs by itself.
    incremental, touched = [], []
    for _ in range(EVENTS if size < 50_000 else EVENTS // 10):
        ended = replay.step()
        if ended is None:
            break
        now = replay.clock()
        replay.monitor.get_plan_deviation(now=now)
        before = replay.monitor.touched

        def event(task_id: str = ended, at: datetime = now) -> None:
            replay.end(task_id)
            replay.monitor.get_plan_deviation(now=at)

        incremental.append(timed(event))
        touched.append(replay.monitor.touched - before)
    simulated, cpu = [], []
    for _ in range(5):
        replay.clock.advance(timedelta(seconds=6))
        used = time.process_time()
        simulated.append(timed(replay.monitor.get_plan_deviation))
        cpu.append((time.process_time() - used) * 1000)
    whole = []
    for k in range(5):
        # Looked at from an earlier moment no time holds: every node is reckoned anew.
        earlier = replay.clock() + timedelta(seconds=1 - k / 10)
        whole.append(timed(partial(replay.monitor.get_plan_deviation, now=earlier)))
    scratch = timed(
        lambda: ExecutionMonitor(plan, replay.context, history=history).get_plan_deviation()
    )
    _, peer = longest_path(plan)
    networkx = statistics.median(timed(peer) for _ in range(3))
    after = statistics.median(incremental)
    return {
        "tasks": size,
        "samples": replay.monitor.forecast().samples,
        "after_event_ms": after,
        "after_event_worst_ms": max(incremental),
        "nodes_touched": statistics.median(touched),
        "whole_pass_ms": statistics.median(whole[1:]),
        "simulated_ms": statistics.median(simulated),
        "simulated_cpu_ms": statistics.median(cpu),
        "from_scratch_ms": scratch,
        "first_ms": making,
        "networkx_ms": networkx,
        "ratio": networkx / after,
    }


COLUMNS = {
    "tasks": ("tasks", ",.0f"),
    "samples": ("scenarios", ",.0f"),
    "after_event_ms": ("after an event, ms", ".2f"),
    "after_event_worst_ms": ("worst", ".1f"),
    "nodes_touched": ("nodes touched", ".0f"),
    "whole_pass_ms": ("all nodes anew, ms", ".1f"),
    "simulated_ms": ("with a new simulation, ms", ".0f"),
    "simulated_cpu_ms": ("of CPU", ".0f"),
    "from_scratch_ms": ("taken up from the journal, ms", ".0f"),
    "first_ms": ("first, with baseline, ms", ".0f"),
    "networkx_ms": ("networkx, ms", ".2f"),
    "ratio": ("networkx / after an event", ".1f"),
}
HEAD = (
    "| " + " | ".join(title for title, _ in COLUMNS.values()) + " |\n" + "|---" * len(COLUMNS) + "|"
)


def row(found: dict[str, Any]) -> str:
    """One line of the table."""
    return "| " + " | ".join(format(found[k], how) for k, (_, how) in COLUMNS.items()) + " |"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES))
    parser.add_argument("--history", type=int, default=0, help="finished runs to forecast from")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if not options.json:
        print(HEAD)
    found = []
    for size in options.sizes:
        found.append(measure(size, options.history))
        if not options.json:
            print(row(found[-1]), flush=True)
    if options.json:
        about = {
            "machine": this_machine(),
        }
        print(json.dumps({**about, "rows": found}, indent=2))


if __name__ == "__main__":
    main()

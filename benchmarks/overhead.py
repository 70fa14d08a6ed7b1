"""What monitoring costs: a compiled plan against the same graph in plain Prefect.

Both run side by side in one process against one Prefect server, in turns: 200
tasks of 50 ms on 8 threads, and 1,000 tasks that do nothing. Printed: wall and
CPU time of both, their ratio, and the milliseconds that a hook takes. *Afterwards*
is what our flow leaves to be said when it has ended (its last events and its
dashboards); its CPU time is counted with the run's.

Flow-run heartbeats are off for both: Prefect joins their thread, which sleeps in
whole seconds, so that every run is rounded up to a second.

    python benchmarks/overhead.py [--rounds 3] [--json]
"""

from __future__ import annotations

import argparse
import gc
import json
import logging
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

HOME = Path(tempfile.mkdtemp(prefix="athena-overhead-"))
os.environ.update(
    PREFECT_HOME=str(HOME / "prefect"),
    ATHENA_HOME=str(HOME / "athena"),
    PREFECT_LOGGING_LEVEL="ERROR",
    PREFECT_SERVER_ANALYTICS_ENABLED="false",
)
sys.path.insert(0, str(Path(__file__).parents[1]))

LAYERS = 20


def work(seconds: float) -> int:
    """A task that waits, as one that reads or asks does."""
    if seconds:
        time.sleep(seconds)
    return 1


def arcs(tasks: int) -> list[list[int]]:
    """Twenty layers; each task waits for two of the layer before."""
    width = tasks // LAYERS
    return [
        [(i // width - 1) * width + i % width, (i // width - 1) * width + (i + 1) % width]
        if i >= width
        else []
        for i in range(tasks)
    ]


def by_hand(tasks: int, seconds: float) -> Callable[[], Any]:
    """The graph as somebody writes it in plain Prefect."""
    from prefect import flow, task
    from prefect.task_runners import ThreadPoolTaskRunner

    before = arcs(tasks)
    step: Any = task(name="work", persist_result=False)(work)

    threads: Any = ThreadPoolTaskRunner(max_workers=8)

    @flow(name=f"by-hand-{tasks}", task_runner=threads)
    def graph() -> None:
        futures: list[Any] = []
        for i in range(tasks):
            futures.append(step.submit(seconds, wait_for=[futures[j] for j in before[i]]))
        for future in futures:
            future.result()

    return graph


def compiled(tasks: int, seconds: float) -> Callable[[], Any]:
    """The same graph as a plan, compiled and monitored."""
    from athena_prefect.plan.model import Plan
    from athena_prefect.runtime.compiler import compile_plan

    before = arcs(tasks)
    plan = Plan.model_validate(
        {
            "name": f"compiled-{tasks}",
            "runner": {"max_workers": 8},
            "tasks": [
                {
                    "id": f"t{i}",
                    "call": "overhead:work",
                    "with": {"seconds": seconds},
                    "duration": f"{seconds}s",
                    "depends_on": [f"t{j}" for j in before[i]],
                }
                for i in range(tasks)
            ],
        }
    )
    return compile_plan(plan, root=Path(__file__).parent)


def timed(run: Callable[[], Any]) -> tuple[float, float, float]:
    """Wall and CPU seconds of this process, and wall seconds afterwards."""
    from athena_prefect.runtime.afterwards import wait_for_afterwards

    gc.collect()  # neither is to pay for what the other has left
    wall, cpu = time.perf_counter(), time.process_time()
    run()
    ended = time.perf_counter()
    wait_for_afterwards()
    return ended - wall, time.process_time() - cpu, time.perf_counter() - ended


def compare(tasks: int, seconds: float, rounds: int) -> dict[str, float]:
    """Medians of both, in turns, after one round that is not counted."""
    plain, ours = by_hand(tasks, seconds), compiled(tasks, seconds)
    times: dict[str, list[tuple[float, float, float]]] = {"plain": [], "ours": []}
    for number in range(rounds + 1):
        for name, run in (("plain", plain), ("ours", ours)):
            taken = timed(run)
            if number:
                times[name].append(taken)
            print(f"  {tasks} tasks, round {number}, {name}: {taken[0]:.2f} s", file=sys.stderr)
    result: dict[str, float] = {"tasks": tasks, "task_seconds": seconds, "rounds": rounds}
    for i, what in enumerate(("wall", "cpu")):
        for name, found in times.items():
            result[f"{name}_{what}_s"] = statistics.median(t[i] for t in found)
        result[f"{what}_ratio"] = result[f"ours_{what}_s"] / result[f"plain_{what}_s"]
    result["ours_afterwards_s"] = statistics.median(t[2] for t in times["ours"])
    extra = result["ours_wall_s"] - result["plain_wall_s"]
    result["extra_ms_a_task"] = 1000 * extra / tasks
    return result


def hooks() -> dict[str, float]:
    """Milliseconds that each of our two writes a task takes, as the tasks saw it."""
    from athena_prefect.runtime import recorder

    spent: list[float] = []
    record = recorder.Recorder.record

    def measured(self: Any, *events: Any, token: int | None = None) -> None:
        began = time.perf_counter()
        record(self, *events, token=token)
        spent.append(1000 * (time.perf_counter() - began))

    recorder.Recorder.record = measured  # type: ignore[method-assign]
    try:
        timed(compiled(200, 0.05))
    finally:
        recorder.Recorder.record = record  # type: ignore[method-assign]
    return {
        "writes": len(spent),
        "median_ms": statistics.median(spent),
        "p95_ms": statistics.quantiles(spent, n=20)[-1],
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

    from athena_prefect.runtime.server import prefect_server

    with (
        prefect_server(HOME / "server.log"),
        temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}),
    ):
        logging.getLogger("prefect").setLevel(logging.ERROR)
        results = [compare(200, 0.05, options.rounds), compare(1000, 0.0, options.rounds)]
        hook = hooks()
    if options.json:
        print(json.dumps({"compare": results, "hooks": hook}, indent=2))
        return
    print(
        "| graph | plain wall s | ours wall s | ratio "
        "| plain CPU s | ours CPU s | ratio | extra ms a task | afterwards s |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for r in results:
        print(
            f"| {r['tasks']} × {1000 * r['task_seconds']:.0f} ms | {r['plain_wall_s']:.2f} | "
            f"{r['ours_wall_s']:.2f} | {r['wall_ratio']:.3f} | {r['plain_cpu_s']:.2f} | "
            f"{r['ours_cpu_s']:.2f} | {r['cpu_ratio']:.3f} | {r['extra_ms_a_task']:.2f} | "
            f"{r['ours_afterwards_s']:.2f} |"
        )
    print(f"a write to the journal: median {hook['median_ms']:.2f} ms, p95 {hook['p95_ms']:.2f} ms")


if __name__ == "__main__":
    main()

"""Critical path, serial generation, simulation and incremental updates, beside networkx.

    python benchmarks/schedule.py [--sizes 1000 10000 100000 1000000] [--json]

Random networks with two predecessors a task. Each figure is the best of a few
repeats. The peer, in the same process on the same network, is
`networkx.dag_longest_path_length`, which gives the makespan alone; it is left out
above 100,000 tasks, where building its graph takes longer than all the rest.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from athena_prefect.plan.graph import Floats, Network
from athena_prefect.schedule.incremental import ForwardPass
from athena_prefect.schedule.partial_order import partial_order
from athena_prefect.schedule.passes import backward, forward
from athena_prefect.schedule.problem import Problem
from athena_prefect.schedule.simulation import simulate
from athena_prefect.schedule.solver import improved, serial_generation

PEER_UP_TO = 100_000
SCHEDULED = (1_000, 5_000, 10_000)
SCENARIOS = 1_000
EVENTS = 500


def best(work: Callable[[], Any], repeats: int = 3) -> float:
    """Least wall time of `work` in milliseconds."""
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return 1000 * min(times)


def random_network(count: int) -> Network:
    """`count` tasks, each after two of the tenth of the network before it."""
    rng = np.random.default_rng(0)
    heads = np.repeat(np.arange(1, count), 2)
    reach = np.minimum(heads, max(count // 10, 5))
    tails = heads - 1 - (rng.random(heads.size) * reach).astype(np.int64)
    return Network.build([str(i) for i in range(count)], tails, heads)


def passes(count: int) -> dict[str, Any]:
    """Building, both passes, and one event, against networkx."""
    network = random_network(count)
    durations = np.random.default_rng(1).random(count)
    tails, heads, _, _ = network.arcs
    row: dict[str, Any] = {
        "tasks": count,
        "build_ms": best(lambda: Network.build(network.ids, tails, heads), 2),
        "forward_ms": best(lambda: forward(network, durations)),
        "backward_ms": best(lambda: backward(network, durations)),
        **events(network, durations),
    }
    if count <= PEER_UP_TO:
        graph: nx.DiGraph[int] = nx.DiGraph()
        pairs = zip(tails.tolist(), heads.tolist(), strict=True)
        graph.add_weighted_edges_from((a, b, durations[a]) for a, b in pairs)
        row["networkx_ms"] = best(lambda: nx.dag_longest_path_length(graph), 2)
        row["networkx_over_ours"] = row["networkx_ms"] / (row["forward_ms"] + row["backward_ms"])
    return row


def events(network: Network, durations: Floats) -> dict[str, Any]:
    """Mean time of an update, tasks ending in order, each up to half as long again."""
    course = ForwardPass(network, durations)
    rng = np.random.default_rng(2)
    nodes = network.order[: min(EVENTS, len(network))].tolist()
    late = (durations * rng.uniform(0.9, 1.5, len(network))).tolist()
    began = time.perf_counter()
    for node in nodes:
        course.update(node, duration=late[node])
        _ = course.makespan
    spent = time.perf_counter() - began
    return {
        "event_ms": 1000 * spent / len(nodes),
        "touched": round(course.touched / len(nodes)),
    }


def scheduling(count: int) -> dict[str, Any]:
    """Generation, improvement, partial order and simulation under four resources."""
    rng = np.random.default_rng(3)
    likely = rng.integers(5, 11, count).astype(np.float64)
    points = np.stack((0.8 * likely, likely, likely * (1 + rng.random(count))), axis=1)
    demands = rng.integers(0, 6, (count, 4))
    problem = Problem.build(random_network(count), points, demands, [20] * 4)
    schedule = serial_generation(problem)
    arcs = partial_order(schedule)
    network = problem.network.extended(*arcs)

    def scenarios() -> None:
        rng = np.random.default_rng(4)
        simulate(problem, arcs, samples=SCENARIOS, rng=rng, network=network)

    cpu = []
    for _ in range(3):
        began = time.process_time()
        scenarios()
        cpu.append(time.process_time() - began)
    return {
        "tasks": count,
        "serial_ms": best(lambda: serial_generation(problem)),
        "improved_once_ms": best(lambda: improved(schedule, rounds=1), 1),
        "gain_percent": 100 * (1 - improved(schedule, rounds=1).makespan / schedule.makespan),
        "partial_order_ms": best(lambda: partial_order(schedule)),
        "resource_arcs": len(arcs.pred),
        "simulation_ms": best(scenarios),
        "simulation_cpu_ms": 1000 * min(cpu),
    }


def table(rows: list[dict[str, Any]]) -> str:
    """A Markdown table."""
    names = list(rows[0])
    lines = ["| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
    for row in rows:
        cells = (row.get(name) for name in names)
        lines.append("| " + " | ".join(_cell(c) for c in cells) + " |")
    return "\n".join(lines)


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    return f"{value:,.2f}" if isinstance(value, float) else f"{value:,}"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--sizes", type=int, nargs="+", default=[1_000, 10_000, 100_000, 1_000_000])
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    given = parser.parse_args()
    result = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": f"{platform.platform()}, {os.cpu_count()} cores, Python "
        f"{platform.python_version()}, numpy {np.__version__}, load {os.getloadavg()[0]:.1f}",
        "critical_path": [passes(n) for n in given.sizes],
        "scheduling": [scheduling(n) for n in SCHEDULED],
    }
    if given.json:
        sys.stdout.write(json.dumps(result, indent=1) + "\n")
        return
    sys.stdout.write(f"{result['at']}, {result['machine']}\n\n")
    for name in ("critical_path", "scheduling"):
        sys.stdout.write(f"{name}\n\n{table(result[name])}\n\n")  # type: ignore[arg-type]


if __name__ == "__main__":
    main()

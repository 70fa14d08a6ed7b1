"""The order that a run keeps: along the arcs that its promise is simulated on, or greedily.

    python benchmarks/dispatching.py [--cases 48] [--scenarios 20] [--seed 1] [--json]

Plans of 200, 400 and 1,000 tasks in four shapes, under one, two and four resources of ten
units of which most tasks take one to five, their durations spread little, as usual, or
widely. Each is scheduled as a baseline is. Drawn durations are then gone through in three
ways: along dependencies and resource arcs (how promises are simulated); by whoever is ready
and fits, in the order of the schedule's starts (as a dispatcher goes by a later revision);
and so in the order of latest starts (as it goes by the first one).
"""

from __future__ import annotations

import argparse
import json
import sys
from bisect import insort
from collections.abc import Sequence
from heapq import heappop, heappush
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from athena_prefect.plan.graph import Floats
from athena_prefect.plan.model import Plan
from athena_prefect.schedule.baseline import feasible_schedule
from athena_prefect.schedule.critical_path import critical_path
from athena_prefect.schedule.partial_order import partial_order
from athena_prefect.schedule.passes import forward
from athena_prefect.schedule.problem import Problem

SIZES, RESOURCES = (200, 400, 1000), (1, 2, 4)
SHAPES = ("layers", "random", "flat", "forks")
SPREADS = {"little": (0.9, 1.2, 0.0), "usual": (0.7, 1.2, 0.8), "widely": (0.4, 1.5, 3.0)}
"""Optimistic and pessimistic duration over the likely one, and what the latter varies by."""
FREE = 1e-9


def make_plan(size: int, shape: str, spread: str, kinds: int, rng: np.random.Generator) -> Plan:
    """A plan whose resources are scarce and whose workers are not."""
    low, high, more = SPREADS[spread]
    tasks = []
    for k in range(size):
        likely = float(rng.integers(60, 600))
        uses = {f"r{r}": int(rng.integers(1, 6)) for r in range(kinds) if rng.random() < 0.6}
        tasks.append(
            {
                "id": f"t{k}",
                "duration": {
                    "optimistic": low * likely,
                    "likely": likely,
                    "pessimistic": (high + more * rng.random()) * likely,
                },
                "resources": uses,
                "depends_on": [f"t{j}" for j in sorted(_upstream(shape, k, size, rng))],
            }
        )
    return Plan.model_validate(
        {
            "name": f"{shape}-{size}",
            "resources": {f"r{r}": {"capacity": 10} for r in range(kinds)},
            "runner": {"max_workers": size},
            "tasks": tasks,
        }
    )


def _upstream(shape: str, k: int, size: int, rng: np.random.Generator) -> set[int]:
    if k == 0:
        return set()
    if shape == "flat":
        return {int(rng.integers(0, k))} if rng.random() < 0.5 else set()
    if shape == "forks":  # twenty side by side, then the next twenty
        first = k - k % 20
        return set() if not first else {first - 1} if k % 20 else set(range(k - 19, k))
    count = int(rng.integers(1, 4))
    if shape == "random":
        return {int(rng.integers(max(0, k - 60), k)) for _ in range(count)}
    width = int(size**0.5)
    first = (k // width - 1) * width
    return {int(rng.integers(first, first + width)) for _ in range(count)} if first >= 0 else set()


def greedy(problem: Problem, durations: Floats, order: Sequence[int]) -> float:
    """Finish where whoever is ready and fits starts, the first in `order` first; seconds."""
    network, scarce = problem.network, problem.demands.sum(axis=0) > problem.capacities
    demands = problem.demands[:, scarce].tolist()
    free = problem.capacities[scarce].tolist()
    waits, takes = np.diff(network.pred_ptr).tolist(), durations.tolist()
    place = {node: k for k, node in enumerate(order)}
    ready = sorted(place[node] for node, count in enumerate(waits) if not count)
    ends: list[tuple[float, int]] = []
    now = 0.0
    while ready or ends:
        left = []
        for k in ready:
            need = demands[order[k]]
            if any(n > f + FREE for n, f in zip(need, free, strict=True)):
                left.append(k)
                continue
            free = [f - n for n, f in zip(need, free, strict=True)]
            heappush(ends, (now + takes[order[k]], order[k]))
        ready = left
        now = ends[0][0]
        while ends and ends[0][0] <= now:
            _, node = heappop(ends)
            free = [f + n for n, f in zip(demands[node], free, strict=True)]
            for after in network.succ[network.succ_ptr[node] : network.succ_ptr[node + 1]].tolist():
                waits[after] -= 1
                if not waits[after]:
                    insort(ready, place[after])
    return now


def drawn(problem: Problem, rng: np.random.Generator) -> Floats:
    """Durations by beta-PERT, drawn without the library's tables."""
    low, likely, high = problem.estimates.T
    alpha = 1 + 4 * (likely - low) / (high - low)
    lasting: Floats = low + (high - low) * rng.beta(alpha, 6 - alpha)
    return lasting


def case(seed: int, number: int, scenarios: int) -> dict[str, Any]:
    """One plan: finishes of the greedy orders over those along the arcs."""
    rng = np.random.default_rng([seed, number])
    shape, spread = SHAPES[number % 4], tuple(SPREADS)[number // 4 % 3]
    kinds, size = RESOURCES[number // 12 % 3], int(rng.choice(SIZES))
    problem = Problem.of(make_plan(size, shape, spread, kinds, rng))
    schedule = feasible_schedule(problem)
    network = problem.network.extended(*partial_order(schedule))
    latest = critical_path(problem.network, problem.durations).latest_start
    orders = {"starts": schedule.starts, "latest": latest}
    ranked = {n: np.lexsort((problem.network.rank, by)).tolist() for n, by in orders.items()}
    luck = [drawn(problem, rng) for _ in range(scenarios)]
    arcs = np.array([forward(network, lengths)[1].max() for lengths in luck])
    row: dict[str, Any] = {"shape": shape, "spread": spread, "kinds": kinds, "size": size}
    promised = np.quantile(arcs, 0.9)
    for name, order in ranked.items():
        found = np.array([greedy(problem, lengths, order) for lengths in luck])
        row[name] = (found / arcs - 1).tolist()
        row[f"{name}_kept"] = float((found <= promised).mean())
    return row


def summary(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """By spread and order: mean and worst difference, share of runs that end later, in percent."""
    found = []
    for spread in SPREADS:
        mine = [r for r in rows if r["spread"] == spread]
        for name in ("starts", "latest") if mine else ():
            off = 100 * np.concatenate([r[name] for r in mine])
            found.append(
                {
                    "spread": spread, "order": name, "plans": len(mine), "runs": len(off),
                    "mean": round(float(off.mean()), 2),
                    "later": round(100 * float((off > 1e-6).mean()), 1),
                    "mean_of_later": round(float(off[off > 1e-6].mean()), 2)
                    if (off > 1e-6).any() else None,
                    "worst": round(float(off.max()), 2),
                    "by_p90_of_arcs": round(100 * float(np.mean([r[f"{name}_kept"] for r in mine])),
                                            1),
                }
            )  # fmt: skip
    return found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="Greedy orders against the arcs of a promise")
    parser.add_argument("--cases", type=int, default=48)
    parser.add_argument("--scenarios", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    rows = [case(asked.seed, k, asked.scenarios) for k in range(asked.cases)]
    found = summary(rows)
    if asked.json:
        print(json.dumps(found))
        return
    for row in found:
        print("  ".join(f"{k} {v}" for k, v in row.items()))


if __name__ == "__main__":
    main()

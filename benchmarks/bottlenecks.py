"""What it costs to say what delayed a run, and what would have helped: one run of many tasks.

    python benchmarks/bottlenecks.py [--tasks 10000] [--shape deep|wide|chain|free]

Each step is timed five times in a warm process, in seconds of one processor, so that what else
the machine does is not counted; the median is told. The last line is what a caller of
`ExecutionLearner` waits for: bottlenecks and recommendations out of a list of records.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from athena_prefect.learning.blame import blame
from athena_prefect.learning.bottlenecks import of_blames
from athena_prefect.learning.learner import ExecutionLearner
from athena_prefect.learning.past import past
from athena_prefect.learning.recommendations import recommendations
from athena_prefect.learning.replay import as_it_was
from athena_prefect.plan.model import Plan
from tests.learning.runs import plan_of, random_plan, simulated

TIMES = 5


def layered(rng: np.random.Generator, count: int) -> Plan:
    """Ten layers, each task after two of the layer before."""
    layer = max(count // 10, 1)

    def before(i: int) -> list[str]:
        first = i // layer * layer - layer
        return [] if first < 0 else sorted({f"t{j}" for j in rng.integers(first, first + layer, 2)})

    return plan_of(
        resources={"cpu": {"capacity": 50}},
        runner={"max_workers": 100},
        tasks=[
            {
                "id": f"t{i}",
                "duration": float(rng.integers(5, 100)),
                "resources": {"cpu": int(rng.integers(1, 4))},
                "depends_on": before(i),
            }
            for i in range(count)
        ],
    )


def bare(rng: np.random.Generator, count: int, *, chain: bool) -> Plan:
    """Tasks without resources, one after the other or all at once."""
    return plan_of(
        tasks=[
            {
                "id": f"t{i}",
                "duration": float(rng.integers(5, 100)),
                "depends_on": [f"t{i - 1}"] if chain and i else [],
            }
            for i in range(count)
        ]
    )


SHAPES: dict[str, Callable[[np.random.Generator, int], Plan]] = {
    "deep": random_plan,
    "wide": layered,
    "chain": lambda rng, count: bare(rng, count, chain=True),
    "free": lambda rng, count: bare(rng, count, chain=False),
}


def timed(what: str, step: Callable[[], Any]) -> float:
    seconds = []
    for _ in range(TIMES):
        begun = time.process_time()
        step()
        seconds.append(time.process_time() - begun)
    median = statistics.median(seconds)
    print(f"{what:24} {1000 * median:8.0f} ms")
    return median


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=10_000)
    parser.add_argument("--shape", choices=SHAPES, default="deep")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    rng = np.random.default_rng(options.seed)
    plan = SHAPES[options.shape](rng, options.tasks)
    factors = {t.id: float(np.exp(rng.normal(0.05, 0.3))) for t in plan.tasks}
    run = simulated(plan, factors)
    network = past(run)
    assert network is not None
    found = blame(network)
    total = timed("the run as a network", lambda: past(run))
    total += timed("shares of the delay", lambda: blame(network))
    total += timed("bottlenecks in words", lambda: of_blames([found]))

    def anew() -> None:
        as_it_was.cache_clear()
        recommendations([run], blames=[found])

    total += timed("recommendations", anew)
    print(f"{'together':24} {1000 * total:8.0f} ms for {len(run.tasks):,} tasks")
    records = list(run.tasks)

    def asked() -> None:
        learner = ExecutionLearner(plan=plan)
        learner.identify_bottlenecks(records)
        learner.generate_recommendations(records)

    timed("by ExecutionLearner", asked)
    shares = sum(b.share or 0.0 for b in of_blames([found]))
    print(f"delay {found.delay:,.0f} s; the shares add up to {shares:.4f}")


if __name__ == "__main__":
    main()

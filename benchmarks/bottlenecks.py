"""What it costs to say what delayed a run, and what would have helped: one run of many tasks.

    python benchmarks/bottlenecks.py --tasks 10000

Each step is timed five times in a warm process, in seconds of one processor, so that what else
the machine does is not counted; the median is told.
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
from athena_prefect.learning.past import past
from athena_prefect.learning.recommendations import recommendations
from athena_prefect.learning.replay import as_it_was
from tests.learning.runs import random_plan, simulated

TIMES = 5


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
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    rng = np.random.default_rng(options.seed)
    plan = random_plan(rng, options.tasks)
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
    shares = sum(b.share or 0.0 for b in of_blames([found]))
    print(f"delay {found.delay:,.0f} s; the shares add up to {shares:.4f}")


if __name__ == "__main__":
    main()

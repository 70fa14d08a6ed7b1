"""How time budgets are kept, and what is gained in them, by plans of up to 10,000 tasks.

    python benchmarks/budgets.py [--sizes 120 1000 10000] [--kinds plain modes …]
                                 [--budgets 1 2] [--objectives makespan tardiness cost] [--json]

Random networks with two predecessors a task under four scarce resources, with
modes, optional tasks, lags, a capacity that changes, budgets to be used up, or
all of it in the middle of a run. Every schedule is checked.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from athena_prefect.plan.graph import Floats, Network
from athena_prefect.schedule.answer import Answer, Objective
from athena_prefect.schedule.exact import load
from athena_prefect.schedule.feasibility import MARGIN, check
from athena_prefect.schedule.generate import generate
from athena_prefect.schedule.problem import Problem
from athena_prefect.schedule.rest import Rest, Way
from athena_prefect.schedule.solver import serial_generation
from benchmarks.machine import this_machine

SHAPES = ((0.6, 1.8, 2.0), (1.6, 0.5, 0.5))
"""Other modes: how many times as long, as many units, and as much of a budget (one by default)."""
KINDS = ("plain", "modes", "optional", "lags", "profile", "budget", "fractions", "all")


def drawn(count: int, kind: str, seed: int) -> Rest:
    """A rest of one kind, of `count` activities."""
    rng = np.random.default_rng(seed)
    whole = rng.integers(5, 11, count).astype(np.float64)
    lengths = rng.uniform(5, 11, count) if kind == "fractions" else whole
    heads = np.repeat(np.arange(1, count), 2)
    reach = np.minimum(heads, max(count // 10, 5))
    tails = heads - 1 - (rng.random(heads.size) * reach).astype(np.int64)
    tails, heads = np.unique(np.stack((tails, heads)), axis=1)
    everything = kind == "all"
    lagging = (kind == "lags" or everything) * (rng.random(len(tails)) < 0.2)
    lags = lagging * rng.integers(1, 4, len(tails)).astype(np.float64)
    network = Network.build([str(i) for i in range(count)], tails, heads, lag=lags)
    demands = rng.integers(0, 6, (count, 4)).astype(np.float64)
    problem = Problem.build(network, lengths, demands, [20.0] * 4)
    rest = Rest(problem=problem)
    if everything:
        rest = _under_way(rest)
    free = rest.free
    if kind in ("modes", "budget") or everything:
        chosen = np.flatnonzero((rng.random(count) < 0.5) & free).tolist()
        eats = 1 if kind == "budget" else 0
        ways = {i: _ways(lengths[i], demands[i], eats) for i in chosen}
        rest = replace(rest, ways=ways, budgets=(0.9 * len(ways),) * eats)
    if kind == "optional" or everything:
        chosen = np.flatnonzero((rng.random(count) < 0.2) & free).tolist()
        rest = replace(rest, droppable=dict.fromkeys(chosen, 0.2))
    if everything:
        pairs = zip(tails.tolist(), heads.tolist(), rng.random(len(tails)).tolist(), strict=True)
        rest = replace(rest, loose=frozenset((a, b) for a, b, x in pairs if x < 0.1 and free[b]))
    if kind == "profile" or everything:
        moments = [rest.now + 5.0 + 10.0 * k for k in range(max(count // 20, 1))]
        there = rng.integers(8, 21, len(moments)).astype(np.float64).tolist()
        steps = ((rest.now, 20.0), *zip(moments, there, strict=True), (moments[-1] + 10.0, 20.0))
        rest = replace(rest, steps={0: steps})
    return rest


def _ways(length: float, demands: Floats, eats: int) -> tuple[Way, ...]:
    def way(name: str, times: float, units: float, used: float) -> Way:
        lasts = float(np.ceil(length * times)) if times != 1.0 else float(length)
        needs = tuple(np.ceil(demands * units).tolist())
        return Way(mode=name, estimate=(lasts,) * 3, demands=needs, consumes=(used,) * eats)

    others = [way(f"m{k}", *shape) for k, shape in enumerate(SHAPES)]
    return (way("default", 1.0, 1.0, 1.0), *others)


def _under_way(rest: Rest) -> Rest:
    """Three tenths have begun; what is due is a tenth less than the order so far takes."""
    so_far = serial_generation(rest.problem)
    now = float(np.quantile(so_far.starts, 0.3))
    return replace(
        rest,
        now=now,
        starts=np.where(so_far.starts < now, so_far.starts, np.nan),
        previous=dict(enumerate(so_far.starts.tolist())),
        previous_makespan=so_far.makespan,
        deadline=0.9 * so_far.makespan,
    )


def conflicts(rest: Rest, answer: Answer) -> list[str]:
    """What the answer's schedule breaks."""
    schedule = answer.schedule
    assert schedule is not None
    found = [
        str(c)
        for c in check(schedule.problem, schedule.starts, release=rest.now, fixed=~rest.free)
        if rest.free[[schedule.problem.network.ids.index(a) for a in c.activities]].any()
    ]
    for r, steps in rest.steps.items():
        demand = schedule.problem.demands[:, r] * (schedule.problem.durations > 0)
        by_start, by_end = np.argsort(schedule.starts), np.argsort(schedule.finishes)
        moments = np.unique(np.concatenate((schedule.starts[rest.free], [at for at, _ in steps])))
        begun = np.searchsorted(schedule.starts[by_start], moments + MARGIN, "right")
        ended = np.searchsorted(schedule.finishes[by_end], moments + MARGIN, "right")
        taken = np.concatenate(([0.0], np.cumsum(demand[by_start])))[begun]
        given = np.concatenate(([0.0], np.cumsum(demand[by_end])))[ended]
        there = np.array([next(c for at, c in reversed(steps) if at <= m) for m in moments])
        # What runs is exempt until it ends: nothing of it is longer than a few steps.
        late = moments > rest.now + float(schedule.problem.durations.max())
        over = moments[late & (taken - given > there + MARGIN)]
        found += [f"too much of resource {r} at {at:g}" for at in over.tolist()]
    if not rest.within_budgets(answer.choice):
        found.append("more is used up than there is")
    return found


def measured(rest: Rest, objective: Objective, budget: float) -> dict[str, Any]:
    """One run: what it took and what it gained."""
    cpu, began = time.process_time(), time.perf_counter()
    answer = generate(rest, objective, budget_s=budget, seed=0, clock=time.perf_counter)
    wall = time.perf_counter() - began
    spent = time.process_time() - cpu
    broken = conflicts(rest, answer)
    assert not broken, broken[0]
    first, choice = answer.history[0], answer.choice
    return {
        "wall_over_budget": wall / budget,
        "cpu_s": spent,
        "first_feasible_ms": 1000 * first.seconds,
        "first_value": first.value,
        "value": answer.history[-1].value,
        "makespan": answer.makespan,
        "modes_changed": len(choice.ways),
        "dropped": len(choice.dropped),
        "cut": len(choice.cut),
    }


def table(rows: list[dict[str, Any]]) -> str:
    """A Markdown table."""
    names = list(rows[0])
    lines = ["| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
    for row in rows:
        cells = (row[name] for name in names)
        lines.append(
            "| " + " | ".join(f"{c:,.2f}" if isinstance(c, float) else f"{c}" for c in cells) + " |"
        )
    return "\n".join(lines)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--sizes", type=int, nargs="+", default=[120, 1_000, 10_000])
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=KINDS)
    parser.add_argument("--budgets", type=float, nargs="+", default=[1.0])
    parser.add_argument("--objectives", nargs="+", default=["makespan"])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    given = parser.parse_args()
    load()
    rows = []
    for size in given.sizes:
        for kind in given.kinds:
            rest = drawn(size, kind, given.seed)
            for objective in map(Objective, given.objectives):
                for budget in given.budgets:
                    row = {"tasks": size, "kind": kind, "objective": str(objective)}
                    row |= {"budget_s": budget, **measured(rest, objective, budget)}
                    rows.append(row)
                    sys.stderr.write(f"{row}\n")
    machine = this_machine()
    at = datetime.now(UTC).isoformat(timespec="seconds")
    if given.json:
        sys.stdout.write(json.dumps({"at": at, "machine": machine, "rows": rows}, indent=1) + "\n")
    else:
        sys.stdout.write(f"{at}, {machine}\n\n{table(rows)}\n")


if __name__ == "__main__":
    main()

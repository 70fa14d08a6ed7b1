"""Forecasts of generated runs of many kinds of applications, against resource-aware velocity.

    python benchmarks/forecast_stress.py [--families 60] [--seed 1] [--history own unseen] [--json]

Recorded runs are few and of few applications. Here an application is drawn at random: the
shape of its graph, 2 to 20 categories, how durations scatter (lognormal, in two sorts, with
heavy tails), how much runs differ, whether there is more work or slower work where the input
is larger, how many runs there were before (1 to 8), how wrong the estimates are (a factor
of up to five either way), and what is odd about the runs that are forecast: nothing, a
category never seen, ten times the work, or three times as slow as any run before.

Every application has a few runs that are forecast at 10, 25, 50 and 75 % of their tasks, with
the application's earlier runs and some of others as history (*own*), or with others
alone (*unseen*). Errors are in percent of the makespan, as in `forecast.py`; means are
over applications, shown for each value of what was drawn.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from athena_prefect.monitor.history import History, PastRun
from athena_prefect.plan.graph import Floats
from benchmarks.forecast import OURS, Folder, Outcome, Replay, Trace, outcomes
from benchmarks.machine import this_machine

VELOCITY = "velocity, slots"
TESTED = 3
"""Runs of each application that are forecast."""
OTHERS = 6
"""Other applications in the history."""
OF_OTHERS = 3
"""Runs of each of them in it."""
LONGEST = 3e6
"""Seconds that no task exceeds: a month."""

Graph = list[tuple[int, list[int]]]
"""Of each task its stage and the tasks that it waits for."""


def chain(size: int, stages: int, rng: np.random.Generator) -> Graph:
    """One task after the other."""
    return [(k * stages // size, [k - 1] if k else []) for k in range(size)]


def pipelines(size: int, stages: int, rng: np.random.Generator) -> Graph:
    """Chains side by side, as long as there are stages."""
    wide = max(size // stages, 1)
    return [(s, [(s - 1) * wide + k] if s else []) for s in range(stages) for k in range(wide)]


def fork_join(size: int, stages: int, rng: np.random.Generator) -> Graph:
    """Again and again one task, many, one."""
    rounds = max(stages // 3, 1)
    wide = max(size // rounds - 2, 2)
    graph: Graph = []
    for r in range(rounds):
        first = len(graph)
        graph.append((3 * r, [first - 1] if r else []))
        graph += [(3 * r + 1, [first]) for _ in range(wide)]
        graph.append((3 * r + 2, list(range(first + 1, first + 1 + wide))))
    return graph


def fans(size: int, stages: int, rng: np.random.Generator) -> Graph:
    """Few wide stages, a barrier after each."""
    layers = min(stages, 4)
    wide = max((size - layers) // layers, 2)
    graph: Graph = []
    for s in range(layers):
        first = len(graph)
        graph += [(2 * s, [first - 1] if s else []) for _ in range(wide)]
        graph.append((2 * s + 1, list(range(first, first + wide))))
    return graph


def mosaic(size: int, stages: int, rng: np.random.Generator) -> Graph:
    """A wide stage, one of pairs of its neighbours, a barrier, a wide one, a short chain."""
    wide = max((size - 5) // 3, 2)
    graph: Graph = [(0, []) for _ in range(wide)]
    graph += [(1, [k, (k + 1) % wide]) for k in range(wide)]
    join = len(graph)
    graph += [(2, list(range(wide, 2 * wide))), (3, [join])]
    graph += [(4, [join + 1, k]) for k in range(wide)]
    last = len(graph)
    graph += [(5, list(range(last - wide, last))), (6, [last]), (7, [last + 1])]
    return graph


def tangle(size: int, stages: int, rng: np.random.Generator) -> Graph:
    """Layers of unequal width, each task after one to three of the layer before."""
    widths = np.maximum(rng.dirichlet(np.ones(stages)) * size, 1).astype(int).tolist()
    graph: Graph = []
    before: list[int] = []
    for s, wide in enumerate(widths):
        first = len(graph)
        for _ in range(wide):
            few = rng.choice(before, min(len(before), int(rng.integers(1, 4))), replace=False)
            graph.append((s, [int(k) for k in few]) if before else (s, []))
        before = list(range(first, len(graph)))
    return graph


SHAPES: Mapping[str, Callable[[int, int, np.random.Generator], Graph]] = {
    "chain": chain,
    "pipelines": pipelines,
    "fork-join": fork_join,
    "fans": fans,
    "mosaic": mosaic,
    "tangle": tangle,
}


def lognormal(spread: float, count: int, rng: np.random.Generator) -> Floats:
    """Log factors, normal."""
    return rng.normal(0, spread, count)


def two_sorts(spread: float, count: int, rng: np.random.Generator) -> Floats:
    """Log factors of two sorts, a third of them the longer one."""
    long = np.where(rng.random(count) < 1 / 3, 3 * spread + 0.4, 0.0)
    return long + rng.normal(0, 0.3 * spread, count)


def heavy(spread: float, count: int, rng: np.random.Generator) -> Floats:
    """Log factors of Student's t with two degrees of freedom."""
    return np.clip(0.6 * spread * rng.standard_t(2, count), -4, 4)


SCATTERS: Mapping[str, Callable[[float, int, np.random.Generator], Floats]] = {
    "lognormal": lognormal,
    "two sorts": two_sorts,
    "heavy tails": heavy,
}
ODD = ("nothing", "new category", "ten times the work", "three times as slow")
INPUTS = ("the same", "more tasks", "longer tasks")
ESTIMATES = ("medians", "off alike", "off anew")


@dataclass(frozen=True, kw_only=True)
class Kind:
    """What was drawn of an application; `factors` are shown in the tables."""

    name: str
    shape: str
    size: int
    categories: int
    scatter: str
    spread: float
    """Of the log durations of a category in a run."""
    runs_differ: float
    """Spread of the log of a run's slowness, that of all categories and of each alone."""
    inputs: str
    known: int
    """Runs before."""
    estimates: str
    odd: str
    wide: float
    """Tasks to a slot where slots are limited."""

    @classmethod
    def draw(cls, number: int, rng: np.random.Generator) -> Kind:
        """The kind of application `number`."""
        shape = list(SHAPES)[number % len(SHAPES)]
        size = float(np.exp(rng.uniform(np.log(15), np.log(60 if shape == "chain" else 300))))
        return cls(
            name=f"made-{number}",
            shape=shape,
            size=round(size),
            categories=int(rng.integers(2, 21)),
            scatter=str(rng.choice(list(SCATTERS))),
            spread=float(rng.choice([0.05, 0.15, 0.4, 0.8])),
            runs_differ=float(rng.choice([0.0, 0.15, 0.5])),
            inputs=str(rng.choice(INPUTS)),
            known=int(rng.choice([1, 2, 3, 8])),
            estimates=str(rng.choice(ESTIMATES)),
            odd=str(rng.choice(ODD, p=[0.55, 0.15, 0.15, 0.15])),
            wide=float(rng.choice([3, 8, 20])),
        )

    def factors(self) -> Iterator[tuple[str, str]]:
        """What was drawn, by name."""
        row = asdict(self)
        few = "2 to 7" if self.categories < 8 else "8 to 20"
        row |= {"categories": few, "size": "to 70" if self.size < 70 else "to 300"}
        for name in row.keys() - {"name"}:
            yield name, str(row[name])


class Application:
    """An application and its runs."""

    def __init__(self, kind: Kind, rng: np.random.Generator) -> None:
        self.kind = kind
        self.rng = rng
        self.base = np.exp(rng.uniform(np.log(1), np.log(1000), kind.categories))
        self.scales_with = rng.random(kind.categories) < 0.7
        self.graph_seed = int(rng.integers(2**31))
        self.off = rng.uniform(-np.log(5), np.log(5), kind.categories)
        """Log of how wrong its estimates are."""
        self.spreads = kind.spread * np.exp(rng.normal(0, 0.3, kind.categories))
        self.runs = [self._run(k, odd=False) for k in range(max(kind.known, OF_OTHERS))]
        self.tested = [self._run(1000 + k, odd=True) for k in range(TESTED)]

    def _run(self, number: int, *, odd: bool) -> Trace:
        kind, rng = self.kind, self.rng
        oddity = kind.odd if odd else ODD[0]
        larger = 1.0 if kind.inputs == "the same" else float(np.exp(rng.normal(0, 0.6)))
        tasks = kind.size * (larger if kind.inputs == "more tasks" else 1.0)
        size = max(round(tasks * (10 if oddity == "ten times the work" else 1)), 5)
        stages = 3 + kind.categories // 2
        same = np.random.default_rng(self.graph_seed)
        graph = SHAPES[kind.shape](size, stages, same)
        common = rng.normal(0, kind.runs_differ)
        own = common + rng.normal(0, kind.runs_differ / 2, kind.categories)
        if kind.inputs == "longer tasks":
            own = own + np.log(larger) * self.scales_with
        if oddity == "three times as slow":
            own = own + np.log(3)
        category = np.array([s % kind.categories for s, _ in graph])
        logs = np.log(self.base)[category] + own[category]
        for c in range(kind.categories):
            mine = category == c
            logs[mine] += SCATTERS[kind.scatter](float(self.spreads[c]), int(mine.sum()), rng)
        names = [f"{kind.name}-c{c}" for c in category.tolist()]
        if oddity == "new category":
            fresh = int(np.bincount(category).argmax())
            names = [f"{kind.name}-new" if c == fresh else names[k] for k, c in enumerate(category)]
        anew = rng.uniform(-np.log(5), np.log(5), kind.categories)
        off = {"medians": 0 * anew, "off alike": self.off, "off anew": anew}[kind.estimates]
        return Trace(
            {
                "name": f"{kind.name}-{number}",
                "family": kind.name,
                "slots_fit": max(round(kind.size / kind.wide), 1),
                "planned": (self.base * np.exp(off))[category].tolist(),
                "tasks": [
                    {
                        "id": str(k),
                        "parents": [str(b) for b in before],
                        "category": name,
                        "runtime_s": min(float(np.exp(log)), LONGEST),
                    }
                    for k, ((_, before), name, log) in enumerate(
                        zip(graph, names, logs.tolist(), strict=True)
                    )
                ],
            }
        )


class Planned(Folder):
    """Generated runs, which carry their estimates."""

    def estimates(self, trace: Trace, without: str = "") -> Floats:
        """As they were made."""
        return np.array(trace.data["planned"])


class Generated(Replay):
    """Generated applications, and what was known of each before."""

    def __init__(self, made: Sequence[Application], limited: bool) -> None:
        super().__init__(Planned([t for a in made for t in (*a.runs, *a.tested)]), limited)
        self.made = {a.kind.name: a for a in made}
        self.kept: dict[tuple[str, str], History] = {}

    @cached_property
    def order(self) -> list[str]:
        """Their names."""
        return list(self.made)

    def history(self, trace: Trace, leave_out: str) -> History:
        """Earlier runs of the application (unless *unseen*) and of the ones after it."""
        key = (trace.family, leave_out)
        if key not in self.kept:
            place = self.order.index(trace.family)
            turned = [*self.order[place + 1 :], *self.order[:place]][:OTHERS]
            told: list[PastRun] = [
                self.past(t) for name in turned for t in self.made[name].runs[:OF_OTHERS]
            ]
            if leave_out == "own":
                own = self.made[trace.family]
                told += [self.past(t) for t in own.runs[: own.kind.known]]
            self.kept[key] = History.of(told)
        return self.kept[key]


@dataclass(frozen=True, kw_only=True)
class Row:
    """Means of one application; percent."""

    mape: float
    velocity: float
    pinball: float
    coverage: float

    @classmethod
    def of(cls, found: Sequence[Outcome]) -> Row:
        """Of its forecasts."""
        return cls(
            mape=100 * float(np.mean([o.errors[OURS] for o in found])),
            velocity=100 * float(np.mean([o.errors[VELOCITY] for o in found])),
            pinball=100 * float(np.mean([o.pinball for o in found])),
            coverage=100 * float(np.mean([o.covered for o in found])),
        )

    @classmethod
    def mean(cls, rows: Sequence[Row]) -> Row:
        """Mean over applications."""
        columns = [asdict(r) for r in rows]
        return cls(**{k: float(np.mean([c[k] for c in columns])) for k in columns[0]})


def summary(rows: Mapping[Kind, Row]) -> dict[str, dict[str, Any]]:
    """Means for each value of what was drawn, and over all."""
    cells: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for kind, row in rows.items():
        cells["all", ""].append(row)
        for factor in kind.factors():
            cells[factor].append(row)
    worse = [r.mape > r.velocity + 1 for r in rows.values()]
    found: dict[str, dict[str, Any]] = {
        f"{name} {value}".strip(): {**asdict(Row.mean(group)), "applications": len(group)}
        for (name, value), group in sorted(cells.items())
    }
    found["all"]["worse_than_velocity"] = 100 * float(np.mean(worse))
    return found


def shown(found: Mapping[str, Mapping[str, Any]]) -> str:
    """The tables as Markdown."""
    lines = ["| | applications | MAPE | velocity, slots | pinball | coverage |", "|---" * 6 + "|"]
    for name, row in found.items():
        cells = " | ".join(f"{row[c]:.1f}" for c in ("mape", "velocity", "pinball"))
        lines.append(f"| {name} | {row['applications']} | {cells} | {row['coverage']:.0f} |")
    worse = found["all"]["worse_than_velocity"]
    lines.append(f"\nWorse than velocity by more than a point: {worse:.0f} % of applications.")
    return "\n".join(lines)


def rows_of(replay: Generated, leave_out: str, wanted: Iterable[Application]) -> dict[Kind, Row]:
    """Means of each application."""
    return {
        a.kind: Row.of([o for t in a.tested for o in outcomes(replay, t, leave_out)])
        for a in wanted
    }


def applications(count: int, seed: int) -> list[Application]:
    """Drawn ones; the same for the same seed."""
    return [
        Application(Kind.draw(k, rng), rng)
        for k in range(count)
        for rng in [np.random.default_rng((seed, k))]
    ]


def main() -> None:
    """Generate, replay and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--families", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--history", nargs="+", choices=["own", "unseen"], default=["own", "unseen"]
    )
    parser.add_argument(
        "--slots", nargs="+", choices=["limited", "unlimited"], default=["limited", "unlimited"]
    )
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    made = applications(options.families, options.seed)
    results: dict[str, Any] = {
        "machine": this_machine(),
    }
    for slots in options.slots:
        replay = Generated(made, slots == "limited")
        for leave_out in options.history:
            began = time.process_time()
            rows = rows_of(replay, leave_out, made)
            found = results[f"{slots} slots, {leave_out}"] = summary(rows)
            if not options.json:
                print(f"### {slots.capitalize()} slots, {leave_out}\n\n{shown(found)}")
                print(f"CPU: {time.process_time() - began:.0f} s.\n", flush=True)
    if options.json:
        print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()

"""Forecasts of recorded runs from the history of others, against five simpler ways.

    python benchmarks/forecast.py --data FOLDER [--history run family] [--slots limited] [--json]

FOLDER holds one JSON file a run: name, family, slots_fit, and tasks with id, parents,
category and runtime_s. The graphs and durations are real. When the tasks began is not
recorded, so the timeline is simulated: who is ready first begins first, on `slots_fit`
slots (limited) or on as many as there are tasks (unlimited). The estimate of a task
is the median of its category over the other runs of the family. Each run is forecast
when 10, 25, 50 and 75 % of its tasks have ended, from all other runs (*run*: leave one
run out) or from the runs of other families alone (*family*). Estimates in the history of
the same family leave the run that is forecast out, too.

MAPE and pinball loss (mean over the quantiles 0.1 … 0.9) are in percent of the makespan,
coverage is that of the interval from 0.1 to 0.9. The headline is the mean over families
of the mean over checkpoints.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from athena_prefect.journal.events import (
    RunEvent,
    RunEventKind,
    TaskEvent,
    TaskEventKind,
    TaskOutcome,
)
from athena_prefect.journal.state import ExecutionState, fold
from athena_prefect.monitor.capacity import first_come
from athena_prefect.monitor.earned_value import WorkItem, earned_value
from athena_prefect.monitor.history import SHORTEST, History, PastRun, PastTask
from athena_prefect.monitor.pure import forecast
from athena_prefect.plan.graph import Floats, Network
from athena_prefect.plan.model import Plan
from athena_prefect.schedule.passes import forward
from benchmarks.machine import this_machine

T0 = datetime(2026, 1, 5, tzinfo=UTC)
RUN = UUID(int=1)
CHECKPOINTS = (0.10, 0.25, 0.50, 0.75)
QUANTILES = tuple(k / 10 for k in range(1, 10))
OURS = "history"
ALL = "all"
METHODS = (
    OURS,
    "plan unchanged",
    "velocity, serial",
    "velocity, critical path",
    "velocity, slots",
    "earned schedule",
)


@dataclass(frozen=True, eq=False)
class Trace:
    """One recorded run."""

    data: Mapping[str, Any]

    @property
    def key(self) -> str:
        """Its name."""
        return str(self.data["name"])

    @property
    def family(self) -> str:
        """The application that it is a run of."""
        return str(self.data["family"])

    @cached_property
    def ids(self) -> list[str]:
        """Its tasks, by names that a plan may use."""
        return [f"t{k}" for k in range(len(self.data["tasks"]))]

    @cached_property
    def categories(self) -> list[str]:
        """Of each task."""
        return [str(task["category"]) for task in self.data["tasks"]]

    @cached_property
    def actual(self) -> Floats:
        """Recorded durations (s)."""
        return np.array([max(float(t["runtime_s"]), SHORTEST) for t in self.data["tasks"]])

    @cached_property
    def parents(self) -> list[list[str]]:
        """Of each task those that it waits for."""
        name = {task["id"]: k for k, task in zip(self.ids, self.data["tasks"], strict=True)}
        return [[name[p] for p in task["parents"]] for task in self.data["tasks"]]

    @cached_property
    def network(self) -> Network:
        """The recorded graph."""
        place = {name: k for k, name in enumerate(self.ids)}
        arcs = [(place[p], k) for k, before in enumerate(self.parents) for p in before]
        return Network.build(self.ids, [a for a, _ in arcs], [b for _, b in arcs])

    def slots(self, limited: bool) -> int:
        """Tasks at once."""
        return int(self.data["slots_fit"]) if limited else len(self.ids)


@dataclass(frozen=True, eq=False)
class Folder:
    """All recorded runs."""

    traces: Sequence[Trace]

    @classmethod
    def of(cls, folder: Path) -> Folder:
        """The runs of a folder."""
        files = sorted(folder.glob("*.json"))
        if not files:
            raise SystemExit(f"{folder}: no *.json in it; recorded runs are expected there")
        return cls([Trace(json.loads(file.read_text())) for file in files])

    @cached_property
    def families(self) -> Mapping[str, list[Trace]]:
        """The runs of each family."""
        found: dict[str, list[Trace]] = defaultdict(list)
        for trace in self.traces:
            found[trace.family].append(trace)
        return found

    def estimates(self, trace: Trace, without: str = "") -> Floats:
        """What a planner would have said: medians over the other runs of the family.

        Of a category that no other run has, the median of all their tasks; of the only
        run of a family, that of all tasks of other families.
        """
        others = [t for t in self.families[trace.family] if t is not trace and t.key != without]
        others = others or [t for t in self.traces if t.family != trace.family] or [trace]
        found: dict[str, list[float]] = defaultdict(list)
        for other in others:
            for category, seconds in zip(other.categories, other.actual.tolist(), strict=True):
                found[category].append(seconds)
        typical = float(np.median([s for seconds in found.values() for s in seconds]))
        medians = {category: float(np.median(seconds)) for category, seconds in found.items()}
        return np.array([medians.get(category, typical) for category in trace.categories])


class Replay:
    """The runs with one kind of timeline, and histories of them."""

    def __init__(self, folder: Folder, limited: bool) -> None:
        self.folder = folder
        self.limited = limited
        self._past: dict[tuple[str, str], PastRun] = {}
        self._others: dict[str, History] = {}
        self._timelines: dict[str, tuple[Floats, Floats]] = {}

    def timeline(self, trace: Trace) -> tuple[Floats, Floats]:
        """Starts and finishes of the tasks of a run (s)."""
        if trace.key not in self._timelines:
            self._timelines[trace.key] = first_come(
                trace.network, trace.actual, trace.slots(self.limited)
            )
        return self._timelines[trace.key]

    def past(self, trace: Trace, without: str = "") -> PastRun:
        """A run as history, its estimates made without the run `without`."""
        key = (trace.key, without)
        if key not in self._past:
            starts, _ = self.timeline(trace)
            columns = zip(
                trace.ids,
                trace.categories,
                self.folder.estimates(trace, without).tolist(),
                trace.actual.tolist(),
                starts.tolist(),
                trace.parents,
                strict=True,
            )
            tasks = [
                PastTask(id=i, category=c, planned=p, actual=a, started=s, after=tuple(before))
                for i, c, p, a, s, before in columns
            ]
            self._past[key] = PastRun(
                key=trace.key,
                plan=trace.family,
                tasks=tasks,
                slots=trace.slots(self.limited),
            )
        return self._past[key]

    def history(self, trace: Trace, leave_out: str) -> History:
        """The history without the run, or without its family."""
        others = [t for t in self.folder.traces if t.family != trace.family]
        if leave_out == "family":
            if trace.family not in self._others:
                self._others[trace.family] = History.of(map(self.past, others))
            return self._others[trace.family]
        same = [t for t in self.folder.families[trace.family] if t is not trace]
        return History.of([*map(self.past, others), *(self.past(t, trace.key) for t in same)])

    def plan(self, trace: Trace) -> Plan:
        """The run's plan, with what a planner would have estimated."""
        estimates = self.folder.estimates(trace).tolist()
        return Plan.model_validate(
            {
                "name": trace.family,
                "runner": {"max_workers": trace.slots(self.limited)},
                "tasks": [
                    {"id": i, "category": c, "duration": e, "depends_on": before}
                    for i, c, e, before in zip(
                        trace.ids, trace.categories, estimates, trace.parents, strict=True
                    )
                ],
            }
        )

    def state(self, trace: Trace, now: float) -> ExecutionState:
        """What a journal of the run adds up to at `now`."""
        return fold(self._events(trace, now))

    def _events(self, trace: Trace, now: float) -> Iterable[RunEvent | TaskEvent]:
        yield RunEvent(plan_run=RUN, kind=RunEventKind.STARTED, at=T0)
        starts, finishes = self.timeline(trace)
        for task, start, finish in zip(trace.ids, starts.tolist(), finishes.tolist(), strict=True):
            if start > now:
                continue
            yield _event(task, TaskEventKind.STARTED, start)
            if finish <= now:
                yield _event(task, TaskEventKind.ENDED, finish)


def _event(task: str, kind: TaskEventKind, seconds: float) -> TaskEvent:
    return TaskEvent(
        plan_run=RUN,
        task_id=task,
        source=task,
        kind=kind,
        at=moment(seconds),
        outcome=TaskOutcome.SUCCESS if kind is TaskEventKind.ENDED else None,
    )


def moment(seconds: float) -> datetime:
    """What is so many seconds after the start."""
    return T0 + timedelta(seconds=seconds)


class Rivals:
    """What simpler ways say of a run."""

    def __init__(self, replay: Replay, trace: Trace) -> None:
        self.trace = trace
        self.slots = trace.slots(replay.limited)
        self.planned = replay.folder.estimates(trace)
        self.starts, self.finishes = replay.timeline(trace)
        self.plan = first_come(trace.network, self.planned, self.slots)[1]

    def at(self, now: float) -> dict[str, float]:
        """Finishes (s) by each of them."""
        done, begun = self.finishes <= now, self.starts <= now
        pace = float((self.finishes - self.starts)[done].sum() / self.planned[done].sum())
        start = np.where(begun, self.starts, np.nan)
        finish = np.where(done, self.finishes, np.nan)
        network = self.trace.network
        _, by_slots = first_come(
            network, self.planned * pace, self.slots, now=now, start=start, finish=finish
        )
        # What runs has its elapsed time behind it; what waits, all of its duration before it.
        rest = np.where(begun, np.maximum(self.starts + self.planned * pace - now, 0.0), 0.0)
        rest = np.where(begun, rest, self.planned * pace)
        rest[done] = 0.0
        _, path = forward(network, rest)
        items = [
            WorkItem(budget=b, planned_finish=f, done=bool(d))
            for b, f, d in zip(self.planned, self.plan, done, strict=True)
        ]
        earned = earned_value(items, now)
        return {
            "plan unchanged": float(self.plan.max()),
            "velocity, serial": now + float(rest.sum()),
            "velocity, critical path": now + float(path.max(initial=0.0)),
            "velocity, slots": float(max(by_slots.max(), now)),
            "earned schedule": earned.eac_t_trend or earned.eac_t,
        }


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Errors of one forecast, as shares of the makespan."""

    family: str
    checkpoint: float
    errors: Mapping[str, float]
    """Of each method, of its one number or its median."""
    pinball: float
    covered: bool
    seconds: float


def outcomes(replay: Replay, trace: Trace, leave_out: str) -> Iterable[Outcome]:
    """Forecasts of one run at each checkpoint."""
    plan, history = replay.plan(trace), replay.history(trace, leave_out)
    _, finishes = replay.timeline(trace)
    end, rivals = float(finishes.max()), Rivals(replay, trace)
    for checkpoint in CHECKPOINTS:
        now = float(np.sort(finishes)[math.ceil(checkpoint * len(finishes)) - 1])
        state = replay.state(trace, now)
        began = time.perf_counter()
        found = forecast(plan, history, state, moment(now), QUANTILES, np.random.default_rng(0))
        seconds = time.perf_counter() - began
        said = np.array([(found[q] - T0).total_seconds() for q in QUANTILES])
        levels = np.array(QUANTILES)
        losses = np.maximum(levels * (end - said), (levels - 1) * (end - said))
        middle = said[QUANTILES.index(0.5)]
        given = {OURS: float(middle), **rivals.at(now)}
        yield Outcome(
            family=trace.family,
            checkpoint=checkpoint,
            errors={name: abs(finish - end) / end for name, finish in given.items()},
            pinball=float(losses.mean()) / end,
            # Datetimes hold whole microseconds.
            covered=bool(said[0] - 1e-5 <= end <= said[-1] + 1e-5),
            seconds=seconds,
        )


Table = Mapping[str, Sequence[float]]


def table_of(found: Sequence[Outcome], value: Callable[[Outcome], float]) -> Table:
    """Means by family and checkpoint, in percent, and over the families."""
    cells: dict[str, dict[float, list[float]]] = {}
    for outcome in found:
        row = cells.setdefault(outcome.family, {c: [] for c in CHECKPOINTS})
        row[outcome.checkpoint].append(100 * value(outcome))
    rows = {name: [float(np.mean(v)) for v in row.values()] for name, row in sorted(cells.items())}
    return {**rows, ALL: [float(np.mean(column)) for column in zip(*rows.values(), strict=True)]}


def summary(found: Sequence[Outcome]) -> dict[str, Any]:
    """Means by family and checkpoint, over families, and the headline; percent."""
    methods = {m: table_of(found, lambda o, m=m: o.errors[m]) for m in METHODS}  # type: ignore[misc]
    pinball = table_of(found, lambda o: o.pinball)
    coverage = table_of(found, lambda o: float(o.covered))
    return {
        "mape": methods,
        "pinball": pinball,
        "coverage": coverage,
        "headline": {
            "mape": {name: float(np.mean(table[ALL])) for name, table in methods.items()},
            "pinball": float(np.mean(pinball[ALL])),
            "coverage": float(np.mean(coverage[ALL])),
        },
        "milliseconds": 1000 * float(np.median([o.seconds for o in found])),
        "forecasts": len(found),
    }


def shown(result: Mapping[str, Any]) -> str:
    """A summary as Markdown."""
    checkpoints = " | ".join(f"{100 * c:.0f} % done" for c in CHECKPOINTS)
    lines = [f"| MAPE, % | {checkpoints} | headline |", "|---" * (len(CHECKPOINTS) + 2) + "|"]
    for name, table in result["mape"].items():
        cells = " | ".join(f"{v:.1f}" for v in table[ALL])
        lines.append(f"| {name} | {cells} | {result['headline']['mape'][name]:.1f} |")
    lines += ["", f"| {OURS}: MAPE / pinball / coverage, % | {checkpoints} |"]
    lines.append("|---" * (len(CHECKPOINTS) + 1) + "|")
    for family in result["pinball"]:
        cells = " | ".join(
            f"{m:.1f} / {p:.1f} / {c:.0f}"
            for m, p, c in zip(
                result["mape"][OURS][family],
                result["pinball"][family],
                result["coverage"][family],
                strict=True,
            )
        )
        lines.append(f"| {family} | {cells} |")
    headline = result["headline"]
    lines.append(
        f"\nHeadline: MAPE {headline['mape'][OURS]:.1f} %, pinball {headline['pinball']:.1f} %, "
        f"coverage {headline['coverage']:.0f} % ({result['forecasts']} forecasts, median "
        f"{result['milliseconds']:.0f} ms each)."
    )
    return "\n".join(lines)


def main() -> None:
    """Replay and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, required=True, help="folder of recorded runs")
    parser.add_argument(
        "--history",
        nargs="+",
        choices=["run", "family"],
        default=["run", "family"],
        help="what is left out of the history",
    )
    parser.add_argument(
        "--slots", nargs="+", choices=["limited", "unlimited"], default=["limited", "unlimited"]
    )
    parser.add_argument("--families", nargs="+", help="forecast runs of these alone")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    folder = Folder.of(options.data)
    results: dict[str, Any] = {
        "machine": this_machine(),
    }
    for slots in options.slots:
        replay = Replay(folder, slots == "limited")
        for leave_out in options.history:
            wanted = [t for t in folder.traces if t.family in (options.families or folder.families)]
            found = [o for trace in wanted for o in outcomes(replay, trace, leave_out)]
            result = results[f"{slots} slots, leave one {leave_out} out"] = summary(found)
            if not options.json:
                print(f"### {slots.capitalize()} slots, leave one {leave_out} out\n")
                print(shown(result), "\n", flush=True)
    if options.json:
        print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()

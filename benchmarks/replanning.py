"""Replanning: how long an option set takes, and whether chosen revisions keep what they promise.

    python benchmarks/replanning.py options [--sizes 100 1000 10000] [--json]
    python benchmarks/replanning.py complete [--sizes 100 1000] [--plenty 20]
    python benchmarks/replanning.py accuracy [--cases 500] [--seeds 0 1 2]
                                             [--world estimates|unlike|history] [--json]

`options`: a complete option set (all strategies' levers) of a run of so many remaining
tasks, one of which was late.

`complete`: how many options that no other dominates there are with plenty of time, and
how many of them the budget of one second finds; one run of each shape.

`accuracy`: generated plans of several shapes run in virtual time until something is
disturbed: a late task, lost capacity, a failed task, several at once. The recommended
option is then executed with durations drawn afresh, which the engine did not see, by
code of this file that reads the revised document: whatever a task waits for, by
dependency or because it gets its units, has ended; capacities are what there really is;
what the goals need is done. A revision is right where it ends by its accepted finish
(promised at 0.9) and its constraints hold. The stated probability of the deadline is
held against what happened: a reliability table, and the Brier score beside that of the
base rate.

Worlds: in `estimates` durations are drawn from what the plan says; in `unlike` each
category has a bias (σ 0.3 in logarithms) and each run a slowness (σ 0.15) that the plan
knows nothing of; `history` is the same world, but the engine has eight finished runs.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import mean
from typing import Any
from uuid import UUID

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from athena_prefect.journal.events import TaskOutcome
from athena_prefect.journal.journal import MemoryJournal
from athena_prefect.monitor.context import ExecutionContext, VirtualClock
from athena_prefect.monitor.history import History, PastRun, PastTask
from athena_prefect.monitor.monitor import ExecutionMonitor
from athena_prefect.orchestrator import PlanOrchestrator
from athena_prefect.plan.model import Plan
from athena_prefect.replanning.engine import AdaptiveReplanningEngine
from athena_prefect.replanning.evaluation import AdaptiveReplanning
from athena_prefect.replanning.options import Kind, ReplanningOption
from athena_prefect.schedule.partial_order import partial_order
from athena_prefect.schedule.passes import forward
from athena_prefect.schedule.problem import Problem
from athena_prefect.schedule.proposal import Proposal
from athena_prefect.schedule.solver import serial_generation
from benchmarks.machine import this_machine

T0 = datetime(2026, 1, 5, 8, tzinfo=UTC)
CAPACITY = 6
SHAPES = ("chain", "layers", "fork-join", "random", "two-resources")
CATEGORIES = 4
BIAS, SLOWNESS = 0.3, 0.15
"""Spreads of the logarithms of what worlds other than `estimates` multiply durations by."""
PAST_RUNS = 8
KINDS = ("late", "capacity", "failed", "several")


@dataclass(frozen=True)
class Violated:
    """An assumption that does not hold."""

    assumption_id: str
    actual_value: Any = None
    replanning_required: bool = True


class Violations:
    """The violations that a case brings."""

    def __init__(self, found: Sequence[Violated]) -> None:
        self.found = list(found)

    def get_violated_assumptions(self) -> Sequence[Violated]:
        return self.found


# -- plans --------------------------------------------------------------------------------


def make_plan(shape: str, size: int, rng: np.random.Generator, budget_s: float) -> Plan:
    """A plan with three-point durations, one resource, modes, soft and optional work."""
    tasks = []
    for k in range(size):
        likely = float(rng.integers(60, 600))
        task: dict[str, Any] = {
            "id": f"t{k}",
            "duration": {
                "optimistic": round(0.7 * likely),
                "likely": likely,
                "pessimistic": round(likely * (1.2 + 0.8 * rng.random())),
            },
            "resources": {"cpu": int(rng.integers(1, 4))},
            "depends_on": _upstream(shape, k, size, rng),
            "category": f"c{k % CATEGORIES}",
        }
        if shape == "two-resources" and rng.random() < 0.4:
            task["resources"]["db"] = 1
        if rng.random() < 0.6:
            shorter = 0.6 * likely
            task["modes"] = [
                {
                    "name": "wide",
                    "duration": {
                        "optimistic": round(0.7 * shorter),
                        "likely": round(shorter),
                        "pessimistic": round(1.5 * shorter),
                    },
                    "resources": {
                        **task["resources"],
                        "cpu": min(CAPACITY, task["resources"]["cpu"] + 1),
                    },
                    "quality": 0.95,
                }
            ]
        else:
            task["rerunnable"] = True
        if 0 < k < size - 1 and rng.random() < 0.15:
            task |= {"optional": True, "value": 0.3}
        tasks.append(task)
    return Plan.model_validate(
        {
            "name": f"{shape}-{size}",
            "resources": {
                "cpu": {"capacity": CAPACITY, "cost_per_hour": 0.1},
                "db": {"capacity": 2},
            },
            "runner": {"max_workers": 64},
            "tasks": tasks,
            "goals": [f"t{size - 1}"],
            "assumptions": [
                {
                    "id": "capacity",
                    "affects": [t["id"] for t in tasks],
                    "milestones": [{"at": "start"}],
                    "effect": {"capacity": {"cpu": "observed"}},
                }
            ],
            "replanning": {"cooldown": 0, "policy": {"budget_s": budget_s}},
        }
    )


def _upstream(shape: str, k: int, size: int, rng: np.random.Generator) -> list[dict[str, Any]]:
    if k == 0:
        return []
    if shape == "chain":
        tails = {k - 1}
    elif shape == "layers":
        width = 4
        layer = k // width
        tails = {int(rng.integers((layer - 1) * width, layer * width))} if layer else set()
        tails |= {int(rng.integers(0, k))} if rng.random() < 0.5 and layer else set()
    elif shape == "fork-join":
        tails = {0} if k % 5 else {max(k - j, 0) for j in range(1, 5)}
    else:
        tails = {int(rng.integers(0, k)) for _ in range(int(rng.integers(1, 3)))}
    if k == size - 1:
        tails |= {j for j in range(max(0, k - 4), k)}
    return [
        {"task": f"t{j}", "kind": "soft" if rng.random() < 0.3 else "hard"} for j in sorted(tails)
    ]


def with_deadline(plan: Plan, seconds: float) -> Plan:
    """The plan with a deadline from the start of the run."""
    document = plan.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    return Plan.model_validate({**document, "deadline": seconds})


# -- worlds -------------------------------------------------------------------------------


@dataclass(frozen=True)
class World:
    """What durations really are: those that the estimates give, times factors."""

    bias: Mapping[str, float]
    """Category → factor, in every run."""
    slowness: float = 1.0
    """Factor of this run."""

    @classmethod
    def of(cls, name: str, rng: np.random.Generator) -> World:
        """A world of that name, of which nothing is known yet."""
        if name == "estimates":
            return cls(bias={})
        return cls(bias={f"c{k}": float(np.exp(rng.normal(0, BIAS))) for k in range(CATEGORIES)})

    def another_run(self, rng: np.random.Generator) -> World:
        """The same world in another run."""
        slow = float(np.exp(rng.normal(0, SLOWNESS))) if self.bias else 1.0
        return replace(self, slowness=slow)

    def draw(self, plan: Plan, task: str, mode: str, rng: np.random.Generator) -> float:
        """A duration: beta-PERT, drawn without the library's tables, times the factors."""
        own = plan.get_task(task)
        estimate = own.mode(mode).estimate
        assert estimate is not None
        low, likely, high = (
            d.total_seconds() for d in (estimate.optimistic, estimate.likely, estimate.pessimistic)
        )
        factor = self.bias.get(own.group, 1.0) * self.slowness
        if high <= low:
            return low * factor
        alpha = 1 + 4 * (likely - low) / (high - low)
        return factor * (low + (high - low) * float(rng.beta(alpha, 6 - alpha)))


def history_of(plan: Plan, world: World, rng: np.random.Generator) -> History:
    """Finished runs of a plan, each along the order of its schedule."""
    problem = Problem.of(plan)
    network = problem.network.extended(*partial_order(serial_generation(problem)))
    runs = []
    for number in range(PAST_RUNS):
        luck = world.another_run(rng)
        lasted = np.array([luck.draw(plan, t, "default", rng) for t in problem.task_ids])
        starts, _ = forward(network, lasted)
        tasks = [
            PastTask(
                id=t, category=plan.get_task(t).group, planned=float(problem.durations[i]),
                actual=float(lasted[i]), started=float(starts[i]),
                after=tuple(d.task for d in plan.get_task(t).upstream),
                resources=dict(plan.get_task(t).resources),
            )
            for i, t in enumerate(problem.task_ids)
        ]  # fmt: skip
        there = {name: r.capacity for name, r in plan.resources.items()}
        runs.append(PastRun(key=f"run {number}", plan=plan.name, tasks=tasks, capacities=there))
    return History.of(runs)


# -- one case -----------------------------------------------------------------------------


@dataclass
class Case:
    """A run in virtual time up to its disturbance."""

    monitor: ExecutionMonitor
    clock: VirtualClock
    violations: list[Violated]


def run_until(
    plan: Plan, kind: str, world: World, history: History | None, rng: np.random.Generator
) -> Case:
    """Run the baseline's partial order with drawn durations until the disturbance."""
    clock = VirtualClock(T0)
    context = ExecutionContext(
        plan_run=UUID(int=1), clock=clock, started_at=T0, journal=MemoryJournal()
    )
    monitor = ExecutionMonitor(plan, context, samples=1000, history=history)
    problem = monitor.baseline.problem(plan)
    network = problem.network.extended(*monitor.baseline.arcs)
    durations = np.array([world.draw(plan, t, "default", rng) for t in problem.task_ids])
    starts, ends = forward(network, durations)
    struck = int(np.argsort(ends)[int(rng.uniform(0.1, 0.6) * len(ends))])
    if kind in ("late", "several"):
        durations[struck] *= rng.uniform(2.0, 4.0)
        starts, ends = forward(network, durations)
    now = float(ends[struck])
    events: list[tuple[float, int, int]] = []
    for i in range(len(ends)):
        events += [(float(starts[i]), 1, i)] if starts[i] < now or i == struck else []
        events += [(float(ends[i]), 0, i)] if ends[i] <= now else []
    for at, begins, i in sorted(events):
        clock.move_to(max(T0 + timedelta(seconds=at), clock.now()))
        task = problem.task_ids[i]
        resources = dict(plan.get_task(task).resources)
        if begins:
            monitor.record_task_start(task, clock.now(), resources)
            continue
        fails = kind == "failed" and i == struck
        outcome = TaskOutcome.FAILURE if fails else TaskOutcome.SUCCESS
        monitor.record_task_completion(task, clock.now(), None, resources, outcome)
    violations = []
    if kind in ("capacity", "several"):
        violations.append(Violated("capacity", actual_value=int(rng.integers(4, CAPACITY))))
    return Case(monitor, clock, violations)


def engine_of(case: Case) -> AdaptiveReplanningEngine:
    """The engine that looks at a case."""
    policy = case.monitor.policy
    planner = PlanOrchestrator(clock=time.perf_counter, policy=policy)
    return AdaptiveReplanningEngine(case.monitor, Violations(case.violations), planner)


def executed(
    case: Case, proposal: Proposal, world: World, rng: np.random.Generator
) -> tuple[float, bool]:
    """Finish of the revision with durations drawn afresh, and whether its constraints held."""
    standing, plan, modes = proposal.standing, proposal.plan, proposal.modes
    spans: dict[str, tuple[float, float]] = {}
    for (task, _), (start, end) in standing.spans.items():
        if (task, None) not in standing.over:
            elapsed = standing.now - start
            # What runs has not ended yet: a duration longer than that, if there is one.
            drawn = (world.draw(plan, task, modes.get(task, "default"), rng) for _ in range(200))
            end = start + next((d for d in drawn if d > elapsed), elapsed)
        spans[task] = (start, end)
    todo = {t.id: t for t in plan.tasks if t.id not in spans and t.id not in standing.left_out}
    waits = {
        name: [(d.task, d.lag.total_seconds()) for d in t.upstream] for name, t in todo.items()
    }
    problem = proposal.answer.rest.problem
    for a, b in zip(proposal.arcs.pred.tolist(), proposal.arcs.succ.tolist(), strict=True):
        before, after = problem.task_ids[a], problem.task_ids[b]
        if after in todo and (before in todo or before in spans):
            waits[after].append((before, 0.0))
    while todo:
        ready = [n for n in todo if all(w in spans or w not in plan.task_ids for w, _ in waits[n])]
        if not ready:
            return float("inf"), False  # they wait for each other
        for name in ready:
            ends = [spans[w][1] + lag for w, lag in waits[name] if w in spans]
            start = max([standing.now, *ends])
            takes = world.draw(plan, name, modes.get(name, "default"), rng)
            spans[name] = (start, start + takes)
            del todo[name]
    required = case.monitor.plan.required - standing.left_out
    held = required <= set(spans) and _capacity_held(case, proposal, spans)
    return max(end for _, end in spans.values()), held


def _capacity_held(
    case: Case, proposal: Proposal, spans: Mapping[str, tuple[float, float]]
) -> bool:
    """Whether whatever starts finds what it takes of what there is, not of what is planned with."""
    plan, modes = proposal.plan, proposal.modes
    have = {n: r.capacity for n, r in plan.resources.items()}
    for violation in case.violations:
        have["cpu"] = float(violation.actual_value)
    begun = {item[0] for item in proposal.standing.spans}
    uses = {t: plan.get_task(t).mode(modes.get(t, "default")).resources for t in spans}
    for name, (start, end) in spans.items():
        if name in begun or end <= start:
            continue
        runs = [t for t, (s, e) in spans.items() if s <= start + 1e-6 < e]
        for resource, amount in have.items():
            if sum(uses[t].get(resource, 0.0) for t in runs) > amount + 1e-6:
                return False
    return True


def accuracy(cases: int, seeds: Sequence[int], budget_s: float, world_name: str) -> dict[str, Any]:
    """The share of chosen revisions that kept what they promised, and their calibration."""
    all_rows, calm = [], 0
    of_seeds = {}
    for seed in seeds:
        rows: list[dict[str, Any]] = []
        tried = 0
        while len(rows) < cases and tried < 20 * cases:
            tried += 1
            row = _tried(seed, tried, budget_s, world_name)
            if row is None:
                calm += 1
            else:
                rows.append(row)
        of_seeds[seed] = {k: v for k, v in summary(rows).items() if k in ("kept_percent", "brier")}
        all_rows += rows
    return {
        "world": world_name,
        "cases": len(all_rows),
        "nothing_to_do": calm,
        "of_seeds": of_seeds,
        **summary(all_rows),
    }


def _tried(seed: int, tried: int, budget_s: float, world_name: str) -> dict[str, Any] | None:
    """One generated case; None where nothing is called for."""
    rng = np.random.default_rng([seed, tried])
    shape, kind = SHAPES[tried % len(SHAPES)], KINDS[(tried // len(SHAPES)) % len(KINDS)]
    plan = make_plan(shape, int(rng.integers(8, 25)), rng, budget_s)
    world = World.of(world_name, rng)
    history = history_of(plan, world, rng) if world_name == "history" else None
    first = ExecutionContext(
        plan_run=UUID(int=2), clock=lambda: T0, started_at=T0, journal=MemoryJournal()
    )
    base = ExecutionMonitor(plan, first, samples=500, history=history).baseline
    assert base.p50 is not None
    run = world.another_run(rng)
    bounded = with_deadline(plan, base.p50 * rng.uniform(1.02, 1.5))
    row = one(run_until(bounded, kind, run, history, rng), run, rng)
    return None if row is None else {"shape": shape, "kind": kind, "seed": [seed, tried], **row}


def one(case: Case, world: World, rng: np.random.Generator) -> dict[str, Any] | None:
    """The recommended option of a case, executed; None where nothing is called for."""
    engine = engine_of(case)
    deviation = case.monitor.get_plan_deviation()
    found = engine.evaluate_replanning_need(deviation, case.violations)
    if found.strategy in (AdaptiveReplanning.NONE, AdaptiveReplanning.ABORT):
        return None
    options = engine.get_replanning_options(deviation, case.violations)
    assert found.recommended_option is not None
    option: ReplanningOption = options[found.recommended_option]
    if option.kind is Kind.ABORT or option.proposal is None or option.accepted_finish is None:
        return None
    finish, held = executed(case, option.proposal, world, rng)
    accepted = (option.accepted_finish - T0).total_seconds()
    assert case.monitor.deadline is not None
    deadline = (case.monitor.deadline - T0).total_seconds()
    assert option.proposal.robustness is not None
    ends = option.proposal.robustness.finishes
    return {
        "strategy": str(found.strategy),
        "option": str(option.kind),
        "options": len(options),
        "kept": finish <= accepted + 1e-3 and held,
        "held": held,
        "stated": option.success_probability,
        "in_time": finish <= deadline,
        # Where among the simulated finishes it came: over many cases every place as often.
        "place": float(np.mean(ends < finish - 1e-3)),
    }


def summary(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Shares by kind of disturbance and shape; calibration of the stated probabilities."""
    if not rows:
        return {}
    stated = np.array([r["stated"] for r in rows], dtype=float)
    happened = np.array([r["in_time"] for r in rows], dtype=float)
    base = float(happened.mean())
    bins = []
    for low, high in ((0, 0.1), (0.1, 0.3), (0.3, 0.5), (0.5, 0.7), (0.7, 0.9), (0.9, 1.01)):
        inside = (stated >= low) & (stated < high)
        if inside.any():
            bins.append(
                {
                    "stated": f"{low:g}–{min(high, 1):g}",
                    "cases": int(inside.sum()),
                    "mean_stated": float(stated[inside].mean()),
                    "happened": float(happened[inside].mean()),
                }
            )
    return {
        "kept_percent": 100 * mean(r["kept"] for r in rows),
        "constraints_held_percent": 100 * mean(r["held"] for r in rows),
        "ended_by_p50_percent": 100 * mean(r["place"] < 0.5 for r in rows),
        "ended_by_p80_percent": 100 * mean(r["place"] < 0.8 for r in rows),
        "by_kind": _by(rows, "kind"),
        "by_shape": _by(rows, "shape"),
        "strategies": _counts(rows, "strategy"),
        "chosen": _counts(rows, "option"),
        "brier": float(((stated - happened) ** 2).mean()),
        "brier_of_base_rate": base * (1 - base),
        "reliability": bins,
    }


def _by(rows: Sequence[Mapping[str, Any]], name: str) -> dict[str, float]:
    values = sorted({r[name] for r in rows})
    return {v: 100 * mean(r["kept"] for r in rows if r[name] == v) for v in values}


def _counts(rows: Sequence[Mapping[str, Any]], name: str) -> dict[str, int]:
    values = sorted({r[name] for r in rows})
    return {v: sum(r[name] == v for r in rows) for v in values}


# -- option sets --------------------------------------------------------------------------


def late_run(shape: str, size: int, budget_s: float, seed: int) -> Case:
    """A run of which so many tasks are left: the first one took three tenths of the whole."""
    rng = np.random.default_rng(seed)
    plan = make_plan(shape, size + 1, rng, budget_s)
    clock = VirtualClock(T0)
    context = ExecutionContext(
        plan_run=UUID(int=1), clock=clock, started_at=T0, journal=MemoryJournal()
    )
    monitor = ExecutionMonitor(plan, context)
    first = plan.tasks[0]
    monitor.record_task_start(first.id, T0, dict(first.resources))
    lasts = 0.3 * (monitor.baseline.p50 or 0.0)
    clock.advance(timedelta(seconds=lasts))
    monitor.record_task_completion(
        first.id, clock.now(), None, dict(first.resources), TaskOutcome.SUCCESS
    )
    return Case(monitor, clock, [])


def complete(size: int, budget_s: float, plenty_s: float) -> list[dict[str, Any]]:
    """Options that there are with plenty of time, and with the budget; by shape of the plan."""
    found = []
    for shape in SHAPES:
        row: dict[str, Any] = {"remaining": size, "shape": shape}
        for name, budget in (("plenty", plenty_s), ("budget", budget_s)):
            case = late_run(shape, size, budget, seed=size)
            deviation = case.monitor.get_plan_deviation()
            options = engine_of(case).get_replanning_options(
                deviation, [], strategy=AdaptiveReplanning.FULL
            )
            row |= {name: len(options), f"{name}_kinds": ", ".join(str(o.kind) for o in options)}
        found.append(row)
    return found


def option_sets(size: int, budget_s: float) -> dict[str, Any]:
    """The time that a complete option set takes with so many remaining tasks."""
    case = late_run("random", size, budget_s, seed=size)
    monitor = case.monitor
    began = time.perf_counter()
    deviation = monitor.get_plan_deviation()
    taken_up = time.perf_counter() - began
    times, counts = [], []
    for _ in range(3):
        engine = engine_of(case)
        began, cpu = time.perf_counter(), time.process_time()
        options = engine.get_replanning_options(deviation, [], strategy=AdaptiveReplanning.FULL)
        times.append((time.perf_counter() - began, time.process_time() - cpu))
        counts.append(len(options))
    return {
        "remaining": size,
        "options": min(counts),
        "kinds": ", ".join(str(o.kind) for o in options),
        "wall_s": min(w for w, _ in times),
        "most_wall_s": max(w for w, _ in times),
        "cpu_s": min(c for _, c in times),
        "deviation_s": taken_up,
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("what", choices=["options", "complete", "accuracy"])
    parser.add_argument("--sizes", type=int, nargs="+", default=[100, 1_000, 10_000])
    parser.add_argument("--cases", type=int, default=500)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--world", choices=["estimates", "unlike", "history"], default="estimates")
    parser.add_argument("--budget", type=float, default=None, help="seconds of an option set")
    parser.add_argument(
        "--plenty", type=float, default=20.0, help="seconds of a set that has all the time it needs"
    )
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    result: Any
    if given.what == "options":
        result = [option_sets(n, given.budget or 1.0) for n in given.sizes]
    elif given.what == "complete":
        result = [r for n in given.sizes for r in complete(n, given.budget or 1.0, given.plenty)]
    else:
        result = accuracy(given.cases, given.seeds, given.budget or 0.2, given.world)
    machine = this_machine()
    at = datetime.now(UTC).isoformat(timespec="seconds")
    sys.stdout.write(json.dumps({"at": at, "machine": machine, "result": result}, indent=1) + "\n")


if __name__ == "__main__":
    main()

"""Replanning: how long an option set takes, and whether chosen revisions keep what they promise.

    python benchmarks/replanning.py options [--sizes 100 1000 10000] [--json]
    python benchmarks/replanning.py accuracy [--cases 500] [--seed 0] [--json]

`options`: a complete option set (all strategies' levers) of a run of so many remaining
tasks, one of which was late.

`accuracy`: generated plans of several shapes run in virtual time until something is
disturbed: a late task, lost capacity, a failed task, several at once. The recommended
option is then executed with durations drawn afresh, which the engine did not see:
along its partial order, resources counted by a sweep of its own. A revision is right
where it ends by its accepted finish (promised at 0.9) and its constraints hold. The
stated probability of the deadline is held against what happened: a reliability table,
and the Brier score beside that of the base rate.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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
from athena_prefect.monitor.monitor import ExecutionMonitor
from athena_prefect.orchestrator import PlanOrchestrator
from athena_prefect.plan.model import Plan
from athena_prefect.replanning.engine import AdaptiveReplanningEngine
from athena_prefect.replanning.evaluation import AdaptiveReplanning
from athena_prefect.replanning.options import Kind, ReplanningOption
from athena_prefect.schedule.passes import forward
from athena_prefect.schedule.proposal import Proposal
from athena_prefect.schedule.situation import NEVER

T0 = datetime(2026, 1, 5, 8, tzinfo=UTC)
CAPACITY = 6
SHAPES = ("chain", "layers", "fork-join", "random")
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
        }
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
                    "resources": {"cpu": min(CAPACITY, task["resources"]["cpu"] + 1)},
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
            "resources": {"cpu": {"capacity": CAPACITY, "cost_per_hour": 0.1}},
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


# -- one case -----------------------------------------------------------------------------


@dataclass
class Case:
    """A run in virtual time up to its disturbance."""

    monitor: ExecutionMonitor
    clock: VirtualClock
    violations: list[Violated]


def draw(plan: Plan, task: str, mode: str, rng: np.random.Generator) -> float:
    """A duration of the beta-PERT distribution, drawn without the library's tables."""
    estimate = plan.get_task(task).mode(mode).estimate
    assert estimate is not None
    low, likely, high = (
        d.total_seconds() for d in (estimate.optimistic, estimate.likely, estimate.pessimistic)
    )
    if high <= low:
        return low
    alpha = 1 + 4 * (likely - low) / (high - low)
    return low + (high - low) * float(rng.beta(alpha, 6 - alpha))


def run_until(plan: Plan, kind: str, rng: np.random.Generator) -> Case | None:
    """Run the baseline's partial order with drawn durations until the disturbance."""
    clock = VirtualClock(T0)
    context = ExecutionContext(
        plan_run=UUID(int=1), clock=clock, started_at=T0, journal=MemoryJournal()
    )
    monitor = ExecutionMonitor(plan, context, samples=1000)
    problem = monitor.baseline.problem(plan)
    network = problem.network.extended(*monitor.baseline.arcs)
    durations = np.array([draw(plan, t, "default", rng) for t in problem.task_ids])
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


def executed(proposal: Proposal, rng: np.random.Generator) -> tuple[float, bool]:
    """Finish of the revision with durations drawn afresh, and whether its capacities held."""
    answer, standing = proposal.answer, proposal.standing
    assert answer.schedule is not None
    rest, problem = answer.rest, answer.schedule.problem
    left_out = answer.left_out
    durations = problem.durations.copy()
    for i, task in enumerate(problem.task_ids):
        if left_out[i]:
            continue
        if rest.free[i]:
            durations[i] = draw(standing.plan, task, problem.modes[i], rng)
        elif (task, None) not in standing.over:
            elapsed = standing.now - rest.starts[i]
            # What runs has not ended yet: a duration longer than that, if there is one.
            drawn = [draw(standing.plan, task, problem.modes[i], rng) for _ in range(200)]
            durations[i] = next((d for d in drawn if d > elapsed), elapsed)
    network = problem.network.extended(*proposal.arcs)
    lag = np.where(rest.free[network.heads], network.pred_lag, NEVER)
    starts, ends = forward(network, durations, floor=rest.floor, lag=lag)
    held = _capacity_held(problem.demands, starts, ends, rest.free, left_out, problem.capacities)
    return float(ends[~left_out].max()), held


def _capacity_held(
    demands: Any, starts: Any, ends: Any, free: Any, left_out: Any, capacities: Any
) -> bool:
    for i in np.flatnonzero(free & ~left_out).tolist():
        if ends[i] <= starts[i]:
            continue
        at = starts[i] + 1e-6
        runs = (starts <= at) & (at < ends) & ~left_out
        if (demands[runs].sum(axis=0) > capacities + 1e-6).any():
            return False
    return True


def accuracy(cases: int, seed: int, budget_s: float) -> dict[str, Any]:
    """The share of chosen revisions that kept what they promised, and their calibration."""
    rows: list[dict[str, Any]] = []
    number = calm = tried = 0
    while len(rows) < cases and tried < 20 * cases:
        tried += 1
        rng = np.random.default_rng([seed, tried])
        shape, kind = SHAPES[tried % len(SHAPES)], KINDS[(tried // len(SHAPES)) % len(KINDS)]
        plan = make_plan(shape, int(rng.integers(8, 25)), rng, budget_s)
        base = ExecutionMonitor(
            plan,
            ExecutionContext(
                plan_run=UUID(int=2), clock=lambda: T0, started_at=T0, journal=MemoryJournal()
            ),
            samples=500,
        ).baseline
        assert base.p50 is not None
        case = run_until(with_deadline(plan, base.p50 * rng.uniform(1.02, 1.5)), kind, rng)
        if case is None:
            continue
        row = one(case, rng)
        if row is None:
            calm += 1
            continue
        number += 1
        rows.append({"shape": shape, "kind": kind, **row})
    return {"cases": len(rows), "nothing_to_do": calm, **summary(rows)}


def one(case: Case, rng: np.random.Generator) -> dict[str, Any] | None:
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
    finish, held = executed(option.proposal, rng)
    accepted = (option.accepted_finish - T0).total_seconds()
    assert case.monitor.deadline is not None
    deadline = (case.monitor.deadline - T0).total_seconds()
    return {
        "strategy": str(found.strategy),
        "option": str(option.kind),
        "options": len(options),
        "kept": finish <= accepted + 1e-3 and held,
        "held": held,
        "stated": option.success_probability,
        "in_time": finish <= deadline,
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


def option_sets(size: int, budget_s: float) -> dict[str, Any]:
    """The time that a complete option set takes with so many remaining tasks."""
    rng = np.random.default_rng(size)
    plan = make_plan("random", size + 1, rng, budget_s)
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
    case = Case(monitor, clock, [])
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
    parser.add_argument("what", choices=["options", "accuracy"])
    parser.add_argument("--sizes", type=int, nargs="+", default=[100, 1_000, 10_000])
    parser.add_argument("--cases", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--budget", type=float, default=None, help="seconds of an option set")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    result: Any
    if given.what == "options":
        result = [option_sets(n, given.budget or 1.0) for n in given.sizes]
    else:
        result = accuracy(given.cases, given.seed, given.budget or 0.2)
    machine = (
        f"{platform.platform()}, {os.cpu_count()} cores, Python {platform.python_version()}, "
        f"load {os.getloadavg()[0]:.1f}"
    )
    at = datetime.now(UTC).isoformat(timespec="seconds")
    sys.stdout.write(json.dumps({"at": at, "machine": machine, "result": result}, indent=1) + "\n")


if __name__ == "__main__":
    main()

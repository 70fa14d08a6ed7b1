"""What learning costs and what it finds: patterns and accuracy over many records, planted patterns.

`size`: patterns and estimation accuracy over records in memory, in CPU time (the machine
may be shared), least of a few repeats, and what loading that many from SQLite costs.
`planted`: 200 histories with a planted pattern or none: found, with the right size,
false ones. `other`: the same with a second generator, of other shapes. `small`: with a
third, of 20 to 40 runs and plain records.

    python benchmarks/learning.py size [--records 1000000] [--tasks 100] [--runs 200] [--load]
    python benchmarks/learning.py other [--histories 240] [--seed 9000] [--show]
    python benchmarks/learning.py small [--histories 320] [--seed 9000] [--show]
    python benchmarks/learning.py planted [--histories 200] [--seed 9000]
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from athena_prefect.learning.accuracy import estimation_accuracy
from athena_prefect.learning.frame import FAILURE, SUCCESS, History
from athena_prefect.learning.learner import ExecutionLearner
from athena_prefect.learning.patterns import execution_patterns
from athena_prefect.learning.records import RunRecord
from tests.learning.histories import MONDAY
from tests.learning.oracle import findable
from tests.learning.otherwise import KINDS as OTHER
from tests.learning.otherwise import otherwise
from tests.learning.planted import KINDS, planted
from tests.learning.small import KINDS as FEW
from tests.learning.small import small

TASKS, CATEGORIES, RUNS = 100, 20, 200
"""Of each plan; a run of 100 tasks is a mid-sized one, 200 runs some months of daily ones."""


def records(count: int, seed: int = 0, *, tasks: int = TASKS, each: int = RUNS) -> History:
    """A history of `count` attempts: plans of `tasks` tasks in 20 categories, `each` runs each."""
    rng = np.random.default_rng(seed)
    plans = max(count // (tasks * each), 1)
    runs = plans * each
    run, task = (a.ravel() for a in np.mgrid[0:runs, 0:tasks])
    plan = run // each
    code = plan * tasks + task
    n = len(run)
    planned = np.exp(rng.normal(4.5, 0.6, plans * tasks))[code]
    rows = np.exp(rng.normal(8, 0.5, n))
    log = rng.normal(0, 0.2, n) + rng.normal(0, 0.08, runs)[run]
    log += np.where(task % CATEGORIES == 3, np.log(1.2), 0)  # one category is slow
    duration = planned * np.exp(log)
    # Ten tasks at a time, each a little later than the one before, as slots come free.
    start = (task // 10) * 150.0 + rng.exponential(60, n)
    hour = rng.integers(0, 24, runs)
    begun = MONDAY.timestamp() + 86400.0 * (np.arange(runs) % each) + 3600.0 * hour
    started = begun[run] + start
    failed = rng.random(n) < 0.02
    cpu = np.where(task % 2 == 0, 2.0, np.nan)
    return History(
        runs=tuple(
            RunRecord(run=str(r), plan_name=f"p{r // each}", status="completed")
            for r in range(runs)
        ),
        plans=tuple(f"p{p}" for p in range(plans)),
        categories=tuple(f"c{c}" for c in range(CATEGORIES)),
        tasks=tuple(f"t{t}" for _ in range(plans) for t in range(tasks)),
        task_plan=np.repeat(np.arange(plans, dtype=np.int32), tasks),
        task_category=(np.arange(plans * tasks) % tasks % CATEGORIES).astype(np.int32),
        run_plan=np.repeat(np.arange(plans, dtype=np.int32), each),
        run=run.astype(np.int32),
        task=code.astype(np.int32),
        item=np.full(n, -1, np.int32),
        attempt=np.ones(n, np.int32),
        outcome=np.where(failed, FAILURE, SUCCESS).astype(np.int8),
        started=started,
        ended=started + duration,
        duration=duration,
        planned=planned,
        queued=rng.exponential(3.0, n),
        kept=np.ones(n, dtype=np.bool_),
        resources_planned={"cpu": cpu},
        resources_used={
            "cpu": cpu * rng.uniform(0.9, 1.05, n),
            "rows": np.where(task % CATEGORIES == 5, rows, np.nan),
        },
    )


def least(repeats: int, do: Callable[[], Any]) -> tuple[float, float]:
    """Least CPU time and least wall time, in milliseconds."""
    cpu, wall = [], []
    for _ in range(repeats):
        began, at = time.process_time(), time.perf_counter()
        do()
        cpu.append(time.process_time() - began)
        wall.append(time.perf_counter() - at)
    return 1000 * min(cpu), 1000 * min(wall)


def size(count: int, repeats: int, load: bool, tasks: int = TASKS, each: int = RUNS) -> None:
    """CPU and wall time of both, and of loading."""
    history = records(count, tasks=tasks, each=each)
    found = execution_patterns(history)
    print(f"{len(history):,} records, {len(history.runs):,} runs, {len(history.tasks):,} tasks, "
          f"{len(found)} patterns; load average {os.getloadavg()[0]:.1f}")  # fmt: skip
    for pattern in found[:5]:
        print(f"  {pattern.description}")
    both = 0.0
    for name, do in (("patterns", execution_patterns), ("accuracy", estimation_accuracy)):
        # Nothing that a history keeps once it is asked for counts as free.
        cpu, wall = least(repeats, lambda do=do: do(records_like(history)))  # type: ignore[misc]
        both += cpu
        print(f"{name}: {cpu:.0f} ms CPU, {wall:.0f} ms wall")
    print(f"both: {both:.0f} ms CPU; peak memory {_peak():.0f} MB")
    if load:
        loading(history)


def records_like(history: History) -> History:
    """The same history without what it has reckoned already."""
    from dataclasses import replace

    return replace(history)


def _peak() -> float:
    """Peak memory in MB; by Linux's own account, as a child's usage begins with its parent's."""
    status = Path("/proc/self/status")
    if status.exists():
        found = [line for line in status.read_text().splitlines() if line.startswith("VmHWM")]
        return int(found[0].split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def loading(history: History) -> None:
    """Write the records into a SQLite database, and read them back."""
    import json
    from datetime import UTC, datetime
    from uuid import UUID

    from sqlalchemy import insert

    from athena_prefect.plan.model import Plan
    from athena_prefect.storage.db import Database
    from athena_prefect.storage.plans import PlanStore
    from athena_prefect.storage.tables import ExecutionRecordRow, PlanRunRow, RevisionRow

    with tempfile.TemporaryDirectory() as folder:
        database = Database(f"sqlite:///{folder}/athena.db")
        database.upgrade()
        store = PlanStore(database)
        decisions = {}
        for name in history.plans:
            tasks = [{"id": f"t{t}", "category": f"c{t % CATEGORIES}"} for t in range(TASKS)]
            plan = Plan.model_validate({"name": name, "tasks": tasks})
            decisions[name] = store.register(plan)
        with database.writing() as connection:
            for number, run in enumerate(history.runs):
                decision = decisions[run.plan_name]
                start = datetime.fromtimestamp(history.started[number * TASKS], UTC)
                row = {"id": UUID(int=number), "plan_id": decision.plan_id, "parameters": {},
                       "status": "completed", "reason": "", "started_at": start,
                       "ended_at": start}  # fmt: skip
                connection.execute(insert(PlanRunRow), [row])
                connection.execute(
                    insert(RevisionRow),
                    [{"plan_run": UUID(int=number), "number": 1, "decision_id": decision.id}],
                )
        columns = (
            "plan_id, plan_run, revision, task_id, map_index, attempt, actual_start, "
            "actual_duration, planned_duration, outcome, resources_planned, resources_used, "
            "queue_time"
        )
        sql = f"INSERT INTO {ExecutionRecordRow.__tablename__} ({columns}) " \
              f"VALUES ({', '.join('?' * 13)})"  # fmt: skip
        rows = []
        for i in range(len(history)):
            run = history.runs[history.run[i]]
            used = {k: round(float(v[i]), 3) for k, v in history.resources_used.items() if v[i] > 0}
            planned = {"cpu": 2.0} if history.resources_planned["cpu"][i] > 0 else {}
            start = datetime.fromtimestamp(history.started[i], UTC).replace(tzinfo=None)
            rows.append((
                decisions[run.plan_name].id, UUID(int=int(history.run[i])).hex, 1,
                history.tasks[history.task[i]], -1, 1, start.isoformat(" "),
                float(history.duration[i]), float(history.planned[i]),
                "failure" if history.outcome[i] == FAILURE else "success",
                json.dumps(planned), json.dumps(used), float(history.queued[i]),
            ))  # fmt: skip
        with database.writing() as connection:
            connection.exec_driver_sql(sql, rows)
        del rows
        database.close()
        # In a process of its own, so that its peak is not that of writing them.
        subprocess.run(
            [sys.executable, __file__, "load", f"sqlite:///{folder}/athena.db"], check=True
        )


def load(url: str) -> None:
    """Read all records of a database."""
    from athena_prefect.storage.db import Database
    from athena_prefect.storage.history import StoredHistory

    database, empty = Database(url), _peak()
    found: list[History] = []
    cpu, wall = least(1, lambda: found.append(StoredHistory(database).history()))
    count = len(found[0])
    print(f"loading {count:,} records: {cpu:.0f} ms CPU, {wall:.0f} ms wall, "
          f"{1000 * cpu / count:.1f} µs a record; peak {_peak():.0f} MB, of which "
          f"{empty:.0f} MB before")  # fmt: skip
    database.close()


def find(count: int, seed: int) -> None:
    """How many planted patterns are found, with the right size, and how many are false."""
    tally: Counter[tuple[str, str]] = Counter()
    false = found_all = with_false = 0
    began = time.process_time()
    for number in range(count):
        made = planted(KINDS[number % len(KINDS)], seed + number)
        found = execution_patterns(made.history)
        wrong = [p for p in found if made.kind == "none" or not made.is_it(p)]
        found_all, false, with_false = (
            found_all + len(found), false + len(wrong), with_false + bool(wrong),
        )  # fmt: skip
        tally[made.kind, "histories"] += 1
        tally[made.kind, "found"] += any(made.is_it(p) for p in found) and made.kind != "none"
        tally[made.kind, "right size"] += made.found_in(found) is not None
        tally[made.kind, "with a false one"] += bool(wrong)
    print(f"{'planted':12}{'histories':>10}{'found':>8}{'right size':>12}{'with a false one':>18}")
    for kind in KINDS:
        cells = [tally[kind, c] for c in ("histories", "found", "right size", "with a false one")]
        print(f"{kind:12}{cells[0]:10}{cells[1]:8}{cells[2]:12}{cells[3]:18}")
    told = sum(tally[k, "histories"] for k in KINDS if k != "none")
    right = sum(tally[k, "right size"] for k in KINDS if k != "none")
    print(f"right: {right} of {told} ({right / told:.1%}); false: {false} of {found_all} patterns "
          f"({false / max(found_all, 1):.1%}), in {with_false} of {count} histories; "
          f"{(time.process_time() - began) / count * 1000:.0f} ms CPU a history")  # fmt: skip


def find_other(count: int, seed: int, *, show: bool = False) -> None:
    """The same for histories of another kind, of which nothing was tuned.

    Those in which not even one who knows what was planted could show it are counted apart.
    """
    tally: Counter[tuple[str, str]] = Counter()
    false = told = parts = 0
    for number in range(count):
        kind = OTHER[number % len(OTHER)]
        made = otherwise(kind, seed + number)
        found = execution_patterns(made.history)
        wrong = [p for p in found if not made.is_it(p)]
        right = any(made.right(p) for p in found)
        told, false = told + len(found), false + len(wrong)
        parts += sum(made.in_part(p) for p in wrong)
        tally[kind, "histories"] += 1
        tally[kind, "found"] += any(made.is_it(p) for p in found)
        tally[kind, "right size"] += right
        able = findable(made)
        tally[kind, "findable"] += able
        tally[kind, "of these right"] += able and right
        tally[kind, "with another"] += bool(wrong)
        if show and (wrong or (not right and kind != "none")):
            shape = f"{len(made.history.runs)} runs, {sorted(made.tasks)}, {made.size:.2f}"
            print(
                f"{kind} {seed + number}{'' if findable(made) else ' (not to be shown)'}: {shape}",
                *(f"\n    {p.description}" for p in found),
            )
    heads = ("histories", "found", "right size", "findable", "of these right", "with another")
    print(f"{'planted':12}", *(f"{head:>15}" for head in heads), sep="")
    for kind in OTHER:
        print(f"{kind:12}", *(f"{tally[kind, head]:15}" for head in heads), sep="")
    planted_, good, can, of_these = (
        sum(tally[k, head] for k in OTHER if k != "none")
        for head in ("histories", "right size", "findable", "of these right")
    )
    print(f"right: {good} of {planted_} ({good / planted_:.1%}); of {can} that could be shown: "
          f"{of_these} ({of_these / can:.1%}); others: {false} of {told} patterns, "
          f"{parts} of them true of some of the tasks")  # fmt: skip


def find_small(count: int, seed: int, *, show: bool = False) -> None:
    """The same for few runs of few tasks, as plain records."""
    tally: Counter[tuple[str, str]] = Counter()
    told = false = 0
    for number in range(count):
        kind = FEW[number % len(FEW)]
        made = small(kind, seed + number)
        found = ExecutionLearner().extract_execution_patterns(list(made.records))
        wrong = [p for p in found if not made.is_it(p)]
        right = any(made.right(p) for p in found)
        told, false = told + len(found), false + len(wrong)
        tally[kind, "histories"] += 1
        tally[kind, "found"] += any(made.is_it(p) for p in found)
        tally[kind, "right size"] += right
        tally[kind, "with another"] += bool(wrong)
        if show and (wrong or (not right and kind != "none")):
            print(
                f"{kind} {seed + number}: {made.runs} runs, {sorted(made.tasks)}, {made.size:.2f}",
                *(f"\n    {p.description}" for p in found),
            )
    heads = ("histories", "found", "right size", "with another")
    print(f"{'planted':12}", *(f"{head:>15}" for head in heads), sep="")
    for kind in FEW:
        print(f"{kind:12}", *(f"{tally[kind, head]:15}" for head in heads), sep="")
    print(f"others: {false} of {told} patterns")


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("what", choices=["size", "planted", "other", "small", "load"])
    parser.add_argument("url", nargs="?", default="", help="of a database (load)")
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--tasks", type=int, default=TASKS, help="of each plan")
    parser.add_argument("--runs", type=int, default=RUNS, help="of each plan")
    parser.add_argument("--load", action="store_true", help="load them from SQLite, too")
    parser.add_argument("--show", action="store_true", help="what went wrong (other, small)")
    parser.add_argument("--histories", type=int, default=200)
    parser.add_argument("--seed", type=int, default=9000)
    asked = parser.parse_args()
    if asked.what == "load":
        load(asked.url)
    elif asked.what == "size":
        size(asked.records, asked.repeats, asked.load, asked.tasks, asked.runs)
    elif asked.what == "small":
        find_small(asked.histories, asked.seed, show=asked.show)
    elif asked.what == "other":
        find_other(asked.histories, asked.seed, show=asked.show)
    else:
        find(asked.histories, asked.seed)


if __name__ == "__main__":
    main()

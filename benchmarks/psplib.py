"""Mean gap to the best known makespans of published instances, beside PyJobShop and CP-SAT.

    python benchmarks/psplib.py FOLDER [--sets j30 j60 …] [--budgets 0.5 1 2] [--seeds 3]
                                [--most 5] [--peers] [--json]
    python benchmarks/psplib.py --drawn j60 j120 m50 m100 [--most 10] [--first 0] …

FOLDER has one folder a set with its instances (`.sm` and `.mm` of PSPLIB and MMLIB)
and `best_known.csv` (columns: set, file, ub). The peers solve the same instances
with the same budgets in the same process: plain OR-Tools CP-SAT without hint, and
PyJobShop where it is installed. Every schedule of ours is checked. With `--drawn`
instances are drawn instead (`generated.py`): j and the number of jobs, m where they
have three modes and two budgets, with options such as
`m50:modes=9:consumables=4:budget_strength=0.1`, or `m100:mmlib=1` for the design of MMLIB;
the best known is then the best of all the runs, and what no run solved has no solution, as
far as is known, and counts nowhere.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from athena_prefect.errors import InputError
from athena_prefect.plan.graph import Network
from athena_prefect.schedule.exact import Program, load
from athena_prefect.schedule.feasibility import check
from athena_prefect.schedule.generate import WORKERS, generate
from athena_prefect.schedule.goals import Aim
from athena_prefect.schedule.problem import Problem
from athena_prefect.schedule.rest import Choice, Rest, Way
from benchmarks.generated import Sort, draw
from benchmarks.machine import this_machine

SETS = ("j30", "j60", "j120", "mm_j10", "mm_j20", "mm_j30", "mmlib50", "mmlib100")

DRAWN = 10
"""Instances of a drawn set, if `--most` does not say otherwise."""

Mode = tuple[int, list[int], list[int]]
"""Duration, renewable and non-renewable demands."""


@dataclass(frozen=True)
class Instance:
    """A published instance: jobs with their modes (duration, renewable, non-renewable)."""

    name: str
    best: int
    successors: list[list[int]]
    modes: list[list[Mode]]
    renewable: list[int]
    consumed: list[int]

    def rest(self) -> Rest:
        """The instance as what is left of a plan of which nothing has begun."""
        count = len(self.modes)
        arcs = [(i, h) for i, heads in enumerate(self.successors) for h in heads]
        network = Network.build(
            [str(i) for i in range(count)], [a for a, _ in arcs], [b for _, b in arcs]
        )
        first = [modes[0] for modes in self.modes]
        problem = Problem.build(
            network, [m[0] for m in first], [m[1] for m in first], self.renewable
        )
        ways = {
            i: tuple(
                Way(
                    mode=str(k),
                    estimate=(float(d), float(d), float(d)),
                    demands=tuple(map(float, use)),
                    consumes=tuple(map(float, consumed)),
                )
                for k, (d, use, consumed) in enumerate(modes)
            )
            for i, modes in enumerate(self.modes)
            if len(modes) > 1 or self.consumed
        }
        return Rest(
            problem=problem,
            ways=ways,
            budgets=tuple(map(float, self.consumed)),
        )


def read(path: Path, name: str, best: int) -> Instance:
    """A `.sm` or `.mm` file of PSPLIB or MMLIB, or a `.rcp` one in Patterson's form.

    Raises InputError for one that is neither, or where the numbers do not fit together.
    """
    try:
        text = path.read_text(errors="replace")
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    try:
        form = _patterson if path.suffix.lower() == ".rcp" else _kolisch
        found = Instance(name, best, *form(text))
        _fits(found)
    except (KeyError, IndexError, ValueError) as error:
        raise InputError(
            f"{path}: no instance as PSPLIB (.sm, .mm), MMLIB (.mm) or Patterson (.rcp) "
            f"writes them: {error!r}; is the file whole?"
        ) from None
    return found


Parts = tuple[list[list[int]], list[list[Mode]], list[int], list[int]]
"""Successors, modes, renewable and non-renewable resources."""


def _kolisch(text: str) -> Parts:
    lines = text.splitlines()
    at = {
        key: k
        for k, line in enumerate(lines)
        for key in _KEYS
        if line.replace(" ", "").upper().startswith(key)
    }
    successors = []
    for row in _rows(lines, at["PRECEDENCE"]):
        count = row[2]
        if len(row) != 3 + count:
            raise ValueError(f"job {row[0]} has {count} successors, but names {len(row) - 3}")
        successors.append([job - 1 for job in row[3:]])
    counts = _counts(lines)
    modes: list[list[Mode]] = []
    for row in _rows(lines, at["REQUESTS"]):
        if len(row) == 3 + sum(counts):
            modes.append([])
            row = row[1:]
        if len(row) != 2 + sum(counts):
            raise ValueError(f"{len(row)} numbers for a mode with {sum(counts)} resources")
        use = row[2:]
        modes[-1].append((row[1], use[: counts[0]], use[counts[0] :]))
    (have,) = _rows(lines, at["RESOURCEAVAIL"])
    return successors, modes, have[: counts[0]], have[counts[0] :]


def _patterson(text: str) -> Parts:
    """Jobs and resources; capacities; a job's duration, demands and successors."""
    numbers = iter(int(word) for word in text.split())
    try:
        jobs, resources = next(numbers), next(numbers)
        have = [next(numbers) for _ in range(resources)]
        successors: list[list[int]] = []
        modes: list[list[Mode]] = []
        for _ in range(jobs):
            takes = next(numbers)
            use = [next(numbers) for _ in range(resources)]
            modes.append([(takes, use, [])])
            successors.append([next(numbers) - 1 for _ in range(next(numbers))])
    except (StopIteration, RuntimeError):
        raise ValueError("it ends before its last job") from None
    return successors, modes, have, []


def _fits(instance: Instance) -> None:
    jobs = len(instance.modes)
    if len(instance.successors) != jobs or not jobs:
        raise ValueError(f"{jobs} jobs with durations, {len(instance.successors)} with successors")
    beyond = {h + 1 for heads in instance.successors for h in heads if not 0 <= h < jobs}
    if beyond:
        raise ValueError(f"successors {sorted(beyond)} of {jobs} jobs")
    if not instance.renewable:
        raise ValueError("no renewable resource")


_KEYS = ("PRECEDENCE", "REQUESTS", "RESOURCEAVAIL")


def _counts(lines: list[str]) -> tuple[int, int]:
    found = {}
    for line in lines:
        for kind in ("renewable", "nonrenewable"):
            words = line.replace("-", " ").lower().split()
            if words[:1] == [kind] and ":" in line:
                found[kind] = int(line.split(":")[1].split()[0])
    return found["renewable"], found.get("nonrenewable", 0)


def _rows(lines: list[str], heading: int) -> Iterator[list[int]]:
    """The rows of numbers under a heading, up to the line of stars."""
    for line in lines[heading + 1 :]:
        if line.lstrip().startswith("*"):
            return
        words = line.split()
        if words and words[0].isdigit():
            yield [int(word) for word in words]


def instances(folder: Path, name: str, most: int | None) -> list[Instance]:
    """The instances of one set that have a best known makespan; all where none is known.

    Raises InputError where there are none, or one cannot be read.
    """
    listed = folder / "best_known.csv"
    try:
        with listed.open(newline="") as table:
            rows = [
                (str(row["file"]), str(row["instance"]), int(row["ub"] or 0))
                for row in csv.DictReader(table)
                if row["set"] == name
            ]
    except FileNotFoundError:
        rows = []
    except (KeyError, ValueError) as error:
        raise InputError(
            f"{listed}: columns set, instance, file and ub (a whole number) are needed: {error!r}"
        ) from None
    if not rows:
        # Without best known makespans solvers are held against the best that one of them finds.
        rows = [(file.name, file.stem, 0) for file in _files(folder / name)]
    if not rows:
        raise InputError(f"{folder / name}: no instances (files .sm, .mm or .rcp)")
    return [read(folder / name / file, known, ub) for file, known, ub in rows[: most or len(rows)]]


def _files(folder: Path) -> list[Path]:
    there = sorted(folder.iterdir()) if folder.is_dir() else []
    return [f for f in there if f.suffix.lower() in (".sm", ".mm", ".rcp")]


def sets_in(folder: Path) -> list[str]:
    """The sets that a folder holds, those that are known by name first."""
    there = sorted(f.name for f in folder.iterdir() if _files(f)) if folder.is_dir() else []
    return [*(n for n in SETS if n in there), *(n for n in there if n not in SETS)]


def ours(instance: Instance, budget: float, seed: int) -> tuple[float | None, float, float]:
    """Our makespan, the seconds it took, and the seconds to the first feasible schedule."""
    began = time.perf_counter()
    rest = instance.rest()
    left = budget - (time.perf_counter() - began)
    answer = generate(rest, budget_s=left, seed=seed, clock=time.perf_counter)
    wall = time.perf_counter() - began
    if answer.schedule is None:
        return None, wall, wall
    conflicts = check(answer.schedule.problem, answer.schedule.starts)
    assert not conflicts, conflicts[0]
    assert rest.within_budgets(answer.choice)
    return answer.makespan, wall, answer.history[0].seconds


def cp_sat(instance: Instance, budget: float, seed: int) -> tuple[float | None, float, float]:
    """Plain CP-SAT on the same model: no hint, the trivial horizon, no settings but its time."""
    began = time.perf_counter()
    rest = instance.rest()
    horizon = float(sum(max(d for d, _, _ in modes) for modes in instance.modes))
    nothing = np.zeros(len(rest.problem))
    program = Program(rest, Aim.MAKESPAN, nothing, Choice(), horizon=horizon, implied=False)
    program.forget()
    # As it is by itself: the settings of ours are for models with a good hint.
    solver = program.cp.CpSolver()
    solver.parameters.max_time_in_seconds = max(budget - (time.perf_counter() - began), 0.01)
    solver.parameters.num_workers = WORKERS
    solver.parameters.random_seed = seed
    status = solver.solve(program.model)
    wall = time.perf_counter() - began
    if status not in (program.cp.OPTIMAL, program.cp.FEASIBLE):
        return None, wall, wall
    return solver.objective_value * program.ticks.size, wall, wall


def pyjobshop(instance: Instance, budget: float, seed: int) -> tuple[float | None, float, float]:
    """PyJobShop's own model of the same instance."""
    # An optional peer (`pip install athena-prefect[bench]`), looked up where it is asked for;
    # it imports a package that is called as this file is.
    here = Path(__file__).resolve().parent
    sys.path[:] = [place for place in sys.path if Path(place).resolve() != here]
    model_of = import_module("pyjobshop").Model
    began = time.perf_counter()
    model = model_of()
    renewable = [model.add_renewable(capacity=c) for c in instance.renewable]
    consumed = [model.add_consumable(capacity=c) for c in instance.consumed]
    tasks = [model.add_task() for _ in instance.modes]
    for task, modes in zip(tasks, instance.modes, strict=True):
        for duration, use, eats in modes:
            model.add_mode(task, [*renewable, *consumed], duration, demands=[*use, *eats])
    for before, heads in zip(tasks, instance.successors, strict=True):
        for head in heads:
            model.add_end_before_start(before, tasks[head])
    left = max(budget - (time.perf_counter() - began), 0.01)
    result = model.solve(
        solver="ortools",
        time_limit=left,
        display=False,
        num_workers=WORKERS,
        random_seed=seed,
    )
    wall = time.perf_counter() - began
    # Where it has found nothing its objective is some great number.
    found = result.status.name in ("OPTIMAL", "FEASIBLE")
    return (float(result.objective) if found else None), wall, wall


def drawn(name: str, most: int | None, first: int = 0) -> list[Instance]:
    """Instances as published ones are made, of seeds from `first` on; see `Sort.named`."""
    sort, made = Sort.named(name), []
    for seed in range(first, first + (most or DRAWN)):
        case = draw(sort, seed=seed)
        found = (case.successors, case.modes, case.renewable, case.consumed)
        made.append(Instance(f"{name}-{seed}", 0, *found))
    return made


def measure(
    sets: dict[str, list[Instance]], budgets: list[float], seeds: int, peers: bool
) -> list[dict[str, Any]]:
    """One row a set, budget and solver."""
    solvers = {"ours": ours}
    if peers:
        solvers["cp_sat"] = cp_sat
        if find_spec("pyjobshop") is None:
            sys.stderr.write("pyjobshop is not installed: left out\n")
        else:
            solvers["pyjobshop"] = pyjobshop
    rows = []
    for name, chosen in sets.items():
        runs = {}
        for budget in budgets:
            for solver, solve in solvers.items():
                cpu = time.process_time()
                found = [(i, *solve(i, budget, seed)) for i in chosen for seed in range(seeds)]
                runs[budget, solver] = found, time.process_time() - cpu
        best = {i.name: i.best for i in chosen}
        for i, value, _, _ in (r for found, _ in runs.values() for r in found):
            if not i.best and value is not None:
                best[i.name] = min(best[i.name] or int(value), int(value))
        for (budget, solver), (found, cpu) in runs.items():
            rows.append(_row(name, budget, solver, found, best) | {"cpu_s": cpu})
            sys.stderr.write(f"{rows[-1]}\n")
    return rows


def _row(
    name: str,
    budget: float,
    solver: str,
    found: list[tuple[Instance, float | None, float, float]],
    best: dict[str, int],
) -> dict[str, Any]:
    found = [run for run in found if best[run[0].name]]
    ours_found = solver == "ours" and bool(found)
    gaps = [100 * (v / best[i.name] - 1) for i, v, _, _ in found if v is not None]
    return {
        "set": name,
        "budget_s": budget,
        "solver": solver,
        "runs": len(found),
        "unsolved": len(found) - len(gaps),
        "mean_gap_percent": mean(gaps) if gaps else None,
        "most_wall_s": max((w for _, _, w, _ in found), default=None),
        "first_feasible_ms": 1000 * mean(f for *_, f in found) if ours_found else None,
    }


def table(rows: list[dict[str, Any]]) -> str:
    """A Markdown table."""
    names = list(rows[0])
    lines = ["| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
    for row in rows:
        cells = (row[name] for name in names)
        lines.append("| " + " | ".join(_cell(c) for c in cells) + " |")
    return "\n".join(lines)


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    return f"{value:,.2f}" if isinstance(value, float) else f"{value}"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--drawn", nargs="+", default=[], help="sets to draw, such as j60 or m50")
    parser.add_argument("--first", type=int, default=0, help="seed of the first one drawn")
    parser.add_argument("--sets", nargs="+", default=None, help="all that the folder holds")
    parser.add_argument("--budgets", type=float, nargs="+", default=[0.5, 1.0, 2.0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--most", type=int, default=None, help="instances of a set")
    parser.add_argument("--peers", action="store_true", help="PyJobShop and plain CP-SAT too")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    given = parser.parse_args()
    if given.drawn:
        try:
            sets = {name: drawn(name, given.most, given.first) for name in given.drawn}
        except (ValueError, TypeError) as error:
            parser.error(f"no such set to draw: {error}; such as j60 or m50:modes=9:strength=0.2")
    elif given.folder is None:
        parser.error("name the folder of published instances, or sets to be --drawn")
    else:
        try:
            names = given.sets or sets_in(given.folder)
            sets = {name: instances(given.folder, name, given.most) for name in names}
        except InputError as error:
            parser.error(str(error))
        if not sets:
            parser.error(f"{given.folder}: no folder with sets of instances (.sm, .mm or .rcp)")
    load()
    rows = measure(sets, given.budgets, given.seeds, given.peers)
    machine = this_machine()
    at = datetime.now(UTC).isoformat(timespec="seconds")
    if given.json:
        sys.stdout.write(json.dumps({"at": at, "machine": machine, "rows": rows}, indent=1) + "\n")
    else:
        sys.stdout.write(f"{at}, {machine}\n\n{table(rows)}\n")


if __name__ == "__main__":
    main()

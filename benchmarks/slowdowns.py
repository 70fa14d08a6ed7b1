"""Whether a slowdown that is planted in a git repository is found: its commit and its function.

Each case is a fresh repository with forty days of history: commits to several modules,
some of which only change the layout of code or a comment, merges of branches, a module
that is renamed, files that no task reads; and a run a day, with 5 to 15 % of noise.
What became slow is the task's own function, one of a module that it calls, or one of a
module that this one calls. `athena learn`'s answer is taken, from a database with those
runs, the last of which was sampled by the profiler.

Then series in which nothing became slow: stable ones, with outliers, with another size
of input since a day, on another machine since a day, with a slow time that is over.

    python benchmarks/slowdowns.py [--each 10] [--seed 1] [--show]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.learning.repositories import PLACES, STABLE, found_in, planted, quiet


def main() -> None:
    """Print found k of n by place, and false alarms by kind of series."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--each", type=int, default=10, help="repetitions a case")
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--show", action="store_true", help="say what was said wrongly")
    asked = options.parse_args()
    for place in PLACES:
        commit = function = 0
        for k in range(asked.each):
            with tempfile.TemporaryDirectory() as folder:
                case = planted(Path(folder), place=place, seed=asked.seed * 1000 + k)
                said = found_in(case)
            right = said.get("commit") == case.guilty
            commit += right
            function += right and (said.get("file"), said.get("function")) == case.spot
            if asked.show and not (right and (said["file"], said["function"]) == case.spot):
                print(f"  {place} {k}: wanted {case.guilty[:10]} {case.spot}, got {said}")
        print(f"{place}: commit {commit} of {asked.each}, with its function {function}")
    for kind in STABLE:
        alarms = 0
        for k in range(2 * asked.each):
            with tempfile.TemporaryDirectory() as folder:
                case = quiet(Path(folder), kind=kind, seed=asked.seed * 1000 + k)
                said = found_in(case)
            alarms += bool(said)
            if asked.show and said:
                print(f"  {kind} {k}: {said['words']}")
        print(f"{kind}: {alarms} alarms in {2 * asked.each}")


if __name__ == "__main__":
    main()

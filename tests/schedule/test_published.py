"""Published instances: read as they are written, solved to their known optima.

Set ATHENA_PSPLIB to a folder as `benchmarks/psplib.py` reads it to solve some of
them; they are no part of this project.
"""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from athena_prefect.schedule.answer import Outcome
from athena_prefect.schedule.feasibility import check
from athena_prefect.schedule.generate import generate
from benchmarks import budgets
from benchmarks.budgets import KINDS
from benchmarks.psplib import drawn, instances, read
from tests.schedule.rests import ticking

TINY = """\
RESOURCES
  - renewable                 :  1   R
  - nonrenewable              :  1   N
  - doubly constrained        :  0   D
PRECEDENCE RELATIONS:
jobnr.    #modes  #successors   successors
   1        1          2           2   3
   2        2          1           4
   3        2          1           4
   4        1          0
************************************************************************
REQUESTS/DURATIONS:
jobnr. mode duration  R 1  N 1
------------------------------------------------------------------------
  1      1     0       0    0
  2      1     2       1    5
         2     4       1    1
  3      1     3       1    5
         2     6       1    1
  4      1     0       0    0
************************************************************************
RESOURCEAVAILABILITIES:
  R 1  N 1
    2    6
************************************************************************
"""


def test_an_instance_is_read_and_solved_to_its_optimum(tmp_path: Path) -> None:
    file = tmp_path / "tiny.mm"
    file.write_text(TINY)
    instance = read(file, "tiny", 4)
    assert instance.renewable == [2] and instance.consumed == [6]
    assert instance.successors == [[1, 2], [3], [3], []]
    assert instance.modes[1] == [(2, [1], [5]), (4, [1], [1])]
    answer = generate(instance.rest(), budget_s=2.0, seed=0, clock=ticking())
    # Both quick ways use up 10 of 6: task 3 is done quickly, task 2 thriftily.
    assert answer.makespan == 4.0 and answer.status is Outcome.OPTIMAL


@pytest.mark.parametrize("name", ["j12", "m10"])
def test_drawn_instances_have_a_schedule(name: str) -> None:
    made = drawn(name, 4)
    assert made == drawn(name, 4), "the same seed gives the same instances"
    for instance in made:
        rest = instance.rest()
        answer = generate(rest, budget_s=2.0, seed=0, clock=ticking())
        assert answer.schedule is not None and rest.within_budgets(answer.choice)
        assert check(answer.schedule.problem, answer.schedule.starts) == ()


@pytest.mark.parametrize("kind", KINDS)
def test_rests_of_all_kinds_are_scheduled_without_conflict(kind: str) -> None:
    rest = budgets.drawn(60, kind, 0)
    answer = generate(rest, budget_s=0.5, seed=0, clock=ticking())
    assert answer.schedule is not None and budgets.conflicts(rest, answer) == []
    late = np.where(rest.free, rest.now, answer.schedule.starts)
    moved = replace(answer.schedule, starts=late, finishes=late + answer.schedule.problem.durations)
    assert budgets.conflicts(rest, replace(answer, schedule=moved)), "all at once does not fit"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["j30", "mm_j10"])
def test_published_optima(name: str) -> None:
    folder = os.environ.get("ATHENA_PSPLIB")
    if not folder:
        pytest.skip("ATHENA_PSPLIB names no folder of published instances")
    for instance in instances(Path(folder), name, 3):
        answer = generate(instance.rest(), budget_s=5.0, seed=0, clock=time.perf_counter)
        assert answer.makespan is not None and answer.makespan >= instance.best
        if answer.status is Outcome.OPTIMAL:
            assert answer.makespan == instance.best

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

from athena_prefect.errors import InputError
from athena_prefect.schedule.answer import Outcome
from athena_prefect.schedule.feasibility import check
from athena_prefect.schedule.generate import generate
from benchmarks import budgets
from benchmarks.budgets import KINDS
from benchmarks.generated import Sort, draw
from benchmarks.psplib import drawn, instances, read, sets_in
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


def test_files_are_read_however_they_are_written(tmp_path: Path) -> None:
    file = tmp_path / "tiny.mm"
    file.write_text(TINY)
    plain = read(file, "tiny", 0)
    odd = TINY.replace("jobnr.    #modes", "\njobnr.  #modes").replace("REQUESTS/D", "Requests/D")
    file.write_bytes("\r\n".join(f"{line}  \t" for line in odd.splitlines()).encode() + b"\xe9")
    assert read(file, "tiny", 0) == plain
    patterson = tmp_path / "tiny.rcp"
    patterson.write_text("4 1\n2\n0 0 2 2 3\n2 1 1\n4\n3 1 1 4\n0 0 0\n")
    found = read(patterson, "tiny", 0)
    assert found.successors == plain.successors and found.renewable == [2]
    assert found.modes[1] == [(2, [1], [])] and found.consumed == []


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("REQUESTS/DURATIONS", "", "REQUESTS"),
        ("   2        2          1           4", "   2        2          2           4", "job 2"),
        ("1           4", "1           9", "successors"),
        ("    2    6", "", "not enough"),
        ("  3      1     3       1    5", "  3      1     3", "3 numbers"),
    ],
)
def test_a_broken_file_is_told(tmp_path: Path, old: str, new: str, said: str) -> None:
    file = tmp_path / "broken.mm"
    file.write_text(TINY.replace(old, new, 1))
    with pytest.raises(InputError, match=r"broken\.mm") as told:
        read(file, "broken", 0)
    assert said in str(told.value)
    short = tmp_path / "short.rcp"
    short.write_text("4 1\n2\n0 0 2")
    with pytest.raises(InputError, match="ends before"):
        read(short, "short", 0)


def test_a_folder_needs_neither_every_set_nor_best_known_makespans(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no instances"):
        instances(tmp_path, "j30", None)
    for name in ("other", "j30"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "tiny.mm").write_text(TINY)
    assert sets_in(tmp_path) == ["j30", "other"]
    (found,) = instances(tmp_path, "other", None)
    assert (found.name, found.best) == ("tiny", 0)
    listed = tmp_path / "best_known.csv"
    listed.write_text("set,instance,file,ub\nj30,one,tiny.mm,4\n")
    assert [(i.name, i.best) for i in instances(tmp_path, "j30", None)] == [("one", 4)]
    assert len(instances(tmp_path, "other", None)) == 1, "whose makespans nobody lists"
    listed.write_text("set,instance,file,ub\nj30,one,gone.mm,4\n")
    with pytest.raises(InputError, match=r"gone\.mm"):
        instances(tmp_path, "j30", None)
    listed.write_text("set,instance\nj30,one\n")
    with pytest.raises(InputError, match="columns"):
        instances(tmp_path, "j30", None)


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


@pytest.mark.parametrize("order", [0.25, 0.5, 0.75])
@pytest.mark.parametrize("factor", [0.5, 1.0])
def test_instances_in_the_design_of_mmlib_are_as_it_says(order: float, factor: float) -> None:
    name = f"m50:mmlib=1:order={order}:factor={factor}:budget_strength=0.25"
    case = draw(Sort.named(name), seed=3)
    count = len(case.modes)
    after = np.zeros((count, count), dtype=np.bool_)
    for i in reversed(range(count)):
        for head in case.successors[i]:
            assert head > i
            after[i] |= after[head]
            after[i, head] = True
    # Source and sink are before and after all others, which are in order as often as asked.
    assert after[0, 1:].all() and after[:-1, -1].all()
    pairs = 50 * 49 / 2
    assert order <= after[1:-1, 1:-1].sum() / pairs <= order + 0.05
    for modes in case.modes[1:-1]:
        assert len({duration for duration, _, _ in modes}) == 3
        assert all(sum(use > 0 for use in needs) == 2 * factor for _, needs, _ in modes)
    for b, have in enumerate(case.consumed):
        uses = [[mode[2][b] for mode in modes] for modes in case.modes]
        least, most = sum(map(min, uses)), sum(map(max, uses))
        assert have == least + round(0.25 * (most - least))

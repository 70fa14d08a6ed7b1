"""Commits and functions that a slowdown belongs to, from what git and a profile know."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from athena_prefect.learning.code import Asked, Between, Commit, Timing, slowdown
from athena_prefect.learning.sources import (
    Touched,
    changes_elsewhere,
    functions_at,
    same_code,
    sources,
)
from athena_prefect.learning.spots import Frame, Spot, hottest, with_lines_now

T0 = datetime(2026, 1, 5, tzinfo=UTC)
DAY = timedelta(days=1)


def timings(slow_from: int, count: int = 40) -> list[Timing]:
    rng = np.random.default_rng(4)
    seconds = 10.0 * np.exp(rng.normal(0, 0.05, count))
    seconds[slow_from:] *= 2
    return [Timing(at=T0 + i * DAY, seconds=float(s)) for i, s in enumerate(seconds)]


def commit(sha: str, day: float, *touched: Touched) -> Commit:
    return Commit(sha=sha, at=T0 + day * DAY, subject=f"change {sha}", touched=touched)


def by_date(*commits: Commit) -> Asked:
    """What git would say of a line of commits, each deployed when it was made."""
    return lambda one, other: Between(
        commits=tuple(c for c in commits if one.at < c.at <= other.at)
    )


def test_the_commit_between_the_last_fast_and_the_first_slow_run_is_named() -> None:
    commits = [commit("aaa", -1), commit("bbb", 9.5), commit("ccc", 24.5), commit("ddd", 30.5)]
    found = slowdown("load", timings(25), by_date(*commits), rng=np.random.default_rng(0))
    assert found is not None and found.commit is not None
    assert found.commit.sha == "ccc"
    assert found.suspects[0].probability > 0.95
    assert found.since == T0 + 25 * DAY
    assert "load takes 1.98 times as long" in str(found) and "ccc" in str(found)
    assert found.as_dict()["commit"] == "ccc"
    assert found.suggestion == "look at what commit ccc changed"


def test_nothing_is_named_where_no_commit_came_or_several_did() -> None:
    rng = np.random.default_rng(0)
    found = slowdown("load", timings(25), by_date(commit("aaa", 3)), rng=rng)
    assert found is not None and found.commit is None and found.suggestion == ""
    assert found.reason == "no commit to its sources came with the change"
    both = by_date(commit("aaa", 24.2), commit("bbb", 24.8))
    found = slowdown("load", timings(25), both, rng=rng)
    assert found is not None and found.commit is None and len(found.suspects) == 2
    assert found.suspects[0].probability == pytest.approx(0.5)
    assert found.reason == "one of several commits: aaa, bbb"
    nobody: Asked = lambda *_: Between(unknown="git is not installed")  # noqa: E731
    found = slowdown("load", timings(25), nobody, rng=rng)
    assert found is not None and found.place is None
    assert "git is not installed" in str(found)


def test_of_several_commits_that_came_at_once_the_one_in_the_hot_function_is_named() -> None:
    hot = commit("aaa", 24.2, Touched(file="a.py", function="warm", line=9))
    cold = commit("bbb", 24.8, Touched(file="a.py", function="clean", line=3))
    spots = [
        Spot(file="a.py", line=9, function="warm", own=4.0, total=4.0, share=0.4, below=0.6),
        Spot(file="a.py", line=3, function="clean", own=0.0, total=0.0, share=0.0, below=0.02),
    ]
    rng = np.random.default_rng(0)
    found = slowdown("load", timings(25), by_date(hot, cold), rng=rng, spots=spots)
    assert found is not None and found.commit == hot
    assert found.suspects[0].probability == pytest.approx(1 / 1.1, rel=1e-3)
    assert found.suggestion == "look at what commit aaa changed in warm (a.py:9)"
    # What stands outside of functions may be used in any of them.
    both = by_date(hot, replace(cold, elsewhere=True))
    found = slowdown("load", timings(25), both, rng=rng, spots=spots)
    assert found is not None and found.commit is None


def test_a_function_that_is_hot_and_was_changed_is_the_place() -> None:
    changed = commit(
        "ccc", 24.5,
        Touched(file="a.py", function="clean", line=3),
        Touched(file="a.py", function="warm", line=9),
    )  # fmt: skip
    spots = [
        Spot(file="b.py", line=1, function="read", own=5.0, total=5.0, share=0.5, below=0.5),
        Spot(file="a.py", line=9, function="warm", own=4.0, total=4.0, share=0.4, below=0.4),
        Spot(file="a.py", line=3, function="clean", own=0.1, total=0.1, share=0.01, below=0.01),
    ]
    rng = np.random.default_rng(0)
    found = slowdown("load", timings(25), by_date(changed), rng=rng, spots=spots)
    assert found is not None and isinstance(found.place, Spot)
    assert found.place.function == "warm"
    assert "40 % of its time is spent in warm (a.py:9)" in str(found)
    unprofiled = slowdown("load", timings(25), by_date(changed), rng=rng)
    assert unprofiled is not None and unprofiled.place is None, "two functions were changed"


def test_sources_are_the_module_and_what_it_imports_of_the_project() -> None:
    files = {
        "tasks/load.py": "import json\nfrom tasks import helpers\nfrom .deep.more import thing\n",
        "tasks/helpers.py": "import tasks.load\n",
        "tasks/deep/more.py": "this does not parse (",
        "tasks/other.py": "",
        "tasks/__init__.py": "",
    }
    found = sources("tasks.load:run", files)
    assert found[0] == "tasks/load.py"
    assert set(found) == {
        "tasks/load.py", "tasks/helpers.py", "tasks/deep/more.py", "tasks/__init__.py",
    }  # fmt: skip
    assert sources("pandas:read_csv", files) == ()


def test_lines_belong_to_the_innermost_function() -> None:
    text = "X = 1\n\ndef outer():\n    def inner():\n        return 1\n    return inner\n"
    found = functions_at("a.py", text, [1, 5, 6])
    assert [(t.function, t.line) for t in found] == [("inner", 4), ("outer", 3)]
    assert functions_at("a.py", "def (", [1]) == ()


def test_a_decorator_is_its_functions() -> None:
    text = "import functools\n\n@functools.lru_cache(maxsize=1)\ndef f(x):\n    return x\n"
    (found,) = functions_at("a.py", text, [3])
    assert (found.function, found.line) == ("f", 4)
    assert not changes_elsewhere(text, [3])


def test_time_in_libraries_counts_for_the_function_that_called_them(tmp_path: Path) -> None:
    mine, library = str(tmp_path / "tasks" / "load.py"), "/usr/lib/python/json.py"
    installed = str(tmp_path / ".venv" / "lib" / "thing.py")
    parse = Frame(file=library, line=1, function="parse", time=6.0)
    clean = Frame(file=mine, line=20, function="clean", time=7.0, children=(parse,))
    other = Frame(file=installed, line=1, function="thing", time=1.0)
    run = Frame(file=mine, line=5, function="run", time=9.0, children=(clean, other))
    root = Frame(file=library, line=1, function="main", time=10.0, children=(run,))
    spots = hottest(root, tmp_path)
    assert [(s.function, s.own, s.total) for s in spots] == [("clean", 7.0, 7.0), ("run", 2.0, 9.0)]
    assert spots[0].share == pytest.approx(7 / 9)
    assert spots[0].file == "tasks/load.py"
    assert hottest(parse, tmp_path) == ()


def test_recursion_is_counted_once(tmp_path: Path) -> None:
    mine = str(tmp_path / "a.py")
    inner = Frame(file=mine, line=1, function="walk", time=1.0)
    outer = Frame(file=mine, line=1, function="walk", time=3.0, children=(inner,))
    (spot,) = hottest(outer, tmp_path)
    assert (spot.own, spot.total, spot.share) == (3.0, 3.0, 1.0)


def test_a_place_is_told_with_the_line_that_the_function_has_now() -> None:
    spot = Spot(file="a.py", line=3, function="walk", own=1, total=1, share=1, below=1)
    (moved,) = with_lines_now([spot], {"a.py": "\n\n\n\n\ndef walk(): ...\n"})
    assert moved.line == 6
    assert with_lines_now([spot], {"a.py": "x = 1"}) == (spot,)
    assert with_lines_now([spot], {}) == (spot,)


def test_layout_comments_and_docstrings_change_nothing() -> None:
    one = 'def f(a):\n    """Says."""\n    return a + 1\n'
    assert same_code(one, "def f(\n    a\n):  # as it was\n    return a + 1\n")
    assert not same_code(one, "def f(a):\n    return a + 2\n")
    assert not same_code("def f(", "def f( ") and same_code("def f(", "def f(")


def test_what_stands_outside_of_functions_is_told_from_imports() -> None:
    text = 'import os\n"""text"""\nSIZE = 3\n\ndef f():\n    return SIZE\n\nclass A:\n    x = 1\n'
    assert [n for n in range(1, 10) if changes_elsewhere(text, [n])] == [3, 8, 9]
    assert changes_elsewhere("def (", [1])


def test_modules_below_src_are_found() -> None:
    files = {
        "src/p/a.py": "from p import b\n",
        "src/p/b.py": "from .c import x\n",
        "src/p/c.py": "",
    }
    assert set(sources("p.a:run", files)) == set(files)

"""Checks in children: what hangs is killed with all that it started."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from athena_prefect.assumptions.checks.base import CheckContext
from athena_prefect.assumptions.checks.children import Children
from athena_prefect.assumptions.checks.registry import kind_named
from tests.assumptions.checks.observing import gone

PROJECT = """
import os, subprocess, sys, time
def where(): return os.getpid()
def hang(file):
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    with open(file, "w") as f: f.write(str(child.pid))
    time.sleep(600)
def die(): os._exit(1)
def until(file):
    while not os.path.exists(file): time.sleep(0.02)
    return os.getpid()
def speaks():
    print("to standard output")
    return 5
"""


@pytest.fixture
def children() -> Iterator[Children]:
    made = Children()
    yield made
    made.close()


def ask(children: Children, root: Path, call: str, timeout: str = "20s", **arguments: Any) -> Any:
    (root / "childish.py").write_text(PROJECT)
    options = {"call": f"childish:{call}", "with": arguments, "timeout": timeout}
    check = kind_named("function").model_validate(options)
    return children.make(check, CheckContext(now=datetime.now(UTC), root=root))


def test_one_child_serves_many_checks(children: Children, tmp_path: Path) -> None:
    first, second = (ask(children, tmp_path, "where") for _ in range(2))
    assert first.observation.value == second.observation.value != os.getpid()
    assert ask(children, tmp_path, "speaks").observation.value == 5


def test_what_hangs_is_killed_with_its_own_children(children: Children, tmp_path: Path) -> None:
    file = tmp_path / "pid"
    # So long that the child has begun to hang also where the machine is busy.
    made = ask(children, tmp_path, "hang", timeout="5s", file=str(file))
    assert made.observation is None
    assert made.error == "gave no answer within 5s; it was ended"
    pid = int(file.read_text())
    for _ in range(2400):
        if gone(pid):
            break
        time.sleep(0.05)
    else:
        pytest.fail("what the check started lives on")
    assert ask(children, tmp_path, "speaks").observation.value == 5, "the next one gets a new child"


def test_a_child_that_dies_is_no_answer(children: Children, tmp_path: Path) -> None:
    assert ask(children, tmp_path, "die").error == "its process ended without an answer"


def test_who_waits_takes_the_child_that_is_free_first(
    children: Children, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of one that comes up and one that has done its check, whichever is there first."""
    first = ask(children, tmp_path, "where").observation.value
    over = threading.Event()

    def long_in_coming(_: object) -> None:
        over.wait()
        raise OSError

    monkeypatch.setattr("athena_prefect.assumptions.checks.children._Child", long_in_coming)
    go = tmp_path / "go"
    with ThreadPoolExecutor(2) as pool:
        busy = pool.submit(ask, children, tmp_path, "until", file=str(go))
        while not children._busy:
            time.sleep(0.01)
        other = pool.submit(ask, children, tmp_path, "where")
        while not children._coming:
            time.sleep(0.01)
        go.touch()
        assert busy.result().observation.value == first
        assert other.result().observation.value == first
    over.set()


def test_that_none_comes_up_is_told_to_all_who_wait(
    children: Children, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_place(_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("athena_prefect.assumptions.checks.children._Child", no_place)
    with ThreadPoolExecutor(3) as pool:
        made = [pool.submit(ask, children, tmp_path, "where") for _ in range(3)]
        assert {m.result().error for m in made} == {"no process came up for it (MemoryError)"}


def test_a_child_that_was_expected_is_there_when_it_is_needed(
    children: Children, tmp_path: Path
) -> None:
    children.expect()
    while not children._idle:
        time.sleep(0.01)
    assert ask(children, tmp_path, "speaks").observation.value == 5
    assert not children._coming


def test_after_the_end_nothing_is_made(tmp_path: Path) -> None:
    children = Children()
    children.close()
    assert "not made any more" in ask(children, tmp_path, "where").error

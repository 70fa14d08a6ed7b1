"""`athena run` with Prefect behind it: a plan of the user's project, from command to report."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import athena_prefect.cli.app as cli
from tests.cli.conftest import Athena

TASKS = """
import sys
def get(limit):
    print("a word of the task's")
    return list(range(limit))
def double(number):
    return 2 * number
def put(numbers, ok):
    if not ok:
        raise ValueError("not ok")
    return sum(numbers)
"""
PLAN = """
name: real
deadline: 10m
parameters: {limit: {type: integer, default: 3}, ok: {type: boolean, default: true}}
tasks:
  - {id: get, call: "steps:get", with: {limit: "{{ parameters.limit }}"}, duration: 1s}
  - id: double
    call: "steps:double"
    inputs: {number: get}
    map_over: number
    expected_items: 3
    duration: 1s
  - id: put
    call: "steps:put"
    inputs: {numbers: double}
    with: {ok: "{{ parameters.ok }}"}
    duration: 1s
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "pyproject.toml").write_text("")
    (tmp_path / "steps.py").write_text(TASKS)
    (tmp_path / "real.yaml").write_text(PLAN)
    return tmp_path


@pytest.mark.usefixtures("prefect_api")
def test_a_plan_runs_fails_and_is_gone_on_with(athena: Athena, project: Path) -> None:
    told = athena("run", "real.yaml", "--set", "limit=4")
    assert (told.code, told.err) == (0, "")
    assert "double success" in told.out
    assert "4/4 items" in told.out
    assert "3 of 3 tasks done" in told.out

    failed = athena("run", "real.yaml", "--set", "ok=false")
    assert failed.code == 1
    assert "ValueError: not ok" in failed.out
    run = failed.out.split("--resume ")[1].split()[0]

    (project / "steps.py").write_text(TASKS.replace("if not ok", "if False"))
    sys.modules.pop("steps", None)
    resumed = [json.loads(line) for line in athena(
        "run", "real.yaml", "--resume", run, "--json"
    ).out.splitlines() if line.startswith("{")]  # fmt: skip
    assert resumed[-1]["status"] == "completed"
    started = [
        line["task_id"] for line in resumed if line.get("kind") == "started" and "task_id" in line
    ]
    # Only what had not succeeded.
    assert started == ["put"]


def test_a_missing_function_is_told_before_anything_runs(
    athena: Athena, project: Path, prefect_api: str
) -> None:
    (project / "real.yaml").write_text(PLAN.replace("steps:put", "steps:putt"))
    told = athena("run", "real.yaml")
    assert told.code == 2
    assert "did you mean 'put'" in told.err
    assert athena("runs").out.startswith("no runs yet")


def test_in_json_what_tasks_print_does_not_reach_standard_output() -> None:
    code = """
import os, sys
from athena_prefect.cli.runs import standard_output_kept
with standard_output_kept() as stream:
    print("a word of the task's", flush=True)
    os.system("echo a word of its child")
    stream.write("ours\\n")
print("after")
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=Path(cli.__file__).parents[2],
    )
    assert done.stdout == "ours\nafter\n"
    assert "a word of its child" in done.stderr

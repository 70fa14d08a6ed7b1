"""The commands on what runs taught: what they say, and what they refuse."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from athena_prefect.cli.app import run_command
from athena_prefect.cli.learning import _accuracy
from athena_prefect.learning.learner import ExecutionLearner
from athena_prefect.learning.results import Calibration
from athena_prefect.service.taught import PlanAccuracy
from athena_prefect.settings import AthenaSettings
from tests.service.test_learning import TEXT, store_run


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ATHENA_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pyproject.toml").touch()
    path = tmp_path / "plan.yaml"
    path.write_text(TEXT)
    return path


def test_learn_shows_writes_and_remembers(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["learn", "plan.yaml"]) == 0
    assert "no run of this plan has finished yet" in capsys.readouterr().out
    for day in range(4):
        store_run(AthenaSettings(), file, day, 25)
    assert run_command(["learn", "plan.yaml"]) == 0
    out = capsys.readouterr().out
    assert "What delayed the runs" in out and "25 % buffer for load" in out
    assert "--apply writes it" in out and file.read_text() == TEXT
    assert run_command(["learn", "nightly", "--apply"]) == 0
    out = capsys.readouterr().out
    assert out.index("+    duration: 25m") < out.index("written, and stored as planning decision")
    assert "duration: 25m" in file.read_text()


def test_lessons_accuracy_and_patterns(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["lessons"]) == 0
    assert "no lessons yet" in capsys.readouterr().out
    for day in range(6):
        store_run(AthenaSettings(), file, day, 25 + 0.1 * day)
    assert run_command(["learn", "plan.yaml", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["bottlenecks"][0]["share"] == pytest.approx(1.0)
    assert found["lessons"][0]["lesson"]["kind"] == "duration"
    assert run_command(["lessons"]) == 0
    assert "load needs a buffer of 2" in capsys.readouterr().out
    assert run_command(["accuracy", "plan.yaml"]) == 0
    assert "6 runs" in capsys.readouterr().out
    assert run_command(["patterns", "nightly"]) == 0
    assert "nightly" in capsys.readouterr().out
    for command in ("lessons", "accuracy", "patterns"):
        assert run_command([command, "--json"]) == 0
        assert isinstance(json.loads(capsys.readouterr().out), dict)


def test_what_is_wrong_is_said(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["learn", "nobody"]) == 2
    assert run_command(["learn", "nobody.yaml"]) == 2
    assert "no such file" in capsys.readouterr().err
    store_run(AthenaSettings(), file, 0, 30)
    assert run_command(["learn", "plan.yaml", "--only", "buffer:x"]) == 2
    assert "buffer:load" in capsys.readouterr().err


def test_forecasts_that_were_kept_are_judged_by_the_work_that_was_done() -> None:
    kept = Calibration(
        forecasts=30, runs=10, coverage=0.8, pinball=0.03, coverage_by_share={"0": 0.7, "0.5": 0.9}
    )
    metrics = replace(ExecutionLearner().compute_estimation_accuracy([]), calibration=kept)
    console = Console(file=io.StringIO(), width=160, color_system=None)
    console.print(_accuracy(PlanAccuracy(plan="nightly", runs=10, accuracy=metrics)))
    assert isinstance(console.file, io.StringIO)
    told = console.file.getvalue()
    assert "80 % of 30 finishes inside the 80 % interval, pinball loss 3 % of the run" in told
    assert "inside it by work done: 70 % at 0 %, 90 % at 50 %" in told

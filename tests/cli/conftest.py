"""The command line in this process, with the runtime stood in for."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from athena_prefect.cli.app import run_command
from athena_prefect.service import running
from tests.service.standin import PLAN, StandIn


@dataclass(frozen=True, slots=True)
class Said:
    """How a command ended and what it wrote."""

    code: int
    out: str
    err: str


Athena = Callable[..., Said]


@pytest.fixture
def athena(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Athena:
    """Runs a command line in a home and a folder of its own."""
    monkeypatch.setenv("ATHENA_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "plan.yaml").write_text(PLAN)

    def call(*tokens: str) -> Said:
        capsys.readouterr()
        code = run_command(list(tokens))
        told = capsys.readouterr()
        return Said(code, told.out, told.err)

    return call


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> StandIn:
    """Takes the place of the runtime in `athena run`."""
    made = StandIn()
    real: Any = running.run_plan
    monkeypatch.setattr(running, "run_plan", functools.partial(real, execute=made))
    return made

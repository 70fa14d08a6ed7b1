"""Which tasks `athena run` has sampled: said to the run, and to nobody after it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from athena_prefect.cli.runs import _sampled
from athena_prefect.errors import UnknownNameError


def test_what_is_sampled_is_told_for_the_run_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = tmp_path / "plan.yaml"
    plan.write_text("name: p\ntasks:\n  - {id: load}\n  - {id: clean}\n")
    monkeypatch.delenv("ATHENA_PROFILE", raising=False)
    told = []
    for asked in (None, "load,clean", "off"):
        with _sampled(plan, asked):
            told.append(os.environ["ATHENA_PROFILE"])
        assert "ATHENA_PROFILE" not in os.environ
    assert told == ["auto", "load,clean", "off"]
    monkeypatch.setenv("ATHENA_PROFILE", "load")
    with _sampled(plan, None):
        assert os.environ["ATHENA_PROFILE"] == "load"
    with pytest.raises(UnknownNameError, match="laod"), _sampled(plan, "laod"):
        raise AssertionError

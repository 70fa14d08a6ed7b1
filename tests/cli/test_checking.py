"""athena checks and athena check."""

from __future__ import annotations

import json
from pathlib import Path

from tests.cli.conftest import Athena
from tests.service.test_checking import PLAN


def test_check_and_checks(athena: Athena, tmp_path: Path) -> None:
    (tmp_path / "shop.yaml").write_text(PLAN)
    said = athena("check", "shop.yaml", "there", "--dry-run")
    assert said.code == 1 and "there violated: is false, expected true" in said.out
    (tmp_path / "in.csv").touch()
    said = athena("check", "shop.yaml", "there", "--dry-run", "--json")
    assert said.code == 0 and json.loads(said.out)["result"]["valid"] is True
    said = athena("checks", "shop.yaml")
    assert said.code == 0 and "not checked" in said.out and "a person" in said.out
    assert len(json.loads(athena("checks", "shop.yaml", "--json").out)["assumptions"]) == 4


def test_bad_input_is_told_and_is_no_traceback(athena: Athena, tmp_path: Path) -> None:
    (tmp_path / "shop.yaml").write_text(PLAN)
    said = athena("check", "shop.yaml", "nothing")
    assert said.code == 2 and "no assumption 'nothing'" in said.err
    said = athena("check", "shop.yaml", "people", "--value", "1")
    assert said.code == 2 and "no live run" in said.err
    (tmp_path / "bad.yaml").write_text(PLAN.replace("file_exists", "file_exist"))
    said = athena("checks", "bad.yaml")
    assert said.code == 2 and "did you mean 'file_exists'" in said.err

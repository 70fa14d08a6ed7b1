"""The page on adopting a flow, followed: the flow runs as before, and its run has a status."""

from __future__ import annotations

import difflib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.pages import ROOT, blocks_of

PAGE = ROOT / "docs" / "how-to" / "adopt-an-existing-flow.md"
FILES = {b.marks["file"]: b.text for b in blocks_of(PAGE) if "file" in b.marks}


def test_the_page_changes_two_lines() -> None:
    before, after = FILES["before.py"].splitlines(), FILES["flows.py"].splitlines()
    lines = list(difflib.unified_diff(before, after, n=0, lineterm=""))[2:]
    changed = [line for line in lines if line[0] in "+-" and line[1:].strip()]
    assert [line[0] for line in changed] == ["+", "+"], changed


@pytest.mark.prefect
def test_the_page_does_what_it_says(prefect_api: str, tmp_path: Path) -> None:
    project = tmp_path / "project"
    project.mkdir()
    (project / "prefect.yaml").write_text("name: project\n")
    for name, text in FILES.items():
        (project / name).write_text(text)
    environment = {
        **os.environ,
        "ATHENA_HOME": str(tmp_path / "athena"),
        "PREFECT_API_URL": prefect_api,
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(project)]),
    }

    def python(code: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=180, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    values = [python(f"from {m} import convert_files; print(convert_files())") for m in _MODULES]
    assert values == ["12\n", "12\n"]
    status = json.loads(python("from athena_prefect.cli import main; main(['status', '--json'])"))
    assert status["tasks"] == {"list_files": "success", "convert": "success", "index": "success"}
    assert (status["status"], status["attached"], status["unplanned"]) == ("completed", True, [])
    run = status["plan_run"]
    python(f"from athena_prefect.cli import main; main(['report', '{run}', '-o', 'report.html'])")
    assert "convert-files" in (tmp_path / "report.html").read_text()


_MODULES = ("before", "flows")

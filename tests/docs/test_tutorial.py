"""The tutorial, followed word for word: every file written, every command run."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.pages import ROOT, Block, blocks_of

PAGE = ROOT / "docs" / "tutorial" / "first-plan.md"
ATHENA = [sys.executable, "-c", "from athena_prefect.cli import main; main()"]
SECONDS = 180
"""Until a command counts as hung."""


class Reader:
    """Somebody who does what the page says, in an empty folder."""

    def __init__(self, folder: Path, home: Path, server: str) -> None:
        self.folder = folder
        self.environment = {
            **os.environ,
            "ATHENA_HOME": str(home / "athena"),
            "PREFECT_HOME": str(home / "prefect"),
            "PREFECT_API_URL": server,
            "PYTHONPATH": str(ROOT),
            "NO_COLOR": "1",
            "COLUMNS": "120",
        }
        self.output = ""

    def follow(self, block: Block) -> None:
        """Write the block's file, or run its commands."""
        if "file" in block.marks:
            path = self.folder / block.marks["file"]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text)
        elif block.language == "console":
            for command in block.commands:
                expected = int(block.marks.get("exit", 0)) if command.startswith("athena") else 0
                self.type(command, expected)

    def type(self, command: str, expected: int = 0) -> str:
        """Run a command as a shell would; what it says."""
        if " RUN" in command:
            command = command.replace("RUN", self.last_run())
        if command.startswith("athena "):
            done = self.run([*ATHENA, *shlex.split(command)[1:]])
        else:
            done = self.run(["sh", "-c", command])
        said = done.stdout + done.stderr
        assert done.returncode == expected, f"$ {command}\n{said}"
        assert "Traceback" not in said, said
        return said

    def run(self, command: list[str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )

    def last_run(self) -> str:
        """The id of the newest run, as `athena runs --json` says it."""
        rows = json.loads(self.run([*ATHENA, "runs", "--json"]).stdout)
        runs = rows["runs"] if isinstance(rows, dict) else rows
        return str(runs[0]["plan_run"])


@pytest.fixture
def reader(tmp_path: Path, prefect_api: str) -> Reader:
    """A reader with a Prefect server, so that nothing waits for a temporary one."""
    folder = tmp_path / "project"
    folder.mkdir()
    return Reader(folder, tmp_path / "home", prefect_api)


@pytest.mark.prefect
@pytest.mark.slow
def test_the_tutorial_does_what_it_says(reader: Reader) -> None:
    for block in blocks_of(PAGE):
        reader.follow(block)
        if block.marks.get("file", "").endswith("plan.yaml"):
            a_mistake_is_told(reader, reader.folder / block.marks["file"])
    summary = (reader.folder / "data/orders/summary.txt").read_text().splitlines()
    assert summary[0] == "Turnover of the day"
    assert len(summary) == 5
    assert (reader.folder / "report.html").read_text().lstrip().lower().startswith("<!doctype")
    assert attempts(reader) == {"fetch": 1, "regions": 1, "publish": 2}


def a_mistake_is_told(reader: Reader, plan: Path) -> None:
    """The mistake that the page asks for is answered with its line and the nearest name."""
    right = plan.read_text()
    wrong = right.replace("orders:fetch", "orders:fech")
    plan.write_text(wrong)
    said = reader.type("athena validate deployments/orders/plan.yaml", 2)
    line = 1 + wrong[: wrong.index("orders:fech")].count("\n")
    assert f"plan.yaml:{line}" in said
    assert "fetch" in said
    plan.write_text(right)


def attempts(reader: Reader) -> dict[str, int]:
    """How often each unmapped task was begun, by the journal."""
    from uuid import UUID

    from athena_prefect.journal.state import fold_entries
    from athena_prefect.plan.model import Plan
    from athena_prefect.runtime.recorder import recording_of
    from athena_prefect.settings import AthenaSettings

    settings = AthenaSettings(home=Path(reader.environment["ATHENA_HOME"]))
    plan = Plan.load(reader.folder / "deployments/orders/plan.yaml")
    state = fold_entries(recording_of(settings, plan).open_journal().read(UUID(reader.last_run())))
    names = [t.id for t in plan.tasks if t.map_over is None]
    return {name: len(state.task(name).attempts) for name in names}

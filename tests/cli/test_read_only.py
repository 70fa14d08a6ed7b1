"""A database that can be read and not written to is read; whatever has to write says why not."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from athena_prefect import service
from athena_prefect.settings import AthenaSettings
from athena_prefect.storage.db import Database

PLAN = """\
name: kept
tasks:
  - {id: a, duration: 60s}
  - {id: b, duration: 60s, depends_on: [a]}
"""
UNPRIVILEGED = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]
"""Runs as root whom files' modes bind as they bind everybody."""


def bound_by_modes() -> list[str]:
    """What a command begins with so that it may not write where modes say so."""
    if os.geteuid() != 0:
        return []
    if shutil.which(UNPRIVILEGED[0]) is None or subprocess.run([*UNPRIVILEGED, "true"]).returncode:
        pytest.skip("root writes everywhere, and no less privileged root can be made")
    return UNPRIVILEGED


if not hasattr(os, "geteuid"):
    pytest.skip("no modes of files", allow_module_level=True)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home with a run in its database that goes on; nobody has it open."""
    (tmp_path / "plan.yaml").write_text(PLAN)
    settings = AthenaSettings(home=tmp_path / "home")
    plan = service.register(tmp_path / "plan.yaml", settings=settings)
    start = datetime.now(UTC) - timedelta(seconds=90)
    run = service.begin(plan.plan_id, started_at=start, settings=settings)
    service.record(run.plan_id, "a", "start", at=start, settings=settings)
    database_of(settings).close()
    return tmp_path / "home"


def database_of(settings: AthenaSettings) -> Database:
    return Database.open(settings)


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Within, nothing in `folder` may be written to by those whom modes bind."""
    paths = [folder, *folder.rglob("*")]
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in paths}
    for path in reversed(paths):
        path.chmod(modes[path] & ~0o222)
    try:
        yield
    finally:
        for path in paths:
            if path.exists():
                path.chmod(modes[path])


def told(home: Path, *tokens: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*bound_by_modes(), sys.executable, "-m", "athena_prefect.cli", *tokens],
        cwd=home.parent,
        env=os.environ | {"ATHENA_HOME": str(home)},
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )


def test_a_run_is_read_from_a_file_that_nobody_has_open(home: Path) -> None:
    before = {path.name: path.read_bytes() for path in home.iterdir() if path.is_file()}
    with read_only(home):
        listed = told(home, "runs", "--json")
        assert listed.returncode == 0, listed.stderr
        run = json.loads(listed.stdout)[0]["plan_run"]
        for tokens in (("status", run), ("why", run), ("report", run, "-o", "out.html")):
            done = told(home, *tokens)
            assert (done.returncode, done.stderr) == (0, ""), tokens
            assert done.stdout.strip()
        assert "kept" in (home.parent / "out.html").read_text()
    assert {p.name: p.read_bytes() for p in home.iterdir() if p.is_file()} == before


def test_what_has_to_write_says_why_it_cannot(home: Path) -> None:
    (home.parent / "plan.yaml").write_text(PLAN.replace("60s", "70s"))
    with read_only(home):
        refused = told(home, "register", "plan.yaml")
    assert refused.returncode != 0 and "Traceback" not in refused.stderr
    assert "can only be read here" in refused.stderr and "ATHENA_DATABASE_URL" in refused.stderr


@contextmanager
def held_open(home: Path) -> Iterator[str]:
    """Within, somebody has the database open, whose newest entries are in its log; the run."""
    settings = AthenaSettings(home=home)
    (run,) = service.numbered_runs(settings=settings)
    database = database_of(settings)
    with database.reading():
        service.record(run.plan_id, "a", "complete", outcome="success", at=datetime.now(UTC),
                       settings=settings)  # fmt: skip
        yield str(run.plan_run)
    database.close()


def test_what_others_have_just_written_is_read(home: Path) -> None:
    with held_open(home) as run:
        assert next(home.glob("*.db-wal")).stat().st_size > 0
        with read_only(home):
            found = told(home, "status", run, "--json")
    assert found.returncode == 0, found.stderr
    assert '"success"' in found.stdout


def test_a_copy_without_its_index_is_not_read_as_it_was_before(home: Path, tmp_path: Path) -> None:
    with held_open(home):
        (tmp_path / "copy").mkdir()
        for file in (*home.glob("*.db"), *home.glob("*.db-wal")):
            shutil.copy(file, tmp_path / "copy")
    with read_only(tmp_path / "copy"):
        refused = told(tmp_path / "copy", "runs")
    assert refused.returncode != 0 and len(refused.stderr.splitlines()) == 1
    assert "newest entries" in refused.stderr and "copy both" in refused.stderr


def test_another_schema_is_one_sentence(home: Path) -> None:
    database = database_of(AthenaSettings(home=home))
    database.downgrade("-1")
    database.close()
    with read_only(home):
        refused = told(home, "runs")
    assert refused.returncode != 0 and len(refused.stderr.splitlines()) == 1
    assert "athena db upgrade" in refused.stderr and "only be read" in refused.stderr

"""Which API Prefect is configured for: the same answer as Prefect's own settings give."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from athena_prefect.errors import SettingsError
from athena_prefect.runtime.connection import configured_api_url

PROFILES = """
active = "team"
[profiles.team]
PREFECT_API_URL = "http://team/api"
[profiles.other]
PREFECT_API_URL = "http://other/api"
[profiles.bare]
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / "home"
    folder.mkdir()
    return folder


@pytest.fixture
def cwd(tmp_path: Path) -> Path:
    folder = tmp_path / "cwd"
    folder.mkdir()
    return folder


def ask(home: Path, cwd: Path, **more: str) -> str | None:
    return configured_api_url({"PREFECT_HOME": str(home), **more}, cwd)


def test_nothing_configured_is_no_api(home: Path, cwd: Path) -> None:
    assert ask(home, cwd) is None


def test_the_environment_wins_over_everything(home: Path, cwd: Path) -> None:
    (home / "profiles.toml").write_text(PROFILES)
    (cwd / ".env").write_text("PREFECT_API_URL=http://dotenv/api")
    assert ask(home, cwd, PREFECT_API_URL="http://env/api") == "http://env/api"


def test_the_active_profile_counts_and_the_environment_may_choose_another(
    home: Path, cwd: Path
) -> None:
    (home / "profiles.toml").write_text(PROFILES)
    assert ask(home, cwd) == "http://team/api"
    assert ask(home, cwd, PREFECT_PROFILE="other") == "http://other/api"
    assert ask(home, cwd, PREFECT_PROFILE="bare") is None


def test_files_of_the_working_folder_come_in_prefects_order(home: Path, cwd: Path) -> None:
    (home / "profiles.toml").write_text(PROFILES)
    (cwd / "pyproject.toml").write_text('[tool.prefect.api]\nurl = "http://pyproject/api"\n')
    assert ask(home, cwd) == "http://pyproject/api"
    (cwd / "prefect.toml").write_text('[api]\nurl = "http://toml/api"\n')
    assert ask(home, cwd) == "http://toml/api"
    (cwd / ".env").write_text("# ours\nexport PREFECT_API_URL='http://dotenv/api'\n")
    assert ask(home, cwd) == "http://dotenv/api"


def test_profiles_may_stand_elsewhere(home: Path, cwd: Path) -> None:
    (cwd / "mine.toml").write_text(PROFILES)
    assert ask(home, cwd, PREFECT_PROFILES_PATH=str(cwd / "mine.toml")) == "http://team/api"


def test_a_broken_file_is_named(home: Path, cwd: Path) -> None:
    (home / "profiles.toml").write_text("active = ")
    with pytest.raises(SettingsError, match=r"profiles\.toml"):
        ask(home, cwd)


@pytest.mark.parametrize("place", ["profile", "prefect.toml", ".env"])
def test_prefect_itself_finds_the_same(home: Path, cwd: Path, place: str) -> None:
    (home / "profiles.toml").write_text(PROFILES)
    if place == "prefect.toml":
        (cwd / "prefect.toml").write_text('[api]\nurl = "http://toml/api"\n')
    if place == ".env":
        (cwd / ".env").write_text("PREFECT_API_URL=http://dotenv/api\n")
    env = {k: v for k, v in os.environ.items() if not k.startswith("PREFECT_")}
    code = "from prefect.settings import get_current_settings as s; print(s().api.url)"
    told = subprocess.run(
        [sys.executable, "-c", code],
        env={**env, "PREFECT_HOME": str(home), "DO_NOT_TRACK": "1"},
        cwd=cwd,
        capture_output=True,
        text=True,
        check=True,
    )
    assert told.stdout.strip() == ask(home, cwd)

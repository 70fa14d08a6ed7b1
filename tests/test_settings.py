"""Settings come from the environment, say what is wrong, and keep the password to themselves."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from athena_prefect.errors import SettingsError
from athena_prefect.settings import AthenaSettings, masked

SECRET = "s3cr3t-w0rd"
URL = f"postgresql+psycopg://me:{SECRET}@db.example/athena"


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in AthenaSettings.model_fields:
        monkeypatch.delenv(f"ATHENA_{name.upper()}", raising=False)


def test_everything_has_a_default_below_home(tmp_path: Path) -> None:
    settings = AthenaSettings(home=tmp_path)
    assert settings.database_url == f"sqlite:///{(tmp_path / 'athena.db').as_posix()}"
    assert settings.spool_folder == tmp_path / "spool"
    assert settings.results_folder == tmp_path / "results"
    assert settings.log_folder == tmp_path / "logs"
    assert (settings.durable, settings.namespace) == ("process", "default")


def test_no_folder_is_made_by_reading_settings(tmp_path: Path) -> None:
    AthenaSettings(home=tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_the_environment_is_read_and_arguments_win(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATHENA_DATABASE_URL", URL)
    monkeypatch.setenv("ATHENA_DURABLE", "power")
    monkeypatch.setenv("ATHENA_NAMESPACE", "")
    settings = AthenaSettings(durable="process")
    assert settings.database_url == URL
    assert (settings.durable, settings.namespace) == ("process", "default")


def test_paths_do_not_depend_on_the_working_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATHENA_HOME", "~/athena")
    monkeypatch.setenv("ATHENA_SPOOL_FOLDER", "spool")
    settings = AthenaSettings()
    assert settings.home == Path.home() / "athena"
    assert settings.spool_folder == Path.cwd() / "spool"


@pytest.mark.parametrize(
    ("variable", "value", "remedy"),
    [
        ("ATHENA_DURABLE", "always", "process"),
        ("ATHENA_NAMESPACE", "a b", "staging"),
        ("ATHENA_DATABASE_URL", f"mysql://me:{SECRET}@db/x", "postgresql+psycopg"),
        ("ATHENA_DATABASE_URL", f"db.example {SECRET}", "sqlite:////absolute/file.db"),
    ],
)
def test_a_bad_value_names_its_variable_and_what_would_be_right(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, remedy: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError) as caught:
        AthenaSettings()
    assert variable in str(caught.value)
    assert remedy in str(caught.value)
    assert SECRET not in str(caught.value) + repr(caught.value) + str(caught.value.as_dict())
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def test_all_bad_values_are_told_at_once() -> None:
    with pytest.raises(SettingsError) as caught:
        AthenaSettings(durable="never", namespace="", database_url="x", homes="y")
    told = str(caught.value)
    assert "ATHENA_DURABLE" in told
    assert "ATHENA_NAMESPACE" in told
    assert "ATHENA_DATABASE_URL" in told
    assert "no setting 'homes'" in told


def test_a_refused_home_is_told_without_a_second_error(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        AthenaSettings(home=3)
    assert str(caught.value).count("\n") == 0
    assert "ATHENA_HOME" in str(caught.value)


def test_the_password_is_in_the_url_alone() -> None:
    settings = AthenaSettings(database_url=URL)
    assert settings.database_url == URL
    shown = repr(settings) + str(settings) + str(settings.model_dump()) + settings.model_dump_json()
    assert SECRET not in shown
    assert "me:***@db.example" in shown


def test_settings_travel_between_processes() -> None:
    settings = AthenaSettings(database_url=URL)
    assert pickle.loads(pickle.dumps(settings)).database_url == URL


WORDS = st.text(st.characters(exclude_characters="/&", exclude_categories=["Cs"]), min_size=1)


@given(WORDS)
def test_no_password_survives_masking(password: str) -> None:
    shown = masked(f"postgresql://me:{password}@db.example/athena")
    assert shown == "postgresql://me:***@db.example/athena"
    assert masked(f"postgresql://db/a?password={password}&x=1") == (
        "postgresql://db/a?password=***&x=1"
    )

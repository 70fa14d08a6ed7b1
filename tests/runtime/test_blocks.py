"""The `AthenaDatabase` block: registered, checked, and silent about its password."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from prefect.blocks.core import Block
from prefect.testing.standard_test_suites.blocks import BlockStandardTestSuite
from pydantic import SecretStr, ValidationError

from athena_prefect.errors import SettingsError
from athena_prefect.runtime.blocks import AthenaDatabase, current_settings, settings_of

SECRET = "s3cr3t-w0rd"
URL = f"postgresql+psycopg://me:{SECRET}@db.example/athena"


def test_it_gives_the_settings_of_its_database() -> None:
    settings = AthenaDatabase(url=SecretStr(URL), durable="power").settings(namespace="stage")
    assert (settings.database_url, settings.durable, settings.namespace) == (URL, "power", "stage")


def test_the_password_is_not_shown() -> None:
    block = AthenaDatabase(url=SecretStr(URL))
    assert SECRET not in repr(block) + str(block) + block.model_dump_json()


def test_a_url_that_cannot_be_used_is_refused_without_being_repeated() -> None:
    with pytest.raises(ValidationError, match=r"'mysql' is not supported.*postgresql") as caught:
        AthenaDatabase(url=SecretStr(f"mysql://me:{SECRET}@db/x"))
    assert SECRET not in str(caught.value)


def test_it_describes_itself_as_prefect_expects() -> None:
    assert AthenaDatabase.get_block_type_slug() == "athena-database"
    assert AthenaDatabase.get_description()
    assert AthenaDatabase.get_code_example()
    schema = AthenaDatabase.model_json_schema()
    assert schema["secret_fields"] == ["url"]
    assert all(field.get("description") for field in schema["properties"].values())


class TestStandards(BlockStandardTestSuite):
    """Prefect's own standards for blocks."""

    @pytest.fixture
    def block(self) -> type[Block]:
        return AthenaDatabase

    def test_has_a_valid_image(self, block: type[Block]) -> None:
        # Prefect's test would load the picture from the web.
        assert str(block._logo_url).startswith("https://")


def test_it_opens_its_database(tmp_path: Path) -> None:
    database = AthenaDatabase(url=SecretStr(f"sqlite:///{tmp_path / 'a.db'}")).get_database()
    database.check_schema()
    database.close()


def test_a_reference_that_names_no_block_says_how_to_write_one() -> None:
    with pytest.raises(SettingsError, match="block://athena-database/NAME"):
        settings_of("secret/elsewhere")


def test_without_a_block_the_settings_are_those_of_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("ATHENA_DATABASE_BLOCK", raising=False)
    assert current_settings(database_url=URL).database_url == URL


def test_importing_it_brings_no_database() -> None:
    code = (
        "import sys, athena_prefect.runtime.blocks as b; "
        "print([m for m in sys.modules if m.startswith('athena_prefect.storage')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.prefect
def test_a_stored_block_comes_back(prefect_api: str, monkeypatch: pytest.MonkeyPatch) -> None:
    AthenaDatabase.register_type_and_schema()
    AthenaDatabase(url=SecretStr(URL)).save("shared", overwrite=True)
    loaded = Block.load("athena-database/shared")
    assert isinstance(loaded, AthenaDatabase)
    assert loaded.settings().database_url == URL
    for reference in ("shared", "athena-database/shared", "block://athena-database/shared"):
        assert settings_of(reference, namespace="stage").database_url == URL
    monkeypatch.setenv("ATHENA_DATABASE_BLOCK", "shared")
    assert current_settings().database_url == URL
    with pytest.raises(SettingsError, match="missing"):
        settings_of("missing")

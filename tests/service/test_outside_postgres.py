"""Runs outside Prefect over PostgreSQL: the same scenario, and the same races."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from athena_prefect.service.database import db_upgrade
from athena_prefect.settings import AthenaSettings
from athena_prefect.storage.db import database_for
from tests.fixtures.postgres import PostgresServer, serve
from tests.service.test_outside import (  # collected here, too
    clock,
    plan_id,
    test_a_run_is_begun_once,
    test_the_second_scenario_without_any_flow,
    test_two_choose_for_the_same_revision,
)

__all__ = [
    "clock",
    "plan_id",
    "test_a_run_is_begun_once",
    "test_the_second_scenario_without_any_flow",
    "test_two_choose_for_the_same_revision",
]

pytestmark = pytest.mark.postgres


@pytest.fixture(scope="module")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    """A server out of a wheel."""
    yield from serve(tmp_path_factory.getbasetemp())


@pytest.fixture
def settings(postgres: PostgresServer, tmp_path: Path) -> Iterator[AthenaSettings]:
    """A database of its own."""
    url = postgres.create()
    made = AthenaSettings(
        home=tmp_path / "home", database_url=url.render_as_string(hide_password=False)
    )
    db_upgrade(settings=made)
    yield made
    database_for(made.database_url).close()
    postgres.drop(url)

"""A site folder and a warehouse for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fixtures.postgres import PostgresServer, serve
from tests.tasks.sites import Site


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """An empty site folder."""
    path = tmp_path / "site-packages"
    path.mkdir()
    return Site(path)


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    """The session's PostgreSQL."""
    yield from serve(tmp_path_factory.getbasetemp())


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def warehouse_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """An empty warehouse: in the folder of the audit (no URL), and in PostgreSQL."""
    if request.param == "sqlite":
        yield ""
        return
    server: PostgresServer = request.getfixturevalue("postgres_server")
    url = server.create()
    yield url.render_as_string(hide_password=False)
    server.drop(url)

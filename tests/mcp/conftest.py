"""A database of its own for each test, with a registered plan in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from athena_prefect.service.plans import register
from athena_prefect.settings import AthenaSettings
from tests.mcp.support import RELEASE


@pytest.fixture
def settings(tmp_path: Path) -> AthenaSettings:
    """A home that no other test uses."""
    return AthenaSettings(home=tmp_path / "home")


@pytest.fixture
def plan_id(settings: AthenaSettings, tmp_path: Path) -> int:
    """A registered plan with nothing to call."""
    file = tmp_path / "release.yaml"
    file.write_text(RELEASE)
    return register(file, settings=settings).plan_id

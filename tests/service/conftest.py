"""A plan, and a home of its own for each test."""

from __future__ import annotations

from pathlib import Path

import pytest

from athena_prefect.settings import AthenaSettings
from tests.service.standin import PLAN


@pytest.fixture
def settings(tmp_path: Path) -> AthenaSettings:
    """A home that no other test uses."""
    return AthenaSettings(home=tmp_path / "home")


@pytest.fixture
def plan_file(tmp_path: Path) -> Path:
    """A plan of three tasks."""
    file = tmp_path / "plan.yaml"
    file.write_text(PLAN)
    return file

"""The reference of the tools is what the server says."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

GENERATOR = Path(__file__).parents[2] / "docs" / "reference" / "generate_tools.py"


def _generator() -> Any:
    spec = importlib.util.spec_from_file_location("generate_tools", GENERATOR)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_current() -> None:
    reference = _generator()
    remedy = "run python docs/reference/generate_tools.py"
    assert reference.PAGE.read_text(encoding="utf-8") == reference.page(), remedy

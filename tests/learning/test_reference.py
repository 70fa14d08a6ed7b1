"""The reference page says of every threshold what is there."""

from __future__ import annotations

from pathlib import Path

from athena_prefect.learning.policy import LearningPolicy

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "learning.md"


def test_every_threshold_is_in_the_reference_with_its_default() -> None:
    text = PAGE.read_text(encoding="utf-8")
    for name, field in LearningPolicy.model_fields.items():
        words = " ".join((field.description or "").split())
        assert words and f"| `{name}` | {field.default} | {words} |" in text

"""What the second generator plants and the first does not: found, with the right size."""

from __future__ import annotations

import pytest

from athena_prefect.learning.patterns import execution_patterns
from tests.learning.otherwise import otherwise


@pytest.mark.parametrize("kind", ["resource", "step", "scaling", "queue", "hour"])
def test_what_is_planted_is_found_with_its_size(kind: str) -> None:
    found = [
        any(made.right(p) for p in execution_patterns(made.history))
        for made in (otherwise(kind, seed) for seed in range(300, 308))
    ]
    assert sum(found) >= 6


def test_nothing_is_told_of_histories_without_a_pattern() -> None:
    told = [execution_patterns(otherwise("none", seed).history) for seed in range(400, 412)]
    assert sum(bool(t) for t in told) <= 1


def test_a_step_is_no_slope_and_says_since_when() -> None:
    made = otherwise("step", 70044)
    (found,) = [p for p in execution_patterns(made.history) if made.right(p)]
    assert found.data["shape"] == "step"
    assert "than before since run" in found.description

"""What a task's body may say and ask."""

from __future__ import annotations

from uuid import UUID, uuid4

import pytest

from athena_prefect.runtime.context import (
    AttemptContext,
    Partial,
    attempt_context,
    idempotency_token,
    report_usage,
    token_of,
)


def test_the_peak_of_a_usage_counts() -> None:
    with attempt_context(AttemptContext(uuid4(), "a", None, 1)) as attempt:
        report_usage(cpu=1.0)
        report_usage({"cpu": 3.0, "memory_gb": 0.5})
        report_usage(cpu=2.0)
    assert attempt.usage == {"cpu": 3.0, "memory_gb": 0.5}


@pytest.mark.parametrize("amount", [-1.0, float("inf"), float("nan")])
def test_a_usage_that_is_no_amount_is_refused(amount: float) -> None:
    with pytest.raises(ValueError, match="finite number"):
        report_usage(cpu=amount)


def test_outside_a_run_usage_is_forgotten_and_a_token_is_fresh() -> None:
    report_usage(cpu=1.0)
    assert idempotency_token() != idempotency_token()


def test_a_token_is_the_same_in_every_attempt_on_the_same_inputs() -> None:
    run = uuid4()
    tokens = []
    for _ in range(2):
        with attempt_context(AttemptContext(run, "a", 3, 1)):
            tokens.append(idempotency_token())
    assert tokens[0] == tokens[1] == token_of(run, "a", 3, 1)
    others = {token_of(run, "a", 3, 2), token_of(run, "a", 4, 1), token_of(uuid4(), "a", 3, 1)}
    assert len(others | {tokens[0]}) == 4
    assert UUID(tokens[0])


@pytest.mark.parametrize("share", [-0.1, 1.1])
def test_a_share_lies_between_zero_and_one(share: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        Partial(1, share=share)

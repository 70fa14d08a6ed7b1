"""Task runs and the plan's tasks: which is which, by name."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from athena_prefect.errors import UnknownNameError
from athena_prefect.plan.model import Plan
from athena_prefect.runtime.matching import Matching, candidates, normal, task_name

PLAN = Plan.model_validate(
    {
        "name": "matched",
        "tasks": [{"id": i} for i in ("load_orders", "parse-file", "a-b", "a_b", "notify")],
    }
)


@dataclass
class Run:
    """A task run as Prefect names it: the task's name and the head of a key, or a name given."""

    name: str
    task_key: str = "anything-1a2b3c4d"
    dynamic_key: str = "7f3e9c1d-0000-4000-8000-000000000000"


@pytest.mark.parametrize(
    ("run", "task"),
    [
        (Run("load_orders-7f3"), "load_orders"),
        (Run("load_orders"), "load_orders"),
        (Run("Load Orders-7f3"), "load_orders"),
        (Run("load-orders-7f3"), "load_orders"),
        (Run("parse_file-0", dynamic_key="0"), "parse-file"),
        (Run("day 7", task_key="nightly.<locals>.load_orders-1a2b3c4d"), "load_orders"),
        (Run("send the mail-7f3"), "notify"),
        # Two ids that differ by signs alone are told apart by the very id only.
        (Run("a-b-7f3"), "a-b"),
        (Run("a_b-7f3"), "a_b"),
        (Run("A B-7f3"), None),
        (Run("audit_log-7f3"), None),
    ],
)
def test_a_task_run_is_matched_by_its_names(run: Run, task: str | None) -> None:
    assert Matching(PLAN, {"send the mail": "notify"}).task_of(run) == task


def test_the_mapping_comes_before_the_ids() -> None:
    assert Matching(PLAN, {"load_orders": "notify"}).task_of(Run("load_orders-7f3")) == "notify"


def test_a_mapping_to_no_task_names_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'notify'"):
        Matching(PLAN, {"mail": "notfy"})


def test_names_that_a_run_goes_by() -> None:
    run = Run("load-7f3", task_key="load_table-1a2b3c4d")
    assert task_name(run) == "load"
    assert candidates(run) == ("load-7f3", "load", "load_table")
    assert normal("Send  the (Mail)!") == "send_the_mail"

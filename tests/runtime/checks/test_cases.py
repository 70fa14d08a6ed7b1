"""Generated cases of known truth over what a real Prefect server knows."""

from __future__ import annotations

import random
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.states import Completed, Failed, Running, Scheduled

from tests.assumptions.test_thousand_cases import (
    OF_PREFECT,
    Case,
    number,
    text,
    truth_value,
    unknowable,
    validator_of,
)
from tests.runtime.checks.test_prefect_kinds import asked, deploy, pool_of, run_in

pytestmark = pytest.mark.prefect

SEED = 7
EACH = 8
"""Cases a kind."""


def variable(client: SyncPrefectClient, rng: random.Random, name: str) -> Case:
    value: Any = rng.choice([rng.randint(-9, 9), f"word{rng.randint(0, 9)}", rng.random() < 0.5])
    asked(client, "POST", "/variables/", {"name": name, "value": value})
    check = {"kind": "variable", "name": name}
    if isinstance(value, bool):
        return truth_value(rng, value, check)
    return text(rng, value, check) if isinstance(value, str) else number(rng, value, check)


def concurrency_limit(client: SyncPrefectClient, rng: random.Random, name: str) -> Case:
    limit = rng.randint(1, 9)
    taken = rng.randint(0, limit)
    body = {"name": name, "limit": limit, "active_slots": taken}
    asked(client, "POST", "/v2/concurrency_limits/", body)
    return number(rng, limit - taken, {"kind": "concurrency_limit", "name": name})


def work_pool(client: SyncPrefectClient, rng: random.Random, name: str) -> Case:
    limit, late, running = rng.randint(3, 9), rng.randint(0, 2), rng.randint(0, 2)
    deployment = deploy(client, name, pool_of(client, name, limit))
    now = datetime.now(UTC)
    for _ in range(late):
        run_in(client, deployment, Scheduled(scheduled_time=now - timedelta(minutes=5)))
    for _ in range(running):
        run_in(client, deployment, Running())
    field = rng.choice(["late", "free", "workers"])
    value = {"late": late, "free": limit - running, "workers": 0}[field]
    return number(rng, value, {"kind": "work_pool", "pool": name, "field": field})


def deployment_success(client: SyncPrefectClient, rng: random.Random, name: str) -> Case:
    deployment = deploy(client, name, pool_of(client, name, None))
    ends = [rng.choice([Completed, Failed]) for _ in range(rng.randint(1, 3))]
    for end in ends:
        run_in(client, deployment, Running(), end())
    check = {
        "kind": "deployment_success", "deployment": f"nightly/{name}", "field": "succeeded",
    }  # fmt: skip
    return truth_value(rng, ends[-1] is Completed, check)


def test_cases_of_known_truth(prefect_api: str, tmp_path: Path) -> None:
    rng, cases = random.Random(SEED), []
    makers: tuple[Any, ...] = (variable, concurrency_limit, work_pool, deployment_success)
    assert {m.__name__ for m in makers} == OF_PREFECT
    with get_client(sync_client=True) as client:
        for maker in makers:
            for n in range(EACH):
                name = f"cases_{maker.__name__}_{n}"
                case = maker(client, rng, name)
                gone = {k: f"{v}_gone" for k, v in case.check.items() if str(v).endswith(name)}
                cases.append(unknowable(case, **gone) if n == 0 else case)
    validator = validator_of(cases, tmp_path, datetime.now(UTC))
    tally: Counter[bool] = Counter()
    for n, case in enumerate(cases):
        result = validator.check_assumption(f"a{n}", record=False)
        assert result.valid is case.truth, (case, result)
        tally[case.truth is None] += 1
    assert tally == {True: len(makers), False: len(makers) * (EACH - 1)}

"""What a work pool cannot run is refused before anything is written."""

from __future__ import annotations

from typing import Any

import pytest

from athena_prefect.errors import InputError
from athena_prefect.plan.model import Plan
from athena_prefect.runtime.deployment.pool import Pool, check_pool
from tests.runtime.deployment.support import DOCKER, KUBERNETES, PROCESS, URL, plan

SQLITE = "sqlite:////srv/athena.db"
STORED = {"storage": "s3-bucket/results"}


def reasons(pool: Pool, *plans: Plan, database: str = URL, **job_variables: Any) -> str:
    with pytest.raises(InputError) as caught:
        check_pool(pool, plans, job_variables, database)
    return caught.value.message


def test_a_process_pool_takes_local_results_and_sqlite() -> None:
    check_pool(PROCESS, (plan(),), {"env": {}}, SQLITE)


@pytest.mark.parametrize("pool", [DOCKER, KUBERNETES])
def test_a_pool_of_containers_takes_neither(pool: Pool) -> None:
    said = reasons(pool, plan("a"), plan("b", results=STORED), database=SQLITE, image="x")
    assert "plan 'a' keeps its results in a local folder" in said
    assert "'b'" not in said
    assert "do not reach a SQLite file" in said
    check_pool(pool, (plan("b", results=STORED),), {"image": "x"}, URL)


def test_a_pool_without_an_image_of_its_own_needs_one() -> None:
    assert "--image" in reasons(DOCKER, plan(results=STORED))
    check_pool(KUBERNETES, (plan(results=STORED),), {}, URL)


def test_a_job_variable_that_the_pool_does_not_know_is_refused() -> None:
    assert "did you mean 'networks'" in reasons(DOCKER, plan(results=STORED), image="x", network=[])
    assert "there are command, env, working_dir" in reasons(PROCESS, plan(), zzz=1)


def test_a_template_that_names_no_variables_takes_what_it_is_given() -> None:
    check_pool(Pool(name="own", type="process"), (plan(),), {"anything": 1}, SQLITE)

"""A flow as somebody wrote it long ago: twenty tasks, its own hooks, its own result."""

from __future__ import annotations

import time
from typing import Any

from prefect import flow, task
from prefect.cache_policies import NO_CACHE

called: list[str] = []
"""What its own hooks have been called for."""


def on_end(flow: Any, flow_run: Any, state: Any) -> None:
    called.append(state.name)


def on_start(flow: Any, flow_run: Any, state: Any) -> None:
    called.append(state.name)


def on_task_end(task: Any, task_run: Any, state: Any) -> None:
    called.append(task.name)


@task
def list_files(count: int) -> list[int]:
    return list(range(count))


@task(retries=1, cache_policy=NO_CACHE)
def fetch(number: int) -> int:
    return number


@task(name="Parse File", on_completion=[on_task_end])
def parse_file(number: int) -> int:
    return number * 2


@task(task_run_name="load-{table}")
def load_table(table: str, rows: Any) -> int:
    time.sleep(0.01)
    return len(rows)


@task
def check(table: str, rows: Any) -> bool:
    return bool(rows)


@task(name="send the mail")
def notify(good: bool) -> str:
    return "sent" if good else "not sent"


@task
def audit_log(text: str) -> None:
    """Not in the plan: somebody added it later."""


TABLES = ("orders", "items", "people", "places", "prices", "stock", "taxes", "tours")


@flow(name="nightly", on_completion=[on_end], on_failure=[on_end], on_running=[on_start])
def nightly(count: int = 3) -> str:
    """The load of the night."""
    files = list_files(count)
    fetched = fetch.map(files)
    parsed = parse_file.map(fetched)
    good = []
    for table in TABLES:
        rows = load_table.submit(table, parsed)
        checked = check.with_options(name=f"check-{table}")
        good.append(checked.submit(table, rows))
    result = notify(all(g.result() for g in good))
    audit_log(result)
    return result

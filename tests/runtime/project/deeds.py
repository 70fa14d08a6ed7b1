"""Tasks of the plans that the runtime's tests run."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path
from typing import Any

from prefect import task

from athena_prefect.runtime.context import Partial, idempotency_token, report_usage

_calls: dict[str, int] = {}

if "DEEDS_HANDED_OVER_SECONDS" in os.environ:  # a flow begins late on a busy machine
    from athena_prefect.runtime import replan_handing_over

    replan_handing_over.HANDED_OVER_SECONDS = float(os.environ["DEEDS_HANDED_OVER_SECONDS"])


def facts(folder: str = "data") -> dict[str, Any]:
    report_usage(cpu=0.5)
    report_usage(cpu=0.2)
    return {"changed": True, "rows": 70, "folder": folder}


def numbers(count: int = 3) -> list[int]:
    return list(range(1, count + 1))


def nothing() -> list[int]:
    return []


def square(x: int, plus: int = 0) -> int:
    return x * x + plus


def total(xs: list[int]) -> int:
    return sum(xs)


def add(x: int, y: int) -> int:
    return x + y


def one() -> int:
    return 1


async def later() -> int:
    await asyncio.sleep(0.01)
    return 2


async def never() -> None:
    await asyncio.sleep(60)


def fail() -> None:
    raise ValueError("as it must")


def crash() -> None:
    raise SystemExit(3)


def part() -> Partial[list[int]]:
    return Partial([1], share=0.25)


def lambda_() -> Any:
    return (i for i in range(3))  # a generator cannot be pickled


def third_time(folder: str, name: str = "flaky") -> int:
    path = Path(folder) / name
    count = int(path.read_text()) + 1 if path.exists() else 1
    path.write_text(str(count))
    if count < 3:
        raise RuntimeError(f"try {count}")
    return count


def touch(path: str) -> str:
    Path(path).touch()
    return path


def die() -> None:
    os._exit(3)


def hang(seconds: float) -> int:
    time.sleep(seconds)
    return 1


def falling(path: str) -> float:
    """A number that falls by one each time."""
    file = Path(path)
    count = int(file.read_text()) + 1 if file.exists() else 0
    file.write_text(str(count))
    return 100.0 - count


def process_id() -> int:
    report_usage(cpu=2.0)
    return os.getpid()


def token() -> str:
    return idempotency_token()


def log_in(password: str) -> str:
    return f"logged in with {len(password)} characters"


def leak(password: str) -> None:
    raise ValueError(f"cannot log in with {password}")


def wait_for_file(path: str, seconds: float = 300) -> str:
    end = time.monotonic() + seconds
    while not Path(path).exists():
        if time.monotonic() > end:
            raise TimeoutError(path)
        time.sleep(0.02)
    return path


def killed_at(place: str) -> None:
    """The place is written down; the process dies where a file names it, once."""
    file = Path(os.environ["ATHENA_SEAM_FILE"])
    with file.with_suffix(".places").open("a") as places:
        places.write(f"{place}\n")
    if file.exists() and file.read_text() == place:
        file.unlink()
        os.kill(os.getpid(), signal.SIGKILL)


def note(folder: str, name: str, seconds: float = 0.0) -> str:
    """Write down, durably, that this ran: `start` and `end` lines of one file."""
    with (Path(folder) / "log").open("a") as file:
        file.write(f"start {name} {idempotency_token()}\n")
        file.flush()
    time.sleep(seconds)
    with (Path(folder) / "log").open("a") as file:
        file.write(f"end {name}\n")
        file.flush()
    return name


def note_and_fail(folder: str, name: str, seconds: float = 0.0) -> None:
    note(folder, name, seconds)
    raise ValueError("as it must")


def given(value: Any) -> Any:
    return value


def join(names: list[str]) -> str:
    return ",".join(names)


@task(retries=1, tags=["ready-made"])
def ready_made(x: int) -> int:
    return x + 1


@task(persist_result=True, cache_key_fn=lambda *_: "always-the-same")
def cached() -> int:
    _calls["cached"] = _calls.get("cached", 0) + 1
    return 41 + _calls["cached"]


def slow_once(name: str) -> int:
    """Takes five seconds the first time."""
    _calls[name] = _calls.get(name, 0) + 1
    mine = _calls[name]
    time.sleep(5.0 if mine == 1 else 0.0)
    return mine


def kinds(day: Any, wait: Any) -> list[str]:
    return [type(day).__name__, type(wait).__name__]


def take(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


def fail_after(seconds: float) -> None:
    time.sleep(seconds)
    raise ValueError("the requirements have changed")


def five() -> int:
    return 5


def no() -> bool:
    return False


def leak_later(path: str) -> None:
    wait_for_file(path)
    raise ValueError("as it must")


def spin(seconds: float) -> int:
    """Works, rather than sleeps, for so long."""
    until, count = time.perf_counter() + seconds, 0
    while time.perf_counter() < until:
        count += 1
    return count

"""A dispatcher that is killed loses nothing and repeats nothing."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path
from uuid import uuid4

import pytest

from athena_prefect.plan.model import Plan
from tests.chaos.support import (
    check_against_the_tasks_own_words,
    in_force,
    start,
    starts,
    thirty_tasks,
)
from tests.runtime.support import state_of

pytestmark = [pytest.mark.prefect, pytest.mark.slow]


def test_sigkill_at_any_moment(
    prefect_api: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    kills = int(request.config.getoption("--kills"))
    seed = int(request.config.getoption("--kill-seed"))
    chance = random.Random(seed)
    done, rounds, listed = 0, 0, 0
    while done < kills:
        folder = tmp_path / str(rounds)
        folder.mkdir()
        rounds += 1
        killed, cut_off = one_run(prefect_api, folder, chance, kills - done)
        done += killed
        listed += cut_off
    print(f"{done} kills in {rounds} runs, {listed} attempts in flight at a kill")


def one_run(api: str, folder: Path, chance: random.Random, most: int) -> tuple[int, int]:
    """Kill and resume one plan run until it completes; (kills, attempts in flight at one)."""
    path, plan_run = thirty_tasks(folder), uuid4()
    plan = Plan.load(path)
    killed = 0
    while True:
        before = in_force(state_of(plan, plan_run), plan)
        counted = starts(folder)
        process = start(path, plan_run, PREFECT_API_URL=api)
        if killed < most and wait_to_kill(process, folder, sum(counted.values()), chance):
            os.kill(process.pid, 9)
            killed += 1
        output, errors = process.communicate(timeout=300)
        again = {t for t in before if starts(folder)[t] != counted[t]}
        assert not again, f"successes in force were repeated: {again}"
        if process.returncode == 0:
            assert output.startswith("COMPLETED"), output + errors
            break
        assert process.returncode == -9, errors
    state = state_of(plan, plan_run)
    assert state.end_status == "completed"
    return killed, len(check_against_the_tasks_own_words(state, plan, folder))


def wait_to_kill(process: object, folder: Path, counted: int, chance: random.Random) -> bool:
    """Wait until a random number of bodies have begun, and a random moment more."""
    wanted = counted + chance.randint(0, 12)
    end = time.monotonic() + 240  # more than a loaded machine needs
    while sum(starts(folder).values()) < wanted and time.monotonic() < end:
        if process.poll() is not None:  # type: ignore[attr-defined]
            return False
        time.sleep(0.005)
    time.sleep(chance.uniform(0, 0.3))
    return process.poll() is None  # type: ignore[attr-defined]


def test_of_two_dispatchers_one_wins(prefect_api: str, tmp_path: Path) -> None:
    path, plan_run = thirty_tasks(tmp_path, seconds=0.3), uuid4()
    both = [start(path, plan_run, PREFECT_API_URL=prefect_api) for _ in range(2)]
    outputs = [p.communicate(timeout=300) for p in both]
    ends = sorted(out.split(maxsplit=1)[0] for out, _ in outputs)
    plan = Plan.load(path)
    state = state_of(plan, plan_run)
    assert state.end_status == "completed", outputs
    assert set(starts(tmp_path).values()) == {1}
    if ends == ["COMPLETED", "FAILED"]:  # else the second came when the first was done
        loser = next(out for out, _ in outputs if out.startswith("FAILED"))
        assert "is run by" in loser

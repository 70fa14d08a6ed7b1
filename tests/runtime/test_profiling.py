"""Sampling profiles: of which tasks, and that they never fail what they watch."""

from __future__ import annotations

import asyncio
import importlib.util
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from athena_prefect.learning.memory import Consolidation, Evidence, LessonKind
from athena_prefect.learning.spots import Spot
from athena_prefect.plan.model import Plan
from athena_prefect.runtime import profiling
from athena_prefect.runtime.profiling import interval, profiled, tasks_to_profile
from athena_prefect.settings import AthenaSettings
from athena_prefect.storage.db import Database
from athena_prefect.storage.history import StoredHistory
from athena_prefect.storage.lessons import StoredLessons
from tests.runtime.support import plan_of, run

T0 = datetime(2026, 1, 5, tzinfo=UTC)
DAY = timedelta(days=1)
PLAN = Plan.model_validate({"name": "p", "tasks": [{"id": "a"}, {"id": "b"}]})
ROOT = Path(__file__).parents[2]


def busy() -> int:
    until, count = time.perf_counter() + 0.1, 0
    while time.perf_counter() < until:
        count += 1
    return count


@pytest.mark.skipif(importlib.util.find_spec("pyinstrument") is None, reason="needs `profile`")
def test_time_is_put_down_to_the_function_of_the_project() -> None:
    with profiled(ROOT, expected=0.1) as spots:
        busy()
    assert spots[0].function == "busy" and spots[0].share > 0.5
    assert spots[0].file == "tests/runtime/test_profiling.py"


@pytest.mark.skipif(importlib.util.find_spec("pyinstrument") is None, reason="needs `profile`")
def test_what_a_coroutine_awaits_is_its_own_time() -> None:
    async def waiting() -> None:
        for _ in range(5):
            busy()
            await asyncio.sleep(0.2)

    async def body() -> list[Spot]:
        with profiled(ROOT, expected=1.5, asynchronous=True) as spots:
            await waiting()
        return spots

    found = {s.function: s for s in asyncio.run(body())}
    assert found["waiting"].share > 0.3 and found["busy"].share > 0.1


def test_a_profiler_that_is_missing_or_fails_fails_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profiling, "available", lambda: False)
    with profiled(ROOT) as spots:
        busy()
    assert spots == []


def test_an_error_of_the_body_goes_through() -> None:
    with pytest.raises(ZeroDivisionError), profiled(ROOT):
        raise ZeroDivisionError


def test_samples_are_further_apart_the_longer_a_task_is() -> None:
    assert interval(None) == interval(0.5) == 0.001
    assert interval(60) == pytest.approx(0.03)
    assert interval(86_400) == 0.1


def test_which_tasks_are_sampled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def wanted(profile: str) -> frozenset[str]:
        settings = AthenaSettings(home=tmp_path, profile=profile)
        return tasks_to_profile(PLAN, settings, T0)

    assert AthenaSettings(home=tmp_path).profile == "off"
    assert wanted("off") == frozenset() and wanted("all") == {"a", "b"}
    assert wanted("b,c") == {"b"} and wanted("auto") == frozenset()
    said = Evidence(
        kind=LessonKind.CODE, subject="a", statement="slower", at=T0, run="r", plan="p", value=2.0
    )
    StoredLessons(Database.open(AthenaSettings(home=tmp_path))).learn([said], Consolidation())
    assert wanted("auto") == {"a"}
    # Once: a run that sampled it since is enough, one that did before it was found is not.
    for at, expected in ((T0 - DAY, {"a"}), (T0 + DAY, frozenset())):
        monkeypatch.setattr(
            StoredHistory, "sampled_tasks", lambda *_, at=at: dict.fromkeys("ab", (at, []))
        )
        assert wanted("auto") == expected
    # Sampled for being long, then slower as well: once more.
    monkeypatch.setattr(
        StoredHistory, "sampled_tasks", lambda *_: dict.fromkeys("ab", (T0 + DAY, []))
    )
    long = replace(said, kind=LessonKind.DURATION, at=T0 - 3 * DAY)
    slower = replace(said, subject="b", at=T0 + 2 * DAY)
    memory = StoredLessons(Database.open(AthenaSettings(home=tmp_path)))
    memory.learn([replace(long, subject="b"), slower, long], Consolidation())
    assert wanted("auto") == {"b"}


@pytest.mark.prefect
@pytest.mark.usefixtures("prefect_api")
@pytest.mark.skipif(importlib.util.find_spec("pyinstrument") is None, reason="needs `profile`")
def test_a_run_keeps_where_the_time_of_its_marked_tasks_went(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ATHENA_PROFILE", "here,apart")
    plan = plan_of(
        {"id": "here", "call": "spin", "with": {"seconds": 0.3}},
        {"id": "apart", "call": "spin", "with": {"seconds": 0.3}, "isolation": "process"},
        {"id": "unmarked", "call": "spin", "with": {"seconds": 0.01}},
        name="profiled",
    )
    done = run(plan)
    state = done.state
    for task in ("here", "apart"):
        attempt = state.task(task).in_force
        assert attempt is not None
        (spot, *_) = attempt.data["profile"]
        assert (spot["file"], spot["function"]) == ("deeds.py", "spin") and spot["share"] > 0.5
    unmarked = state.task("unmarked").in_force
    assert unmarked is not None and "profile" not in unmarked.data
    history = StoredHistory(Database.open(AthenaSettings()))
    assert history.sampled_tasks("profiled")["here"][1][0]["function"] == "spin"
    # The tests' own checkout, where they run in one.
    commit = history.began_with("profiled")[str(done.plan_run)]["commit"]
    assert commit is None or len(commit) >= 40

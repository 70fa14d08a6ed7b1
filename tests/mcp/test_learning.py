"""What tools say of finished runs: nothing where there are none, else what recurs."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from athena_prefect import service
from athena_prefect.learning.memory import PRIOR, Consolidation, Evidence, LessonKind
from athena_prefect.mcp import results
from athena_prefect.mcp.server import make_server
from athena_prefect.service.plans import register
from athena_prefect.settings import AthenaSettings
from athena_prefect.storage.db import Database
from athena_prefect.storage.lessons import StoredLessons
from tests.mcp.support import Refused, fastmcp_client

TWO = """
name: two
tasks:
  - {id: a, duration: 60s}
  - {id: b, duration: 60s, depends_on: [a]}
"""


@pytest.fixture
def two(settings: AthenaSettings, tmp_path: Path) -> int:
    """A plan of two tasks."""
    file = tmp_path / "two.yaml"
    file.write_text(TWO)
    return register(file, settings=settings).plan_id


LONG_AGO = datetime(2025, 3, 3, tzinfo=UTC)


def finished(
    plan_id: int, number: int, settings: AthenaSettings, since: datetime = LONG_AGO
) -> int:
    """A run that is over: `a` as planned, `b` half as long again."""
    start = since + number * timedelta(hours=1)
    run = service.begin(plan_id, started_at=start, settings=settings).plan_id
    at = start
    for task, seconds in (("a", 60), ("b", 90 + number % 2)):
        service.record(run, task, "start", at=at, settings=settings)
        at += timedelta(seconds=seconds)
        told = service.record(run, task, "complete", outcome="success", at=at, settings=settings)
    assert told.ended == "completed"
    return run


def asked(settings: AthenaSettings, *names: str, **arguments: Any) -> list[dict[str, Any]]:
    async def go() -> list[dict[str, Any]]:
        async with fastmcp_client(make_server(settings)) as call:
            return [await call(name, **arguments) for name in names]

    return asyncio.run(go())


TOOLS = ("get_estimation_accuracy", "get_execution_recommendations")


def test_nothing_is_invented(two: int, settings: AthenaSettings) -> None:
    for found in asked(settings, *TOOLS, plan_id=two):
        assert (found["plan"], found["runs"]) == ("two", 0)
        assert "no finished run of two" in found["reason"] and "no finished run" in found["summary"]
    (patterns,) = asked(settings, "get_execution_patterns", plan_id=two)
    assert patterns["patterns"] == [] and "no finished run of two" in patterns["reason"]
    accuracy, advice = asked(settings, *TOOLS)
    assert accuracy["plan"] is None and accuracy["avg_duration_error"] is None
    assert accuracy["trend"] is None and accuracy["worst_tasks"] == []
    assert advice["recommendations"] == [] and advice["lessons"] == []
    assert "lesson" not in advice["summary"]
    with pytest.raises(Refused):
        asked(settings, *TOOLS, plan_id=999)


def test_one_run_is_an_observation(two: int, settings: AthenaSettings) -> None:
    run = finished(two, 0, settings)
    accuracy, advice = asked(settings, *TOOLS, plan_id=run)
    (patterns,) = asked(settings, "get_execution_patterns", plan_id=run)
    assert "observation" in patterns["reason"]
    assert all(p["confidence"] is None for p in patterns["patterns"])
    assert accuracy["runs"] == 1 and accuracy["avg_duration_error"] == pytest.approx(0.25)
    assert advice["runs"] == 1 and "observation" in advice["reason"]
    assert all(r["confidence"] is None for r in advice["recommendations"])


def test_what_recurs_is_told_with_what_it_rests_on(two: int, settings: AthenaSettings) -> None:
    for number in range(8):
        finished(two, number, settings)
    accuracy, advice = asked(settings, *TOOLS, plan_id=two)
    (patterns,) = asked(settings, "get_execution_patterns", plan_id=two)
    slow = next(p for p in patterns["patterns"] if "b" in p["affected_tasks"])
    assert slow["confidence"] > 0.9 and slow["runs"] == 8 and slow["p_corrected"] < 0.05
    assert accuracy["runs"] == 8 and accuracy["attempts"] == 16
    worst = accuracy["worst_tasks"][0]
    assert worst["name"] == "b" and worst["bias"] == pytest.approx(0.508, abs=0.01)
    assert "25.4% longer" in accuracy["summary"]
    judged = accuracy["calibration"]
    assert judged["runs"] == 8
    assert judged["forecasts"] >= 16, "at the start and at half of the work"
    assert 0 <= judged["coverage"] <= 1 and {"0", "0.5"} <= judged["coverage_by_share"].keys()
    assert any("b" in r["affected_tasks"] for r in advice["recommendations"])


def test_what_was_learned_is_told_with_its_evidence(two: int, settings: AthenaSettings) -> None:
    yesterday = datetime.now(UTC) - timedelta(days=1)
    runs = [finished(two, number, settings, yesterday) for number in range(8)]
    (before,) = asked(settings, "get_execution_recommendations", plan_id=two)
    assert before["lessons"] == [], "asking learns nothing"
    service.learn("two", settings=settings)
    (advice,) = asked(settings, "get_execution_recommendations", plan_id=runs[0])
    (lesson,) = (one for one in advice["lessons"] if one["kind"] == "duration")
    assert lesson["plan"] == "two" and lesson["tasks"] == ["b"] and "b" in lesson["statement"]
    assert lesson["samples"] == 8 and len(lesson["runs"]) == results.EVIDENCE
    known = service.runs(settings=settings)
    assert lesson["runs"] == [str(r.plan_run) for r in known[: results.EVIDENCE]], "newest first"
    assert lesson["last"] and lesson["because"]
    support, against = lesson["support"], lesson["against"]
    assert lesson["confidence"] == pytest.approx(
        (support + PRIOR) / (support + against + 2 * PRIOR)
    )
    count = len(advice["lessons"])
    assert f" {count} lesson{'' if count == 1 else 's'} remembered." in advice["summary"]
    assert not advice["truncated"]


def test_lessons_are_cut_like_every_list(two: int, settings: AthenaSettings) -> None:
    memory = StoredLessons(Database.open(settings))
    at = datetime.now(UTC)
    memory.learn(
        [
            Evidence(kind=LessonKind.NOTE, subject=f"s{number}", statement=f"note {number}", at=at,
                     run=f"r{number}", plan="another")
            for number in range(results.MOST + 1)
        ],
        Consolidation(),
    )  # fmt: skip
    (advice,) = asked(settings, "get_execution_recommendations")
    assert len(advice["lessons"]) == results.MOST and advice["truncated"]
    assert f"{results.MOST + 1} lessons remembered" in advice["summary"]
    assert all(one["confidence"] is None for one in advice["lessons"]), "seen once"
    (own,) = asked(settings, "get_execution_recommendations", plan_id=two)
    assert own["lessons"] == [] and not own["truncated"], "they do not concern this plan"

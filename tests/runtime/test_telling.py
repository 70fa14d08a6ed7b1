"""What the journal says becomes events: once, in order, with nothing that depends on them."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any
from uuid import UUID, uuid4

import pytest

from athena_prefect.journal.events import (
    Event,
    RunEvent,
    RunEventKind,
    TaskEvent,
    TaskEventKind,
    TaskOutcome,
)
from athena_prefect.journal.journal import MemoryJournal
from athena_prefect.plan.model import Plan
from athena_prefect.runtime.events import PlanEvent, Sender
from athena_prefect.runtime.telling import BATCH, Deriver, Telling

T0 = datetime(2026, 1, 5, 8, tzinfo=UTC)
RUN = UUID(int=7)
PLAN = Plan.model_validate(
    {
        "name": "told",
        "deadline": "1h",
        "tasks": [
            {"id": "a", "duration": "10m"},
            {"id": "m", "duration": "1m", "inputs": {"x": "a"}, "map_over": "x"},
        ],
    }
)


def run_event(kind: RunEventKind, minutes: float = 0, **data: Any) -> RunEvent:
    at = T0 + timedelta(minutes=minutes)
    return RunEvent(plan_run=RUN, kind=kind, at=at, source=str(minutes), data=data)


def task_event(task: str, kind: TaskEventKind, minutes: float, **more: Any) -> TaskEvent:
    at = T0 + timedelta(minutes=minutes)
    index = more.get("map_index", "")
    return TaskEvent(plan_run=RUN, task_id=task, kind=kind, at=at, source=f"{task}{index}", **more)


START, END = TaskEventKind.STARTED, TaskEventKind.ENDED
STORY: list[Event] = [
    run_event(RunEventKind.STARTED, flow_run_id="f1", revision=1),
    task_event("a", START, 1),
    task_event("a", END, 2, outcome=TaskOutcome.FAILURE, state_name="AwaitingRetry"),
    task_event("a", START, 3, run_count=2),
    task_event("a", END, 4, run_count=2, outcome=TaskOutcome.SUCCESS, state_name="Completed"),
    task_event("m", TaskEventKind.EXPANDED, 5, data={"items": 2}),
    task_event("m", START, 5, map_index=0),
    task_event("m", START, 5, map_index=1),
    task_event("m", END, 6, map_index=1, outcome=TaskOutcome.SUCCESS),
    run_event(
        RunEventKind.BREACHED, 6.5, name="deadline", episode=1, level="high",
        event="athena.plan.at-risk", reason="late", figures={"p_deadline": 0.5},
    ),
    task_event("m", END, 7, map_index=0, outcome=TaskOutcome.FAILURE, state_name="Failed"),
    run_event(RunEventKind.EASED, 8, name="deadline", episode=1),
    run_event(RunEventKind.ENDED, 70, status="failed", reason="m failed"),
]  # fmt: skip


def journal_of(*events: Event) -> MemoryJournal:
    journal = MemoryJournal()
    journal.append(*events)
    return journal


def test_the_events_of_a_story() -> None:
    found = Deriver(PLAN, RUN, "default").take(journal_of(*STORY).read(RUN))
    assert [e.event.removeprefix("athena.") for _, e in found] == [
        "plan.started",
        "task.started",
        "task.started",
        "task.completed",
        "task.started",
        "plan.at-risk",
        "task.failed",
        "plan.failed",
    ]
    assert {e.flow_run_id for _, e in found} == {"f1"}
    assert len({e.id for _, e in found}) == len(found)
    end = found[-1][1].figures
    assert (end["late"], end["duration_s"], end["reason"]) == (True, 4200.0, "m failed")
    assert found[5][1].figures["p_deadline"] == 0.5


@pytest.mark.parametrize(
    ("status", "name"),
    [("completed", "completed"), ("cancelled", "aborted"), ("aborted", "aborted")],
)
def test_how_a_run_ended(status: str, name: str) -> None:
    journal = journal_of(STORY[0], run_event(RunEventKind.ENDED, 5, status=status))
    found = Deriver(PLAN, RUN, "default").take(journal.read(RUN))
    assert found[-1][1].event == f"athena.plan.{name}"


class Heard(Sender):
    """Keeps what it is sent; deaf while `away`."""

    def __init__(self) -> None:
        super().__init__()
        self.events: list[PlanEvent] = []
        self.away = False

    def send(self, events: Any, client: Any = None) -> bool:
        if not self.away:
            self.events += events
        return not self.away


def telling(journal: MemoryJournal, sender: Sender) -> Telling:
    return Telling(
        plan=PLAN, plan_run=RUN, journal=journal, namespace="default",
        clock=lambda: T0 + timedelta(hours=2), sender=sender,
    )  # fmt: skip


def test_what_was_told_is_not_told_again_by_another_process() -> None:
    journal, heard = journal_of(*STORY[:5]), Heard()
    heard.away = True
    one = telling(journal, heard)
    assert one.tell() == 0
    heard.away = False
    assert one.tell() == 4
    assert one.tell() == 0
    one.mark()
    other = telling(journal, heard)
    assert other.tell() == 0
    journal.append(*STORY[5:])
    other.end()
    assert len(heard.events) == 8
    third = telling(journal, heard)
    third.end()
    assert len(heard.events) == 8


def test_the_rate_is_bounded_and_the_plan_comes_first() -> None:
    items = [task_event("a", START, i, run_count=i + 1) for i in range(BATCH + 20)]
    journal, heard = journal_of(STORY[0], *items, STORY[-1]), Heard()
    one = telling(journal, heard)
    assert one.tell() == BATCH
    assert [e.event for e in heard.events[:2]] == ["athena.plan.started", "athena.plan.failed"]
    one.mark()
    # Only what was told without a gap counts as told: the rest is told by whoever comes next.
    other = telling(journal, heard)
    assert other.tell() > 0
    assert one.tell() == 22
    assert len({e.id for e in heard.events}) == len(items) + 2


def test_a_run_assesses_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    from athena_prefect.schedule.baseline import make_baseline

    journal = journal_of(STORY[0])
    one = telling(journal, Heard())
    assert one.assess() == ()
    data = make_baseline(PLAN, seed=0, samples=50).as_dict()
    journal.append(RunEvent(plan_run=RUN, kind=RunEventKind.BASELINED, at=T0, data=data))
    one._not_before = 0.0
    assert {e.data["name"] for e in one.assess()} >= {"deadline", "deviation"}
    one._not_before = 0.0
    assert one.assess() == ()


def test_a_run_keeps_its_forecasts() -> None:
    from athena_prefect.schedule.baseline import make_baseline

    data = make_baseline(PLAN, seed=0, samples=50).as_dict()
    baselined = RunEvent(plan_run=RUN, kind=RunEventKind.BASELINED, at=T0, data=data)
    # One of three pieces of work is done: the task, of two items none.
    journal = journal_of(STORY[0], baselined, *STORY[1:6])
    one = telling(journal, Heard())
    for _ in range(2):
        one._not_before = 0.0
        one.assess()
    (kept,) = [
        e.event
        for e in journal.read(RUN)
        if isinstance(e.event, RunEvent) and e.event.kind is RunEventKind.FORECAST
    ]
    assert kept.source == "25"
    assert kept.data["share_done"] == pytest.approx(1 / 3)
    assert {"p10", "p50", "p90"} <= set(kept.data["quantiles"])


@pytest.fixture
def hook() -> Iterator[tuple[str, list[str]]]:
    """A webhook of this machine, and what was posted to it."""
    posted: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            posted.append(self.rfile.read(int(self.headers["Content-Length"])).decode())
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/", posted
        server.shutdown()
        thread.join()


@pytest.mark.prefect
def test_the_documented_automation_sends_one_message_a_breach(
    prefect_api: str, hook: tuple[str, list[str]]
) -> None:
    from prefect.blocks.notifications import CustomWebhookNotificationBlock

    from tests.docs.pages import ROOT, blocks_of

    url, posted = hook
    block = CustomWebhookNotificationBlock(
        name="late", url=url, json_data={"subject": "{{subject}}", "body": "{{body}}"}
    )
    made: Any = block.save(f"late-{uuid4().hex[:8]}")
    (code,) = [
        b for b in blocks_of(ROOT / "docs/how-to/notifications.md") if b.language == "python"
    ]
    names: dict[str, Any] = {}
    exec(code.text, names)
    plan = f"told-{uuid4().hex[:8]}"
    automation = names["tell_of_late_plans"](made, plan).create()
    try:
        time_is = datetime.now(UTC)
        risk = {
            "name": "deadline", "episode": 1, "level": "high", "event": "athena.plan.at-risk",
            "reason": "the deadline is met with probability 0.50",
            "figures": {"deadline": "06:00", "finish_p50": None},
        }  # fmt: skip
        source = PlanEvent(
            event="athena.plan.at-risk", plan=plan, key="k", at=time_is, plan_run=uuid4(),
            figures={**risk, **risk["figures"]},  # type: ignore[dict-item]
        )  # fmt: skip
        last = PlanEvent(
            event="athena.plan.deviated", plan=plan, key="k", at=time_is, plan_run=uuid4(),
            figures={"level": "medium", "reason": "last"},
        )  # fmt: skip
        # The server learns of a new automation in its own time, and takes an event that it has
        # seen before that for known ever after: each that asks whether it has is another one.
        for number in range(1200):
            asks = replace(last, key=f"{number}", figures={"level": "asks", "reason": "known?"})
            assert Sender().send([asks])
            if posted:
                break
            time.sleep(0.2)
        for event, word in ((source, "probability 0.50"), (last, "last")):
            assert Sender().send([event, event])
            for _ in range(2400):
                if any(word in p for p in posted):
                    break
                time.sleep(0.1)
    finally:
        automation.delete()
    posted = [p for p in posted if "known?" not in p]
    assert len(posted) == 2, posted
    assert f"{plan}: high" in posted[0]
    assert "the deadline is met with probability 0.50" in posted[0]
    assert str(source.plan_run) in posted[0]


@pytest.mark.prefect
def test_a_real_run_tells_of_itself_once(prefect_api: str) -> None:
    from prefect.client.orchestration import get_client

    from tests.runtime.support import plan_of, run

    name = f"tells-{uuid4().hex[:8]}"
    plan = plan_of(
        {"id": "numbers", "call": "numbers", "duration": "1s"},
        {"id": "square", "call": "square", "inputs": {"x": "numbers"}, "map_over": "x"},
        {"id": "fails", "call": "fail", "optional": True},
        name=name,
        deadline="1h",
    )
    done = run(plan)
    assert done.final.is_completed()
    flow_run = done.final.state_details.flow_run_id
    found: list[dict[str, Any]] = []
    with get_client(sync_client=True) as client:
        for _ in range(2400):
            wanted = {"related": {"id": [f"prefect.flow-run.{flow_run}"]}}
            wanted["event"] = {"prefix": ["athena."]}
            answer = client.request("POST", "/events/filter", json={"filter": wanted})
            found = answer.json()["events"]
            if any(e["event"] == "athena.plan.completed" for e in found) and len(found) >= 8:
                break
            time.sleep(0.1)
    told = sorted((e["event"], e["payload"].get("task_id") or "") for e in found)
    assert told == [
        ("athena.plan.completed", ""),
        ("athena.plan.started", ""),
        ("athena.task.completed", "numbers"),
        ("athena.task.completed", "square"),
        ("athena.task.failed", "fails"),
        ("athena.task.started", "fails"),
        ("athena.task.started", "numbers"),
        ("athena.task.started", "square"),
    ]
    end = next(e for e in found if e["event"] == "athena.plan.completed")
    assert end["payload"]["late"] is False

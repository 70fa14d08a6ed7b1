"""Charts and the page: well-formed, complete, escaped, self-contained, of any size."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import timedelta
from html.parser import HTMLParser
from itertools import pairwise
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from athena_prefect.journal.events import (
    CheckEvent,
    Command,
    CommandKind,
    Event,
    RunEvent,
    RunEventKind,
    TaskEvent,
    TaskEventKind,
    TaskOutcome,
)
from athena_prefect.journal.state import Status, evolve, fold
from athena_prefect.monitor.deviation import PlanDeviation
from athena_prefect.plan.model import Criticality, Plan
from athena_prefect.report.charts import layers, mermaid, network, resource_profile
from athena_prefect.report.gantt import gantt, overview, row_height
from athena_prefect.report.page import Profile, event_words, page, status_word
from athena_prefect.report.svg import elapsed, shortened, ticks
from athena_prefect.report.view import RunView, build, profile, used_profile
from tests.report.runs import RUN, START, earliest, event, half_run, plan_of, view_of

SVG = "{http://www.w3.org/2000/svg}"
NASTY = "<script>alert('&\"]]>')</script>"


def deviation(**more: object) -> PlanDeviation:
    values: dict[str, object] = {
        "time_deviation": timedelta(seconds=9),
        "time_deviation_percent": 0.15,
        "resource_deviation": {},
        "completion_rate": 0.5,
        "completed_tasks": 3,
        "total_tasks": 10,
        "tasks_at_risk": (),
        "critical_path": (),
        "estimated_completion": None,
        "confidence": 0.8,
        "deviation_severity": Criticality.MEDIUM,
        "deadline_probability": 0.82,
        "samples": 2000,
    }
    return PlanDeviation(**{**values, **more})  # type: ignore[arg-type]


def rows(svg: str) -> list[ElementTree.Element]:
    return [g for g in ElementTree.fromstring(svg).iter(f"{SVG}g") if g.get("class") == "row"]


def numbers(svg: str, name: str) -> list[float]:
    return [float(e.get(name, "0")) for e in ElementTree.fromstring(svg).iter(f"{SVG}rect")]


@pytest.mark.parametrize(("count", "width"), [(1, 1), (10, 3), (40, 4), (120, 6), (500, 12)])
def test_a_gantt_has_a_row_with_a_tooltip_a_task_and_stays_within_its_width(
    count: int, width: int
) -> None:
    view = view_of(count, width=width)
    svg = gantt(view)
    found = rows(svg)
    assert [g.findtext(f"{SVG}title", "").split("\n")[0] for g in found] == [
        r.task_id for r in view.rows
    ]
    total = float(ElementTree.fromstring(svg).get("width", "0"))
    ends = [x + w for x, w in zip(numbers(svg, "x"), numbers(svg, "width"), strict=True)]
    assert max(ends) <= total + 0.01


def test_labels_never_overlap() -> None:
    for count in (10, 60, 150, 300, 500, 1000):
        svg = gantt(view_of(count, width=10))
        labels = [t for g in rows(svg) for t in g.findall(f"{SVG}text")]
        places = [(float(t.get("y", "0")), float(t.get("font-size", "0"))) for t in labels]
        for (above, _), (below, size) in pairwise(places):
            assert below - above >= size


def test_rows_get_flatter_but_never_vanish() -> None:
    heights = [row_height(n) for n in (1, 30, 31, 60, 150, 300, 500, 100_000)]
    assert heights == sorted(heights, reverse=True)
    assert heights[-1] >= 6


def test_large_plans_get_an_overview_by_group_and_small_ones_none() -> None:
    assert overview(view_of(10)) is None
    large = overview(view_of(500, width=12))
    assert large is not None
    assert len(rows(large)) == 4


def test_a_run_shows_deadline_now_forecast_and_critical_path() -> None:
    svg = gantt(view_of(10, width=3))
    for sign in ('class="deadline"', 'class="now"', 'class="forecast"', 'class="path"', "whisker"):
        assert sign in svg


def test_a_plan_that_has_not_run_shows_the_plan_alone() -> None:
    plan = plan_of(10)
    svg = gantt(build(plan, planned=earliest(plan)))
    assert 'class="now"' not in svg
    assert 'class="running"' not in svg
    assert svg.count('class="planned"') == len(plan.tasks) + 1  # and its key in the legend


def test_a_far_deadline_does_not_squeeze_the_work() -> None:
    view = view_of(10)
    far = replace(view, deadline=view.horizon * 100)
    assert far.horizon < view.horizon * 2
    assert "→" in gantt(far)


def nasty() -> tuple[Plan, RunView]:
    plan = Plan.model_validate(
        {
            "name": "nasty",
            "description": NASTY,
            "tasks": [{"id": "a", "description": NASTY, "duration": 1, "category": NASTY}],
            "assumptions": [{"id": "x", "description": NASTY, "mitigation": NASTY}],
        }
    )
    state, now = half_run(plan)
    failed = evolve(
        state,
        TaskEvent(
            plan_run=RUN, task_id="a", kind=TaskEventKind.ENDED, at=now, source="run-a",
            outcome=TaskOutcome.FAILURE, data={"error": NASTY},
        ),
    )  # fmt: skip
    return plan, build(plan, planned=earliest(plan), state=failed, now=now)


def test_what_users_write_is_text_and_never_markup() -> None:
    plan, view = nasty()
    state, now = half_run(plan)
    html = page(plan, view, state, deviation(reason=NASTY), as_of=now)
    for text in (gantt(view), network(view), html):
        assert NASTY not in text
    ElementTree.fromstring(gantt(view))
    ElementTree.fromstring(network(view))
    assert "<" not in mermaid(view).replace("<br/>", "")


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [v or "" for k, v in attrs if k in ("src", "href", "xlink:href")]
        if tag not in ("meta", "input", "br", "th"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag != "th":
            assert self.open.pop() == tag


@pytest.mark.parametrize(("count", "width"), [(1, 1), (10, 3), (500, 12)])
def test_the_page_is_whole_and_needs_nothing_else(count: int, width: int) -> None:
    plan, view = plan_of(count, width=width), view_of(count, width=width)
    state, now = half_run(plan)
    used = used_profile(state, view.now or 0)
    planned = profile(plan, earliest(plan))
    events: list[Event] = [event(t, TaskEventKind.STARTED, 1.0) for t in plan.tasks]
    html = page(
        plan, view, state, deviation(basis="from 12 runs, 480 records"), as_of=now, events=events,
        profiles=[Profile(name="cpu", capacity=8, planned=planned["cpu"], used=used["cpu"])],
    )  # fmt: skip
    parsed = _Page()
    parsed.feed(html)
    assert parsed.open == []
    assert parsed.links == []
    assert "@import" not in html
    assert "url(" not in html
    for fact in ("82%", "9s late", "Forecast finish", "Baseline finish", "severity medium"):
        assert fact in html
    assert "8 times in 10; from 12 runs, 480 records" in html
    assert html.count("<tr><td><span") == count


def test_a_run_that_is_over_says_how_it_ended_and_whether_in_time() -> None:
    plan = plan_of(4)
    state, now = half_run(plan, share=2.0)
    ended = evolve(
        state,
        RunEvent(
            plan_run=RUN, kind=RunEventKind.ENDED, at=now, data={"status": "failed", "reason": "so"}
        ),
    )
    for deadline, word in ((1e6, "met"), (0.1, "missed")):
        view = build(plan, planned=earliest(plan), state=ended, now=now, deadline=deadline)
        html = page(plan, view, ended, None, as_of=now)
        assert f"<dd>{word}" in html
        assert '<p class="reason">so</p>' in html
    assert status_word(ended) == ("failed", "failed")


def test_without_figures_the_page_says_that_they_are_unknown() -> None:
    plan = plan_of(4)
    state, now = half_run(plan)
    view = build(plan, planned={}, state=state, now=now, deadline=100)
    unknown = deviation(
        time_deviation=None, deadline_probability=None, reason="no estimate for step_000_load"
    )
    html = page(plan, view, state, unknown, as_of=now)
    assert "no estimate for step_000_load" in html
    assert "probability unknown" in html
    assert "late</" not in html


def test_status_words() -> None:
    assert status_word(fold([]))[0] == "not started"
    started = fold([RunEvent(plan_run=RUN, kind=RunEventKind.STARTED, at=START)])
    assert status_word(started)[0] == "running"
    assert status_word(replace(started, paused=True))[0] == "paused"


def test_every_kind_of_event_has_words() -> None:
    plan = plan_of(1)
    failed = TaskEvent(
        plan_run=RUN, task_id="a", kind=TaskEventKind.ENDED, at=START, source="s", map_index=3,
        run_count=2, outcome=TaskOutcome.FAILURE, data={"reason": "why"},
    )  # fmt: skip
    assert event_words(failed) == "a[3] ended failure, try 2: why"
    assert "started" in event_words(event(plan.tasks[0], TaskEventKind.STARTED, 0))
    run = RunEvent(plan_run=RUN, kind=RunEventKind.ENDED, at=START, data={"status": "completed"})
    assert event_words(run) == "run ended: completed"
    kept = RunEvent(
        plan_run=RUN, kind=RunEventKind.FORECAST, at=START, source="25",
        data={"share_done": 0.26, "basis": "from 3 runs, 9 records"},
    )  # fmt: skip
    assert event_words(kept) == "forecast kept with 26 % of the work done, from 3 runs, 9 records"
    check = CheckEvent(plan_run=RUN, assumption_id="disk", check_id="1", at=START, verdict="holds")
    assert event_words(check) == "disk holds"
    told = Command(plan_run=RUN, command_id="1", kind=CommandKind.PAUSE, at=START)
    assert "command" in event_words(told)


def test_assumptions_are_listed_with_their_last_verdict() -> None:
    plan, view = nasty()
    state, now = half_run(plan)
    checked = evolve(
        state, CheckEvent(plan_run=RUN, assumption_id="x", check_id="1", at=now, verdict="violated")
    )
    assert "violated, 2026" in page(plan, view, checked, None, as_of=now)
    assert "not checked" in page(plan, view, state, None, as_of=now)


def test_the_network_draws_every_task_and_arc() -> None:
    view = view_of(10, width=3)
    svg = ElementTree.fromstring(network(view))
    assert len([r for r in svg.iter(f"{SVG}rect") if "node" in r.get("class", "")]) == 10
    assert len([p for p in svg.iter(f"{SVG}path") if "edge" in p.get("class", "")]) == len(
        view.arcs
    )


def test_layers_point_forward() -> None:
    view = view_of(60, width=5)
    level = {t: i for i, layer in enumerate(layers(view)) for t in layer}
    assert len(level) == 60
    assert all(level[a] < level[b] for a, b, _ in view.arcs)


def test_mermaid_names_every_task_and_draws_soft_arcs_dotted() -> None:
    plan = Plan.model_validate(
        {
            "name": "m",
            "tasks": [
                {"id": "a", "duration": 1},
                {"id": "b", "duration": 2, "depends_on": [{"task": "a", "kind": "soft"}]},
                {"id": "c", "depends_on": ["a"]},
            ],
        }
    )
    text = mermaid(build(plan, planned={"a": (0, 1), "b": (1, 3)}, critical=["a"]))
    assert text.startswith("flowchart LR\n")
    assert '["a<br/>1s"]' in text
    assert '["c"]' in text
    assert text.count("-.->") == 1
    assert "critical" in text


def test_a_profile_never_exceeds_what_runs_at_once_and_ends_at_nothing() -> None:
    plan = plan_of(30, width=3)
    steps = profile(plan, earliest(plan))["cpu"]
    assert steps[-1][1] == 0
    assert all(0 <= amount <= sum(t.resources["cpu"] for t in plan.tasks) for _, amount in steps)
    state, now = half_run(plan)
    assert used_profile(state, (now - START).total_seconds())["cpu"][-1][1] == 0
    assert used_profile(fold([]), 1.0) == {}
    svg = resource_profile("cpu", 6, steps, horizon=100)
    assert 'class="capacity"' in svg
    ElementTree.fromstring(svg)


def test_mapped_skipped_and_retried_tasks() -> None:
    plan = Plan.model_validate(
        {
            "name": "m",
            "tasks": [
                {"id": "a", "duration": 1},
                {
                    "id": "b",
                    "duration": 1,
                    "inputs": {"x": "a"},
                    "map_over": "x",
                    "expected_items": 3,
                },
                {"id": "c", "duration": 1, "optional": True},
                {"id": "d", "duration": 5, "retries": 1},
            ],
        }
    )
    _, b, c, d = plan.tasks
    at: list[Event] = [
        RunEvent(plan_run=RUN, kind=RunEventKind.STARTED, at=START),
        replace(event(b, TaskEventKind.EXPANDED, 1), data={"items": 2}),
        replace(event(b, TaskEventKind.STARTED, 1), map_index=0, source="b0"),
        replace(event(b, TaskEventKind.ENDED, 3, TaskOutcome.SUCCESS), map_index=0, source="b0"),
        replace(event(b, TaskEventKind.STARTED, 2), map_index=1, source="b1"),
        replace(event(c, TaskEventKind.SKIPPED, 1), data={"reason": "not wanted"}),
        event(d, TaskEventKind.STARTED, 0),
        replace(event(d, TaskEventKind.ENDED, 1, TaskOutcome.FAILURE)),
        replace(event(d, TaskEventKind.STARTED, 2), run_count=2),
    ]
    state = fold(at)
    view = build(plan, planned=earliest(plan), state=state, now=START + timedelta(seconds=4))
    found = {r.task_id: r for r in view.rows}
    assert found["b"].items == (1, 2)
    assert [(s.start, s.finish) for s in found["b"].actual] == [(1, 4)]
    assert found["c"].status is Status.SKIPPED
    assert found["c"].detail == "not wanted"
    assert [s.status for s in found["d"].actual] == [Status.FAILURE, Status.RUNNING]
    assert found["a"].actual == ()
    text = gantt(view)
    assert "b 1/2" in text


@given(st.floats(0, 1e9), st.floats(50, 2000))
def test_ticks_are_within_and_not_too_many(horizon: float, room: float) -> None:
    found = list(ticks(max(horizon, 1e-3), room))
    assert found[0] == 0
    assert found[-1] <= max(horizon, 1e-3) * (1 + 1e-9)
    assert len(found) <= max(room, 70) / 70 + 2


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0s"), (0.254, "0.25s"), (9.999, "10s"), (59.6, "1m"), (61, "1m 1s"), (3600, "1h"),
     (5400, "1h 30m"), (90061, "1d 1h"), (-5, "−5s"), (3601, "1h")],
)  # fmt: skip
def test_times_in_words(seconds: float, words: str) -> None:
    assert elapsed(seconds) == words


@given(st.text(max_size=60), st.integers(3, 40))
def test_shortened_fits(text: str, limit: int) -> None:
    assert len(shortened(text, limit)) <= limit
    assert shortened(text, 60) == text


def test_dark_and_light_colours_are_declared_once() -> None:
    svg = gantt(view_of(4))
    assert len(re.findall("prefers-color-scheme", svg)) == 1
    assert "prefers-color-scheme" not in gantt(view_of(4), inline=True)

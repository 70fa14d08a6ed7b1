"""What is kept of a proposal, and whether it would have been right when its run is over."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

from athena_prefect.journal.events import RunEvent, RunEventKind, TaskOutcome
from athena_prefect.journal.state import ExecutionState
from athena_prefect.monitor.monitor import ExecutionMonitor
from athena_prefect.plan.model import Plan
from athena_prefect.replanning.account import account
from athena_prefect.replanning.evaluation import AdaptiveReplanning
from athena_prefect.replanning.hindsight import Hindsight, hindsight
from athena_prefect.report.replanning import (
    form_markdown,
    lines,
    options_markdown,
    replanning_html,
    replanning_markdown,
)
from tests.replanning.test_engine import T0, _do, _engine, _monitored


def _plan(**more: Any) -> Plan:
    return Plan.model_validate(
        {
            "name": "p",
            "deadline": 400,
            "resources": {"cpu": {"capacity": 1}},
            "goals": ["d"],
            "tasks": [
                {"id": "a", "duration": 100},
                {"id": "b", "duration": 100, "depends_on": ["a"], "resources": {"cpu": 1}},
                {"id": "x", "duration": 100, "depends_on": ["a"], "resources": {"cpu": 1},
                 "optional": True, "value": 0.1},
                {"id": "d", "duration": 100, "depends_on": ["b", {"task": "x", "kind": "soft"}],
                 "resources": {"cpu": 1}, "modes": [{"name": "fast", "duration": 50}]},
            ],
            **more,
        }
    )  # fmt: skip


def _proposed(monitor: ExecutionMonitor, wanted: str) -> tuple[dict[str, Any], Any]:
    """What is kept where the option that makes `wanted` is recommended."""
    engine = _engine(monitor)
    deviation = monitor.get_plan_deviation()
    options = engine.get_replanning_options(deviation, [], strategy=AdaptiveReplanning.FULL)
    chosen = next(o for o in options if wanted in o.changes and len(o.changes) == 1)
    kept = account(options, chosen, monitor.brought_up()[1])
    return json.loads(json.dumps(kept)), chosen


def _over(monitor: ExecutionMonitor) -> ExecutionState:
    return replace(monitor.state, ended=monitor.context.clock())


def _late() -> tuple[ExecutionMonitor, Any]:
    monitor, clock = _monitored(_plan())
    _do(monitor, clock, "a", 200)
    return monitor, clock


def test_a_proposal_is_kept_with_its_times_and_its_partial_order() -> None:
    monitor, _ = _late()
    kept, chosen = _proposed(monitor, "x is left out")
    assert kept["option"] == chosen.title
    assert [o["title"] for o in kept["options"]][-1] == "Abort and escalate"
    assert kept["before"].keys() == {"a", "b", "x", "d"} and kept["after"].keys() == {"a", "b", "d"}
    assert kept["after"]["d"] == [300.0, 400.0] and kept["now"] == 200.0
    rows = {r["task"]: r for r in kept["course"]["rows"]}
    assert rows.keys() == {"a", "b", "d"}
    assert rows["d"]["after"] == [[rows["b"]["row"], 0.0]]


def test_leaving_out_would_have_been_right() -> None:
    monitor, clock = _late()
    kept, _ = _proposed(monitor, "x is left out")
    assert hindsight(kept["course"], monitor.plan, monitor.state) is None, "not over yet"
    for task, seconds in (("b", 120), ("x", 150), ("d", 80)):
        _do(monitor, clock, task, seconds)
    found = hindsight(kept["course"], monitor.plan, _over(monitor))
    # 200 + 120 + 80, the durations that they had, instead of 550.
    assert found == Hindsight(finish=550.0, would_be=400.0, accepted=400.0, assumed=())
    assert found.right and found.kept and found.gain == timedelta(seconds=150)
    assert str(found) == "right: it would have ended after 6m40s, 2m30s earlier"


def test_what_gains_nothing_was_wrong_and_a_promise_may_break() -> None:
    monitor, clock = _late()
    kept, _ = _proposed(monitor, "x is left out")
    _do(monitor, clock, "x", 1)
    clock.advance(timedelta(seconds=-0.0))
    _do(monitor, clock, "b", 300)
    _do(monitor, clock, "d", 100)
    found = hindsight(kept["course"], monitor.plan, _over(monitor))
    assert found is not None and found.finish == 601.0 and found.would_be == 600.0
    assert found.right and found.kept is False
    assert str(found).endswith("its promise would have been broken")


def test_a_mode_that_never_ran_is_taken_as_planned() -> None:
    monitor, clock = _late()
    kept, _ = _proposed(monitor, "d in mode fast instead of default")
    for task in ("b", "x", "d"):
        _do(monitor, clock, task, 10)
    found = hindsight(kept["course"], monitor.plan, _over(monitor))
    assert found is not None and found.assumed == ("d",)
    # 230 in truth; with `fast` as planned 200 + 10 + 10 + 50.
    assert (found.finish, found.would_be) == (230.0, 270.0) and not found.right
    assert str(found).startswith("wrong: it would have ended after 4m30s, 40s later")
    assert "d as planned" in str(found)


def test_a_run_that_failed_is_helped_by_whatever_reaches_its_goals() -> None:
    monitor, clock = _late()
    kept, _ = _proposed(monitor, "d in mode fast instead of default")
    _do(monitor, clock, "b", 10)
    _do(monitor, clock, "x", 10)
    _do(monitor, clock, "d", 10, TaskOutcome.FAILURE)
    found = hindsight(kept["course"], monitor.plan, _over(monitor))
    assert found is not None and found.finish is None and found.right and found.gain is None
    assert str(found).startswith("right: the run did not reach its goals")


def test_pages_show_options_before_and_after_and_what_was_right() -> None:
    monitor, clock = _late()
    kept, chosen = _proposed(monitor, "x is left out")
    monitor.context.journal.append(
        RunEvent(
            plan_run=monitor.context.plan_run, kind=RunEventKind.PROPOSED, at=clock.now(),
            source="k", data={**kept, "decide": "advise", "strategy": "full", "reason": "a <b> |",
                              "recommended": chosen.option_id},
        )
    )  # fmt: skip
    monitor.refresh()
    for task, seconds in (("b", 120), ("x", 150), ("d", 80)):
        _do(monitor, clock, task, seconds)
    state = _over(monitor)
    (line,) = lines(monitor.plan, state)
    assert line.what == "proposed" and line.strategy == "full" and line.at > T0
    assert line.why.startswith("a <b> |. In hindsight right: it would have ended after 6m40s")

    page = replanning_html(monitor.plan, state)
    assert "a &lt;b&gt; |" in page and "<b>" not in page
    assert page.count("<svg") == 1 and "Abort and escalate" in page and "left out" in page
    text = replanning_markdown(monitor.plan, state)
    assert "data:image/svg+xml;base64," in text and "\\|" in text
    assert f"{chosen.option_id} ★ | {chosen.title}" in options_markdown(kept | {
        "recommended": chosen.option_id})  # fmt: skip
    form = form_markdown(kept)
    assert "Before (░) and after (█)" in form and "left out" in form
    longest = max(len(line) for line in form.split("```")[1].splitlines())
    assert longest <= 42, "it stands in a narrow form"
    assert replanning_html(monitor.plan, ExecutionState()) == ""
    assert replanning_markdown(monitor.plan, ExecutionState()) == ""

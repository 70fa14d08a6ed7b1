"""replan, revisions, why and simulate on the command line."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest

from athena_prefect.cli import planning, render
from athena_prefect.cli.base import terminal
from athena_prefect.plan.model import Plan
from athena_prefect.replanning.why import Cause, Share, Why
from athena_prefect.settings import AthenaSettings
from tests.cli.conftest import Athena
from tests.service.levers import LEVERS
from tests.service.standin import StandIn


@pytest.fixture
def run(athena: Athena, tmp_path: Path) -> str:
    """A run whose first task has ended."""
    file = tmp_path / "levers.yaml"
    file.write_text(LEVERS)
    plan_run = uuid4()
    settings = AthenaSettings(home=tmp_path / "home")
    StandIn(stops_after=1)(Plan.load(file), settings=settings, plan_run=plan_run, parameters={})
    return str(plan_run)


def test_options_as_a_table_and_as_json(athena: Athena, run: str) -> None:
    told = athena("replan", run, "--dry-run", "--strategy", "full")
    assert told.code == 0, told.err
    assert "Abort and escalate" in told.out and "against carrying on" in told.out
    assert "█" in told.out, "before and after"
    assert "unit-hours" in told.out and "value lost 0.2" in told.out
    assert "-0.00" not in told.out
    data = json.loads(athena("replan", run, "--dry-run", "--json").out)
    assert data["plan"] == "made-up" and data["options"][-1]["kind"] == "abort"
    refused = athena("replan", run)
    assert refused.code == 2 and "--dry-run" in refused.err
    assert athena("replan", "nobody", "--dry-run").code == 2


def test_options_on_a_narrow_terminal(
    athena: Athena, run: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    lines = athena("replan", run, "--dry-run", "--strategy", "full").out.splitlines()
    head = next(line for line in lines if "P(success)" in line)
    assert "option" in head and "finish" in head and "effort" not in head
    assert max(len(line.rstrip()) for line in lines if "█" in line) <= 60


def test_revisions(athena: Athena, run: str) -> None:
    told = athena("revisions", "made-up")
    assert told.code == 0 and f"run {run[:8]}" in told.out
    rows = json.loads(athena("revisions", run, "--json").out)
    assert [r["revision"] for r in rows] == [1]
    assert athena("revisions", "made-up", "--limit", "0").code == 2


def test_revisions_on_a_narrow_terminal_are_read_by_id(
    athena: Athena, run: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    lines = athena("revisions", "made-up").out.splitlines()
    assert "promised" in lines[0] and "when" not in lines[0]
    assert f"run {run[:8]}" in lines[1] and max(len(line.rstrip()) for line in lines) <= 60


def test_why(athena: Athena, run: str) -> None:
    told = athena("why", run)
    assert told.code == 0 and "set by" in told.out
    assert f"made-up · run {run[:8]} · revision 1 · finish " in told.out
    data = json.loads(athena("why", run, "--json").out)
    total = sum(s["seconds"] for s in data["shares"])
    assert total == pytest.approx(data["slip"], abs=0.05)
    assert data["plan_run"] == run and data["plan"] == "made-up"
    moments = {n: datetime.fromisoformat(data[n]) for n in ("started", "finish", "accepted")}
    assert all(m.tzinfo is not None for m in moments.values())
    late = (moments["finish"] - moments["accepted"]).total_seconds()
    assert late == pytest.approx(data["slip"], abs=0.05)
    (first,) = json.loads(athena("revisions", run, "--json").out)
    promised = datetime.fromisoformat(data["promised"]) - moments["started"]
    assert promised.total_seconds() == pytest.approx(first["promised"], abs=0.05)
    by_plan = athena("why", "made-up")
    assert by_plan.code == 2 and f"its newest run is {run[:8]}" in by_plan.err


def test_why_tells_small_links_together() -> None:
    shares = [10.0, 0.05, 0.04, -0.02]
    found = Why(
        as_of=datetime(2026, 1, 5, tzinfo=UTC),
        slip=timedelta(seconds=sum(shares)),
        shares=tuple(
            Share(cause=Cause.WAIT, task_id="a", amount=timedelta(seconds=s), words=f"because {s}")
            for s in shares
        ),
    )
    told = render.laid_out(terminal(), planning._why(found))
    assert "because 10.0" in told and "because 0.05" not in told
    assert "+0.07s  3 more links of less than 1% of it each" in told.replace("0.07 s", "0.07s")


def test_simulate(athena: Athena, run: str) -> None:
    told = athena("simulate", "levers.yaml")
    assert told.code == 0
    assert "deadline 40s met with probability 0.00" in told.out.replace("40 s", "40s")
    assert "critical in" in told.out and "finish if it fails" in told.out
    assert "would hurt most: fast, finish +40s" in told.out.replace("40 s", "40s")
    data = json.loads(athena("simulate", "levers.yaml", "--json").out)
    assert data["p_deadline"] == 0.0
    assert athena("simulate", "no-such.yaml").code == 2


def test_one_task_and_one_run_are_no_more_than_one(athena: Athena, tmp_path: Path) -> None:
    """Of a plan without uncertainty one run says all."""
    file = tmp_path / "one.yaml"
    file.write_text("name: one\ntasks:\n  - {id: only, call: made:up, duration: 5}\n")
    told = athena("simulate", str(file))
    assert told.code == 0 and "one · 1 task · 1 run\n" in told.out


def test_what_leaves_no_way_hurts_most_also_without_a_deadline(
    athena: Athena, tmp_path: Path
) -> None:
    file = tmp_path / "short.yaml"
    file.write_text("""
name: short
resources: {cpu: {capacity: 2}}
tasks: [{id: only, call: "json:dumps", duration: 5s, resources: {cpu: 2}}]
assumptions:
  - {id: slower, affects: [only], effect: {duration_factor: 3}}
  - {id: two_cpus, affects: [only], effect: {capacity: {cpu: 1}}}
""")
    told = athena("simulate", str(file))
    assert "would hurt most: two_cpus, which leaves no way to the goals" in told.out
    worst, slower = json.loads(athena("simulate", str(file), "--json").out)["assumptions"]
    assert worst["blocks"] and worst["p_deadline"] is None and slower["finish"] == 10.0


def test_a_deadline_of_the_clock_is_told_by_the_clock(athena: Athena, tmp_path: Path) -> None:
    file = tmp_path / "clock.yaml"
    file.write_text("""
name: clock
deadline: {at: "06:00", timezone: Europe/Berlin}
tasks: [{id: only, call: "json:dumps", duration: 5s}]
""")
    assert "06:00 Europe/Berlin, " in athena("simulate", str(file)).out
    data = json.loads(athena("simulate", str(file), "--json").out)
    until, start = (datetime.fromisoformat(data[n]) for n in ("until", "as_of"))
    assert (until - start).total_seconds() == pytest.approx(data["deadline"])


def test_what_is_left_out_of_a_long_list_is_said(athena: Athena, tmp_path: Path) -> None:
    file = tmp_path / "many.yaml"
    tasks = "".join(f"  - {{id: t{n}, call: 'json:dumps', duration: 5s}}\n" for n in range(25))
    file.write_text(f"name: many\ntasks:\n{tasks}")
    assert "and 5 more; --json has all" in athena("simulate", str(file)).out
    assert "no revisions yet" in athena("revisions", str(file)).out
    assert "25 tasks, 0 resources, 0 assumptions" in athena("validate", str(file)).out


def test_text_is_no_markup() -> None:
    drafted = "tags: [audit]\nresources: {gpu: [a, b]}\n[/b]"
    assert render.laid_out(terminal(), drafted) == drafted + "\n"


@pytest.mark.parametrize("command", ["replan", "revisions", "why", "simulate"])
def test_help_has_an_example_json_and_exit_codes(athena: Athena, command: str) -> None:
    told = athena(command, "--help")
    assert told.code == 0 and f"athena {command}" in told.out
    assert "--json" in told.out and "Exit codes: 0 done" in told.out

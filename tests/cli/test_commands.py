"""Each command: its answer for people and for programs, and one clear message where it refuses."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import athena_prefect.cli.app as cli
from athena_prefect.cli.order import SECTIONS, every_command
from athena_prefect.errors import ServerError
from tests.cli.conftest import Athena
from tests.docs.pages import reference
from tests.service.standin import PLAN, StandIn

RUN = ("run", "plan.yaml", "--set", "limit=3")
COMMANDS = [list(words) for words in every_command(cli.app)]


# -- help ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_commands_help_has_an_example_json_and_the_exit_codes(
    athena: Athena, command: list[str]
) -> None:
    told = athena(*command, "--help")
    assert told.code == 0
    assert re.search(r"Examples?:\n  .*athena " + " ".join(command), told.out)
    # What `athena mcp` writes is the protocol's.
    assert ("--json" in told.out) == (command != ["mcp"])
    assert "Exit codes: 0 done" in told.out


def test_the_first_help_names_every_command_and_where_to_start(athena: Athena) -> None:
    told = athena("--help")
    for command in COMMANDS:
        assert command[0] in told.out
    assert "athena init my-project" in told.out
    assert athena("--version").out.strip()


def test_the_first_help_lists_every_command_where_it_belongs(athena: Athena) -> None:
    lines = athena("--help").out.splitlines()
    headings = {line.strip("╭╮─ "): number for number, line in enumerate(lines) if "╭" in line}
    assert list(headings) == [*SECTIONS, "Options"], "no command is without a section"
    for heading, names in SECTIONS.items():
        after = lines[headings[heading] + 1 : headings[heading] + 1 + len(names)]
        assert [line.strip("│ ").split()[0] for line in after] == list(names)
    known = [name for names in SECTIONS.values() for name in names]
    assert len(known) == len(set(known))
    assert "--help" in lines[headings["Options"] + 1]


def test_the_reference_page_is_what_the_commands_say() -> None:
    page = reference("cli")
    assert page.PAGE.read_text() == page.page()


# -- what is refused ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tokens", "words"),
    [
        (["nonsense"], ["nonsense", "--help"]),
        (["validate"], ["PLAN", "athena validate --help"]),
        (["validate", "missing.yaml"], ["missing.yaml", "no such file"]),
        (["show", "missing.yaml"], ["missing.yaml"]),
        (["show", "plan.yaml", "--format", "png"], ["png", "mermaid"]),
        (
            ["show", "plan.yaml", "-o", "no/such/folder/x.svg", "--format", "svg"],
            ["no/such/folder"],
        ),
        (["register", "missing.yaml"], ["missing.yaml"]),
        (["run", "missing.yaml"], ["missing.yaml"]),
        (["run", "plan.yaml"], ["'limit'", "--set limit="]),
        (["run", "plan.yaml", "--set", "limit"], ["name=value"]),
        (["run", "plan.yaml", "--set", "limit=many"], ["'limit'", "integer"]),
        (["run", "plan.yaml", "--set", "limt=1"], ["did you mean 'limit'"]),
        (["run", "plan.yaml", "--resume", "abcd"], ["no plan run 'abcd'"]),
        (["run", "plan.yaml", "--logical-date", "someday"], ["logical-date"]),
        (["status"], ["no plan run yet"]),
        (["status", "abcd"], ["no plan run 'abcd'"]),
        (["report", "abcd"], ["no plan run 'abcd'"]),
        (["runs", "--limit", "0"], ["--limit"]),
        (["init", "plan.yaml"], ["plan.yaml", "folder"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_wrong_input_ends_with_2_and_says_what_would_be_right(
    athena: Athena, tokens: list[str], words: list[str]
) -> None:
    told = athena(*tokens)
    assert told.code == 2
    assert "Traceback" not in told.err + told.out
    for word in words:
        assert word in told.err
    as_json = athena(*tokens, "--json")
    assert as_json.code == 2
    assert json.loads(as_json.out)["message"]


def test_every_defect_of_a_plan_is_told_with_its_line(athena: Athena, tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text("name: p\ntasks:\n  - {id: a, retries: -1}\n  - {idd: b}\n")
    told = athena("validate", "bad.yaml")
    assert told.code == 2
    assert "bad.yaml:3" in told.err
    assert "bad.yaml:4" in told.err
    assert "defects found" in told.err
    found = json.loads(athena("validate", "bad.yaml", "--json").out)
    assert {d["line"] for d in found["defects"]} == {3, 4}


def test_a_wrong_setting_is_named(athena: Athena, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATHENA_DATABASE_URL", "oracle://x")
    told = athena("runs")
    assert told.code == 2
    assert "ATHENA_DATABASE_URL" in told.err


def test_a_defect_of_ours_is_one_line_and_a_file(
    athena: Athena, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> None:
        raise ZeroDivisionError("a defect")

    monkeypatch.setattr("athena_prefect.plan.document.json_schema", broken)
    told = athena("schema")
    assert told.code == 1
    assert "unexpected ZeroDivisionError: a defect" in told.err
    assert "Traceback" not in told.err
    assert "Traceback" in Path(told.err.split()[-1]).read_text()
    log = json.loads(athena("schema", "--json").out)["log"]
    assert Path(log).exists()


def test_ctrl_c_is_quiet(athena: Athena, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("athena_prefect.plan.document.json_schema", interrupted)
    assert athena("schema").code == 130


# -- plans --------------------------------------------------------------------------------------


def test_init_makes_a_project_and_says_what_is_next(athena: Athena, tmp_path: Path) -> None:
    told = athena("init", "mine")
    assert told.code == 0
    plan = re.search(r"athena run (\S+)", told.out)
    assert plan is not None
    assert (tmp_path / "mine" / plan[1]).exists()
    assert athena("init", "mine").code == 2
    assert json.loads(athena("init", "other", "--json").out)["files"]


def test_validate_says_that_a_plan_is_sound(athena: Athena) -> None:
    assert "plan 'made-up' is sound: 3 tasks" in athena("validate", "plan.yaml").out
    assert json.loads(athena("validate", "plan.yaml", "--json").out)["runnable"] is True


def test_validate_says_what_is_not_known_and_what_cannot_be_run(
    athena: Athena, tmp_path: Path
) -> None:
    (tmp_path / "bare.yaml").write_text("name: p\ntasks: [{id: a}]\n")
    told = athena("validate", "bare.yaml")
    assert "until it is learned: a" in told.out
    assert "monitored, not run" in told.out


@pytest.mark.parametrize(
    ("kind", "sign"),
    [("table", "◆ critical path"), ("mermaid", "flowchart LR"), ("svg", "<svg"),
     ("gantt", "<svg"), ("json", '"total_float"')],
)  # fmt: skip
def test_show_in_every_format_to_the_terminal_and_to_a_file(
    athena: Athena, tmp_path: Path, kind: str, sign: str
) -> None:
    assert sign in athena("show", "plan.yaml", "--format", kind).out
    assert athena("show", "plan.yaml", "--format", kind, "-o", "out.txt").code == 0
    assert sign in (tmp_path / "out.txt").read_text()


def test_show_json_has_network_floats_path_and_baseline(athena: Athena) -> None:
    shown = json.loads(athena("show", "plan.yaml", "--json").out)
    assert shown["critical_path"] == ["get", "clean", "put"]
    assert [t["total_float"] for t in shown["tasks"]] == [0, 0, 0]
    assert shown["baseline"]["p50"] > 0


def test_register_prints_the_id_first(athena: Athena) -> None:
    told = athena("register", "plan.yaml")
    number = int(told.out.split()[0])
    again = json.loads(athena("register", "plan.yaml", "--json").out)
    assert again == {"plan_id": number, "name": "made-up", "revision": 1, "new": False}


def test_schema_is_json_schema(athena: Athena) -> None:
    assert "properties" in json.loads(athena("schema").out)


# -- runs ---------------------------------------------------------------------------------------


def test_run_shows_the_plan_the_tasks_and_where_everything_is(
    athena: Athena, stand_in: StandIn, tmp_path: Path
) -> None:
    told = athena(*RUN)
    assert told.code == 0
    assert told.out.index("critical path") < told.out.index("get success")
    assert "completed · 3 of 3 tasks done" in told.out
    assert "deadline met" in told.out
    report = re.search(r"report\s+(\S+\.html)", told.out)
    assert report is not None
    assert Path(report[1]).exists()
    assert "athena.db" in told.out
    assert stand_in.seen[0]["parameters"] == {"limit": 3}


def test_run_in_json_is_one_object_a_line(athena: Athena, stand_in: StandIn) -> None:
    told = athena(*RUN, "--json")
    lines = [json.loads(line) for line in told.out.splitlines()]
    kinds = [line["line"] for line in lines]
    assert kinds[0] == "plan"
    assert kinds[-1] == "result"
    assert kinds.count("event") == 9
    assert lines[-1]["exit_code"] == 0
    assert lines[-1]["final"]["tasks"] == {"get": "success", "clean": "success", "put": "success"}


def test_a_failed_run_ends_with_1_and_says_why_and_how_to_go_on(
    athena: Athena, stand_in: StandIn
) -> None:
    stand_in.fails = "clean"
    told = athena(*RUN)
    assert told.code == 1
    assert "clean failed" in told.out
    assert "it broke" in told.out
    assert re.search(r"athena run .* --resume [0-9a-f]{8}", told.out)
    assert "run.log" in told.out


def test_a_logical_date_without_an_offset_is_the_users_own(
    athena: Athena, stand_in: StandIn
) -> None:
    assert athena(*RUN, "--logical-date", "2026-01-31T06:00:00").code == 0
    assert stand_in.seen[0]["date"].tzinfo is not None


def test_a_server_that_does_not_come_up_ends_with_1_and_names_its_log(
    athena: Athena, stand_in: StandIn
) -> None:
    stand_in.refuses = ServerError("no server; its output is in x.log", log="x.log")
    told = athena(*RUN)
    assert told.code == 1
    assert "x.log" in told.err


def test_status_runs_and_report_know_the_run(
    athena: Athena, stand_in: StandIn, tmp_path: Path
) -> None:
    athena(*RUN)
    assert "made-up" in athena("runs").out
    (listed,) = json.loads(athena("runs", "--json").out)
    prefix = listed["plan_run"][:5]
    assert "completed · 3 of 3" in athena("status", prefix).out
    assert json.loads(athena("status", "--json").out)["plan_run"] == listed["plan_run"]
    assert "put success" in athena("status", "--watch").out
    watched = athena("status", prefix, "--watch", "--json").out.splitlines()
    assert json.loads(watched[-1])["line"] in ("deviation", "event")
    written = athena("report", prefix, "-o", "r.html")
    assert written.out.strip() == str(tmp_path / "r.html")
    assert "<h2>Tasks</h2>" in (tmp_path / "r.html").read_text()
    assert json.loads(athena("report", prefix, "--json").out)["status"] == "completed"


def test_no_runs_is_no_error(athena: Athena) -> None:
    told = athena("runs")
    assert told.code == 0
    assert "no runs yet" in told.out


def test_the_database_is_told_and_upgraded(athena: Athena) -> None:
    before = athena("db", "current")
    assert before.code == 1
    assert "athena db upgrade" in before.out
    assert athena("db", "upgrade").code == 0
    assert json.loads(athena("db", "current", "--json").out)["current"] is True


# -- as a process -------------------------------------------------------------------------------


def process(*tokens: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "athena_prefect.cli", *tokens],
        cwd=cwd,
        capture_output=True,
        text=True,
        env={**__import__("os").environ, "PYTHONPATH": str(Path(cli.__file__).parents[2])},
    )


def test_the_process_ends_with_the_commands_code(tmp_path: Path) -> None:
    (tmp_path / "plan.yaml").write_text(PLAN)
    assert process("validate", "plan.yaml", cwd=tmp_path).returncode == 0
    missing = process("validate", "x.yaml", cwd=tmp_path)
    assert (missing.returncode, missing.stdout) == (2, "")


def test_light_commands_bring_neither_prefect_nor_a_database(tmp_path: Path) -> None:
    (tmp_path / "plan.yaml").write_text(PLAN)
    code = """
import sys
from athena_prefect.cli.app import run_command
for tokens in (["--help"], ["show", "plan.yaml"], ["schema"]):
    assert run_command(tokens) == 0
print([m for m in ("prefect", "sqlalchemy", "pandas") if m in sys.modules], file=sys.stderr)
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={**__import__("os").environ, "PYTHONPATH": str(Path(cli.__file__).parents[2])},
    )
    assert done.stderr.strip() == "[]"


def test_a_reader_that_has_enough_is_no_error(tmp_path: Path) -> None:
    command = f"{sys.executable} -m athena_prefect.cli schema | head -c 10"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command],
        cwd=Path(cli.__file__).parents[2],
        capture_output=True,
        text=True,
    )
    assert done.stderr == ""

"""Whatever a check meets, the run goes on, says what it could not see, and tells no secret."""

from __future__ import annotations

import json
import logging
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prefect.blocks.system import Secret

from athena_prefect.runtime.recorder import recording_of
from athena_prefect.runtime.telling import Deriver
from athena_prefect.settings import AthenaSettings
from tests.assumptions.checks.web import Reply, Site, serving
from tests.runtime.support import Run, plan_of, run

pytestmark = [pytest.mark.prefect, pytest.mark.usefixtures("prefect_api")]

SECRET = "hunter2-of-the-run"
FOR_EVER = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"


@pytest.fixture
def web() -> Iterator[Site]:
    with serving() as site:
        yield site


def test_a_run_whose_checks_meet_the_worst(
    web: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    Secret(value=SECRET).save("hostile", overwrite=True, _sync=True)  # type: ignore[call-arg]
    database, calendar = tmp_path / "sales.db", tmp_path / "team.ics"
    with sqlite3.connect(database) as file:
        file.execute("CREATE TABLE sales (id integer)")
        file.execute("INSERT INTO sales VALUES (1)")
    calendar.write_bytes(b"BEGIN:VCALENDAR\r\nBEGIN:VEVENT\r\nDTSTART:never\r\n")
    monkeypatch.setenv("SALES_URL", f"sqlite:///{database}")
    web.answers |= {
        "/refused": Reply(b"who are you?", 401),
        "/broken": Reply(b"no", 500),
        "/page": Reply(b"<html>hello</html>"),
        "/away": Reply(b"", 302, {"Location": "ftp://127.0.0.1/x"}),
        "/repos/a/b/issues": Reply({"message": "Bad credentials"}, 401),
    }

    def asked(path: str, **more: Any) -> dict[str, Any]:
        headers = {"Authorization": "Bearer {{ secret.hostile }}"}
        url = f"{web.url}{path}?token={SECRET}"
        return {"kind": "http_json", "url": url, "headers": headers, **more}

    checks = {
        "credentials": asked("/refused"),
        "tracker": {"kind": "issues", "tracker": "github", "url": web.url, "project": "a/b",
                    "token": "{{ secret.hostile }}", "labels": ["bug"]},
        "time_out": asked("/slow", timeout="500ms"),
        "server": asked("/broken"),
        "page": asked("/page"),
        "gigabyte": asked("/endless"),
        "redirect": asked("/away"),
        "calendar": {"kind": "calendar", "source": str(calendar), "people": ["ann"]},
        "writes": {"kind": "sql", "env": "SALES_URL", "query": "DELETE FROM sales RETURNING id"},
        "for_ever": {"kind": "sql", "env": "SALES_URL", "query": FOR_EVER, "timeout": "1s"},
        "no_secret": {"kind": "http", "url": web.url, "headers": {"X": "{{ secret.none }}"}},
    }  # fmt: skip
    said = {
        "credentials": "the credentials are missing or refused",
        "tracker": "the credentials are missing or refused",
        "time_out": "answer within",
        "server": "HTTP 500",
        "page": "the body is not JSON, but text/html",
        "gigabyte": "longer than 10 MB",
        "redirect": "a redirect to ftp is refused",
        "calendar": "calendar",
        "writes": "",
        "for_ever": "",
        "no_secret": "none",
    }
    with caplog.at_level(logging.DEBUG):
        done = run(
            plan_of(
                {"id": "first", "call": "one"},
                {"id": "last", "call": "one", "depends_on": ["first"]},
                name="with-the-worst",
                assumptions=[
                    {"id": name, "check": check, "expected_value": 1, "affects": ["last"],
                     "milestones": [{"after": "first"}], "effect": {"block": True}}
                    for name, check in checks.items()
                ],
            )
        )  # fmt: skip
    assert done.final.is_completed(), done.final.message
    assert done.state.status("last").good, "what could not be seen holds nothing back"
    for name, words in said.items():
        (found,) = done.state.checks[name]
        assert found.verdict == "unknown", (name, found.data)
        assert found.data["error"] and words in found.data["error"], (name, found.data)
    with sqlite3.connect(database) as file:
        assert file.execute("SELECT count(*) FROM sales").fetchone() == (1,)
    assert SECRET not in everything_told(done)
    assert SECRET not in caplog.text


def everything_told(done: Run) -> str:
    """The checks in the journal, in their table and in events; and what the run says it is."""
    journal = recording_of(AthenaSettings(), done.plan).open_journal()
    entries = list(journal.read(done.plan_run))
    told = [e for _, e in Deriver(done.plan, done.plan_run, "default").take(entries)]
    with sqlite3.connect(AthenaSettings().database_url.removeprefix("sqlite:///")) as rows:
        kept = rows.execute("select * from assumption_validations").fetchall()
    return json.dumps(
        [[str(c) for found in done.state.checks.values() for c in found],
         [str(e) for e in told], [str(row) for row in kept], str(done.final.message)]
    )  # fmt: skip

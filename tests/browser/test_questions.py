"""A person answers an assumption in Prefect's UI, as a person does."""

from __future__ import annotations

import json
import time
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest

from athena_prefect.journal.events import CheckEvent
from athena_prefect.service import open_run
from athena_prefect.settings import AthenaSettings
from tests.browser.conftest import SECONDS, Server
from tests.browser.test_answer import form_of

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = [pytest.mark.prefect, pytest.mark.slow]

DEEDS = Path(__file__).parents[1] / "runtime" / "project"
PLAN = """
name: asked-in-the-ui
tasks:
  - {id: work, call: "deeds:hang", with: {seconds: 600}, duration: 10m}
  - {id: publish, call: "deeds:one", depends_on: [work], duration: 1s}
assumptions:
  - id: reviewers
    description: Enough reviewers are there
    expected_value: 0.8
    sense: at_least
    affects: [publish]
"""


def test_the_form_is_there_and_its_answer_is_a_check(
    browser: Browser, server: Server, tmp_path: Path
) -> None:
    plan = tmp_path / "plan.yaml"
    plan.write_text(PLAN)
    plan_run = server.run(plan, DEEDS, to_its_end=False)
    question = asked(server)
    page = browser.new_page(viewport={"width": 1400, "height": 1000})
    page.set_default_timeout(SECONDS * 1000)
    try:
        page.goto(f"{server.url}/v2/runs/flow-run/{question}")
        page.get_by_text("asked-in-the-ui: reviewers?").first.wait_for()
        page.screenshot(path=tmp_path / "question.png", full_page=True)
        form = form_of(page)
        form.get_by_text("Enough reviewers are there").first.wait_for()
        page.screenshot(path=tmp_path / "form.png", full_page=True)
        form.get_by_label("Enough reviewers are there").fill("0.9")
        form.get_by_label("Your name").fill("Kim")
        form.get_by_role("button", name="Resume").click()
        answer = told(server, plan_run)
    finally:
        page.screenshot(path=tmp_path / "last.png", full_page=True)
        page.close()
    assert (answer.verdict, answer.data["value"], answer.data["author"]) == ("holds", 0.9, "Kim")


def asked(server: Server) -> str:
    """The flow run that asks; waits until it is there."""
    body = json.dumps(
        {"flow_runs": {"tags": {"all_": ["assumption:reviewers"]}, "state": {
            "type": {"any_": ["PAUSED"]}}}}
    ).encode()  # fmt: skip
    request = urllib.request.Request(
        f"{server.url}/api/flow_runs/filter", body, {"Content-Type": "application/json"}
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        with opener.open(request, timeout=SECONDS) as reply:
            found: list[dict[str, Any]] = json.loads(reply.read())
        if found:
            return str(found[0]["id"])
        time.sleep(0.5)
    raise AssertionError("nobody is asked")


def told(server: Server, plan_run: UUID) -> CheckEvent:
    """The answer in the journal; waits until it is there."""
    settings = AthenaSettings(home=server.home / "athena")
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        state = open_run(str(plan_run), settings=settings).status().state
        for check in state.checks.get("reviewers", ()):
            if check.check_id.startswith("answer|"):
                return check
        time.sleep(0.5)
    raise AssertionError("no answer came in")

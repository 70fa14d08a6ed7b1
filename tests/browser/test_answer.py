"""A person answers a replanning question in Prefect's UI, in a real browser."""

from __future__ import annotations

import json
import time
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

import pytest

from tests.browser.conftest import SECONDS, Server
from tests.browser.test_dashboards import DEEDS, status_of

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page

pytestmark = [pytest.mark.prefect, pytest.mark.slow]

PLAN = """
name: asked-in-browser
tasks:
  - id: bad
    call: "deeds:leak"
    with: {password: x}
    duration: 50ms
    modes: [{name: other, call: "deeds:log_in", duration: 60ms}]
  - {id: last, call: "deeds:one", duration: 50ms, depends_on: [bad]}
replanning: {decide: ask}
"""


def paused(server: Server, plan_run: UUID) -> str:
    """The flow run that carries the run's form, once it is there."""
    asked = json.dumps({"flow_runs": {"tags": {"all_": [f"plan-run:{plan_run}"]}}}).encode()
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        request = urllib.request.Request(
            f"{server.url}/api/flow_runs/filter", asked, {"content-type": "application/json"}
        )
        with opener.open(request) as answer:
            for run in json.load(answer):
                if run["state_type"] == "PAUSED":
                    return str(run["id"])
        time.sleep(0.3)
    raise AssertionError("no form was opened")


def form_of(page: Page) -> Locator:
    """The dialog of a paused run's page, opened by its menu.

    The page's own menu is the last one only when the page is whole, and it offers to
    resume only when the run's state has come: until then another menu opens.
    """
    from playwright.sync_api import TimeoutError as NotThere

    dialog = page.get_by_role("dialog")
    item = page.get_by_role("menuitem", name="Resume")
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        page.locator("button[aria-haspopup=menu]").last.click()
        try:
            item.click(timeout=10_000)
            dialog.wait_for(timeout=10_000)
        except NotThere:  # also where the page was renewed below the menu
            page.keyboard.press("Escape")
            continue
        return dialog
    raise AssertionError(f"no menu offers to resume:\n{page.inner_text('body')}")


def test_an_option_is_chosen_in_the_form(browser: Browser, server: Server, tmp_path: Path) -> None:
    file = tmp_path / "plan.yaml"
    file.write_text(PLAN)
    plan_run = server.run(file, DEEDS, to_its_end=False)
    form = paused(server, plan_run)
    page = browser.new_page(viewport={"width": 1300, "height": 1000})
    page.set_default_timeout(SECONDS * 1000)
    try:
        page.goto(f"{server.url}/v2/runs/flow-run/{form}")
        dialog = form_of(page)
        dialog.get_by_text("bad failed, which is required").wait_for()
        shown = dialog.inner_text()
        assert "bad is done again in mode other" in shown and "█" in shown
        dialog.get_by_label("Select What to do").click()
        chosen = page.get_by_role("option").first
        words = chosen.inner_text().strip()
        chosen.click()
        page.get_by_role("option").first.wait_for(state="hidden")
        assert words in dialog.get_by_label("Select What to do").inner_text()
        dialog.get_by_label("Your name").fill("Ada")
        dialog.get_by_role("button", name="Resume").click()
        dialog.wait_for(state="hidden")
        end = time.monotonic() + SECONDS
        while not (status := status_of(server, plan_run)).over and time.monotonic() < end:
            time.sleep(0.5)
    finally:
        page.close()
    log = (server.home / f"{plan_run}.log").read_text()
    assert status.word == "completed" and status.state.revision == 2, (words, status.word, log)
    assert status.state.acceptance["author"] == "Ada (claimed)"
    assert status.state.acceptance["changes"] == ["bad is done again in mode other"]

"""What people see in Prefect's UI: the figures of the database, and a picture that is one."""

from __future__ import annotations

import base64
import json
import time
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest

from athena_prefect.report.dashboard import done_and_total, headline, moment
from athena_prefect.service import open_run
from athena_prefect.service.results import RunStatus
from athena_prefect.settings import AthenaSettings
from tests.browser.conftest import SECONDS, Server

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page

pytestmark = [pytest.mark.prefect, pytest.mark.slow]

DEEDS = Path(__file__).parents[1] / "runtime" / "project"
PLAN = """
name: {name}
deadline: 1h
tasks:
  - {{id: fetch, call: "deeds:one", duration: 1s}}
  - id: work
    call: "deeds:hang"
    with: {{seconds: {seconds}}}
    depends_on: [fetch]
    duration: 2s
  - {{id: publish, call: "deeds:one", depends_on: [work], duration: 1s}}
"""
TEXT_WITH = "words => { const t = document.body.innerText; return t.includes(words) && t; }"
COLOURS = """
async (png) => {
  const image = new Image();
  image.src = 'data:image/png;base64,' + png;
  await image.decode();
  const canvas = document.createElement('canvas');
  canvas.width = image.width; canvas.height = image.height;
  const context = canvas.getContext('2d');
  context.drawImage(image, 0, 0);
  const data = context.getImageData(0, 0, image.width, image.height).data;
  const seen = new Map();
  for (let i = 0; i < data.length; i += 4) {
    const colour = data.slice(i, i + 3).join();
    seen.set(colour, (seen.get(colour) || 0) + 1);
  }
  return [image.width * image.height, Math.max(...seen.values()), seen.size];
}
"""
"""Of a PNG: its pixels, those of its commonest colour, and how many colours it has."""


def test_a_finished_run(browser: Browser, server: Server, tmp_path: Path) -> None:
    plan_run = begun(server, tmp_path, "seen-finished", seconds=0.2, to_its_end=True)
    status = status_of(server, plan_run)
    assert status.word == "completed"
    shown = look(browser, server, plan_run, tmp_path)
    assert headline(status) in shown
    assert status.state.ended is not None
    assert moment(status.state.ended) in shown
    assert status.deviation is not None
    assert status.deviation.deviation_severity is not None
    assert f"Severity\t{status.deviation.deviation_severity}" in shown


def test_a_live_run(browser: Browser, server: Server, tmp_path: Path) -> None:
    plan_run = begun(server, tmp_path, "seen-live", seconds=600, to_its_end=False)
    status = status_of(server, plan_run)
    assert status.word == "running"
    shown = look(browser, server, plan_run, tmp_path)
    assert "Running, forecast to finish" in shown
    assert "Running now\twork" in shown
    # It is still the run that was looked at.
    assert status_of(server, plan_run).word == "running"


def begun(server: Server, folder: Path, name: str, *, seconds: float, to_its_end: bool) -> UUID:
    """A plan run that has ended, or whose dashboards show that its second task runs."""
    plan = folder / "plan.yaml"
    plan.write_text(PLAN.format(name=name, seconds=seconds))
    plan_run = server.run(plan, DEEDS, to_its_end=to_its_end)
    end = time.monotonic() + SECONDS
    while not to_its_end and "Running now" not in str(artifacts(server, name).get("status", "")):
        log = (server.home / f"{plan_run}.log").read_text()
        assert server.processes[-1].poll() is None, log
        assert time.monotonic() < end, log
        time.sleep(0.5)
    return plan_run


def status_of(server: Server, plan_run: UUID) -> RunStatus:
    """Where the run stands, by the database alone."""
    settings = AthenaSettings(home=server.home / "athena")
    return open_run(str(plan_run), settings=settings).status()


def artifacts(server: Server, plan: str) -> dict[str, Any]:
    """The newest artifacts of a plan by kind."""
    body = json.dumps({"artifacts": {"key": {"like_": f"{plan}-%"}}}).encode()
    request = urllib.request.Request(
        f"{server.url}/api/artifacts/filter", body, {"Content-Type": "application/json"}
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=SECONDS) as answer:
        found = json.loads(answer.read())
    return {a["key"].rpartition("-")[2]: a for a in found}


def look(browser: Browser, server: Server, plan_run: UUID, folder: Path) -> str:
    """Open the status and from there the chart, check both; the text of the status."""
    status = status_of(server, plan_run)
    found = artifacts(server, status.plan.name)
    page = browser.new_page(viewport={"width": 1400, "height": 1000})
    page.set_default_timeout(SECONDS * 1000)
    try:
        page.goto(f"{server.url}/v2/artifacts/artifact/{found['status']['id']}")
        # In one go: the page of a live run takes its content away for a moment to renew it.
        found_text = page.wait_for_function(TEXT_WITH, arg=f"Plan run {plan_run}")
        shown = str(found_text.json_value())
        page.screenshot(path=folder / "status.png", full_page=True)
        figures_are_the_database_s(shown, status)
        page.get_by_role("link", name="Gantt chart").click()
        picture = page.get_by_alt_text("Gantt chart, planned against actual")
        picture.wait_for()
        page.screenshot(path=folder / "gantt.png", full_page=True)
        is_rendered(page, picture, folder / "picture.png")
        return shown
    finally:
        page.close()


def figures_are_the_database_s(shown: str, status: RunStatus) -> None:
    """Of what does not change while a run lives: each figure, as the database has it."""
    done, total = done_and_total(status)
    assert f"Progress\t{done} of {total} tasks" in shown, shown
    assert f"Started\t{moment(status.view.started)}" in shown
    found = status.deviation
    assert found is not None
    assert f"Deadline\t{moment(found.deadline)}" in shown
    assert f"Baseline finish\t{moment(found.baseline_finish)}" in shown


def is_rendered(page: Page, picture: Locator, file: Path) -> None:
    """The picture is decoded, and its pixels on the screen are not those of an empty one."""
    width, height = picture.evaluate(
        "async i => { await i.decode(); return [i.naturalWidth, i.naturalHeight]; }"
    )
    assert width > 0
    assert height > 0
    source = str(picture.get_attribute("src"))
    assert source.startswith("data:image/svg+xml;base64,")
    drawn = base64.b64decode(source.partition(",")[2]).decode()
    assert all(f">{task}<" in drawn for task in ("fetch", "work", "publish"))
    png = picture.screenshot(path=file)
    pixels, commonest, colours = page.evaluate(COLOURS, base64.b64encode(png).decode())
    assert pixels > 100 * 50
    # Bars, text and grid: a blank, or a broken picture's sign, has nearly one colour alone.
    assert pixels - commonest > 0.01 * pixels, f"{commonest} of {pixels} pixels have one colour"
    assert colours > 10

"""Pictures of what runs taught: sound, complete, and nothing that a page could trip over."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from datetime import UTC, datetime, timedelta

from athena_prefect.learning.results import Bottleneck, Calibration, EstimationMetrics, Trend
from athena_prefect.report.learning import (
    calibration,
    learned_markdown,
    learned_section,
    trend,
    waterfall,
)

SVG = "{http://www.w3.org/2000/svg}"
T0 = datetime(2026, 1, 5, tzinfo=UTC)
ERRORS = [(T0 + timedelta(days=i), 0.3 - 0.02 * i) for i in range(10)]


def bottleneck(seconds: float, kind: str = "estimation", what: str = "a took longer") -> Bottleneck:
    return Bottleneck(
        bottleneck_id=f"{kind}:{what}", type=kind, description=what,
        impact_duration=timedelta(seconds=seconds), affected_tasks=("a",), root_cause="why",
        mitigation="how", share=None,
    )  # fmt: skip


def metrics() -> EstimationMetrics:
    fitted = Calibration(
        forecasts=9, runs=9, coverage=0.8, pinball=0.03,
        reliability={"p10": 0.1, "p50": 0.55, "p90": 0.9},
    )  # fmt: skip
    return EstimationMetrics(
        tasks_analyzed=1, avg_duration_error=0.1, duration_error_std=None,
        resource_usage_accuracy={}, assumption_validity_rate=None, trend=Trend.IMPROVING,
        calibration=fitted,
    )  # fmt: skip


def test_a_waterfall_has_a_step_for_each_bottleneck_and_one_for_all() -> None:
    found = [bottleneck(90, what="<a> & b"), bottleneck(60, "resource"), bottleneck(-30)]
    root = ET.fromstring(waterfall(found))
    bars = [r for r in root.iter(f"{SVG}rect") if r.get("height") == "15"]
    assert len(bars) == 4
    widths = [float(r.get("width", "0")) for r in bars]
    assert abs(widths[0] / widths[1] - 1.5) < 0.01
    # 90 + 60 − 30: the step back begins where the others end.
    assert abs(widths[3] - (widths[0] + widths[1] - widths[2])) < 0.1
    words = " ".join(t.text or "" for t in root.iter(f"{SVG}text"))
    assert "<a> & b" in words and "+1m 30s" in words and "−30s" in words and "+2m" in words


def test_small_bars_are_told_of_together() -> None:
    words = waterfall([bottleneck(10.0, what=f"t{i}") for i in range(40)])
    assert "28 more" in words and "+4m 40s" in words


def test_trend_and_calibration_are_sound() -> None:
    for svg in (trend(ERRORS), trend([]), calibration({"p10": 0.0, "p90": 1.0}), waterfall([])):
        ET.fromstring(svg)
    hours = [(T0 + timedelta(hours=i), 0.1) for i in range(3)]
    assert "2026-01-05" in trend(ERRORS) and "02:00 UTC" in trend(hours)
    assert "50 %" in trend(ERRORS), "the axis ends at a round number above the largest error"


def test_the_artifact_has_every_part_and_escapes_what_others_wrote() -> None:
    text = learned_markdown(
        "night|ly", 9, metrics(), bottlenecks=[bottleneck(60)],
        lessons=[("a <script> needs | a buffer", None, 1), ("b", 0.83, 2)], errors=ERRORS,
        slowdowns=["a takes 2 times as long"], sampled=["a spends 75 % in <f> (a.py:3)"],
    )  # fmt: skip
    assert text.startswith("# night\\|ly: what 9 runs teach")
    titles = "What delayed the finish", "Slower than before", "Lessons", "Calibration"
    assert "## Where the time goes\n\n- a spends 75 % in &lt;f&gt; (a.py:3)" in text
    for title in (*titles, "Accuracy (improving)"):
        assert f"## {title}" in text
    assert "| a &lt;script&gt; needs \\| a buffer | seen once | 1 |" in text
    assert text.count("data:image/svg+xml;base64,") == 3
    assert learned_markdown("p", 1, metrics()).count("##") == 1, "only the calibration"
    said = "9 forecasts of 9 runs. 80 % of the finishes were inside the 80 % interval."
    assert said in text and "below it runs ended later than forecast" in text


def test_the_part_of_a_page() -> None:
    html = learned_section(
        [bottleneck(60, what="<b>x</b>")], metrics(), ERRORS, ["a & b"], ["c spends 1 % in <f>"]
    )
    assert "c spends 1 % in &lt;f&gt;" in html
    assert "&lt;b&gt;x" in html and "a &amp; b" in html and html.count("<svg") == 3
    assert learned_section([]) == ""

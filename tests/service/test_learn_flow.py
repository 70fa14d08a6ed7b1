"""The learning flow: lessons kept, and what was learned as an artifact."""

from __future__ import annotations

from pathlib import Path

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey

from athena_prefect.service.remembering import lessons
from athena_prefect.settings import AthenaSettings
from tests.service.test_learning import TEXT, store_run

pytestmark = [pytest.mark.prefect, pytest.mark.usefixtures("prefect_api")]


def test_the_flow_learns_from_every_plan_that_ran(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flows.learn import learn

    monkeypatch.setenv("ATHENA_HOME", str(tmp_path / "home"))
    settings = AthenaSettings()
    file = tmp_path / "plan.yaml"
    file.write_text(TEXT)
    assert learn() == {}
    for day in range(3):
        store_run(settings, file, day, 30)
    found = learn()
    assert found["nightly"]["runs"] == 3
    assert found["nightly"]["recommendations"] == ["50 % buffer for load"]
    assert learn(plan="nightly") == found, "the same runs teach the same"
    (known,) = lessons(settings=settings, every=True).lessons
    assert known.lesson.samples == 3
    wanted = ArtifactFilter(key=ArtifactFilterKey(any_=["nightly-learned"]))
    with get_client(sync_client=True) as client:
        artifacts = client.read_artifacts(artifact_filter=wanted)
    assert len(artifacts) == 2
    text = str(artifacts[-1].data)
    assert "# nightly: what 3 runs teach" in text
    for title in ("What delayed the finish", "What to change", "Lessons", "Accuracy"):
        assert f"## {title}" in text
    assert "load needs a buffer of 50 %" in text and text.count("data:image/svg+xml") == 2
    assert file.read_text() == TEXT, "only a person has the plan changed"

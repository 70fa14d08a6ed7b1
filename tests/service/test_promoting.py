"""A run's revision becomes the plan's."""

from __future__ import annotations

from pathlib import Path

import pytest

from athena_prefect.errors import InputError
from athena_prefect.plan.model import Plan
from athena_prefect.service.promoting import keep
from athena_prefect.service.reading import open_run
from athena_prefect.service.replanning import engine_for
from athena_prefect.service.revisions import keep_revision, revisions
from athena_prefect.settings import AthenaSettings
from tests.service.levers import begun


def test_a_runs_revision_becomes_the_plans(settings: AthenaSettings, tmp_path: Path) -> None:
    run = begun(settings, tmp_path)
    with pytest.raises(InputError, match="there is nothing to keep"):
        keep(str(run), settings=settings)
    monitor = open_run(str(run), settings=settings)._monitored()
    assert monitor is not None
    result = engine_for(monitor).full_replan("too slow", {"budget_s": 0.2})
    assert result.modes, "the test is about a mode"
    keep_revision(run, result, settings=settings)
    file = tmp_path / "levers.yaml"
    before = file.read_text()
    kept = keep(str(run), settings=settings)
    assert kept.run_revision == 2 and kept.revision == 2 and kept.file == file
    assert kept.former is not None and kept.former.read_text() == before
    written = Plan.load(file)
    for task_id, name in result.modes.items():
        chosen = result.new_plan.get_task(task_id).mode(name)
        now = written.get_task(task_id)
        assert (now.call, now.duration, now.resources) == (
            chosen.call, chosen.duration, chosen.resources,
        )  # fmt: skip
    dropped = set(monitor.plan.task_ids) - set(result.new_plan.task_ids)
    assert set(written.task_ids) == set(monitor.plan.task_ids) - dropped
    newest = next(r for r in revisions("made-up", settings=settings) if r.plan_run is None)
    assert newest.reason == f"kept from revision 2 of run {str(run)[:8]}"
    # What was changed since by hand is nobody's to overwrite.
    with pytest.raises(InputError, match="has changed since run"):
        keep(str(run), settings=settings)

"""The benchmark of forecasts on a folder of generated runs: no figure is asserted, only laws."""

from __future__ import annotations

import json

import numpy as np
import pytest

from benchmarks import forecast_stress as stress
from benchmarks.forecast import ALL, CHECKPOINTS, METHODS, OURS, Folder, Replay, outcomes, summary


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    """Two applications with three runs each: chains of two categories, eight wide."""
    place = tmp_path_factory.mktemp("runs")
    rng = np.random.default_rng(0)
    for family, base in (("one", 10.0), ("two", 90.0)):
        for number in range(3):
            slow = float(np.exp(rng.normal(0, 0.3)))
            tasks = [
                {
                    "id": f"{stage}{k}",
                    "parents": [f"0{k}"] if stage else [],
                    "category": f"{family}-{stage}",
                    "runtime_s": base * slow * float(np.exp(rng.normal(0, 0.1))),
                }
                for stage in (0, 1)
                for k in range(8)
            ]
            run = {"name": f"{family}-{number}", "family": family, "slots_fit": 3, "tasks": tasks}
            (place / f"{family}-{number}.json").write_text(json.dumps(run))
    return Folder.of(place)


@pytest.mark.parametrize("leave_out", ["run", "family"])
def test_what_is_forecast_is_never_in_its_own_history(folder: Folder, leave_out: str) -> None:
    replay = Replay(folder, limited=True)
    for trace in folder.traces:
        history = replay.history(trace, leave_out)
        assert trace.key not in history.keys
        assert (trace.family in history.plans) == (leave_out == "run")


def test_estimates_leave_the_run_out(folder: Folder) -> None:
    first, *others = folder.families["one"]
    wanted = np.median(np.concatenate([t.actual[:8] for t in others]))
    assert folder.estimates(first)[:8] == pytest.approx(wanted)
    (last,) = others[1:]
    assert folder.estimates(first, without=others[0].key)[:8] == pytest.approx(
        np.median(last.actual[:8])
    )


@pytest.mark.parametrize("limited", [True, False])
def test_the_headline_is_the_mean_over_families_of_the_mean_over_checkpoints(
    folder: Folder, limited: bool
) -> None:
    replay = Replay(folder, limited)
    found = [o for trace in folder.traces for o in outcomes(replay, trace, "run")]
    assert len(found) == 6 * len(CHECKPOINTS)
    result = summary(found)
    assert set(result["headline"]["mape"]) == set(METHODS)
    errors = [[o.errors[OURS] for o in found if o.family == f] for f in ("one", "two")]
    assert result["headline"]["mape"][OURS] == pytest.approx(
        100 * np.mean([np.mean(e) for e in errors])
    )
    assert 0 <= result["headline"]["coverage"] <= 100
    assert len(result["pinball"][ALL]) == len(CHECKPOINTS)
    # At the end of a plan that went as planned there is nothing to be wrong about.
    assert all(o.pinball >= 0 and np.isfinite(o.pinball) for o in found)


def test_generated_applications_are_forecast_from_runs_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made, again = stress.applications(6, 3), stress.applications(6, 3)
    assert [a.kind for a in made] == [a.kind for a in again]
    assert [t.data for a in made for t in a.tested] == [t.data for a in again for t in a.tested]
    assert {a.kind.shape for a in made} == set(stress.SHAPES)
    replay = stress.Generated(made, limited=True)
    for application in made:
        for trace in application.tested:
            own = replay.history(trace, "own")
            assert trace.key not in own.keys
            assert len(own.of_plan(trace.family)) == application.kind.known
            assert trace.family not in replay.history(trace, "unseen").plans
    monkeypatch.setattr(stress, "TESTED", 1)
    smallest = min(made, key=lambda a: a.kind.size)
    rows = stress.rows_of(replay, "unseen", [smallest])
    found = stress.summary(rows)
    assert found["all"]["applications"] == 1
    assert found[f"shape {smallest.kind.shape}"] == {
        k: v for k, v in found["all"].items() if k != "worse_than_velocity"
    }

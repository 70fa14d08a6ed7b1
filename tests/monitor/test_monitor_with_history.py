"""A monitor whose forecasts rest on finished runs."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID, uuid4

import pytest

from athena_prefect.journal.events import Event, RunEvent, RunEventKind
from athena_prefect.journal.journal import MemoryJournal
from athena_prefect.monitor.context import ExecutionContext, VirtualClock
from athena_prefect.monitor.history import History, PastRun, PastTask
from athena_prefect.monitor.monitor import ExecutionMonitor
from athena_prefect.plan.model import Plan
from tests.monitor.generated import T0, Made, history_of, population


class Recalling(MemoryJournal):
    """A journal that knows earlier runs."""

    def __init__(self, history: History) -> None:
        super().__init__()
        self.history = history
        self.asked = 0

    def finished_runs(self, plan_run: UUID) -> History:
        """The same for every run."""
        self.asked += 1
        return self.history


def watched(
    run: Made, journal: MemoryJournal, plan_run: UUID, at: float = 0.0, **more: object
) -> ExecutionMonitor:
    clock = VirtualClock(T0 + timedelta(seconds=at))
    context = ExecutionContext(plan_run=plan_run, clock=clock, started_at=T0, journal=journal)
    return ExecutionMonitor(run.plan, context, **more)  # type: ignore[arg-type]


def tell(run: Made, journal: MemoryJournal, plan_run: UUID, until: float) -> None:
    """Write down what happened until then."""
    events: Sequence[tuple[float, str, bool]] = sorted(
        [(s, t, False) for t, s in zip(run.plan.task_ids, run.starts.tolist(), strict=True)]
        + [(f, t, True) for t, f in zip(run.plan.task_ids, run.finishes.tolist(), strict=True)]
    )
    monitor = watched(run, journal, plan_run)
    for seconds, task, ended in events:
        moment = T0 + timedelta(seconds=seconds)
        if seconds > until:
            break
        if ended:
            monitor.record_task_completion(task, moment, None, {}, "success")
        else:
            monitor.record_task_start(task, moment, {})


@pytest.fixture(scope="module")
def runs() -> list[Made]:
    return population(11, 9)


def test_the_baseline_is_the_forecast_so_the_deviation_is_zero_at_the_start(
    runs: list[Made],
) -> None:
    *past, run = runs
    monitor = watched(run, Recalling(history_of(past)), uuid4())
    found = monitor.get_plan_deviation()
    assert found.basis == "from 8 runs, 288 records"
    assert found.time_deviation == timedelta(0)
    assert found.slip == 0.0
    forecast = monitor.forecast()
    assert str(forecast.basis).startswith("from 8 runs, 288 records; 400 scenarios of 36 open")
    assert forecast.as_dict()["basis"] == str(forecast.basis)
    assert found.estimated_completion is not None
    assert abs((found.estimated_completion - T0).total_seconds() / run.end - 1) < 0.3
    estimates = watched(run, MemoryJournal(), uuid4()).get_plan_deviation()
    assert estimates.basis == "from the plan's estimates"
    assert estimates.as_dict()["basis"] == "from the plan's estimates"


def test_the_forecast_moves_with_the_run_and_names_its_tasks(runs: list[Made]) -> None:
    *past, run = runs
    journal, plan_run = Recalling(history_of(past)), uuid4()
    now = run.moment_of(0.5)
    tell(run, journal, plan_run, now)
    monitor = watched(run, journal, plan_run, now)
    forecast = monitor.forecast()
    assert forecast.quantiles["p10"] <= forecast.quantiles["p95"]
    middle, finish = monitor.predict_completion_time(), T0 + timedelta(seconds=run.end)
    assert middle[0] is not None and abs(middle[0] - finish) < timedelta(seconds=0.25 * run.end)
    assert set(forecast.task_finishes) == {
        t for t, f in zip(run.plan.task_ids, run.finishes, strict=True) if f > now
    }
    assert all(forecast.starts[t] <= f for t, f in forecast.task_finishes.items())
    assert all(0 <= risk <= 1 for risk in forecast.risks.values())
    assert monitor.learned_estimates().keys() <= set(run.plan.task_ids)


def test_who_takes_the_run_up_forecasts_the_same(runs: list[Made]) -> None:
    *past, run = runs
    journal, plan_run = Recalling(history_of(past)), uuid4()
    first = watched(run, journal, plan_run)
    second = watched(run, journal, plan_run)
    assert second.baseline == first.baseline
    assert second.get_plan_deviation() == first.get_plan_deviation()


def test_over_is_over(runs: list[Made]) -> None:
    *past, run = runs
    journal, plan_run = Recalling(history_of(past)), uuid4()
    tell(run, journal, plan_run, run.end)
    monitor = watched(run, journal, plan_run, 2 * run.end)
    assert monitor.finished
    found = monitor.forecast()
    assert found.p50 is not None
    assert (found.p50 - T0).total_seconds() == pytest.approx(run.end, abs=1e-3)


def test_a_run_that_began_with_estimates_stays_with_them(runs: list[Made]) -> None:
    *past, run = runs
    journal, plan_run = Recalling(history_of(past[:2])), uuid4()
    assert watched(run, journal, plan_run).basis == "from the plan's estimates", "two are too few"
    journal.history = history_of(past)
    assert watched(run, journal, plan_run).basis == "from the plan's estimates"
    assert watched(run, journal, uuid4()).basis == "from 8 runs, 288 records"


def test_a_plan_may_do_without(runs: list[Made]) -> None:
    *past, run = runs
    policy = run.plan.replanning.policy.model_copy(update={"forecast_runs": None})
    journal = Recalling(history_of(past))
    monitor = watched(run, journal, uuid4(), policy=policy)
    assert monitor.basis == "from the plan's estimates"
    assert journal.asked == 0


def test_a_learned_duration_is_known_once_there_is_history() -> None:
    plan = Plan.model_validate(
        {
            "name": "p",
            "tasks": [
                {"id": "a", "category": "c", "duration": "learned"},
                {"id": "b", "category": "d", "duration": "20s", "depends_on": ["a"]},
            ],
        }
    )
    history = History.of(
        PastRun(
            key=str(k),
            plan="p",
            tasks=[
                PastTask(id="a", category="c", planned=None, actual=100 + k, started=0),
                PastTask(
                    id="b", category="d", planned=20, actual=20, started=100 + k, after=("a",)
                ),
            ],
        )
        for k in range(6)
    )
    context = ExecutionContext(
        plan_run=uuid4(), clock=VirtualClock(T0), started_at=T0, journal=MemoryJournal()
    )
    monitor = ExecutionMonitor(plan, context, history=history)
    found = monitor.get_plan_deviation()
    assert found.reason == ""
    assert found.estimated_completion is not None
    assert 110 <= (found.estimated_completion - T0).total_seconds() <= 135
    monitor.record_task_start("a", T0, {})
    assert monitor.forecast().quantiles


def test_slip_after_a_revision_is_against_what_history_said_then(runs: list[Made]) -> None:
    """The planner promises by its schedule; the forecast is held against a forecast."""
    *past, run = runs
    journal, plan_run = Recalling(history_of(past)), uuid4()
    now = run.moment_of(0.25)
    tell(run, journal, plan_run, now)
    revised: Event = RunEvent(
        plan_run=plan_run,
        kind=RunEventKind.REVISED,
        at=T0 + timedelta(seconds=now),
        data={"revision": 2, "p50": 1.0, "accepted": 2.0},
    )
    journal.append(revised)
    monitor = watched(run, journal, plan_run, now)
    found = monitor.get_plan_deviation()
    assert found.revision == 2
    assert found.slip == pytest.approx(0.0, abs=1e-6)
    assert monitor.accepted_finish is not None and found.estimated_completion is not None
    assert monitor.accepted_finish > found.estimated_completion

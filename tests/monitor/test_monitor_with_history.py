"""A monitor whose forecasts rest on finished runs."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID, uuid4

import pytest

from athena_prefect.journal.events import Event, RunEvent, RunEventKind
from athena_prefect.journal.journal import MemoryJournal, Recorded
from athena_prefect.monitor.context import ExecutionContext, VirtualClock
from athena_prefect.monitor.history import History, PastRun, PastTask
from athena_prefect.monitor.monitor import ExecutionMonitor
from athena_prefect.monitor.recorded import KEYS, PastForecast
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


def tell(
    run: Made, journal: MemoryJournal, plan_run: UUID, until: float, since: float = -1.0
) -> None:
    """Write down what happened until then, and after `since`."""
    events: Sequence[tuple[float, str, bool]] = sorted(
        [(s, t, False) for t, s in zip(run.plan.task_ids, run.starts.tolist(), strict=True)]
        + [(f, t, True) for t, f in zip(run.plan.task_ids, run.finishes.tolist(), strict=True)]
    )
    monitor = watched(run, journal, plan_run)
    for seconds, task, ended in events:
        moment = T0 + timedelta(seconds=seconds)
        if seconds > until:
            break
        if seconds <= since:
            continue
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
    assert estimates.basis == "from the plan's estimates; no finished run yet"
    assert estimates.as_dict()["basis"] == estimates.basis


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
    few = "from the plan's estimates; 2 finished runs, 3 are needed"
    assert watched(run, journal, plan_run).basis == few
    journal.history = history_of(past)
    assert watched(run, journal, plan_run).basis == few
    assert watched(run, journal, uuid4()).basis == "from 8 runs, 288 records"


def test_a_plan_may_do_without(runs: list[Made]) -> None:
    *past, run = runs
    policy = run.plan.replanning.policy.model_copy(update={"forecast_runs": None})
    journal = Recalling(history_of(past))
    monitor = watched(run, journal, uuid4(), policy=policy)
    assert monitor.basis == (
        "from the plan's estimates; earlier runs are not used (forecast_runs: null)"
    )
    assert journal.asked == 0


def test_a_forecast_is_written_down_at_each_checkpoint_once(runs: list[Made]) -> None:
    *past, run = runs
    journal, plan_run = Recalling(history_of(past)), uuid4()
    said, before = [], -1.0
    for share in (0.05, 0.12, 0.2, 0.26, 0.6, 0.8, 0.8, 1.0):
        now = run.moment_of(share)
        tell(run, journal, plan_run, now, before)
        before = now
        monitor = watched(run, journal, plan_run, now)
        expected = monitor.predict_completion_time()[0]
        recorded = monitor.record_forecast()
        said.append((share, recorded, expected))
        assert monitor.record_forecast() is None
    assert [share for share, recorded, _ in said if recorded is Recorded.STORED] == [
        0.12, 0.26, 0.6, 0.8,
    ]  # fmt: skip
    events = [
        e.event
        for e in journal.read(plan_run)
        if isinstance(e.event, RunEvent) and e.event.kind is RunEventKind.FORECAST
    ]
    assert [KEYS[e.key] for e in events] == [0.1, 0.25, 0.5, 0.75]
    told = [PastForecast.of(e.data) for e in events]
    assert all(
        t.from_history and t.share_done >= KEYS[e.key] for t, e in zip(told, events, strict=True)
    )
    assert events[0].data["basis"] == "from 8 runs, 288 records"
    middles = [T0 + timedelta(seconds=t.quantiles[0.5]) for t in told]
    assert middles == [e for _, recorded, e in said if recorded is not None]
    assert PastForecast.of(told[0].as_dict()) == told[0]


def test_without_a_forecast_nothing_is_written_down() -> None:
    plan = Plan.model_validate(
        {
            "name": "p",
            "tasks": [{"id": "a", "duration": "1s"}, {"id": "b", "duration": "learned"}],
        }
    )
    context = ExecutionContext(
        plan_run=uuid4(), clock=VirtualClock(T0), started_at=T0, journal=MemoryJournal()
    )
    monitor = ExecutionMonitor(plan, context)
    monitor.record_task_start("a", T0, {})
    monitor.record_task_completion("a", T0 + timedelta(seconds=1), None, {}, "success")
    assert monitor.share_done == 0.5
    assert monitor.record_forecast(now=T0 + timedelta(seconds=1)) is None


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


def test_what_is_planned_to_take_no_time_needs_no_history() -> None:
    plan = Plan.model_validate(
        {"name": "p", "tasks": [{"id": "a", "duration": "0s"}, {"id": "b", "duration": "0s"}]}
    )
    runs = [
        PastRun(
            key=str(k),
            plan="p",
            tasks=[PastTask(id=t, category=t, planned=0, actual=0.02) for t in "ab"],
        )
        for k in range(5)
    ]
    journal = Recalling(History.of(runs))
    context = ExecutionContext(
        plan_run=uuid4(), clock=VirtualClock(T0), started_at=T0, journal=journal
    )
    monitor = ExecutionMonitor(plan, context)
    assert journal.asked == 0
    assert monitor.basis == "from the plan's estimates; no task is planned to take time"
    assert monitor.forecast().samples == 1

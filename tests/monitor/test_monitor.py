"""The monitor through its public methods, in virtual time."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from athena_prefect.errors import NaiveDatetimeError, RecordingError, UnknownNameError
from athena_prefect.journal.events import (
    Event,
    RunEvent,
    RunEventKind,
    TaskEvent,
    TaskEventKind,
    TaskOutcome,
)
from athena_prefect.journal.journal import MemoryJournal, Recorded
from athena_prefect.journal.state import Status
from athena_prefect.monitor.context import ExecutionContext, VirtualClock
from athena_prefect.monitor.monitor import ExecutionMonitor
from athena_prefect.plan.model import Plan

T0 = datetime(2026, 1, 5, 8, tzinfo=UTC)
RUN = UUID(int=1)
HOUR = timedelta(hours=1)


class Run:
    """A monitor, its clock and its journal."""

    def __init__(self, document: Mapping[str, Any], **options: Any) -> None:
        self.plan = Plan.model_validate({"name": "test", **document})
        self.clock = VirtualClock(T0)
        self.journal = MemoryJournal()
        self.context = ExecutionContext(
            plan_run=RUN, clock=self.clock, started_at=T0, journal=self.journal
        )
        self.options = options
        self.monitor = ExecutionMonitor(self.plan, self.context, **options)

    def again(self) -> ExecutionMonitor:
        """Another monitor of the same run, as in another process."""
        return ExecutionMonitor(self.plan, self.context, **self.options)

    def start(self, task: str, at: float = 0, **values: Any) -> None:
        self.clock.move_to(max(self.clock(), T0 + at * HOUR))
        self.monitor.record_task_start(task, T0 + at * HOUR, {}, **values)

    def end(
        self, task: str, at: float, outcome: TaskOutcome = TaskOutcome.SUCCESS, **values: Any
    ) -> None:
        self.clock.move_to(max(self.clock(), T0 + at * HOUR))
        self.monitor.record_task_completion(task, T0 + at * HOUR, None, {}, outcome, **values)

    def append(self, kind: TaskEventKind, task: str, at: float = 0, **values: Any) -> None:
        """What somebody else wrote to the journal."""
        values = {"source": "other", **values}
        self.journal.append(
            TaskEvent(plan_run=RUN, task_id=task, kind=kind, at=T0 + at * HOUR, **values)
        )
        self.monitor.refresh()

    def hours(self, moment: datetime | None) -> float:
        assert moment is not None
        return (moment - T0) / HOUR

    @property
    def finish(self) -> float:
        """Forecast P50 finish in hours."""
        return self.hours(self.monitor.get_plan_deviation().estimated_completion)


def task(task_id: str, hours: Any, *upstream: Any, **values: Any) -> dict[str, Any]:
    duration = f"{hours}h" if isinstance(hours, int | float) else hours
    return {"id": task_id, "duration": duration, "depends_on": list(upstream), **values}


def spread(low: float, likely: float, high: float) -> dict[str, str]:
    return {"optimistic": f"{low}h", "likely": f"{likely}h", "pessimistic": f"{high}h"}


CHAIN = {"tasks": [task("a", 1), task("b", 2, "a"), task("c", 1, "a")]}
UNSURE = {
    "tasks": [task("a", spread(1, 2, 6)), task("b", spread(1, 1, 3), "a"), task("c", 1, "b")],
    "deadline": "6h",
}


# The specification's example


class _Passing:
    """`datetime` in a world where 1.5 hours pass between a look at the clock and the next."""

    def __init__(self) -> None:
        self.clock = VirtualClock(T0)

    def now(self, tz: Any) -> datetime:
        before = self.clock()
        self.clock.advance(timedelta(hours=1.5))
        return before.astimezone(tz)


def test_the_example_of_the_specification_runs_as_written() -> None:
    plan = Plan.model_validate(
        {
            "name": "release",
            "resources": {"cpu": {"capacity": 4}, "memory": {"capacity": 8}},
            "tasks": [
                task("unit_tests", 1, resources={"cpu": 4, "memory": 8}),
                task("publish", 1, "unit_tests"),
            ],
        }
    )
    datetime = _Passing()
    context = ExecutionContext(
        plan_run=RUN, clock=datetime.clock, started_at=T0, journal=MemoryJournal()
    )
    triggered = []

    def trigger_replanning() -> None:
        triggered.append(True)

    monitor = ExecutionMonitor(plan, context)

    # Start task
    monitor.record_task_start(
        task_id="unit_tests",
        actual_start_time=datetime.now(UTC),
        resources_allocated={"cpu": 4, "memory": 8},
    )

    # Task completes
    record = monitor.record_task_completion(
        task_id="unit_tests",
        actual_completion_time=datetime.now(UTC),
        actual_duration=timedelta(hours=1.5),
        resources_used={"cpu": 3.8, "memory": 7.2},
        outcome=TaskOutcome.SUCCESS,
    )

    # Check deviation
    deviation = monitor.get_plan_deviation()
    if deviation.deviation_severity == "critical":
        trigger_replanning()

    assert record.deviation == 0.5
    assert deviation.resource_deviation == {
        "cpu": pytest.approx(-0.05),
        "memory": pytest.approx(-0.1),
    }
    # Read when 3 h had passed and `publish` had not begun: 4 h instead of 2.
    assert deviation.slip == 1.0 and triggered == [True]


# Recording


def test_what_is_refused_is_not_recorded() -> None:
    run = Run({**CHAIN, "resources": {"cpu": {"capacity": 1}}})
    monitor = run.monitor
    before = run.journal.read(RUN)
    with pytest.raises(UnknownNameError, match="no task 'd'"):
        monitor.record_task_start("d", T0, {})
    with pytest.raises(NaiveDatetimeError, match=r"datetime\.now\(UTC\)"):
        monitor.record_task_start("a", datetime(2026, 1, 5), {})
    with pytest.raises(RecordingError, match="1 are free"):
        monitor.record_task_start("a", T0, {"cpu": 2})
    with pytest.raises(RecordingError, match="has not started"):
        monitor.record_task_completion("a", T0, 0, {}, TaskOutcome.SUCCESS)
    assert run.journal.read(RUN) == before
    run.start("a")
    before = run.journal.read(RUN)
    with pytest.raises(RecordingError, match="ran for 3600 s"):
        monitor.record_task_completion("a", T0 + HOUR, 7200, {}, TaskOutcome.SUCCESS)
    assert run.journal.read(RUN) == before
    assert monitor.state.status("a") is Status.RUNNING


def test_telling_it_twice_is_one_record() -> None:
    run = Run(CHAIN)
    for _ in range(2):
        run.start("a", key="mine")
    for _ in range(2):
        run.end("a", 1, key="mine")
    assert len(run.monitor.records) == 1
    assert len(run.journal.read(RUN)) == 4, "start and baseline of the run, start and end of a"


def test_records_say_what_was_planned() -> None:
    run = Run(CHAIN)
    run.start("a", 0.5)
    (running,) = run.monitor.records
    assert running.planned_start == T0 and running.start_flag == "late"
    # a must end by 1.3 h (3.3 h less what comes after) and will end at 1.5.
    assert running.confidence == 0.0
    run.end("a", 1.25)
    (ended,) = run.monitor.records
    assert ended.deviation == -0.25 and ended.confidence is None


def test_the_start_and_the_baseline_of_a_run_are_written_once() -> None:
    run = Run(UNSURE, seed=3, samples=200)
    kinds = [e.event.kind for e in run.journal.read(RUN) if isinstance(e.event, RunEvent)]
    assert kinds == [RunEventKind.STARTED, RunEventKind.BASELINED]
    run.clock.advance(HOUR)
    again = run.again()
    assert len(run.journal.read(RUN)) == 2
    assert again.started == T0
    assert again.get_plan_deviation().baseline_finish == (
        run.monitor.get_plan_deviation().baseline_finish
    )


def test_the_plan_of_the_monitor_has_its_planned_times() -> None:
    plan = Run(CHAIN).monitor.plan
    assert plan.get_task("b").planned_start == T0 + HOUR
    assert plan.planned_completion_time == T0 + 3 * HOUR


# Other writers


def test_what_others_write_is_taken_in_by_refresh() -> None:
    run = Run(CHAIN)
    other = run.again()
    run.start("a")
    run.end("a", 2)
    assert other.get_plan_deviation().completed_tasks == 0
    assert other.refresh() == 2 and other.refresh() == 0
    assert other.get_plan_deviation() == run.monitor.get_plan_deviation()
    assert other.records == run.monitor.records


class _Spooling(MemoryJournal):
    """A journal whose database is away: it accepts, and shows nothing yet."""

    def __init__(self) -> None:
        super().__init__()
        self.away = False
        self.spool: list[Event] = []

    def append(self, *events: Event, token: int | None = None) -> tuple[Recorded, ...]:
        if not self.away:
            return super().append(*events, token=token)
        self.spool.extend(events)
        return tuple(Recorded.SPOOLED for _ in events)


def test_what_waits_in_the_spool_counts_at_once_and_once() -> None:
    journal = _Spooling()
    clock = VirtualClock(T0)
    plan = Plan.model_validate({"name": "test", **CHAIN})
    context = ExecutionContext(plan_run=RUN, clock=clock, started_at=T0, journal=journal)
    monitor = ExecutionMonitor(plan, context)
    journal.away = True
    monitor.record_task_start("a", T0, {})
    clock.advance(2 * HOUR)
    monitor.record_task_completion("a", T0 + 2 * HOUR, None, {}, TaskOutcome.SUCCESS)
    before = monitor.get_plan_deviation()
    assert before.completed_tasks == 1 and before.slip == pytest.approx(1 / 3)
    journal.away = False
    journal.append(*journal.spool)
    monitor.refresh()
    assert monitor.get_plan_deviation() == before


def test_an_event_from_a_clock_ahead_of_ours_is_no_contradiction() -> None:
    run = Run(CHAIN)
    run.append(TaskEventKind.STARTED, "a", 0)
    run.append(TaskEventKind.ENDED, "a", 3, outcome=TaskOutcome.SUCCESS)
    assert run.clock() == T0
    assert run.finish == 5.0


# Figures


def test_at_the_start_nothing_deviates() -> None:
    for document in (CHAIN, UNSURE):
        deviation = Run(document).monitor.get_plan_deviation()
        assert deviation.time_deviation == timedelta(0) and deviation.slip == 0.0
        assert deviation.completion_rate == 0.0 and deviation.total_tasks == 3
        assert not deviation.finished and deviation.reason == ""


def test_the_same_seed_gives_the_same_forecast_and_quantiles_are_ordered() -> None:
    first, second = (Run(UNSURE, seed=5, samples=500).monitor.forecast() for _ in range(2))
    assert first == second and first.quantiles == second.quantiles
    values = [first.quantiles[name] for name in ("p10", "p50", "p80", "p90", "p95")]
    assert values == sorted(values)
    assert first.samples == 500 and first.seed == 5
    other = Run(UNSURE, seed=6, samples=500).monitor.forecast()
    assert other.quantiles != first.quantiles


def test_probability_is_the_share_of_simulated_runs() -> None:
    forecast = Run(UNSURE, samples=1000).monitor.forecast()
    p80 = forecast.quantiles["p80"]
    assert forecast.probability(p80) == pytest.approx(0.8, abs=0.002)
    assert forecast.probability(T0) == 0.0
    assert forecast.probability(T0 + 99 * HOUR) == 1.0
    assert forecast.p_deadline == forecast.probability(T0 + 6 * HOUR)
    with pytest.raises(NaiveDatetimeError):
        forecast.probability(datetime(2026, 1, 5))


def test_a_forecast_says_what_it_rests_on() -> None:
    forecast = Run(UNSURE, samples=1000).monitor.forecast()
    assert str(forecast.basis) == (
        "1,000 simulated runs of 3 open tasks: 2 with a three-point estimate, 1 with one number"
    )
    certain = Run(CHAIN).monitor.forecast()
    assert str(certain.basis) == (
        "1 run of 3 open tasks: 0 with a three-point estimate, 3 with one number"
    )
    assert len(set(certain.quantiles.values())) == 1, "what is certain has no spread"


def test_a_forecast_has_every_open_task() -> None:
    run = Run(CHAIN)
    run.start("a")
    run.end("a", 1)
    forecast = run.monitor.forecast()
    assert list(forecast.starts) == ["b", "c"]
    assert forecast.starts["b"] == T0 + HOUR and forecast.task_finishes["b"] == T0 + 3 * HOUR
    assert forecast.risks == {"b": 0.0, "c": 0.0}
    row = json.loads(json.dumps(forecast.as_dict()))
    assert row["tasks"]["b"]["finish"] == "2026-01-05T11:00:00+00:00"


def test_a_running_task_is_conditioned_on_the_time_it_has_taken() -> None:
    run = Run(UNSURE, samples=2000)
    start = run.finish
    run.start("a")
    run.clock.move_to(T0 + 5 * HOUR)
    later = run.monitor.forecast()
    # a is in the last sixth of its range: it ends between 5 h and 6 h.
    assert start < 6 < run.finish
    assert T0 + 5 * HOUR <= later.task_finishes["a"] <= T0 + 6 * HOUR
    run.clock.move_to(T0 + 7 * HOUR)
    past = run.monitor.forecast()
    assert past.task_finishes["a"] == T0 + 7 * HOUR, "past its support it is forecast to end now"
    assert past.p_deadline == 0.0


def test_what_is_known_makes_the_interval_narrower() -> None:
    run = Run(UNSURE, samples=2000)

    def width() -> timedelta:
        quantiles = run.monitor.forecast().quantiles
        return quantiles["p90"] - quantiles["p10"]

    before = width()
    run.start("a")
    run.end("a", 2)
    after = width()
    assert after < before
    run.start("b", 2)
    run.end("b", 3)
    assert width() == timedelta(0), "what is left is certain"


def test_risk_and_confidence_are_two_sides() -> None:
    run = Run(UNSURE, samples=2000)
    run.start("a")
    (record,) = run.monitor.records
    risk = run.monitor.forecast().risks["a"]
    assert record.confidence == pytest.approx(1 - risk)
    deviation = run.monitor.get_plan_deviation()
    assert deviation.confidence == deviation.deadline_probability
    moment, confidence = run.monitor.predict_completion_time()
    assert (moment, confidence) == (deviation.estimated_completion, deviation.confidence)


def test_without_a_deadline_confidence_is_about_what_was_promised() -> None:
    run = Run({"tasks": UNSURE["tasks"]}, samples=1000)
    deviation = run.monitor.get_plan_deviation()
    assert deviation.deadline is None and deviation.deadline_probability is None
    assert deviation.accepted_finish is not None and deviation.baseline_finish is not None
    assert deviation.accepted_finish > deviation.baseline_finish
    assert deviation.confidence == pytest.approx(0.9, abs=0.002)


def test_between_two_simulations_the_finish_moves_with_what_is_certain() -> None:
    run = Run(UNSURE, samples=500)
    first = run.monitor.get_plan_deviation()
    run.start("a")
    run.clock.advance(timedelta(seconds=2))
    assert run.monitor.get_plan_deviation().as_of == first.as_of
    run.clock.advance(timedelta(seconds=4))
    assert run.monitor.get_plan_deviation().as_of == run.clock()


def test_a_finish_that_moves_is_simulated_anew_at_once() -> None:
    run = Run(UNSURE, samples=500)
    run.start("a")
    as_of = run.monitor.get_plan_deviation().as_of
    run.append(TaskEventKind.ENDED, "a", 0.0003, source="caller", outcome=TaskOutcome.SUCCESS)
    deviation = run.monitor.get_plan_deviation()
    assert deviation.as_of != as_of and deviation.time_deviation is not None
    assert deviation.time_deviation < timedelta(hours=-1)


def test_own_deadlines_put_a_task_at_risk() -> None:
    document = {"tasks": [task("a", 1), task("b", 2, "a", deadline="2h"), task("c", 9)]}
    run = Run(document)
    deviation = run.monitor.get_plan_deviation()
    # b cannot end by 2 h, and a would have to end by 0 h.
    assert deviation.tasks_at_risk == ("a", "b") and deviation.deviation_severity == "low"


def test_a_task_is_not_at_risk_because_it_runs() -> None:
    run = Run(CHAIN)
    run.start("a")
    assert run.monitor.get_plan_deviation().tasks_at_risk == ()


def test_critical_path_is_what_has_no_float() -> None:
    run = Run(CHAIN)
    assert [t.id for t in run.monitor.get_critical_path()] == ["a", "b"]
    rows = {r.task_id: r for r in run.monitor.task_table()}
    assert rows["c"].total_float == HOUR and not rows["c"].critical
    run.start("a")
    run.end("a", 1)
    run.start("b", 1)
    run.end("b", 1.5)
    path = run.monitor.get_critical_path()
    assert [t.id for t in path] == ["c"] and path[0].planned_start == T0 + HOUR


def test_resource_arcs_are_part_of_the_critical_path() -> None:
    document = {
        "resources": {"cpu": {"capacity": 1}},
        "tasks": [task("a", 2, resources={"cpu": 1}), task("b", 3, resources={"cpu": 1})],
    }
    run = Run(document)
    assert run.finish == 5.0
    assert {t.id for t in run.monitor.get_critical_path()} == {"a", "b"}


def test_what_starts_out_of_the_chained_order_is_chained_anew() -> None:
    document = {
        "resources": {"cpu": {"capacity": 1}},
        "tasks": [task(n, 2, resources={"cpu": 1}) for n in "abc"],
    }
    run = Run(document)
    for name in "cab":
        at = run.finish - 6 + 2 * "cab".index(name)
        run.start(name, at)
        assert run.finish == 6.0, "the others wait for what runs"
        run.end(name, at + 2)
    assert run.monitor.get_plan_deviation().time_deviation == timedelta(0)


def test_what_starts_before_its_own_dependency_waits_for_nothing_and_the_rest_goes_on() -> None:
    """Flows that are only monitored keep to no plan: what overtakes is no contradiction."""
    run = Run(
        {
            "runner": {"max_workers": 1},
            "tasks": [
                task("source", 1),
                task("each", 1, inputs={"x": "source"}, map_over="x", expected_items=3),
                task("last", 1, "each"),
            ],
        }
    )
    for index in range(2):
        run.append(TaskEventKind.STARTED, "each", index, map_index=index)
        run.append(
            TaskEventKind.ENDED, "each", index + 1, map_index=index, outcome=TaskOutcome.SUCCESS
        )
    run.append(TaskEventKind.STARTED, "each", 2, map_index=2)
    # One worker: the last item, then the source that never ran, then what is left.
    assert run.finish == 5
    assert {t.id for t in run.monitor.get_critical_path()} == {"each", "source", "last"}
    run.append(TaskEventKind.ENDED, "each", 3, map_index=2, outcome=TaskOutcome.SUCCESS)
    run.append(TaskEventKind.STARTED, "last", 3)
    assert run.finish == 5


def test_who_was_first_stays_first_when_the_rest_is_chained_anew() -> None:
    # Whatever is longest: the order of the rest is that of the baseline.
    document = {
        "resources": {"cpu": {"capacity": 1}},
        "tasks": [
            task(n, h, resources={"cpu": 1}) for n, h in zip("abcde", (1, 5, 2, 4, 3), strict=True)
        ],
    }
    run = Run(document)
    order = [t.id for t in run.monitor.get_critical_path()]
    jumped = order[2]
    run.start(jumped)
    rest = [t.id for t in run.monitor.get_critical_path()]
    assert rest == [jumped, *(t for t in order if t != jumped)]
    assert run.finish == 15.0


def test_a_later_revision_is_another_network() -> None:
    run = Run(CHAIN)
    run.start("a")
    run.end("a", 1)
    at = T0 + HOUR
    run.journal.append(
        RunEvent(plan_run=RUN, kind=RunEventKind.REVISED, at=at, data={"revision": 2})
    )
    revised = Plan.model_validate(
        {"name": "test", "tasks": [task("a", 1), task("b", 5, "a"), task("new", 1, "b")]}
    )
    deviation = ExecutionMonitor(revised, run.context).get_plan_deviation()
    assert (deviation.revision, deviation.total_tasks, deviation.completed_tasks) == (2, 3, 1)
    assert run.hours(deviation.estimated_completion) == 7.0
    assert run.hours(deviation.baseline_finish) == 3.0, "the baseline never changes"


def test_a_task_that_needs_more_than_there_is_has_no_forecast() -> None:
    # Validation refuses such a plan; a learned mode or a smaller capacity may still make one.
    run = Run({"tasks": [task("a", 1), task("b", 1)], "runner": {"max_workers": 1}})
    assert run.finish == 2.0
    baseline = replace(run.monitor.baseline, p50=None, reasons=("b needs more than there is",))
    lost = ExecutionMonitor(
        run.plan,
        ExecutionContext(
            plan_run=UUID(int=2), clock=run.clock, started_at=T0, journal=MemoryJournal()
        ),
        baseline=baseline,
    )
    deviation = lost.get_plan_deviation()
    assert deviation.reason == "b needs more than there is"
    assert deviation.estimated_completion is None and deviation.slip is None


# Mapped tasks


MAPPED = {
    "resources": {"cpu": {"capacity": 2}},
    "tasks": [
        task("list", 1),
        {
            "id": "hash",
            "duration": "1h",
            "inputs": {"file": "list"},
            "map_over": "file",
            "expected_items": 4,
            "resources": {"cpu": 1},
        },
        task("report", 1, "hash"),
    ],
}


def test_a_mapped_task_is_scheduled_in_pieces_and_reported_once() -> None:
    run = Run(MAPPED)
    deviation = run.monitor.get_plan_deviation()
    assert run.hours(deviation.baseline_finish) == 4.0, "1, then 4 items two at a time, then 1"
    assert deviation.total_tasks == 3
    run.start("list")
    run.end("list", 1)
    run.append(TaskEventKind.EXPANDED, "hash", 1, data={"items": 6})
    assert run.finish == 5.0, "six items two at a time"
    for pair in range(3):
        for index in (2 * pair, 2 * pair + 1):
            run.start("hash", 1 + pair, map_index=index)
        for index in (2 * pair, 2 * pair + 1):
            run.end("hash", 2 + pair, map_index=index)
    deviation = run.monitor.get_plan_deviation()
    assert deviation.completed_tasks == 2 and run.finish == 5.0
    (row,) = [r for r in run.monitor.task_table() if r.task_id == "hash"]
    assert (row.items, row.items_done, row.status) == (6, 6, Status.SUCCESS)
    assert (row.actual_start, row.actual_finish) == (T0 + HOUR, T0 + 4 * HOUR)
    assert len([r for r in run.monitor.records if r.task_id == "hash"]) == 6


def test_a_mapped_task_may_be_recorded_as_a_whole() -> None:
    run = Run(MAPPED)
    run.start("list")
    run.end("list", 1)
    run.start("hash", 1)
    run.end("hash", 3)
    assert run.finish == 4.0 and run.monitor.get_plan_deviation().completed_tasks == 2


def test_a_mapped_task_that_runs_as_a_whole_takes_as_long_as_its_items() -> None:
    run = Run(MAPPED)
    run.start("list")
    run.end("list", 1)
    run.start("hash", 1)
    assert run.finish == 4.0, "four items two at a time"
    run.clock.move_to(T0 + 1.5 * HOUR)
    assert run.finish == 4.0
    # The items turn out to be eight: the order is made anew, and what runs stays.
    run.append(TaskEventKind.EXPANDED, "hash", 1.5, data={"items": 8})
    assert run.finish >= 5.0
    run.end("hash", 6)
    assert run.finish == 7.0


def test_a_mapped_task_without_items_is_over_with_what_it_waits_for() -> None:
    run = Run(MAPPED)
    run.start("list")
    run.end("list", 1)
    run.append(TaskEventKind.EXPANDED, "hash", 1, data={"items": 0})
    deviation = run.monitor.get_plan_deviation()
    assert deviation.completed_tasks == 2 and run.finish == 2.0


def test_a_mapped_task_that_is_skipped_or_fails_leaves_nothing_open() -> None:
    run = Run({**MAPPED, "goals": ["list"]})
    run.start("list")
    run.end("list", 1)
    run.start("hash", 1, map_index=0)
    run.end("hash", 2, map_index=0)
    run.append(TaskEventKind.SKIPPED, "hash", 2)
    run.append(TaskEventKind.SKIPPED, "report", 2)
    deviation = run.monitor.get_plan_deviation()
    assert deviation.finished and deviation.total_tasks == 1
    other = Run(MAPPED)
    other.start("list")
    other.end("list", 1)
    other.append(TaskEventKind.EXPANDED, "hash", 1, data={"items": 1})
    other.start("hash", 1, map_index=0)
    other.end("hash", 2, TaskOutcome.FAILURE, map_index=0)
    deviation = other.monitor.get_plan_deviation()
    assert deviation.blocked and deviation.tasks_at_risk == ("hash", "report")
    # Somebody runs the failed item again.
    other.start("hash", 2, map_index=0)
    assert other.finish == 4.0


def test_an_item_beyond_the_expected_ones_is_taken_in() -> None:
    run = Run(MAPPED)
    run.start("list")
    run.end("list", 1)
    run.start("hash", 1, map_index=7)
    assert run.monitor.state.task("hash", 7).status is Status.RUNNING
    assert run.finish >= 4.0


# Skipped, failed, blocked, ended


def test_a_skipped_task_is_not_counted_and_holds_nothing_up() -> None:
    run = Run(CHAIN)
    run.start("a")
    run.end("a", 1)
    run.append(TaskEventKind.SKIPPED, "b", 1, data={"reason": "when: not changed"})
    deviation = run.monitor.get_plan_deviation()
    assert deviation.total_tasks == 2 and run.finish == 2.0
    (row,) = [r for r in run.monitor.task_table() if r.task_id == "b"]
    assert row.status is Status.SKIPPED and row.reason == "when: not changed"
    run.start("c", 1)
    run.end("c", 2)
    deviation = run.monitor.get_plan_deviation()
    assert deviation.finished and deviation.completion_rate == 1.0


def test_a_blocked_plan_has_no_forecast_and_says_why() -> None:
    run = Run(CHAIN)
    run.start("a")
    run.end("a", 1, TaskOutcome.FAILURE)
    deviation = run.monitor.get_plan_deviation()
    assert deviation.blocked and deviation.reason == "a failed; b, c cannot start"
    assert deviation.estimated_completion is None and deviation.confidence is None
    assert deviation.tasks_at_risk == ("a", "b", "c") and deviation.critical_path == ()
    assert run.monitor.get_critical_path() == []
    assert all(r.forecast_finish is None for r in run.monitor.task_table())
    run.start("a", 1)
    deviation = run.monitor.get_plan_deviation()
    assert not deviation.blocked and run.finish == 4.0, "somebody tried again"


def test_an_invalidated_success_is_work_again() -> None:
    run = Run(CHAIN)
    run.start("a")
    run.end("a", 1)
    assert run.finish == 3.0
    run.append(TaskEventKind.INVALIDATED, "a", 1, data={"reason": "athena rerun"})
    deviation = run.monitor.get_plan_deviation()
    assert deviation.completed_tasks == 0 and run.finish == 4.0


def test_a_run_that_was_ended_has_no_forecast() -> None:
    run = Run(CHAIN)
    run.start("a")
    run.end("a", 1)
    at = run.clock()
    run.journal.append(
        RunEvent(
            plan_run=RUN,
            kind=RunEventKind.ENDED,
            at=at,
            data={"status": "cancelled", "reason": "from the UI"},
        )
    )
    run.monitor.refresh()
    deviation = run.monitor.get_plan_deviation()
    assert deviation.reason == "the run ended (cancelled: from the UI) with work undone"
    assert deviation.estimated_completion is None and not deviation.finished


def test_a_plan_with_an_unknown_duration_runs_and_says_what_it_cannot_say() -> None:
    run = Run({"tasks": [task("a", 1), task("b", "learned", "a")], "deadline": "3h"})
    deviation = run.monitor.get_plan_deviation()
    assert deviation.time_deviation is None and deviation.slip is None
    assert deviation.deviation_severity is None and "b" in deviation.reason
    assert run.monitor.predict_completion_time() == (None, None)
    assert run.monitor.forecast().reason == deviation.reason
    assert run.monitor.earned_value() is None
    run.start("a")
    run.end("a", 2)
    deviation = run.monitor.get_plan_deviation()
    assert deviation.completed_tasks == 1 and deviation.completion_rate == 0.5
    assert run.monitor.records[0].deviation == 1.0
    assert len(run.monitor.task_table()) == 2


def test_what_is_unknown_is_known_once_it_is_done() -> None:
    document = {
        "resources": {"cpu": {"capacity": 1}},
        "tasks": [
            task("a", "learned"),
            task("b", 1, "a", resources={"cpu": 1}),
            task("c", 1, "a", resources={"cpu": 1}),
        ],
        "deadline": "3h",
    }
    run = Run(document)
    assert run.monitor.predict_completion_time() == (None, None)
    run.start("a")
    run.end("a", 2)
    deviation = run.monitor.get_plan_deviation()
    assert run.hours(deviation.estimated_completion) == 4.0, "b and c one after the other"
    assert deviation.slip is None and deviation.baseline_finish is None
    assert deviation.deadline_probability == 0.0 and deviation.deviation_severity == "critical"


def test_a_task_left_out_may_come_back() -> None:
    document = {
        "resources": {"cpu": {"capacity": 1}},
        "tasks": [task("a", 1, optional=True, resources={"cpu": 1}), task("b", 1, "a"),
                  task("c", 3, resources={"cpu": 1}), task("d", 1, resources={"cpu": 1})],
        "goals": ["c", "d"],
    }  # fmt: skip
    run = Run(document)
    run.start("a")
    run.end("a", 1, TaskOutcome.FAILURE)
    assert run.finish == 5.0
    # d goes before c: the rest is chained anew, without a and b.
    run.start("d", 1)
    run.clock.advance(timedelta(seconds=6))
    assert run.finish == pytest.approx(5.0)
    run.end("d", 2)
    run.start("a", 2)
    assert run.finish == 6.0 and not run.monitor.get_plan_deviation().blocked


def test_a_monitor_taken_up_in_the_middle_says_the_same() -> None:
    run = Run(UNSURE, samples=300)
    run.start("a")
    run.end("a", 3)
    run.start("b", 3)
    run.clock.advance(HOUR / 2)
    assert run.again().get_plan_deviation() == run.monitor.get_plan_deviation()
    assert run.again().task_table() == run.monitor.task_table()


def test_a_moment_may_be_named() -> None:
    run = Run(CHAIN)
    later = run.monitor.get_plan_deviation(now=T0 + 2 * HOUR)
    assert later.time_deviation == 2 * HOUR
    assert run.monitor.get_plan_deviation().time_deviation == timedelta(0)
    with pytest.raises(NaiveDatetimeError):
        run.monitor.forecast(now=datetime(2026, 1, 5))


def test_the_table_has_every_task_in_the_plans_order() -> None:
    run = Run(CHAIN)
    run.start("a", 0.5)
    rows = run.monitor.task_table()
    assert [r.task_id for r in rows] == ["a", "b", "c"]
    a, b, _ = rows
    assert (a.status, a.actual_start, a.forecast_finish) == (
        Status.RUNNING, T0 + HOUR / 2, T0 + 1.5 * HOUR,
    )  # fmt: skip
    assert (b.planned_start, b.planned_finish) == (T0 + HOUR, T0 + 3 * HOUR)
    assert b.forecast_start == T0 + 1.5 * HOUR and b.critical and b.at_risk
    assert json.loads(json.dumps([r.as_dict() for r in rows]))[0]["status"] == "running"


# Earned value


@pytest.mark.parametrize("price", [0.0, 2.0])
def test_earned_value_of_a_run_on_plan(price: float) -> None:
    document = {
        "resources": {"cpu": {"capacity": 1, "cost_per_hour": price}},
        "tasks": [task("a", 1, resources={"cpu": 1}), task("b", 2, "a", resources={"cpu": 1})],
    }
    run = Run(document)
    run.monitor.record_task_start("a", T0, {"cpu": 1})
    run.end("a", 1)
    value = run.monitor.earned_value()
    assert value is not None and value.unit == ("cost" if price else "seconds")
    hour = price if price else 3600.0
    assert (value.bac, value.pv, value.ev, value.ac) == (3 * hour, hour, hour, hour)
    assert (value.spi, value.cpi, value.spi_t) == (1.0, 1.0, 1.0)


def test_a_cost_that_was_not_measured_is_unknown() -> None:
    document = {
        "resources": {"cpu": {"capacity": 1, "cost_per_hour": 1}},
        "tasks": [task("a", 1, resources={"cpu": 1})],
    }
    run = Run(document)
    run.start("a")
    run.end("a", 1)
    value = run.monitor.earned_value()
    assert value is not None and value.ac is None and value.cpi is None and value.ev == 1.0


def test_earned_value_of_a_finished_run_does_not_age() -> None:
    run = Run({"tasks": [task("a", 1)]})
    run.start("a")
    run.end("a", 2)
    before = run.monitor.earned_value()
    run.clock.advance(9 * HOUR)
    assert run.monitor.earned_value() == before
    assert before is not None and before.spi_t == 0.5


def test_a_virtual_clock_does_not_run_backwards() -> None:
    clock = VirtualClock(T0)
    assert clock.now(UTC) == clock.advance(timedelta(0)) == T0
    with pytest.raises(ValueError, match="backwards"):
        clock.move_to(T0 - HOUR)
    with pytest.raises(NaiveDatetimeError):
        VirtualClock(datetime(2026, 1, 5))
    context = ExecutionContext(
        plan_run=RUN, clock=lambda: datetime(2026, 1, 5), started_at=T0, journal=MemoryJournal()
    )
    with pytest.raises(NaiveDatetimeError, match="clock"):
        context.now()

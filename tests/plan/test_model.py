"""The plan as a value: built in a few lines, immutable, and able to say what follows from it."""

from __future__ import annotations

import pickle
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from athena_prefect.errors import InputError, NaiveDatetimeError, UnknownNameError
from athena_prefect.plan import arguments
from athena_prefect.plan.assumption import Assumption
from athena_prefect.plan.estimate import Estimate, LearnedEstimate
from athena_prefect.plan.expectation import MISSING, Expectation, field_of
from athena_prefect.plan.model import Plan
from athena_prefect.plan.scalars import DEEPEST, plain
from athena_prefect.plan.task import Dependency, Mode, PlanTask, When
from athena_prefect.plan.terms import Deadline, Parameter, Replanning, Schedule

START = datetime(2026, 11, 23, 12, tzinfo=UTC)


def test_a_plan_in_a_few_lines() -> None:
    plan = Plan(
        name="x",
        tasks=[
            PlanTask(id="a", duration="2h"),
            PlanTask(id="b", duration="1h", depends_on=["a"], with_={"n": 1}),
        ],
    )
    assert plan.get_task("b").upstream == (Dependency(task="a"),)
    assert plan.get_task("a").planned_duration == timedelta(hours=2)
    assert plan.required == {"a", "b"}
    with pytest.raises(ValidationError):
        setattr(plan.tasks[0], "retries", 3)  # noqa: B010  # the type checker knows it fails


@pytest.mark.parametrize(
    ("model", "types"),
    [
        (Plan, arguments.PlanArguments), (PlanTask, arguments.PlanTaskArguments),
        (Mode, arguments.ModeArguments), (Dependency, arguments.DependencyArguments),
        (Estimate, arguments.EstimateArguments), (LearnedEstimate, arguments.LearnedArguments),
        (Expectation, arguments.ExpectationArguments), (When, arguments.WhenArguments),
        (Assumption, arguments.AssumptionArguments), (Schedule, arguments.ScheduleArguments),
        (Deadline, arguments.DeadlineArguments), (Replanning, arguments.ReplanningArguments),
    ],
)  # fmt: skip
def test_constructors_are_typed_as_the_models_are(model: type[BaseModel], types: Any) -> None:
    names = set(types.__required_keys__ | types.__optional_keys__)
    assert names - {"id"} == set(model.model_fields) - {"id"}


def test_errors_of_a_plan_are_input_errors_with_the_fields_named() -> None:
    with pytest.raises(InputError, match=r"tasks\[0\].retries: -1 is out of range \(at least 0\)"):
        Plan.model_validate({"name": "x", "tasks": [{"id": "a", "retries": -1}]})
    with pytest.raises(InputError, match="did you mean 'with'"):
        Plan.model_validate({"name": "x", "tasks": [{"id": "a", "wth": {}}]})


def test_names_that_the_plan_does_not_have() -> None:
    plan = Plan(name="x", tasks=[PlanTask(id="extract")], assumptions=[Assumption(id="disk")])
    assert plan.get_assumption("disk").id == "disk"
    for ask, name in ((plan.get_task, "extrct"), (plan.get_assumption, "dsk")):
        with pytest.raises(UnknownNameError, match="did you mean"):
            ask(name)
    with pytest.raises(UnknownNameError, match="no mode 'q'"):
        plan.tasks[0].mode("q")


def test_equality_ignores_where_a_plan_came_from(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text("name: x\ntasks: [{id: a}]\n")
    plan = Plan.load(tmp_path / "p.yaml")
    assert plan.source is not None
    assert plan == Plan(name="x", tasks=[PlanTask(id="a")])
    assert plan != Plan(name="y", tasks=[PlanTask(id="a")])
    assert plan != "x"
    assert pickle.loads(pickle.dumps(plan)) == plan


def test_planned_starts_belong_to_a_copy() -> None:
    plan = Plan(name="x", tasks=[PlanTask(id="a"), PlanTask(id="b")])
    assert plan.get_task("a").planned_start is None
    run = plan.planned({"a": START}, START + timedelta(hours=1))
    assert run.get_task("a").planned_start == START
    assert run.get_task("b").planned_start is None
    assert run.planned_completion_time == START + timedelta(hours=1)
    assert plan.planned_completion_time is None and plan.get_task("a").planned_start is None


def test_upstream_holds_what_is_implied_and_keeps_the_lag() -> None:
    task = PlanTask(
        id="d",
        depends_on=[Dependency(task="a", kind="soft", lag="5s"), "b"],
        inputs={"x": "a"},
        when=When(task="c", is_=True),
    )
    assert task.upstream == (
        Dependency(task="a", lag="5s"),
        Dependency(task="b"),
        Dependency(task="c"),
    )


def test_a_mode_says_what_differs() -> None:
    task = PlanTask(
        id="a",
        call="m:f",
        with_={"x": 1, "y": 2},
        duration="1h",
        resources={"cpu": 1, "memory_gb": 2},
        modes=[
            Mode(name="wide", with_={"y": 3}, resources={"cpu": 4}, duration="10m"),
            Mode(name="other", deployment="f/d", quality=0.5),
        ],
    )
    wide, other = task.mode("wide"), task.mode("other")
    assert (wide.call, wide.with_, wide.resources) == (
        "m:f",
        {"x": 1, "y": 3},
        {"cpu": 4, "memory_gb": 2},
    )
    assert wide.estimate == Estimate.model_validate("10m")
    assert (other.call, other.deployment, other.quality) == (None, "f/d", 0.5)
    assert other.estimate == task.estimate
    assert task.mode_names == ("default", "wide", "other")


def test_what_learning_groups_by() -> None:
    assert PlanTask(id="a", category="c", call="m:f").group == "c"
    assert PlanTask(id="a", call="m.n:A.f").group == "f"
    assert PlanTask(id="a", deployment="f/d").group == "f/d"
    assert PlanTask(id="a").group == "a"


durations = st.timedeltas(min_value=timedelta(0), max_value=timedelta(days=100))


@given(st.lists(durations, min_size=3, max_size=3))
def test_the_pert_mean_lies_between_the_points(points: list[timedelta]) -> None:
    low, mode, high = sorted(points)
    estimate = Estimate(optimistic=low, likely=mode, pessimistic=high)
    assert low <= estimate.mean <= high
    assert estimate.certain == (low == high)


def test_an_estimate_that_is_not_known() -> None:
    assert PlanTask(id="a").estimate is None and PlanTask(id="a").planned_duration is None
    task = PlanTask(id="a", duration=LearnedEstimate(fallback="30s"))
    assert task.planned_duration == timedelta(seconds=30)
    assert PlanTask(id="a", duration="learned") == PlanTask(id="a")


@pytest.mark.parametrize(
    ("deadline", "moment"),
    [
        (Deadline(after="10m"), START + timedelta(minutes=10)),
        (Deadline(at=time(13)), START + timedelta(hours=1)),
        (Deadline(at="06:00", timezone="Europe/Berlin"), datetime(2026, 11, 24, 5, tzinfo=UTC)),
        (Deadline(at="12:00"), START + timedelta(days=1)),
    ],
)
def test_a_deadline_is_the_next_such_moment(deadline: Deadline, moment: datetime) -> None:
    assert deadline.resolve(START) == moment
    with pytest.raises(NaiveDatetimeError):
        deadline.resolve(START.replace(tzinfo=None))


def test_a_working_day_skips_the_weekend_and_clock_changes_are_survived() -> None:
    friday = datetime(2026, 11, 27, 12, tzinfo=UTC)
    assert Deadline(at="06:00", days="working").resolve(friday).weekday() == 0
    # 2026-03-29 02:30 does not exist in Berlin: the moment after the gap counts.
    before = datetime(2026, 3, 28, 23, 30, tzinfo=UTC)
    spring = Deadline(at="02:30", timezone="Europe/Berlin").resolve(before)
    assert spring == datetime(2026, 3, 29, 1, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        ("string", "x", 1), ("integer", 3, 3.5), ("integer", 3.0, True), ("number", 0.5, "1"),
        ("boolean", False, 0), ("date", "2026-11-30", "30.11.2026"), ("list", [1], {}),
        ("datetime", "2026-11-30T06:00:00Z", "2026-11-30T06:00:00"), ("object", {"a": 1}, [1]),
        ("duration", "10m", "10 x"), ("date", "2026-11-30", 5),
    ],
)  # fmt: skip
def test_a_parameter_knows_what_fits(kind: Any, good: Any, bad: Any) -> None:
    assert Parameter(type=kind, default=good).misfit(good) is None
    assert f"is no {kind}; write" in (Parameter(type=kind).misfit(bad) or "")
    with pytest.raises(ValidationError):
        Parameter(type=kind, default=bad)


@pytest.mark.parametrize(
    ("expectation", "good", "bad"),
    [
        (Expectation(is_=True), True, 1), (Expectation(is_=None), None, 0),
        (Expectation(is_not="x"), "y", "x"), (Expectation(one_of=["a", 1]), 1, True),
        (Expectation(min=1, max=3), 3, 4), (Expectation(min=1), 1, 0.5),
        (Expectation(matches="^a"), "ab", "b"), (Expectation(matches="a"), "a", 3),
        (Expectation(max=3), "2", "x"), (Expectation(max=3), 1, float("nan")),
        (Expectation.model_validate("ok"), "ok", MISSING),
    ],
)  # fmt: skip
def test_what_meets_an_expectation(expectation: Expectation, good: Any, bad: Any) -> None:
    assert expectation.unmet(good) is None
    assert expectation.unmet(bad)


def test_fields_of_mappings_and_objects_but_nothing_private() -> None:
    class Row:
        n = 1
        _hidden = 2

    assert field_of({"a": {"b": Row()}}, "a.b.n") == 1
    assert field_of({"a": 1}, "b") is MISSING
    assert field_of(Row(), "_hidden") is MISSING
    assert field_of(Row(), "missing") is MISSING


def test_only_what_json_can_say_stands_in_a_plan() -> None:
    assert plain({"a": (1, [None, True, "x"])}) == {"a": [1, [None, True, "x"]]}
    deep: Any = 1
    for _ in range(DEEPEST + 2):
        deep = [deep]
    for value, said in (
        (float("nan"), "nan is not a number"),
        ({1: 2}, "key 1 is not text"),
        ("a\0", "U\\+0000"),
        ({"\ud800": 1}, "U\\+D800"),
        (START, "write it as text"),
        ({1, 2}, "a set cannot stand"),
        (deep, "nested more than"),
    ):
        with pytest.raises(ValueError, match=said):
            plain(value)


def test_schedules_that_could_never_fire_are_refused() -> None:
    assert Schedule(rrule="FREQ=WEEKLY;BYDAY=MO").cron is None
    for bad in ({"cron": "0 0 31 2 *"}, {"cron": "0 0 30 2 *"}, {}, {"interval": 0}):
        with pytest.raises(ValidationError):
            Schedule.model_validate(bad)

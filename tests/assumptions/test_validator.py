"""AssumptionValidator in virtual time: what it finds, writes down, and says of the run."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from athena_prefect.assumptions.checks.base import CheckContext, Observation
from athena_prefect.assumptions.checks.making import Made
from athena_prefect.assumptions.results import AssumptionViolation
from athena_prefect.assumptions.validator import AssumptionValidator
from athena_prefect.errors import (
    InputError,
    NaiveDatetimeError,
    PlanDocumentError,
    UnknownNameError,
)
from athena_prefect.journal.events import TaskOutcome
from athena_prefect.journal.journal import MemoryJournal
from athena_prefect.monitor.context import ExecutionContext, VirtualClock
from athena_prefect.monitor.monitor import ExecutionMonitor
from athena_prefect.plan.model import Assumption, Plan

T0 = datetime(2026, 1, 5, 8, tzinfo=UTC)
HOUR = timedelta(hours=1)


class Run:
    """A plan run with its validator; `seen` is what the next check of its own observes."""

    def __init__(self, assumptions: list[dict[str, Any]], **document: Any) -> None:
        plan = {
            "name": "release",
            "resources": {"cpu": {"capacity": 4}},
            "tasks": [
                {"id": "build", "duration": "2h", "resources": {"cpu": 2}},
                {
                    "id": "review",
                    "duration": "3h",
                    "depends_on": ["build"],
                    "resources": {"cpu": 2},
                    "modes": [{"name": "fast", "duration": "1h"}],
                },
                {"id": "notes", "duration": "1h", "depends_on": ["build"], "resources": {"cpu": 2}},
                {"id": "publish", "duration": "1h", "depends_on": ["review", "notes"]},
            ],
            "assumptions": assumptions,
            **document,
        }
        self.plan = Plan.model_validate(plan)
        self.clock = VirtualClock(T0)
        self.journal = MemoryJournal()
        context = ExecutionContext(
            plan_run=UUID(int=7), clock=self.clock, started_at=T0, journal=self.journal
        )
        self.monitor = ExecutionMonitor(self.plan, context)
        self.seen: Made = Made(error="nothing was told")
        self.contexts: list[CheckContext] = []
        self.validator = AssumptionValidator(self.plan, self.monitor, checker=self._check)

    def _check(self, assumption: Assumption, context: CheckContext) -> Made:
        self.contexts.append(context)
        return self.seen

    def violation(self) -> AssumptionViolation:
        (found,) = self.validator.get_violated_assumptions()
        return found

    def done(self, task: str, start: float, hours: float) -> None:
        end = T0 + (start + hours) * HOUR
        self.monitor.record_task_start(task, T0 + start * HOUR, {})
        self.clock.move_to(end)
        self.monitor.record_task_completion(task, end, None, {}, TaskOutcome.SUCCESS)

    def finish(self) -> float | None:
        at = self.monitor.get_plan_deviation().estimated_completion
        return None if at is None else (at - T0) / HOUR


TEAM = {
    "id": "team",
    "expected_value": 1.0,
    "sense": "at_least",
    "tolerance": 0.1,
    "affects": ["review"],
    "impact": "Reviews wait",
    "mitigation": "Ask the other team",
    "effect": {"duration_factor": 2},
}


# The specification's example


def test_the_example_of_the_specification() -> None:
    run = Run([TEAM])
    result = run.validator.check_assumption(
        assumption_id="team", validation_data={"team_capacity": 0.95}, validation_method="external"
    )
    assert result.valid is True and result.actual_value == 0.95 and result.method == "external"
    assert result.confidence is None and result.error_margin is None
    result = run.validator.check_assumption("team", {"team_capacity": 0.5}, "external")
    assert result.valid is False
    assert result.notes == "is 0.5, expected at least 1 within 0.1"
    found = run.validator.get_violated_assumptions()
    assert [v.assumption_id for v in found if v.replanning_required] == ["team"]


def test_a_violation_says_what_moves_and_by_how_much() -> None:
    run = Run([TEAM])
    assert run.finish() == 6.0
    run.validator.check_assumption("team", {"capacity": 0.5})
    # At once, without a task having done anything: review takes three hours longer.
    assert run.finish() == 9.0
    violation = run.violation()
    assert violation.finish_impact == 3 * HOUR
    assert {t: round(d / HOUR, 6) for t, d in violation.date_impact.items()} == {
        "review": 3,
        "publish": 3,
    }
    assert violation.impact == (
        "Reviews wait; review, publish move by 3h; the end of the run moves by 3h"
    )
    assert violation.affected_tasks == ("review",) and violation.cone == ("review", "publish")
    assert violation.mitigation == "Ask the other team"
    assert violation.as_dict()["finish_impact"] == 10800


def test_a_later_holds_clears_a_violation_and_both_stay() -> None:
    run = Run([TEAM])
    run.validator.check_assumption("team", {"c": 0.5})
    run.clock.advance(HOUR / 2)
    run.validator.check_assumption("team", {"c": None})
    assert run.validator.get_violated_assumptions(), "what is not seen does not clear it"
    run.clock.advance(HOUR / 2)
    run.validator.check_assumption("team", {"c": 1.0})
    assert run.validator.get_violated_assumptions() == [] and run.finish() == 7.0
    timeline = run.validator.get_assumption_timeline()
    assert timeline == {"team": [(T0, False), (T0 + HOUR / 2, None), (T0 + HOUR, True)]}


def test_a_violation_is_as_old_as_its_first_check() -> None:
    run = Run([TEAM])
    for value in (0.5, 0.4):
        run.validator.check_assumption("team", {"c": value})
        run.clock.advance(HOUR)
    violation = run.violation()
    assert violation.violation_time == T0 and violation.actual_value == 0.4
    assert violation.last_checked == T0 + HOUR


# Severity: the criticality, up where the cone is critical, down where float absorbs it


def severity(effect: Mapping[str, Any] | None, affects: str, criticality: str = "medium") -> str:
    extra = {} if effect is None else {"effect": effect}
    run = Run([{"id": "a", "affects": [affects], "criticality": criticality, **extra}])
    run.validator.check_assumption("a", {"x": False})
    return run.violation().severity


@pytest.mark.parametrize(
    ("effect", "affects", "criticality", "right"),
    [
        ({"duration_factor": 2}, "review", "medium", "high"),
        ({"duration_factor": 2}, "notes", "medium", "low"),  # 1 h longer, 2 h of float
        ({"duration_factor": 4}, "notes", "medium", "medium"),  # beyond its float, not critical
        ({"duration_factor": 2}, "review", "critical", "critical"),
        ({"duration_factor": 2}, "notes", "low", "low"),
        (None, "review", "medium", "high"),
        (None, "notes", "medium", "medium"),
        ({"mode": "fast"}, "review", "medium", "low"),  # it is quicker
        ({"block": True}, "review", "high", "critical"),
    ],
)
def test_severity(effect: Any, affects: str, criticality: str, right: str) -> None:
    assert severity(effect, affects, criticality) == right


@pytest.mark.parametrize(
    ("effect", "affects", "right"),
    [
        ({"mode": "fast"}, "review", True),
        ({"capacity": {"cpu": 2}}, "review", True),
        ({"block": True}, "notes", True),
        ({"duration_factor": 1.1}, "review", False),  # 0.3 of 6 h: a slip that is tolerated
        ({"duration_factor": 1.5}, "review", True),
        ({"duration_factor": 2}, "notes", False),
        (None, "review", False),
    ],
)
def test_replanning_required(effect: Any, affects: str, right: bool) -> None:
    extra = {} if effect is None else {"effect": effect}
    run = Run([{"id": "a", "affects": [affects], **extra}])
    run.validator.check_assumption("a", {"x": False})
    assert run.violation().replanning_required is right


def test_what_is_finished_is_not_reached() -> None:
    run = Run([{**TEAM, "affects": ["build"], "effect": {"block": True}}])
    run.done("build", 0, 2)
    run.validator.check_assumption("team", {"c": 0})
    violation = run.violation()
    assert violation.affected_tasks == () and violation.replanning_required is False
    assert run.finish() == 6.0


def test_sorted_by_severity() -> None:
    run = Run(
        [
            {"id": "a", "criticality": "low", "affects": ["notes"]},
            {"id": "b", "criticality": "high", "affects": ["notes"]},
            {"id": "c", "criticality": "medium", "affects": ["notes"]},
        ]
    )
    for name in "abc":
        run.validator.check_assumption(name, {"x": False})
    assert [v.assumption_id for v in run.validator.get_violated_assumptions()] == ["b", "c", "a"]


# Effects in the forecast


def test_block_ends_the_forecast_until_it_holds_again() -> None:
    run = Run([{"id": "licence", "affects": ["publish"], "effect": {"block": True}}])
    run.validator.check_assumption("licence", {"x": False})
    deviation = run.monitor.get_plan_deviation()
    assert deviation.estimated_completion is None and deviation.blocked
    assert deviation.reason == "publish is held back: assumption licence is violated"
    assert run.violation().finish_impact is None
    run.clock.advance(HOUR / 2)
    run.validator.check_assumption("licence", {"x": True})
    # Half an hour has passed in which build could have begun.
    assert run.finish() == 6.5 and not run.monitor.get_plan_deviation().blocked


def test_block_of_a_task_that_runs_lets_it_run() -> None:
    run = Run([{"id": "licence", "affects": ["build"], "effect": {"block": True}}])
    run.monitor.record_task_start("build", T0, {})
    run.validator.check_assumption("licence", {"x": False})
    assert run.finish() == 6.0


def test_an_observed_capacity_is_reckoned_with() -> None:
    run = Run(
        [
            {
                "id": "cores",
                "expected_value": 4,
                "sense": "at_least",
                "affects": ["review", "notes"],
                "effect": {"capacity": {"cpu": "observed"}},
            }
        ]
    )
    run.validator.check_assumption("cores", {"cpu": 2})
    assert run.finish() == 7.0, "review and notes one after the other"
    run.clock.advance(timedelta(seconds=1))
    run.validator.check_assumption("cores", {"cpu": 1})
    assert run.finish() is None
    assert "'build' needs 2 of 'cpu', of which there is 1" in run.violation().impact


def test_two_effects_together() -> None:
    run = Run([TEAM, {"id": "fast", "affects": ["review"], "effect": {"mode": "fast"}}])
    run.validator.check_assumption("team", {"c": 0})
    run.validator.check_assumption("fast", {"x": False})
    assert run.finish() == 5.0, "one hour in the other mode, twice as long"
    shares = {v.assumption_id: v.finish_impact for v in run.validator.get_violated_assumptions()}
    assert shares == {"team": HOUR, "fast": -4 * HOUR}, "each beside the other"


# Where observations come from


def test_its_own_check_is_made_where_no_data_is_given() -> None:
    run = Run([{"id": "disk", "check": {"kind": "disk_free", "unit": "GB"}, "expected_value": 5}])
    run.seen = Made(observation=Observation(value={"free": 7.0, "share": 0.1}, unit="GB"))
    result = run.validator.check_assumption("disk")
    assert (result.valid, result.actual_value, result.unit) == (True, 7.0, "GB")
    assert result.method == "sensor" and run.contexts[0].now == T0
    run.clock.advance(HOUR)
    run.seen = Made(error="no such disk")
    result = run.validator.check_assumption("disk")
    assert result.valid is None and result.error == "no such disk"
    assert run.validator.validation_results["disk"].valid is None


def test_a_dry_run_writes_nothing() -> None:
    run = Run([TEAM])
    assert run.validator.check_assumption("team", {"c": 0}, record=False).valid is False
    assert run.validator.get_assumption_timeline() == {"team": []}


def test_confidence_comes_from_samples() -> None:
    check = {"kind": "tcp", "port": 80, "field": "seconds"}
    run = Run([{"id": "net", "check": check, "expected_value": 0.2, "sense": "at_most"}])
    samples = (0.11, 0.12, 0.13, 0.1, 0.14)
    run.seen = Made(
        observation=Observation(value={"reachable": True, "seconds": 0.12}, samples=samples)
    )
    result = run.validator.check_assumption("net")
    assert result.valid is True
    assert result.confidence == pytest.approx(0.9998, abs=2e-4)
    assert result.error_margin == pytest.approx(0.0196, abs=1e-4)


def test_several_values_need_a_field() -> None:
    run = Run([TEAM])
    result = run.validator.check_assumption("team", {"a": 1, "b": 2})
    assert result.valid is None and "name the one that counts in check.field" in result.notes


def test_a_person_has_not_answered() -> None:
    run = Run([TEAM])
    result = run.validator.check_assumption("team", None, "manual")
    assert result.valid is None and result.error == "nobody has answered"
    assert run.validator.check_assumption("team", {"c": 1}, author="Ada").author == "Ada"


def test_the_same_check_twice_is_one() -> None:
    run = Run([TEAM])
    for _ in range(2):
        run.validator.check_assumption("team", {"c": 0}, check_id="milestone")
    assert len(run.validator.get_assumption_timeline()["team"]) == 1


def test_what_is_refused() -> None:
    run = Run([TEAM])
    with pytest.raises(UnknownNameError, match="did you mean 'team'"):
        run.validator.check_assumption("teem", {"c": 1})
    with pytest.raises(InputError, match="there are auto, manual, sensor, external"):
        run.validator.check_assumption("team", {"c": 1}, "guess")
    with pytest.raises(NaiveDatetimeError):
        run.validator.check_assumption("team", {"c": 1}, now=datetime(2026, 1, 1))
    with pytest.raises(PlanDocumentError, match="no kind of check"):
        Run([{"id": "x", "check": {"kind": "nothing"}}])


def test_without_a_checker_it_looks_itself() -> None:
    check = {"kind": "memory", "unit": "B"}
    run = Run([{"id": "m", "check": check, "expected_value": 1, "sense": "at_least"}])
    validator = AssumptionValidator(run.plan, run.monitor)
    assert validator.check_assumption("m").valid is True
    secret = Run([{"id": "s", "check": {"kind": "tcp", "port": "{{ secret.port }}"}}])
    result = AssumptionValidator(secret.plan, secret.monitor).check_assumption("s")
    assert result.valid is None and "only where the plan runs in Prefect" in result.error


# Prediction


def test_a_falling_number_is_predicted_before_it_is_needed() -> None:
    disk = {
        "id": "disk", "expected_value": 5, "sense": "at_least", "affects": ["publish"],
        "validation_frequency": "10m",
    }  # fmt: skip
    run = Run([disk])
    assert run.validator.predict_assumption_failure("disk") == (None, "it was never observed")
    for k in range(12):
        run.validator.check_assumption("disk", {"free": 9 - 0.1 * k + 0.01 * (-1) ** k})
        run.clock.advance(timedelta(minutes=10))
    # At 13:00, when publish starts, six tenths an hour have taken it below 5... just not quite.
    probability, reason = run.validator.predict_assumption_failure("disk")
    assert probability is not None
    needed = run.validator.prediction("disk").needed_at
    assert needed is not None and "falling by 0.6" in reason and "the limit is 5" in reason
    left = 9 - 0.6 * ((needed - T0) / HOUR)
    assert (probability > 0.5) == (left < 5)
    assert probability < 0.05 or probability > 0.95, "the line is nearly exact"


def test_predicted_violations_are_listed_apart() -> None:
    disk = {"id": "disk", "expected_value": 5, "sense": "at_least", "affects": ["publish"]}
    run = Run([disk])
    for k in range(10):
        run.validator.check_assumption("disk", {"free": 9 - 0.3 * k + 0.01 * (-1) ** k})
        run.clock.advance(timedelta(minutes=10))
    assert run.validator.get_violated_assumptions() == []
    (found,) = run.validator.get_predicted_violations()
    assert found.assumption_id == "disk" and found.probability > 0.9
    run.validator.check_assumption("disk", {"free": 4})
    assert run.validator.get_predicted_violations() == [], "it is violated now"
    assert run.validator.predict_assumption_failure("disk")[0] == 1.0


def test_a_truth_value_fails_as_often_as_it_did() -> None:
    run = Run([{"id": "net", "affects": ["publish"]}])
    for k in range(20):
        run.validator.check_assumption("net", {"up": k != 10})
        run.clock.advance(timedelta(minutes=1))
    probability, reason = run.validator.predict_assumption_failure("net")
    # Once in 18 checks after which it had held: (0.5 + 1) / (1 + 18).
    assert probability == pytest.approx(1.5 / 19)
    assert reason.startswith("it stopped holding 1 times in 18 checks")


def test_stale_observations_are_said_to_be_so() -> None:
    run = Run([{"id": "net", "validation_frequency": "1m"}])
    run.validator.check_assumption("net", {"up": True})
    run.clock.advance(timedelta(minutes=10))
    probability, reason = run.validator.predict_assumption_failure("net")
    assert probability is not None and "10m old, though it is due every 1m" in reason


def test_no_need_no_prediction() -> None:
    run = Run([{"id": "net", "affects": ["build"]}])
    run.validator.check_assumption("net", {"up": True})
    run.done("build", 0, 2)
    probability, reason = run.validator.predict_assumption_failure("net")
    assert probability is None and "nothing that rests on it" in reason

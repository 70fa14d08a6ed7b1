"""AssumptionValidator: checks a plan's assumptions, and says what a violation does to the run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any, Protocol
from uuid import UUID

from athena_prefect.assumptions.checks.base import Check, CheckContext, Observation
from athena_prefect.assumptions.checks.making import Made, as_data, make, prepare
from athena_prefect.assumptions.checks.registry import kind_named
from athena_prefect.assumptions.prediction import Prediction, Seen, predict
from athena_prefect.assumptions.results import (
    AssumptionValidationResult,
    AssumptionViolation,
    PredictedViolation,
)
from athena_prefect.assumptions.rules import require
from athena_prefect.assumptions.schedule import ScheduledChecks
from athena_prefect.assumptions.unseen import NOBODY, Unseen, unseen
from athena_prefect.assumptions.verdict import Judgement, Verdict, counted, judge, limits, unknown
from athena_prefect.assumptions.wording import event_data, impact_words, numeric
from athena_prefect.errors import AthenaError, CheckError, InputError
from athena_prefect.journal.events import CheckEvent, Reporter, utc
from athena_prefect.journal.state import Status
from athena_prefect.monitor.effects import (
    effects_in_force,
    in_order,
    violation_of,
    violations_in_force,
)
from athena_prefect.monitor.impact import Impact
from athena_prefect.monitor.monitor import ExecutionMonitor
from athena_prefect.plan.model import Assumption, Criticality, Plan, Sense, ValidationMethod
from athena_prefect.plan.references import project_root
from athena_prefect.plan.templates import Template

LIKELY = 0.5
"""Probability above which a failure is predicted: more likely than not."""
_SCALE = tuple(Criticality)


class Checker(Protocol):
    """Makes the check of an assumption, and never raises: a port that the runtime fills."""

    def __call__(self, assumption: Assumption, context: CheckContext) -> Made:
        """What was observed, or why nothing was."""
        ...


class Here:
    """Makes checks in the caller's own thread; knows no secrets and no variables."""

    def __init__(self, plan: Plan, monitor: ExecutionMonitor) -> None:
        self._plan, self._monitor = plan, monitor

    def __call__(self, assumption: Assumption, context: CheckContext) -> Made:
        """Fill in the options and make the check."""
        if assumption.check is None:
            return Made(error="the plan names no check")
        try:
            check, secrets = prepare(assumption.check, self._resolve)
        except AthenaError as error:
            return Made(error=str(error))
        return make(check, replace(context, secrets=secrets))

    def _resolve(self, template: Template) -> Any:
        data = self._monitor.state.run_data
        if template.namespace == "parameters":
            given = data.get("parameters") or {}
            if template.name in given:
                return given[template.name]
            return self._plan.parameters[template.name].default
        if template.namespace == "run":
            known = {
                "id": str(self._monitor.context.plan_run),
                "plan": self._plan.name,
                "started_at": self._monitor.started.isoformat(),
                "logical_date": data.get("logical_date"),
            }
            return known[template.name]
        raise CheckError(f"{template} is known only where the plan runs in Prefect")


class AssumptionValidator:
    """Validates the assumptions of one plan run.

    What it finds is written to the run's journal, where the monitor's forecast and
    everybody else reads it. It belongs to the monitor's thread.
    """

    def __init__(
        self,
        plan: Plan,
        execution_monitor: ExecutionMonitor,
        *,
        checker: Checker | None = None,
    ) -> None:
        """Raises PlanDocumentError where a check of the plan is not sound.

        `checker` makes the checks that are not given their data; by default in
        this thread.
        """
        require(plan)
        self.plan = plan
        self.monitor = execution_monitor
        self.checker: Checker = checker or Here(plan, execution_monitor)
        self._impacts: dict[str, tuple[int, datetime, Impact]] = {}

    # -- checking ---------------------------------------------------------------------------

    def check_assumption(
        self,
        assumption_id: str,
        validation_data: Mapping[str, Any] | None = None,
        validation_method: str = "auto",
        *,
        now: datetime | None = None,
        check_id: str | None = None,
        author: str = "",
        record: bool = True,
    ) -> AssumptionValidationResult:
        """Check whether an assumption still holds, and write down what was found.

        `validation_data` with one key means that value, several need the plan's
        `check.field`. Without data the plan's own check is made. The method
        (auto, manual, sensor, external) wins over the plan's; auto is the plan's,
        else that of the check's kind. Without `record` nothing is written: a dry
        run. The same `check_id` is one fact, told how often it may be.

        Raises UnknownNameError, NaiveDatetimeError, and InputError for a method
        that there is not. A check that cannot be made raises nothing: the
        assumption's state is unknown, and `error` says why.
        """
        assumption = self.plan.get_assumption(assumption_id)
        moment = self.monitor.context.now() if now is None else utc(now, "now")
        method = method_of(assumption, validation_method)
        made, field = self._observed(assumption, validation_data, method, moment)
        count = len(self.monitor.state.checks.get(assumption_id, ()))
        event = check_event(
            assumption,
            made,
            plan_run=self.monitor.context.plan_run,
            now=moment,
            field=field,
            method=method,
            check_id=check_id or f"{method}|{moment.isoformat()}|{count}",
            author=author,
        )
        if record:
            self.monitor.record_check(event)
        return AssumptionValidationResult.of(event)

    def _observed(
        self,
        assumption: Assumption,
        data: Mapping[str, Any] | None,
        method: ValidationMethod,
        now: datetime,
    ) -> tuple[Made, str | None]:
        field = field_of_check(assumption)
        if data is not None:
            if len(data) == 1:
                field = None
            return Made(observation=Observation(value=as_data(data))), field
        if method is ValidationMethod.MANUAL or assumption.check is None:
            return Made(error=NOBODY), field
        return self.checker(assumption, self.context(now)), field

    def context(self, now: datetime) -> CheckContext:
        """What a check may know of this run at `now`."""
        monitor = self.monitor
        return CheckContext(
            now=now,
            root=project_root(self.plan.source) if self.plan.source else CheckContext(now=now).root,
            plan_run=monitor.context.plan_run,
            started=monitor.started,
        )

    def sense_of(self, assumption: Assumption, value: Any = 0) -> Sense:
        """The plan's sense, else that of the check's kind; truth values and texts are equal."""
        return sense_of(assumption, value)

    # -- what is known ----------------------------------------------------------------------

    @property
    def validation_results(self) -> dict[str, AssumptionValidationResult]:
        """The newest result of each assumption that was checked."""
        return {
            a.id: AssumptionValidationResult.of(in_order(known)[-1])
            for a in self.plan.assumptions
            if (known := self.monitor.state.checks.get(a.id))
        }

    def get_assumption_timeline(self) -> dict[str, list[tuple[datetime, bool | None]]]:
        """When each assumption was checked, and whether it held; None where it was not seen."""
        checks = self.monitor.state.checks
        return {
            a.id: [(c.at, Verdict(c.verdict).valid) for c in in_order(checks.get(a.id, ()))]
            for a in self.plan.assumptions
        }

    def schedule_assumption_checks(self) -> ScheduledChecks:
        """When each assumption is to be checked, from where the run stands."""
        state = self.monitor.state
        return ScheduledChecks(self.plan, started=state.started, checks=state.checks)

    def get_unseen_assumptions(self) -> list[Unseen]:
        """Those that could not be checked as often in a row as the policy bears; worst first."""
        return unseen(self.plan, self.monitor.state)

    # -- violations -------------------------------------------------------------------------

    def get_violated_assumptions(self, *, now: datetime | None = None) -> list[AssumptionViolation]:
        """The violations in force, the most severe first, then the longest standing."""
        moment = self.monitor.context.now() if now is None else utc(now, "now")
        found = [
            self._violation(self.plan.get_assumption(name), check, moment)
            for name, check in violations_in_force(self.plan, self.monitor.state).items()
        ]
        return sorted(
            found, key=lambda v: (-_SCALE.index(v.severity), v.violation_time, v.assumption_id)
        )

    def _violation(
        self, assumption: Assumption, check: CheckEvent, now: datetime
    ) -> AssumptionViolation:
        state = self.monitor.state
        began = violation_of(state.checks[assumption.id]) or check
        reached = self.reached(assumption)
        impact = self._impact(assumption, now)
        return AssumptionViolation(
            assumption_id=assumption.id,
            violation_time=began.at,
            severity=self._severity(assumption, reached, impact),
            impact=impact_words(assumption, impact),
            mitigation=assumption.mitigation,
            replanning_required=self._replanning_required(assumption, reached, impact),
            affected_tasks=reached,
            criticality=assumption.criticality,
            cone=self._cone(reached),
            finish_impact=impact.finish if assumption.effect is not None else None,
            date_impact=impact.moved,
            actual_value=check.data.get("value"),
            reason=str(check.data.get("reason", "")),
            last_checked=in_order(state.checks[assumption.id])[-1].at,
        )

    def reached(self, assumption: Assumption) -> tuple[str, ...]:
        """The unfinished tasks that rest on it, in the order of the plan.

        One that failed is unfinished: it may be done again, in the mode that an effect says.
        """
        affects, state = frozenset(assumption.affects), self.monitor.state
        open_ = [t for t in self.plan.task_ids if t in affects]
        over = {t for t in open_ if state.status(t).good or state.status(t) is Status.SKIPPED}
        return tuple(t for t in open_ if t not in over)

    def _cone(self, reached: tuple[str, ...]) -> tuple[str, ...]:
        after: dict[str, list[str]] = {}
        for task in self.plan.tasks:
            for arc in task.upstream:
                after.setdefault(arc.task, []).append(task.id)
        seen, todo = set(reached), list(reached)
        while todo:
            for name in after.get(todo.pop(), ()):
                if name not in seen and not self.monitor.state.status(name).final:
                    seen.add(name)
                    todo.append(name)
        return tuple(t for t in self.plan.task_ids if t in seen)

    def _impact(self, assumption: Assumption, now: datetime) -> Impact:
        """What its effect alone changes, beside all others in force; kept until there is news."""
        position = self.monitor.state.position
        known = self._impacts.get(assumption.id)
        if known is not None and known[0] == position and known[1] == now:
            return known[2]
        state = self.monitor.state
        found = self.monitor.impact(
            effects_in_force(self.plan, state, without=(assumption.id,)),
            effects_in_force(self.plan, state),
            now=now,
        )
        self._impacts[assumption.id] = (position, now, found)
        return found

    @staticmethod
    def _severity(assumption: Assumption, reached: tuple[str, ...], impact: Impact) -> Criticality:
        place = _SCALE.index(assumption.criticality)
        if assumption.effect is not None and impact.absorbs():
            place -= 1
        elif any(impact.critical(task) for task in reached):
            place += 1
        return _SCALE[min(max(place, 0), len(_SCALE) - 1)]

    def _replanning_required(
        self, assumption: Assumption, reached: tuple[str, ...], impact: Impact
    ) -> bool:
        effect = assumption.effect
        if effect is None or not reached:
            return False
        if effect.block or effect.capacity is not None or effect.mode is not None:
            return True
        share = impact.share
        return share is not None and share > self.monitor.policy.tolerated_slip

    # -- prediction -------------------------------------------------------------------------

    def predict_assumption_failure(
        self, assumption_id: str, *, now: datetime | None = None
    ) -> tuple[float | None, str]:
        """How likely it does not hold when it is next needed, and why, with the numbers.

        The probability is None where nothing was observed, or nothing says when
        it will be needed. Raises UnknownNameError.
        """
        found = self.prediction(assumption_id, now=now)
        return found.probability, found.reason

    def prediction(self, assumption_id: str, *, now: datetime | None = None) -> Prediction:
        """The same, with the samples that it rests on and the moment of need."""
        assumption = self.plan.get_assumption(assumption_id)
        moment = self.monitor.context.now() if now is None else utc(now, "now")
        checks = in_order(self.monitor.state.checks.get(assumption_id, ()))
        began = violation_of(checks)
        if began is not None:
            return Prediction(
                probability=1.0,
                reason=f"it is violated since {began.at.isoformat()}",
                samples=len(checks),
                needed_at=moment,
            )
        needed = self.needed_at(assumption, moment)
        if needed is None:
            why = "nothing that rests on it is still to be done, and it has no frequency"
            return Prediction(probability=None, reason=why)
        seen = [c for c in checks if c.verdict != str(Verdict.UNKNOWN)]
        history = [
            Seen(at=c.at, holds=c.verdict == "holds", value=numeric(c.data.get("value")))
            for c in seen
        ]
        return predict(
            history,
            now=moment,
            needed_at=needed,
            limits=self._limits(assumption),
            frequency=assumption.validation_frequency,
            unit=str(seen[-1].data.get("unit", "")) if seen else "",
        )

    def _limits(self, assumption: Assumption) -> tuple[float, float] | None:
        expected = assumption.expected_value
        if isinstance(expected, Mapping):
            low, high = expected.get("min"), expected.get("max")
            if expected.keys() - {"min", "max"} or (low is None and high is None):
                return None
            return (
                float(low) if low is not None else float("-inf"),
                float(high) if high is not None else float("inf"),
            )
        number = numeric(expected)
        if number is None:
            return None
        return limits(number, self.sense_of(assumption), assumption.tolerance)

    def needed_at(self, assumption: Assumption, now: datetime) -> datetime | None:
        """When it is next needed.

        The forecast start (P50) of the next affected task that has not begun; the
        forecast end of one that runs; else one frequency ahead.
        """
        reached = frozenset(self.reached(assumption))
        moments: list[datetime] = []
        for row in self.monitor.task_table(now=now) if reached else ():
            if row.task_id not in reached:
                continue
            running = row.actual_start is not None
            at = row.forecast_finish if running else row.forecast_start
            if at is not None:
                moments.append(max(at, now))
        if moments:
            return min(moments)
        if assumption.validation_frequency is not None and not assumption.affects:
            return now + assumption.validation_frequency
        return None

    def get_predicted_violations(self, *, now: datetime | None = None) -> list[PredictedViolation]:
        """Assumptions that hold and more likely than not will fail, the likeliest first."""
        moment = self.monitor.context.now() if now is None else utc(now, "now")
        violated = violations_in_force(self.plan, self.monitor.state)
        found = []
        for assumption in self.plan.assumptions:
            if assumption.id in violated or assumption.id not in self.monitor.state.checks:
                continue
            prediction = self.prediction(assumption.id, now=moment)
            if prediction.probability is not None and prediction.probability > LIKELY:
                found.append(
                    PredictedViolation(
                        assumption_id=assumption.id,
                        probability=prediction.probability,
                        reason=prediction.reason,
                        needed_at=prediction.needed_at,
                    )
                )
        return sorted(found, key=lambda p: (-p.probability, p.assumption_id))


def field_of_check(assumption: Assumption) -> str | None:
    """Which of several observed values counts, as the plan says."""
    return assumption.check.field if assumption.check is not None else None


def method_of(assumption: Assumption, asked: str = "auto") -> ValidationMethod:
    """Where an observation comes from: as asked, else as planned, else by the check's kind.

    Raises InputError for a method that there is not.
    """
    try:
        method = ValidationMethod(asked)
    except ValueError:
        known = ", ".join(ValidationMethod)
        raise InputError(f"no validation method {asked!r}; there are {known}") from None
    if method is ValidationMethod.AUTO:
        method = assumption.validation_method
    if method is not ValidationMethod.AUTO:
        return method
    kind = _kind(assumption)
    return kind.method if kind is not None else ValidationMethod.MANUAL


def _kind(assumption: Assumption) -> type[Check] | None:
    return kind_named(assumption.check.kind) if assumption.check is not None else None


def sense_of(assumption: Assumption, value: Any = 0) -> Sense:
    """The plan's sense, else that of the check's kind; truth values and texts are equal."""
    if assumption.sense is not None:
        return assumption.sense
    kind = _kind(assumption)
    if kind is None or isinstance(value, bool | str):
        return Sense.EQUAL
    return kind.sense


def judged(assumption: Assumption, made: Made, field: str | None, now: datetime) -> Judgement:
    """What was observed against what the plan expects."""
    if made.observation is None:
        return unknown(made.error)
    kind = _kind(assumption)
    try:
        value = counted(made.observation.value, field, kind.counts if kind else None)
    except ValueError as error:
        return unknown(str(error), None)
    return judge(
        value,
        assumption.expected_value,
        sense=sense_of(assumption, value),
        tolerance=assumption.tolerance,
        now=now,
        unit=made.observation.unit if isinstance(value, int | float) else "",
        samples=made.observation.samples,
    )


_PLANS = "the plan's own"


def check_event(
    assumption: Assumption,
    made: Made,
    *,
    plan_run: UUID,
    now: datetime,
    check_id: str,
    field: str | None = _PLANS,
    method: ValidationMethod | None = None,
    author: str = "",
    reported_by: Reporter = Reporter.CALLER,
) -> CheckEvent:
    """What a check found, as a fact of the journal; of the moment at which it was so."""
    which = field_of_check(assumption) if field is _PLANS else field
    judgement = judged(assumption, made, which, now)
    seen = made.observation.at if made.observation is not None else None
    return CheckEvent(
        plan_run=plan_run,
        assumption_id=assumption.id,
        check_id=check_id,
        at=now if seen is None else min(utc(seen, "at"), now),
        verdict=str(judgement.verdict),
        reported_by=reported_by,
        data=event_data(judgement, made, method or method_of(assumption), author),
    )


def data_of(answer: CheckEvent) -> Observation:
    """An answer that was given before, as an observation: it stands until it expires."""
    return Observation(value=answer.data.get("value"), unit=str(answer.data.get("unit", "")))

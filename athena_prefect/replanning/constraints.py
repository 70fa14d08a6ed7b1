"""What a caller asks of a replan, beside what the plan declares."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from math import isfinite
from typing import Any

from athena_prefect.errors import PlanError
from athena_prefect.journal.events import utc
from athena_prefect.plan.model import Plan
from athena_prefect.schedule.standing import Levers, Standing

KEYS = ("deadline", "capacity", "exclude", "pin", "replace", "budget_s")


@dataclass(frozen=True, kw_only=True)
class Constraints:
    """Constraints, read and checked.

    ``deadline``: a datetime, or time from the start of the run. ``capacity``:
    resource → units that there are. ``exclude``: task → modes not to be used, the one
    that it is planned in among them. ``pin``: tasks that stay as they are. ``replace``:
    task → the mode it is to be done in; a failed task is done again in it, whatever it
    was tried in. ``budget_s``: seconds.
    """

    deadline: datetime | timedelta | None = None
    capacity: Mapping[str, float] = field(default_factory=dict)
    exclude: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    pin: frozenset[str] = frozenset()
    replace: Mapping[str, str] = field(default_factory=dict)
    budget_s: float | None = None

    @classmethod
    def of(cls, given: Mapping[str, Any], plan: Plan) -> Constraints:
        """The constraints in `given`. Raises PlanError, which says what would be right."""
        said = _mapping("constraints", given, "e.g. {'budget_s': 2}")
        unknown = sorted(str(key) for key in set(said) - set(KEYS))
        if unknown:
            raise PlanError(f"no constraint {', '.join(unknown)}; there are {', '.join(KEYS)}")
        found = cls(
            deadline=_deadline(said.get("deadline")),
            capacity=_capacity(said.get("capacity"), plan),
            exclude=_exclude(said.get("exclude"), plan),
            pin=frozenset(_names("pin", said.get("pin"), "a list of tasks")),
            replace=_replaced(said.get("replace"), plan),
            budget_s=_budget(said.get("budget_s")),
        )
        for task_id in found.pin:
            plan.get_task(task_id)
        for task_id, mode in found.replace.items():
            if task_id in found.pin:
                raise PlanError(f"constraints pin and replace: {task_id} cannot do both")
            if mode in found.exclude.get(task_id, ()):
                raise PlanError(
                    f"constraints exclude and replace: {task_id} is to be done in mode {mode}, "
                    "and not to be"
                )
        return found

    def check(self, standing: Standing) -> None:
        """Raises PlanError where what they say of a task comes too late for it."""
        for task_id, mode in self.replace.items():
            if standing.begun(task_id) and mode != standing.mode_of(task_id):
                raise PlanError(
                    f"constraint replace: {task_id} has begun in mode {standing.mode_of(task_id)}; "
                    "only what has not can be done in another"
                )

    def on(self, standing: Standing, started: datetime) -> Standing:
        """The standing with what these constraints ask for."""
        deadline = standing.deadline
        if isinstance(self.deadline, timedelta):
            deadline = self.deadline.total_seconds()
        elif self.deadline is not None:
            deadline = (self.deadline - started) / timedelta(seconds=1)
        return replace(
            standing,
            deadline=deadline,
            capacities={**standing.capacities, **self.capacity},
            only_mode={**standing.only_mode, **self.replace},
            barred={t: frozenset(m) for t, m in self.exclude.items() if not standing.begun(t)},
            pinned=self.pin,
        )

    def allowed(self, levers: Levers, plan: Plan) -> Levers:
        """The levers that may still be pulled, and the capacities that `plan` is to have.

        They become the revision's, so that a run goes by what its promise was made with. A
        capacity that is less than some task takes only limits the schedule: no plan can say it.
        """
        modes = {
            t: tuple(m for m in names if m not in self.exclude.get(t, ()))
            for t, names in levers.modes.items()
            if t not in self.pin and t not in self.replace
        }
        return replace(
            levers,
            modes={t: names for t, names in modes.items() if names},
            droppable=levers.droppable - self.pin,
            soft=frozenset(arc for arc in levers.soft if arc[1] not in self.pin),
            capacity={
                **{n: c for n, c in levers.capacity.items() if n not in self.capacity},
                **{n: c for n, c in self.capacity.items() if _can_have(plan, n, c)},
            },
            timeouts={t: s for t, s in levers.timeouts.items() if t not in self.pin},
            relaxed=levers.relaxed - self.pin,
        )


def _can_have(plan: Plan, resource: str, units: float) -> bool:
    """Whether a plan may say that there is so much, and does not yet."""
    taken = (t.mode(m).resources.get(resource, 0.0) for t in plan.tasks for m in t.mode_names)
    return 0 < units != plan.resources[resource].capacity and units >= max(taken, default=0.0)


def _mapping(name: str, given: object, right: str) -> Mapping[str, Any]:
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise PlanError(f"{name}: {given!r} is no mapping; give {right}")
    return given


def _number(name: str, given: object, right: str) -> float:
    if isinstance(given, bool) or not isinstance(given, int | float) or not isfinite(given):
        raise PlanError(f"{name}: {given!r} is no number; {right}")
    return float(given)


def _names(name: str, given: object, right: str) -> tuple[str, ...]:
    """Names in a list; one alone may stand without it."""
    if given is None:
        return ()
    names = (given,) if isinstance(given, str) else given
    if not isinstance(names, Collection) or not all(isinstance(n, str) for n in names):
        raise PlanError(f"constraint {name}: {given!r} is not {right}")
    return tuple(names)


def _deadline(given: object) -> datetime | timedelta | None:
    if given is None or isinstance(given, timedelta):
        return given
    if isinstance(given, datetime):
        return utc(given, "constraints['deadline']")
    right = "give a datetime, a timedelta or seconds"
    return timedelta(seconds=_number("constraint deadline", given, right))


def _capacity(given: object, plan: Plan) -> dict[str, float]:
    said, found = _mapping("constraint capacity", given, "resource → units"), {}
    for name, amount in said.items():
        if name not in plan.resources:
            raise PlanError(f"constraint capacity: no resource {name!r} in plan {plan.name}")
        units = _number(f"constraint capacity of {name}", amount, "give units, 0 or more")
        if units < 0:
            raise PlanError(f"constraint capacity of {name}: {units:g} is less than none")
        found[name] = units
    return found


def _exclude(given: object, plan: Plan) -> dict[str, tuple[str, ...]]:
    found = {}
    for task_id, modes in _mapping("constraint exclude", given, "task → modes").items():
        task = plan.get_task(task_id)
        found[task_id] = _names("exclude", modes, f"a list of modes of {task_id}")
        for mode in found[task_id]:
            task.mode(mode)
        if set(task.mode_names) <= set(found[task_id]):
            raise PlanError(f"constraint exclude: it leaves {task_id} no mode to be done in")
    return found


def _replaced(given: object, plan: Plan) -> dict[str, str]:
    found = {}
    for task_id, mode in _mapping("constraint replace", given, "task → mode").items():
        if not isinstance(mode, str):
            raise PlanError(f"constraint replace: {mode!r} is no mode of {task_id}")
        plan.get_task(task_id).mode(mode)
        found[task_id] = mode
    return found


def _budget(given: object) -> float | None:
    if given is None:
        return None
    seconds = _number("constraint budget_s", given, "give seconds above 0")
    if seconds <= 0:
        raise PlanError(f"constraint budget_s: {seconds:g} is no time; give seconds above 0")
    return seconds


NO_CONSTRAINTS = Constraints()

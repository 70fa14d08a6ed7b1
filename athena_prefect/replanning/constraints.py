"""What a caller asks of a replan, beside what the plan declares."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
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
    resource → units that there are. ``exclude``: task → modes not to be used.
    ``pin``: tasks that stay as they are. ``replace``: task → the mode it is to be done
    in. ``budget_s``: seconds.
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
        unknown = sorted(set(given) - set(KEYS))
        if unknown:
            raise PlanError(f"no constraint {', '.join(unknown)}; there are {', '.join(KEYS)}")
        capacity = {n: float(c) for n, c in dict(given.get("capacity", {})).items()}
        for name in capacity:
            if name not in plan.resources:
                raise PlanError(f"constraint capacity: no resource {name!r} in plan {plan.name}")
        exclude = {
            t: tuple([m] if isinstance(m, str) else m)
            for t, m in dict(given.get("exclude", {})).items()
        }
        put = dict(given.get("replace", {}))
        for task_id, modes in (*exclude.items(), *((t, (m,)) for t, m in put.items())):
            for mode in modes:
                plan.get_task(task_id).mode(mode)
        pin = frozenset(given.get("pin", ()))
        for task_id in pin:
            plan.get_task(task_id)
        deadline = given.get("deadline")
        if isinstance(deadline, datetime):
            deadline = utc(deadline, "constraints['deadline']")
        elif isinstance(deadline, int | float):
            deadline = timedelta(seconds=deadline)
        elif deadline is not None and not isinstance(deadline, timedelta):
            raise PlanError("constraint deadline: give a datetime, a timedelta or seconds")
        budget = given.get("budget_s")
        if budget is not None and not budget > 0:
            raise PlanError(f"constraint budget_s: {budget} is no time; give seconds above 0")
        return cls(
            deadline=deadline, capacity=capacity, exclude=exclude, pin=pin, replace=put,
            budget_s=budget,
        )  # fmt: skip

    def on(self, standing: Standing, started: datetime) -> Standing:
        """The standing with what these constraints ask for."""
        deadline = standing.deadline
        if isinstance(self.deadline, timedelta):
            deadline = self.deadline.total_seconds()
        elif self.deadline is not None:
            deadline = (self.deadline - started) / timedelta(seconds=1)
        again = dict(standing.again)
        for task_id, mode in self.replace.items():
            if task_id in standing.again:
                again[task_id] = (mode,)
        return replace(
            standing,
            deadline=deadline,
            capacities={**standing.capacities, **self.capacity},
            only_mode={**standing.only_mode, **self.replace},
            again=again,
        )

    def allowed(self, levers: Levers) -> Levers:
        """The levers that may still be pulled."""
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
            capacity={n: c for n, c in levers.capacity.items() if n not in self.capacity},
            timeouts={t: s for t, s in levers.timeouts.items() if t not in self.pin},
            relaxed=levers.relaxed - self.pin,
        )


NO_CONSTRAINTS = Constraints()

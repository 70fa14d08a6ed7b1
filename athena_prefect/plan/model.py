"""The plan as a value: what should happen, how long it takes, what it rests on.

The models mirror the plan document field by field. What a single field or
object can check is checked where it is made; what needs the whole plan
(references, cycles, capacities) is in `athena_prefect.plan.validation`.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    Field,
    ModelWrapValidatorHandler,
    PrivateAttr,
    ValidationError,
    ValidationInfo,
    model_validator,
)

from athena_prefect.errors import PlanDocumentError, UnknownNameError
from athena_prefect.plan.assumption import Assumption, CheckSpec, Effect, Milestone
from athena_prefect.plan.estimate import DurationEstimate, Estimate, LearnedEstimate
from athena_prefect.plan.expectation import Expectation
from athena_prefect.plan.policy import ReplanningPolicy
from athena_prefect.plan.scalars import (
    Amount,
    Criticality,
    DependencyKind,
    DocumentPart,
    Fraction,
    Identifier,
    Isolation,
    RunnerKind,
    Sense,
    ValidationMethod,
)
from athena_prefect.plan.task import (
    DEFAULT_MODE,
    Dependency,
    Mode,
    PlanTask,
    ResolvedMode,
    SuccessCriteria,
    When,
)
from athena_prefect.plan.terms import (
    Deadline,
    Parameter,
    Replanning,
    Resource,
    Results,
    Runner,
    Schedule,
)

if TYPE_CHECKING:
    from typing import Unpack

    from athena_prefect.plan.arguments import PlanArguments

__all__ = [
    "DEFAULT_MODE",
    "Amount",
    "Assumption",
    "CheckSpec",
    "Criticality",
    "Deadline",
    "Dependency",
    "DependencyKind",
    "DurationEstimate",
    "Effect",
    "Estimate",
    "Expectation",
    "Fraction",
    "Identifier",
    "Isolation",
    "LearnedEstimate",
    "Milestone",
    "Mode",
    "Parameter",
    "Plan",
    "PlanTask",
    "Replanning",
    "ReplanningPolicy",
    "ResolvedMode",
    "Resource",
    "Results",
    "Runner",
    "RunnerKind",
    "Schedule",
    "Sense",
    "SuccessCriteria",
    "ValidationMethod",
    "When",
]


class Plan(DocumentPart):
    """A pipeline with durations, resources, a deadline and assumptions."""

    schema_version: Literal[1] = Field(default=1, alias="schema")
    """Version of this document format."""
    name: Identifier
    """The plan's name, and its flow's."""
    description: str = ""
    """What it is for."""
    tags: tuple[str, ...] = ()
    """Tags of its flow runs."""
    schedule: Schedule | None = None
    """When it starts by itself."""
    overlap: Literal["skip", "queue", "cancel_running"] = "skip"
    """What a start does while an earlier run still works."""
    catch_up: bool = False
    """Whether starts that were missed are made up for."""
    deadline: Deadline | None = None
    """By when a run should be over."""
    resources: Mapping[Identifier, Resource] = Field(default_factory=dict)
    """What tasks share, by name."""
    runner: Runner = Field(default_factory=Runner)
    """What runs the tasks."""
    results: Results = Field(default_factory=Results)
    """Where results are kept."""
    parameters: Mapping[Identifier, Parameter] = Field(default_factory=dict)
    """Parameters of the flow, by name."""
    goals: tuple[Identifier, ...] = ()
    """Tasks that the run is for; without it all last tasks that are not optional."""
    tasks: Annotated[tuple[PlanTask, ...], Field(min_length=1)]
    """The work, in any order."""
    assumptions: tuple[Assumption, ...] = ()
    """What is taken for granted."""
    replanning: Replanning = Field(default_factory=Replanning)
    """What may be decided about the rest of a run."""

    _planned_completion_time: datetime | None = PrivateAttr(default=None)
    _source: Path | None = PrivateAttr(default=None)

    SCHEMA_VERSIONS: ClassVar[tuple[int, ...]] = (1,)

    if TYPE_CHECKING:

        def __init__(self, **fields: Unpack[PlanArguments]) -> None: ...

    @classmethod
    def load(cls, path: str | Path) -> Plan:
        """The plan of a YAML or JSON document.

        Raises PlanDocumentError with every defect of the document, each with
        file, line and field.
        """
        from athena_prefect.plan.document import load

        return load(path)

    @model_validator(mode="wrap")
    @classmethod
    def _sound(
        cls, value: Any, handler: ModelWrapValidatorHandler[Self], info: ValidationInfo
    ) -> Self:
        # A plan that exists is one that can be run: the whole-plan checks are made
        # here, and one error has the defects of shape and of sense.
        from athena_prefect.plan.shape import SHAPE_ONLY, defects
        from athena_prefect.plan.validation import check

        if info.context is SHAPE_ONLY:
            return handler(value)
        try:
            plan = handler(value)
        except ValidationError as error:
            raise PlanDocumentError(defects(value, error)) from None
        check(plan)
        return plan

    def __eq__(self, other: object) -> bool:
        """Equal in every field; the file that a plan came from makes no difference."""
        if not isinstance(other, Plan):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in type(self).model_fields)

    @property
    def source(self) -> Path | None:
        """The document's file, where the plan came from one."""
        return self._source

    @cached_property
    def _tasks_by_id(self) -> dict[str, PlanTask]:
        return {t.id: t for t in self.tasks}

    def get_task(self, task_id: str) -> PlanTask:
        """The task of that id. Raises UnknownNameError."""
        try:
            return self._tasks_by_id[task_id]
        except KeyError:
            raise UnknownNameError("task", task_id, self._tasks_by_id) from None

    def get_assumption(self, assumption_id: str) -> Assumption:
        """The assumption of that id. Raises UnknownNameError."""
        for assumption in self.assumptions:
            if assumption.assumption_id == assumption_id:
                return assumption
        known = [a.assumption_id for a in self.assumptions]
        raise UnknownNameError("assumption", assumption_id, known)

    @property
    def task_ids(self) -> tuple[str, ...]:
        """The ids in document order."""
        return tuple(t.id for t in self.tasks)

    @cached_property
    def required(self) -> frozenset[str]:
        """Goals and their ancestors over hard arcs, but for optional ones and what only feeds them.

        Goals default to the sinks that are not optional.
        """
        feeds = {d.task for t in self.tasks for d in t.upstream}
        goals = self.goals or tuple(
            t.id for t in self.tasks if t.id not in feeds and not t.optional
        )
        seen: set[str] = set()
        todo = list(goals)
        while todo:
            name = todo.pop()
            # A plan under validation may still name tasks that it does not have.
            task = self._tasks_by_id.get(name)
            if name not in seen and task is not None and not task.optional:
                seen.add(name)
                todo += [d.task for d in task.upstream if d.hard]
        return frozenset(seen)

    @property
    def planned_completion_time(self) -> datetime | None:
        """Baseline finish of a plan that was given a start (`planned`); else None."""
        return self._planned_completion_time

    def planned(self, starts: Mapping[str, datetime], finish: datetime | None) -> Plan:
        """This plan with the planned starts of its tasks and its planned finish.

        They belong to one run and are no part of the document.
        """
        tasks = []
        for task in self.tasks:
            copy = task.model_copy()
            copy._planned_start = starts.get(task.id)
            tasks.append(copy)
        # The copy's caches must not answer with this plan's tasks.
        plan = self.model_copy(update={"tasks": tuple(tasks)})
        plan.__dict__.pop("_tasks_by_id", None)
        plan._planned_completion_time = finish
        plan._source = self._source
        return plan

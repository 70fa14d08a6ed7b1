"""function: a callable of the user's own project."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import ConfigDict, Field

from athena_prefect.assumptions.checks.base import Check, CheckContext, Observation
from athena_prefect.plan.model import ValidationMethod
from athena_prefect.plan.references import resolve
from athena_prefect.plan.scalars import CallReference


class FunctionCheck(Check):
    """A function of the project, e.g. ``tasks.checks:rows_there``; what it gives was observed.

    It gives a plain value, a mapping of several, or an `Observation`. An argument
    called `context` is given the `CheckContext`.
    """

    model_config = ConfigDict(populate_by_name=True)

    kind: ClassVar[str] = "function"
    method: ClassVar[ValidationMethod] = ValidationMethod.EXTERNAL
    can_hang: ClassVar[bool] = True

    call: CallReference
    """``module:function`` of the project or of an installed package."""
    with_: Mapping[str, Any] = Field(default_factory=dict, alias="with")
    """Arguments."""

    def observe(self, context: CheckContext) -> Observation:
        """Call it. Whatever it raises means that nothing was observed."""
        function = resolve(self.call, context.root)
        arguments = dict(self.with_)
        if "context" in inspect.signature(function).parameters and "context" not in arguments:
            arguments["context"] = context
        found = function(**arguments)
        if inspect.iscoroutine(found):
            import asyncio

            found = asyncio.run(found)
        return found if isinstance(found, Observation) else Observation(value=found)

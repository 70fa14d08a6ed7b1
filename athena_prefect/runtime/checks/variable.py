"""variable: what a Prefect variable says."""

from __future__ import annotations

from typing import ClassVar

from athena_prefect.assumptions.checks.base import CheckContext, Observation
from athena_prefect.errors import CheckError
from athena_prefect.runtime.checks.asking import PrefectCheck


class PrefectVariable(PrefectCheck):
    """Value of a Prefect variable: text, number, truth value, list or mapping."""

    kind: ClassVar[str] = "variable"

    name: str
    """The variable."""

    def _what(self) -> str:
        return f"variable {self.name!r}"

    def observe(self, context: CheckContext) -> Observation:
        """Ask for it. One that is not there or null: nothing was observed."""
        with self.asking(context) as client:
            variable = client.read_variable_by_name(self.name)
        if variable is None:
            raise CheckError(f"Prefect's server knows no such {self._what()}")
        if variable.value is None:
            raise CheckError(f"{self._what()} is null")
        return Observation(value=variable.value)

"""http_json: what a JSON document of the web says at one place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Field

from athena_prefect.assumptions.checks.base import Check, CheckContext, Observation
from athena_prefect.assumptions.checks.extras import needed
from athena_prefect.assumptions.checks.fetching import Fetcher
from athena_prefect.assumptions.checks.http import WebAddress
from athena_prefect.errors import CheckError
from athena_prefect.plan.model import ValidationMethod


def _json_path(text: str) -> str:
    """`text`, which has to be a JSONPath. Raises ValueError."""
    try:
        import jsonpath_rfc9535
    except ImportError:
        return text  # the check itself says what has to be installed
    try:
        jsonpath_rfc9535.compile(text)
    except jsonpath_rfc9535.JSONPathError as error:
        said = str(error).partition("\n")[0]
        raise ValueError(f"{text!r} is no JSONPath: {said}; write e.g. $.queue.length") from None
    return text


class HttpJson(Check):
    """A value out of a JSON document, found by JSONPath (RFC 9535)."""

    kind: ClassVar[str] = "http_json"
    method: ClassVar[ValidationMethod] = ValidationMethod.EXTERNAL
    can_hang: ClassVar[bool] = True  # looking a name up has no time-out of its own

    url: WebAddress
    """The document's address."""
    headers: Mapping[str, str] = Field(default_factory=dict)
    """Headers, e.g. ``{Authorization: "Bearer {{ secret.NAME }}"}``."""
    path: Annotated[str, AfterValidator(_json_path)] = "$"
    """JSONPath of the value, e.g. ``$.jobs[?@.state == 'open']``."""
    take: Literal["one", "count", "sum", "min", "max"] = "one"
    """What is made of the values found there: the only one, their number, or their sum,
    least or greatest."""

    def observe(self, context: CheckContext) -> Observation:
        """Fetch the document, and look."""
        page = Fetcher(context, self.patience, headers=self.headers).get(self.url)
        document = page.json()
        library = needed("jsonpath_rfc9535", self.kind)
        try:
            values = library.find(self.path, document).values()
        except (library.JSONPathError, RecursionError) as error:
            raise CheckError(f"{self.path}: {str(error).partition(chr(10))[0]}") from None
        return Observation(value=self._taken(values), details=f"{self.path} of {page.shown}")

    def _taken(self, values: list[Any]) -> Any:
        if self.take == "count":
            return len(values)
        if not values:
            raise CheckError(f"there is nothing at {self.path}")
        if self.take == "one":
            if len(values) > 1:
                raise CheckError(
                    f"{len(values)} values at {self.path}; one was wanted, or say in take "
                    "what is to be made of them"
                )
            if values[0] is None:
                raise CheckError(f"null is at {self.path}")
            return values[0]
        numbers = [v for v in values if isinstance(v, int | float) and not isinstance(v, bool)]
        if len(numbers) != len(values):
            raise CheckError(f"not every value at {self.path} is a number")
        return sum(numbers) if self.take == "sum" else _extreme(self.take, numbers)


def _extreme(which: str, numbers: list[float]) -> float:
    return min(numbers) if which == "min" else max(numbers)

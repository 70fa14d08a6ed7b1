"""http: whether a server answers, with what status, and how fast."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field

from athena_prefect.assumptions.checks.base import Check, CheckContext, Observation
from athena_prefect.errors import CheckError
from athena_prefect.plan.scalars import Number


def web_address(url: str) -> str:
    """`url`, which has to be one of http or https. Raises ValueError."""
    # A template becomes an address later; it is looked at again then.
    if not url.startswith(("http://", "https://")):
        raise ValueError(f"{url!r} is no address of the web; write http://… or https://…")
    return url


WebAddress = Annotated[str, AfterValidator(web_address)]


class Http(Check):
    """Whether an HTTP server answers: `reachable`, its `status`, and `seconds` until its headers.

    Whatever it answers, it is reachable; `field: status` is for what it has to
    say. No answer within the time-out is an observation too: not reachable. The
    body is not read, and redirects are answers.
    """

    kind: ClassVar[str] = "http"
    counts: ClassVar[str | None] = "reachable"
    can_hang: ClassVar[bool] = True  # looking a name up has no time-out of its own

    url: WebAddress
    """The address."""
    verb: Literal["GET", "HEAD"] = "GET"
    """The request's method."""
    headers: Mapping[str, str] = Field(default_factory=dict)
    """Headers, e.g. ``{Authorization: "Bearer {{ secret.NAME }}"}``."""
    attempts: Annotated[int, Field(ge=1, le=100), Number] = 1
    """Requests made, one after the other; their times are the samples of `seconds`."""

    def observe(self, context: CheckContext) -> Observation:
        """Ask, and hang up at the headers."""
        import httpx

        took: list[float] = []
        status = 0
        try:
            with httpx.Client(timeout=self.patience / self.attempts, headers=self.headers) as http:
                for _ in range(self.attempts):
                    begun = context.ticks()
                    with http.stream(self.verb, self.url) as answer:
                        status = answer.status_code
                        took.append(context.ticks() - begun)
        except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
            raise CheckError(str(error)) from None
        except httpx.TransportError as error:
            return Observation(
                value={"reachable": False, "status": None, "seconds": None},
                details=f"{type(error).__name__}: {error}",
            )
        mean = sum(took) / len(took)
        return Observation(
            value={"reachable": True, "status": status, "seconds": mean},
            samples=tuple(took),
            details=f"HTTP {status} in {mean * 1000:.0f} ms",
        )

"""What a check is: options, one observation, and the function that makes a kind of it.

A kind is written as a function::

    @check("queue_length", sense="at_most")
    def queue_length(context: CheckContext, *, url: str, name: str = "default") -> int:
        \"\"\"Jobs that wait.\"\"\"
        ...

and found under its name through the entry-point group ``athena_prefect.checks``.
"""

from __future__ import annotations

import inspect
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, get_type_hints
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, create_model

from athena_prefect.journal.events import utc
from athena_prefect.plan.model import Sense, ValidationMethod
from athena_prefect.plan.units import Duration

if TYPE_CHECKING:
    from athena_prefect.journal.state import ExecutionState
    from athena_prefect.plan.model import Plan

HIDDEN = "***"
"""Stands in messages where a secret stood."""
_URL_SECRET = re.compile(r"(?<=://)[^/\s@]+@")
_QUERY_SECRET = re.compile(r"(?i)([?&](?:\w*(?:token|key|secret|password|signature))=)[^&\s'\"]+")


def hide(text: str, secrets: frozenset[str]) -> str:
    """`text` without the secrets, and without what URLs carry in front of an @ or as a token."""
    for secret in sorted(secrets, key=len, reverse=True):
        if secret:
            text = text.replace(secret, HIDDEN)
    return _QUERY_SECRET.sub(rf"\1{HIDDEN}", _URL_SECRET.sub(f"{HIDDEN}@", text))


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """What a check saw: one value, or several by name."""

    value: Any
    """A number, text, truth value or moment, or a mapping of them."""
    unit: str = ""
    at: datetime | None = None
    """When it was so; None where that is the moment of the check."""
    details: str = ""
    """In words, for people; never a secret."""
    samples: tuple[float, ...] = ()
    """Single measurements of which `value` is the mean: what confidence rests on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckContext:
    """What a check may know of the moment and of the run that it is made for.

    A check reads no other clock, and no secret but through its options.
    """

    now: datetime
    root: Path = Path()
    """The project's folder: relative paths start here."""
    plan: Plan | None = None
    plan_run: UUID | None = None
    started: datetime | None = None
    """When the run started; None where none lives."""
    state: ExecutionState | None = None
    ticks: Callable[[], float] = time.monotonic
    """Seconds of a clock that only measures, for latencies."""
    secrets: frozenset[str] = field(default=frozenset(), repr=False)
    """Values that stand in the options and must not stand in a message."""
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Of the checking process: where its database is, and the like."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "now", utc(self.now, "now"))

    def path(self, path: str) -> str:
        """`path` from the project's folder; absolute ones and URLs as they are."""
        return path if "://" in path else str(self.root / Path(path).expanduser())

    def hide(self, text: str) -> str:
        """`text` without secrets: those of the options, and those that URLs carry."""
        return hide(text, self.secrets)


def _some_time(value: timedelta) -> timedelta:
    if not value:
        raise ValueError("a time-out of zero; write e.g. 10s")
    return value


TimeOut = Annotated[Duration, AfterValidator(_some_time)]
TIME_OUT = timedelta(seconds=10)
"""Longer than any healthy system takes, and short against how often one looks."""
_TIME_OUT_SAID = "After this it is given up, and the assumption's state is unknown."


class Check(BaseModel):
    """One kind of check with its options; `observe` is the check itself.

    Raises CheckError from `observe` where nothing could be observed; whatever
    else rises is treated the same, with its type in the message.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, arbitrary_types_allowed=True
    )

    kind: ClassVar[str] = ""
    sense: ClassVar[Sense] = Sense.EQUAL
    """How the observed value is held against the expected one where the plan does not say."""
    method: ClassVar[ValidationMethod] = ValidationMethod.SENSOR
    """Where the observation comes from."""
    counts: ClassVar[str | None] = None
    """Which of several observed values counts where the plan names none."""
    can_hang: ClassVar[bool] = False
    """Whether no time-out of its own ends it: it is then made in a child that can be killed."""

    timeout: TimeOut = Field(default=TIME_OUT, description=_TIME_OUT_SAID)

    def observe(self, context: CheckContext) -> Observation:
        """What is so at `context.now`."""
        raise NotImplementedError

    @property
    def seconds(self) -> float:
        """The time-out in seconds."""
        return self.timeout.total_seconds()

    @property
    def patience(self) -> float:
        """Seconds for one wait on a socket or a statement: less than the time-out, so that
        its own error is heard before the check is given up.
        """
        return self.seconds * 0.8


CheckFunction = Callable[..., Any]


def check(
    kind: str,
    *,
    sense: Sense | str = Sense.EQUAL,
    method: ValidationMethod | str = ValidationMethod.SENSOR,
    counts: str | None = None,
    can_hang: bool = True,
    timeout: timedelta = TIME_OUT,
) -> Callable[[CheckFunction], type[Check]]:
    """Make a function a kind of check; its keyword-only arguments are the kind's options.

    The function takes the `CheckContext` first and gives an `Observation` or a
    plain value. `can_hang` says that nothing ends it but a kill: it is then run in
    a child process; say False where all its waits have time-outs.
    """

    def make(function: CheckFunction) -> type[Check]:
        hints = get_type_hints(function, include_extras=True)
        options: dict[str, Any] = {}
        for name, parameter in list(inspect.signature(function).parameters.items())[1:]:
            if parameter.kind is not inspect.Parameter.KEYWORD_ONLY:
                raise TypeError(f"{kind}: option {name!r} is not keyword-only; put * before it")
            default = ... if parameter.default is parameter.empty else parameter.default
            options[name] = (hints.get(name, Any), default)
        made = create_model(
            "".join(part.capitalize() for part in re.split(r"[_.\-]", kind)),
            __base__=Check,
            __module__=function.__module__,
            __doc__=inspect.getdoc(function) or f"Check of kind {kind}.",
            timeout=(TimeOut, Field(default=timeout, description=_TIME_OUT_SAID)),
            **options,
        )

        def observe(self: Check, context: CheckContext) -> Observation:
            found = function(context, **{name: getattr(self, name) for name in options})
            return found if isinstance(found, Observation) else Observation(value=found)

        made.kind, made.sense, made.method = kind, Sense(sense), ValidationMethod(method)
        made.counts, made.can_hang = counts, can_hang
        made.observe = observe  # type: ignore[method-assign]
        return made

    return make

"""The one tree of errors that this library raises.

::

    AthenaError
    ├── InputError                  what the caller gave is wrong            exit 2
    │   ├── PlanError
    │   │   ├── PlanDocumentError   every defect of a document, with place
    │   │   ├── CycleError          the arcs that form a cycle
    │   │   ├── UnknownNameError    no such task, assumption, resource, mode
    │   │   └── CallableError       a `call` that cannot be imported
    │   ├── NaiveDatetimeError      a datetime without a time zone
    │   ├── RecordingError          an event that contradicts what is known
    │   ├── ParameterError          a run's parameter is missing or wrong
    │   ├── UnknownRunError         no such plan run
    │   ├── StaleRevisionError      chosen for a revision that is not in force
    │   ├── StaleOptionError        chosen from options that the run has gone past
    │   └── SettingsError           a setting that cannot be used
    ├── InfeasibleError             no schedule exists; names the conflict   exit 2
    ├── StorageError                                                         exit 1
    │   ├── StorageUnavailableError the database cannot be reached now
    │   ├── SchemaError             the database has another schema version
    │   ├── LeaseHeldError          another dispatcher runs this plan run
    │   └── LeaseLostError          the fencing token is no longer the newest
    ├── ResultError                                                          exit 1
    │   ├── ResultNotSerializableError
    │   └── ResultUnreadableError
    ├── CheckError                  nothing could be observed: unknown       exit 1
    ├── ServerError                 Prefect's server did not come up         exit 1
    └── RunError                                                             exit 1
        ├── CriteriaNotMetError     a task's success criteria do not hold
        ├── TaskTimeoutError        a task ran past its time-out
        └── PlanBlockedError        the plan cannot proceed; says why

Every error carries its data as attributes and survives pickling between
processes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar


def _rebuild(kind: type[AthenaError], state: dict[str, Any]) -> AthenaError:
    error = kind.__new__(kind)
    error.__dict__.update(state)
    error.args = (state.get("message", ""),)
    return error


class AthenaError(Exception):
    """Base of every error of this library; `exit_code` is what the CLI ends with."""

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, **data: Any) -> None:
        super().__init__(message)
        self.message = message
        self.__dict__.update(data)

    def __str__(self) -> str:
        return self.message

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.__dict__)

    def as_dict(self) -> dict[str, Any]:
        """The error as plain data, for `--json` and for tools."""
        data = {k: v for k, v in self.__dict__.items() if not k.startswith("_")}
        return {"error": type(self).__name__, **data}


class InputError(AthenaError):
    """What the caller gave is wrong; the message says what would be right."""

    exit_code = 2


class PlanError(InputError):
    """A plan that cannot be used as it stands."""


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Defect:
    """One thing that is wrong in a document, where, and what would be right.

    `line` and `column` count from 1; 0 where the document has no text (a plan
    built in Python). `field` is the dotted path, e.g. ``tasks[2].duration``.
    """

    file: str
    line: int
    column: int = 1
    field: str
    message: str
    remedy: str = ""

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}" if self.line else self.file
        remedy = f" ({self.remedy})" if self.remedy else ""
        return f"{where}: {self.field or 'document'}: {self.message}{remedy}"


class PlanDocumentError(PlanError):
    """Every defect of one plan document."""

    defects: tuple[Defect, ...]

    def __init__(self, defects: Iterable[Defect]) -> None:
        found = tuple(sorted(defects, key=lambda d: (d.file, d.line, d.column, d.field)))
        super().__init__("\n".join(str(d) for d in found), defects=found)

    def as_dict(self) -> dict[str, Any]:
        return {
            "error": type(self).__name__,
            "defects": [{name: getattr(d, name) for name in d.__slots__} for d in self.defects],
        }


class CycleError(PlanError):
    """Tasks that wait for each other; `cycle` starts and ends with the same id."""

    cycle: tuple[str, ...]

    def __init__(self, cycle: Sequence[str]) -> None:
        super().__init__("dependency cycle: " + " -> ".join(cycle), cycle=tuple(cycle))


MOST_NAMES = 8
"""Known names that an error lists where none is like the unknown one."""


class UnknownNameError(PlanError):
    """A name that the plan does not have; `nearest` is the known one most like it."""

    kind: str
    name: str
    nearest: str | None

    def __init__(self, kind: str, name: str, known: Iterable[str] = ()) -> None:
        import difflib

        names = list(known)
        close = difflib.get_close_matches(name, names, n=1)
        nearest = close[0] if close else None
        hint = f"; did you mean {nearest!r}?" if nearest else ""
        if names and not nearest:
            left = len(names) - MOST_NAMES
            more = f" and {left} more" if left > 0 else ""
            hint = f"; there {'is' if len(names) == 1 else 'are'} "
            hint += ", ".join(map(repr, names[:MOST_NAMES])) + more
        super().__init__(f"no {kind} {name!r}{hint}", kind=kind, name=name, nearest=nearest)


class CallableError(PlanError):
    """A `call` reference that cannot be imported or is not callable."""

    reference: str

    def __init__(self, reference: str, reason: str) -> None:
        super().__init__(f"{reference!r}: {reason}", reference=reference, reason=reason)


class NaiveDatetimeError(InputError):
    """A datetime without a time zone was given."""

    def __init__(self, field: str) -> None:
        super().__init__(
            f"{field} has no time zone; give an aware datetime, e.g. datetime.now(UTC)",
            field=field,
        )


class RecordingError(InputError):
    """An event that contradicts what is known; nothing was recorded."""


class ParameterError(InputError):
    """A run's parameter is unknown, missing or of the wrong type."""


class UnknownRunError(InputError):
    """No plan run has this id."""


class StaleRevisionError(InputError):
    """Chosen for `revision` of a run, while another, `in_force`, was adopted meanwhile."""

    revision: int
    in_force: int


class StaleOptionError(InputError):
    """An option that was chosen cannot be carried out as it was shown; `options` (as data) are
    those that there are now, and `found` all that is known of them, for drawing a table.
    """

    field: str
    options: Sequence[dict[str, Any]]
    _found: Any

    @property
    def found(self) -> Any:
        """What a look at the run's options gives now. Not of `as_dict`."""
        return self._found


class SettingsError(InputError):
    """A setting that cannot be used; names the variable and what would be right."""


class InfeasibleError(AthenaError):
    """No schedule exists; the message names the conflict."""

    exit_code = 2


class StorageError(AthenaError):
    """The database did not do what was asked."""


class StorageUnavailableError(StorageError):
    """The database cannot be reached now; events go to the spool."""


class RevisionTakenError(StorageError):
    """Another replan was faster: the revision's number is taken. `number`, `newest`."""


class SchemaError(StorageError):
    """The database's schema is not the one this version needs."""


class LeaseHeldError(StorageError):
    """Another dispatcher runs this plan run; `holder` says which."""

    holder: str


class LeaseLostError(StorageError):
    """The fencing token is no longer the newest: another dispatcher has taken over."""


class ResultError(AthenaError):
    """A task's stored result."""


class ResultNotSerializableError(ResultError):
    """A task returned what cannot be pickled."""


class ResultUnreadableError(ResultError):
    """A stored result is missing or damaged."""


class CheckError(AthenaError):
    """A check that could not be made: its assumption's state is unknown, neither true nor false."""


class ServerError(AthenaError):
    """Prefect's server did not come up; `log` is the file with its output."""


class RunError(AthenaError):
    """A plan run that did not reach its goals."""


class CriteriaNotMetError(RunError):
    """A task's result does not meet its success criteria."""


class TaskTimeoutError(RunError):
    """A task ran past its time-out."""


class PlanBlockedError(RunError):
    """The plan cannot proceed; the message says which tasks and why."""

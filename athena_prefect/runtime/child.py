"""A task's body in a process of its own, which can really be killed.

The parent side is `run_in_child`; the child side is this module run with
``python -m athena_prefect.runtime.child``. The child leads a session of its own,
so that what it starts ends with it, and dies when its parent does.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import inspect
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import cloudpickle

from athena_prefect.errors import RunError
from athena_prefect.plan.references import put_first
from athena_prefect.runtime.context import AttemptContext, attempt_context

_PR_SET_PDEATHSIG = 1
_children: dict[UUID, set[int]] = {}
_lock = threading.Lock()


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What the child is to do."""

    call: str
    root: str
    arguments: Mapping[str, Any]
    plan_run: UUID
    task_id: str
    map_index: int | None
    input_revision: int
    profile: float | None = None
    """Expected seconds of a body whose time is sampled, 0 if unknown; None: it is not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What became of it: a value or an error, and the usage that it reported."""

    value: Any = None
    error: BaseException | None = None
    usage: Mapping[str, float]
    spots: tuple[Any, ...] = ()
    """Where its time went, if it was sampled."""


def run_in_child(job: Job, *, timeout: float | None) -> Answer:
    """Do `job` in a child, and kill the child's whole session after `timeout` seconds.

    Raises TimeoutError, and RunError where the child ended without an answer.
    """
    with tempfile.TemporaryDirectory(prefix="athena-") as folder:
        question, answer = Path(folder, "question"), Path(folder, "answer")
        question.write_bytes(cloudpickle.dumps(job))
        process = subprocess.Popen(
            [sys.executable, "-m", "athena_prefect.runtime.child", str(question), str(answer)],
            start_new_session=True,
            env={**os.environ, "ATHENA_PARENT": str(os.getpid())},
        )
        with _lock:
            _children.setdefault(job.plan_run, set()).add(process.pid)
        try:
            code = process.wait(timeout)
        except subprocess.TimeoutExpired:
            from athena_prefect.journal.state import OVERRAN  # not for every child

            raise TimeoutError(f"task {job.task_id!r} {OVERRAN} of {timeout:g} s") from None
        finally:
            # Also after a good end: what the child started does not outlive it.
            _kill(process.pid)
            process.wait()
            with _lock:
                _children[job.plan_run].discard(process.pid)
        if not answer.exists():
            raise RunError(f"task {job.task_id!r}: its process ended with code {code}", code=code)
        result = cloudpickle.loads(answer.read_bytes())
        assert isinstance(result, Answer)
        return result


def kill_children(plan_run: UUID) -> int:
    """End every child of the plan run in this process; how many there were."""
    with _lock:
        pids = tuple(_children.get(plan_run, ()))
    for pid in pids:
        _kill(pid)
    return len(pids)


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if os.name == "posix":
            os.killpg(pid, signal.SIGKILL)
        else:
            os.kill(pid, signal.SIGTERM)


def _die_with_parent() -> None:
    if not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != int(os.environ["ATHENA_PARENT"]):
        os._exit(1)  # the parent died before we could ask


def call(function: Callable[..., Any], arguments: Mapping[str, Any]) -> Any:
    """`function` with `arguments`, awaited where it is a coroutine."""
    result = function(**arguments)
    if inspect.iscoroutine(result):
        return asyncio.run(result)
    return result


def _work(job: Job) -> Answer:
    from athena_prefect.runtime.calls import function_of

    attempt = AttemptContext(job.plan_run, job.task_id, job.map_index, job.input_revision)
    spots: list[Any] = []
    try:
        with attempt_context(attempt):
            function = function_of(job.call, Path(job.root))
            if job.profile is None:
                value = call(function, job.arguments)
            else:
                from athena_prefect.runtime.calls import is_async
                from athena_prefect.runtime.profiling import profiled

                both = is_async(function)
                expected = job.profile or None
                with profiled(job.root, expected=expected, asynchronous=both) as spots:
                    value = call(function, job.arguments)
    except Exception as error:  # noqa: BLE001 - the body's own, whatever it is: it goes to the parent
        return Answer(error=error, usage=attempt.usage, spots=tuple(spots))
    return Answer(value=value, usage=attempt.usage, spots=tuple(spots))


def main(question: str, answer: str) -> None:
    """The child: read the job, do it, write the answer."""
    _die_with_parent()
    job = cloudpickle.loads(Path(question).read_bytes())
    put_first(job.root)
    result = _work(job)
    try:
        content = cloudpickle.dumps(result)
    except Exception as error:  # noqa: BLE001 - pickling runs the value's own code
        reason = (
            f"task {job.task_id!r} gave what cannot be pickled ({error}); "
            "return plain data, or write it to a file and return the path"
        )
        content = cloudpickle.dumps(Answer(error=RunError(reason), usage=result.usage))
    partial = Path(answer + ".part")
    partial.write_bytes(content)
    partial.replace(answer)


if __name__ == "__main__":
    # Under its own name, so that what it pickles is what the parent knows.
    from athena_prefect.runtime import child

    child.main(*sys.argv[1:3])

"""What finished runs teach: learned, shown, remembered, and written into the plan."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import numpy as np

from athena_prefect.errors import InputError, UnknownNameError
from athena_prefect.learning.code import (
    Slowdown,
    Spot,
    Timing,
    slowdown,
    sources,
    with_lines_now,
)
from athena_prefect.learning.memory import Lesson, MemoryPolicy, Recalled, recall
from athena_prefect.learning.results import (
    Bottleneck,
    EstimationMetrics,
    ExecutionPattern,
    Recommendation,
)
from athena_prefect.plan.model import Plan
from athena_prefect.plan.references import project_root
from athena_prefect.service.following import Clock, utc_now
from athena_prefect.service.results import _Answer
from athena_prefect.service.source_history import NoHistoryError, SourceHistory

if TYPE_CHECKING:
    from athena_prefect.learning.frame import History
    from athena_prefect.learning.records import RunRecord
    from athena_prefect.settings import AthenaSettings
    from athena_prefect.storage.db import Database
    from athena_prefect.storage.history import StoredHistory

RUNS = 200
"""Newest runs of a plan that are looked at: patterns need dozens, and half a year of nights is
more than a pipeline stays what it is."""
MOST_RUNS = 1000
"""Newest runs of a namespace among which plans to learn from are looked for."""
USABLE = 0.7
"""Confidence from which `--apply` takes a recommendation by itself: as lessons are used."""
SEED = 0
"""Of the permutations of durations, so that the same history gives the same answer."""
Told = Callable[[str], None]
"""What is told of the step that is begun, where answers take long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Learned(_Answer):
    """What the newest runs of a plan teach."""

    plan: str
    runs: int
    tasks: int
    """Attempts that were looked at."""
    accuracy: EstimationMetrics
    errors: tuple[tuple[datetime, float], ...] = ()
    """(start of a run, mean size of its estimates' errors), the oldest first."""
    patterns: tuple[ExecutionPattern, ...] = ()
    bottlenecks: tuple[Bottleneck, ...] = ()
    recommendations: tuple[Recommendation, ...] = ()
    slowdowns: tuple[Slowdown, ...] = ()
    lessons: tuple[KnownLesson, ...] = ()
    """The plan's own, as they are after these runs."""
    diff: str = ""
    """What the plan document would become, or became."""
    proposed: tuple[str, ...] = ()
    """Ids of the recommendations that the diff is made of."""
    applied: bool = False
    plan_id: int | None = None
    """Of the plan revision that was stored."""
    reason: str = ""
    """Why nothing could be learned, or nothing is proposed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownLesson(_Answer):
    """A lesson as it stands now."""

    lesson: Lesson
    confidence: float | None
    faded: bool
    tasks: tuple[str, ...] = ()
    """Of the plan that was asked for, those that it concerns."""
    because: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownLessons(_Answer):
    """What is remembered, of every plan or for one."""

    plan: str | None
    lessons: tuple[KnownLesson, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanAccuracy(_Answer):
    """How good a plan's estimates were, and our own forecasts."""

    plan: str | None
    runs: int
    accuracy: EstimationMetrics


@dataclass(frozen=True, slots=True, kw_only=True)
class Taught:
    """What a plan's runs taught, for a report."""

    runs: int
    accuracy: EstimationMetrics
    errors: tuple[tuple[datetime, float], ...]
    """(start of a run, mean size of its estimates' errors), the oldest first."""
    lessons: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownPatterns(_Answer):
    """What recurs over the runs of a plan, or of all."""

    plan: str | None
    runs: int
    patterns: tuple[ExecutionPattern, ...]


def learn(
    plan: str | Path,
    *,
    settings: AthenaSettings,
    apply: bool = False,
    only: Sequence[str] = (),
    runs: int = RUNS,
    clock: Clock = utc_now,
    told: Told = lambda _: None,
    before: Told = lambda _: None,
) -> Learned:
    """What the newest runs of a plan teach; remembered, and with `apply` written into the plan.

    `plan` is a document, or the name of a plan whose runs are known. `only`: ids of
    the recommendations to take; without it those with a confidence of `USABLE` and
    more that need nothing from outside. `before` is given the diff before anything
    is written. The document changes as a whole or not at all, and becomes the plan's
    newest revision. Raises PlanDocumentError,
    UnknownNameError, InputError, StorageError.
    """
    document, file = _plan(plan, settings)
    if apply and file is None:
        raise InputError(
            f"--apply changes a plan document; give the file of {document.name!r}, not its name"
        )
    told("reading finished runs")
    found = _look(document, settings, runs, told, clock())
    if not found.runs:
        _known_only(only, found.recommendations)
        return found
    chosen = _chosen(found.recommendations, only)
    told("writing the plan" if apply else "comparing with the plan")
    return _with_patch(found, document, file, chosen, apply=apply, settings=settings, before=before)


def _plan(plan: str | Path, settings: AthenaSettings) -> tuple[Plan, Path | None]:
    """A plan document and its file; or the newest revision of a plan that is known by name."""
    file = Path(plan)
    if file.is_file() or isinstance(plan, Path) or file.suffix in (".yaml", ".yml", ".json"):
        return Plan.load(file), file
    from athena_prefect.storage.plans import PlanStore

    store = PlanStore(_database(settings))
    stored = store.plan(str(plan), namespace=settings.namespace)
    # Where its newest run came from a file of it, that file is the plan.
    for row in store.runs(settings.namespace, plan=stored.name, limit=1):
        if row.source is not None and row.source.is_file():
            found = Plan.load(row.source)
            if found.name == stored.name:
                return found, row.source
    return stored, None


def _look(
    document: Plan, settings: AthenaSettings, runs: int, told: Told, now: datetime
) -> Learned:
    from athena_prefect.learning.learner import ExecutionLearner
    from athena_prefect.storage.history import StoredHistory

    source = StoredHistory(_database(settings), namespace=settings.namespace)
    history = source.history(document.name, runs=runs)
    learner = ExecutionLearner(source=source, plan=document)
    accuracy = learner.compute_estimation_accuracy(history)
    if not history.runs:
        return Learned(
            plan=document.name, runs=0, tasks=0, accuracy=accuracy,
            reason="no run of this plan has finished yet; start one with `athena run PLAN`",
        )  # fmt: skip
    told(f"looking for patterns in {len(history):,} attempts")
    patterns = learner.extract_execution_patterns(history)
    recent = source.recent(document.name)
    told(f"replaying {len(recent)} runs")
    from athena_prefect.learning.blame import blame
    from athena_prefect.learning.bottlenecks import of_blames
    from athena_prefect.learning.past import past
    from athena_prefect.learning.recommendations import recommendations

    blames = [blame(p) for r in recent if (p := past(r)) is not None]
    slow = slowdowns(document, history, source, told=told)
    return Learned(
        plan=document.name,
        runs=len(history.runs),
        tasks=len(history),
        accuracy=accuracy,
        errors=_errors(history),
        patterns=tuple(patterns),
        bottlenecks=of_blames(blames),
        recommendations=recommendations(recent, blames=blames, patterns=patterns),
        slowdowns=slow,
        lessons=_remembered(document, recent, slow, patterns, settings, now),
    )


def slowdowns(
    plan: Plan, history: History, kept: StoredHistory, *, told: Told = lambda _: None
) -> tuple[Slowdown, ...]:
    """The tasks of a plan that are slower than they were, and what git knows of why."""
    series = {task: s for task in plan.task_ids if (s := _timings(plan.name, task, history))}
    if not series:
        return ()
    told(f"looking for changes in the durations of {len(series)} tasks")
    rng = np.random.default_rng(SEED)
    source = None if plan.source is None else SourceHistory(project_root(plan.source))
    found = []
    for task, timings in series.items():
        one = slowdown(task, timings, rng=rng, among=len(series))
        if one is not None:
            explained = _explained(one, plan, timings, source, kept.commits(plan.name), len(series))
            spots = [Spot(**s) for s in kept.profiles(plan.name, task)]
            files = {} if source is None else source.files
            found.append(replace(explained, spots=with_lines_now(spots, files)))
    return tuple(found)


def _timings(plan: str, task: str, history: History) -> list[Timing]:
    """A task's mean successful duration run by run; of a mapped one over its items."""
    codes = [
        code
        for code, name in enumerate(history.tasks)
        if name == task and history.plans[history.task_plan[code]] == plan
    ]
    if not codes:
        return []
    rows = np.flatnonzero(history.succeeded & (history.task == codes[0]))
    runs = history.run[rows]
    count = np.bincount(runs, minlength=len(history.runs))
    total = np.bincount(runs, weights=history.duration[rows], minlength=len(history.runs))
    return [
        Timing(at=run.started, seconds=float(total[i] / count[i]), run=run.run)
        for i, run in enumerate(history.runs)
        if count[i] and run.started is not None and total[i] > 0
    ]


def _explained(
    slow: Slowdown,
    plan: Plan,
    timings: Sequence[Timing],
    source: SourceHistory | None,
    ran: Mapping[str, str],
    among: int,
) -> Slowdown:
    """A slowdown with its commits, where the project is in a git checkout."""
    call = plan.get_task(slow.task_id).call
    if not call:
        return _again(slow, timings, (), "it runs another deployment", among)
    if source is None:
        return _again(slow, timings, (), "the plan's file is not known", among, call)
    files = sources(call, source.files)
    if not files:
        return _again(slow, timings, (), f"{call} is not in the project", among, call)
    why = source.missing
    if why:
        return _again(slow, timings, (), why, among, call)
    try:
        commits = source.commits(files)
        versions = {c: source.version(c, files) for c in set(ran.values())}
        timings = [replace(t, version=versions.get(ran.get(t.run, ""))) for t in timings]
    except NoHistoryError as error:
        return _again(slow, timings, (), error.message, among, call)
    return source.with_touched(_again(slow, timings, commits, "", among, call), files)


def _again(
    slow: Slowdown,
    timings: Sequence[Timing],
    commits: Sequence[Any],
    why: str,
    among: int,
    call: str = "",
) -> Slowdown:
    found = slowdown(
        slow.task_id, timings, commits, rng=np.random.default_rng(SEED), among=among,
        unknown=why, calls=call,
    )  # fmt: skip
    return found or slow


def _remembered(
    plan: Plan,
    runs: Sequence[RunRecord],
    slow: Iterable[Slowdown],
    patterns: Sequence[ExecutionPattern],
    settings: AthenaSettings,
    now: datetime,
) -> tuple[KnownLesson, ...]:
    """What the runs say brought into the lessons, each run once; the plan's own afterwards."""
    from athena_prefect.learning.evidence import code_evidence
    from athena_prefect.learning.memory import Consolidation
    from athena_prefect.learning.remembering import remember
    from athena_prefect.storage.lessons import StoredLessons
    from athena_prefect.storage.plans import PlanStore

    database = _database(settings)
    memory, engine = StoredLessons(database, namespace=settings.namespace), Consolidation()
    store = PlanStore(database)
    for run in runs:
        row = store.run(UUID(run.run))
        newest = run is runs[-1]
        at = run.ended or run.started
        said = (
            [code_evidence(s, plan=plan.name, run=run.run, at=at) for s in slow]
            if newest and at is not None
            else []
        )
        remember(
            memory, engine, plan_id=row.decision_id, runs=[run], lessons=said,
            patterns=patterns if newest else (),
            held=_held(run, store.figures(row.plan_run, row.revision)),
        )  # fmt: skip
    return tuple(_known(lesson, now) for lesson in memory.lessons() if lesson.plan == plan.name)


def _held(run: RunRecord, figures: Mapping[str, Any] | None) -> bool | None:
    """Whether a run was over by the finish that was promised; None where nothing was."""
    if run.ended is None or run.started is None:
        return None
    if run.status != "completed":
        return False
    promised = (figures or {}).get("accepted")
    if promised is not None:
        return (run.ended - run.started).total_seconds() <= float(promised)
    first = next(iter(run.forecasts), None)
    at = None if first is None else first.quantiles.get(0.9)
    return None if at is None else run.ended <= at


def _known(lesson: Lesson, now: datetime, found: Recalled | None = None) -> KnownLesson:
    policy = MemoryPolicy()
    return KnownLesson(
        lesson=lesson,
        confidence=lesson.confidence(now, policy),
        faded=lesson.faded(now, policy),
        tasks=() if found is None else found.tasks,
        because="" if found is None else found.because,
    )


# -- the plan ---------------------------------------------------------------------------------


def _known_only(only: Sequence[str], found: Sequence[Recommendation]) -> None:
    names = [r.recommendation_id for r in found]
    for name in only:
        if name not in names:
            raise UnknownNameError("recommendation", name, names)


def _chosen(found: Sequence[Recommendation], only: Sequence[str]) -> tuple[Recommendation, ...]:
    """What is to be written: as named, or what is sure enough and needs nothing from outside."""
    _known_only(only, found)
    if only:
        chosen = tuple(r for r in found if r.recommendation_id in only)
        for one in chosen:
            if not one.patch:
                raise InputError(
                    f"{one.recommendation_id} has no change of the plan to write: "
                    f"{one.suggestion} has to be done by hand"
                )
        return chosen
    sure: list[Recommendation] = []
    taken: set[tuple[str, str, str]] = set()
    for one in found:
        fields = {(s, n, f) for s, parts in one.patch.items() for n, own in parts.items()
                  for f in (own if isinstance(own, Mapping) else ("",))}  # fmt: skip
        # Of two changes of one field the more useful is taken; the other is looked at next time.
        if not one.patch or one.confidence is None or fields & taken:
            continue
        if one.confidence >= USABLE and one.implementation_effort != "hard":
            sure.append(one)
            taken |= fields
    return tuple(sure)


def _with_patch(
    found: Learned,
    document: Plan,
    file: Path | None,
    chosen: Sequence[Recommendation],
    *,
    apply: bool,
    settings: AthenaSettings,
    before: Told,
) -> Learned:
    from athena_prefect.plan.document import dumps
    from athena_prefect.plan.editing import difference, edited

    if not chosen:
        open_ = [r.recommendation_id for r in found.recommendations if r.patch]
        why = "nothing is sure enough to change the plan for" if open_ else "nothing to change"
        if open_:
            why += f"; --only {open_[0]} takes one nevertheless"
        return replace(found, reason=why)
    text = dumps(document) if file is None else file.read_text(encoding="utf-8")
    name = str(file) if file is not None else f"{document.name}.yaml"
    new = edited(text, [r.patch for r in chosen], file=name)
    ids = tuple(r.recommendation_id for r in chosen)
    result = replace(found, diff=difference(text, new, file=name), proposed=ids)
    if not apply or file is None:
        return result
    before(result.diff)
    reason = "learned: " + "; ".join(r.suggestion for r in chosen)
    return replace(
        result, applied=True, plan_id=_write(file, text, new, reason=reason, settings=settings)
    )


def _write(file: Path, old: str, new: str, *, reason: str, settings: AthenaSettings) -> int:
    """Put the new document in the file's place and store it as the plan's newest revision.

    The file is checked first and replaced in one step; where the revision cannot be stored
    it is put back, so that nothing is half written.
    """
    from athena_prefect.plan.document import loads
    from athena_prefect.storage.plans import PlanStore

    plan = loads(new, file=str(file))
    store = PlanStore(_database(settings))
    _replace(file, old, new)
    try:
        stored = store.register(
            plan, author="athena learn", reason=reason, namespace=settings.namespace
        )
    except BaseException:
        _replace(file, new, old)
        raise
    return stored.id


def _replace(file: Path, old: str, new: str) -> None:
    """Write `new` where `old` is, as a whole or not at all. Raises InputError."""
    target = file.resolve()
    try:
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
        beside = Path(name)
        try:
            with os.fdopen(handle, "w", encoding="utf-8", newline="") as writing:
                writing.write(new)
                writing.flush()
                os.fsync(writing.fileno())
            beside.chmod(target.stat().st_mode)
            if target.read_text(encoding="utf-8") != old:
                raise InputError(f"{file} was changed meanwhile; run `athena learn` again")
            beside.replace(target)
        finally:
            beside.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"cannot write {file}: {error.strerror}", file=str(file)) from None


# -- what is known ----------------------------------------------------------------------------


def lessons(
    plan: str | Path | None = None,
    *,
    settings: AthenaSettings,
    every: bool = False,
    clock: Clock = utc_now,
) -> KnownLessons:
    """What is remembered, the newest first; with a plan what concerns it, the surest first.

    `every`: faded ones too. Raises StorageError.
    """
    document = None if plan is None else _plan(plan, settings)[0]
    found = known_lessons(document, settings=settings, now=clock(), every=every)
    return KnownLessons(plan=None if document is None else document.name, lessons=found)


def known_lessons(
    plan: Plan | None, *, settings: AthenaSettings, now: datetime, every: bool = False
) -> tuple[KnownLesson, ...]:
    """Those that concern `plan`, the surest first; without one all, the newest first."""
    from athena_prefect.storage.lessons import StoredLessons

    kept = StoredLessons(_database(settings), namespace=settings.namespace).lessons()
    if plan is not None:
        return tuple(_known(r.lesson, now, r) for r in recall(kept, plan, now=now))
    known = (_known(lesson, now) for lesson in kept)
    return tuple(k for k in known if every or not k.faded)


def recalled(plan: Plan, *, settings: AthenaSettings, now: datetime) -> tuple[Recalled, ...]:
    """The lessons for a plan that is to be made; none where no database has any yet."""
    from athena_prefect.storage.lessons import StoredLessons

    database = _database(settings)
    if not database.current():
        return ()
    kept = StoredLessons(database, namespace=settings.namespace).lessons()
    return recall(kept, plan, now=now)


def accuracy(
    plan: str | Path | None = None, *, settings: AthenaSettings, runs: int | None = None
) -> PlanAccuracy:
    """How good the estimates of a plan were, or of all plans. Raises StorageError."""
    from athena_prefect.learning.learner import ExecutionLearner

    name, history = _history(plan, settings, runs)
    found = ExecutionLearner().compute_estimation_accuracy(history)
    return PlanAccuracy(plan=name, runs=len(history.runs), accuracy=found)


def patterns(
    plan: str | Path | None = None, *, settings: AthenaSettings, runs: int | None = None
) -> KnownPatterns:
    """What recurs over the runs of a plan, or of all plans. Raises StorageError."""
    from athena_prefect.learning.learner import ExecutionLearner

    name, history = _history(plan, settings, runs)
    found = ExecutionLearner().extract_execution_patterns(history)
    return KnownPatterns(plan=name, runs=len(history.runs), patterns=tuple(found))


def taught(plan: str, *, settings: AthenaSettings) -> Taught:
    """What the runs of a plan taught, for a report. Raises StorageError."""
    from athena_prefect.learning.learner import ExecutionLearner
    from athena_prefect.storage.lessons import StoredLessons

    _, history = _history(None, settings, RUNS, name=plan)
    kept = StoredLessons(_database(settings), namespace=settings.namespace).lessons()
    return Taught(
        runs=len(history.runs),
        accuracy=ExecutionLearner().compute_estimation_accuracy(history),
        errors=_errors(history),
        lessons=tuple(k.statement for k in kept if k.plan == plan),
    )


def _errors(history: History) -> tuple[tuple[datetime, float], ...]:
    """Mean of |actual − planned| / planned by run, of runs that have any."""
    rows = np.flatnonzero(history.succeeded & (history.planned > 0))
    error = np.abs(history.duration[rows] / history.planned[rows] - 1.0)
    count = np.bincount(history.run[rows], minlength=len(history.runs))
    total = np.bincount(history.run[rows], weights=error, minlength=len(history.runs))
    return tuple(
        (run.started, float(total[i] / count[i]))
        for i, run in enumerate(history.runs)
        if count[i] and run.started is not None
    )


def publish_learned(found: Learned, *, settings: AthenaSettings) -> str:
    """Keep what was learned as a Prefect artifact of the running flow; its key."""
    from prefect.artifacts import create_markdown_artifact

    from athena_prefect.report.learning import learned_markdown
    from athena_prefect.runtime.dashboard import artifact_key

    key = artifact_key(found.plan, "learned", settings.namespace)
    text = learned_markdown(
        found.plan, found.runs, found.accuracy,
        bottlenecks=found.bottlenecks, recommendations=found.recommendations,
        lessons=[(k.lesson.statement, k.confidence, k.lesson.samples) for k in found.lessons],
        errors=found.errors, slowdowns=[str(s) for s in found.slowdowns],
    )  # fmt: skip
    create_markdown_artifact(key=key, markdown=text, description=f"What runs of {found.plan} teach")
    return key


def plans_that_ran(*, settings: AthenaSettings) -> tuple[str, ...]:
    """The plans of the namespace that have a run. Raises StorageError."""
    from athena_prefect.storage.plans import PlanStore

    rows = PlanStore(_database(settings)).runs(settings.namespace, limit=MOST_RUNS)
    return tuple(dict.fromkeys(r.plan for r in rows))


def _history(
    plan: str | Path | None,
    settings: AthenaSettings,
    runs: int | None,
    *,
    name: str | None = None,
) -> tuple[str | None, History]:
    from athena_prefect.storage.history import StoredHistory

    name = name if plan is None else _plan(plan, settings)[0].name
    source = StoredHistory(_database(settings), namespace=settings.namespace)
    return name, source.history(name, runs=runs)


def _database(settings: AthenaSettings) -> Database:
    from athena_prefect.storage.db import Database

    return Database.open(settings)

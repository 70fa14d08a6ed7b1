"""Whether a revision can be carried out, proved by code that no solver uses.

It reads the revised plan's document, what has happened, and when each piece of
work is to run. From these it reckons everything anew: it knows no network, no
problem and no profile.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeVar

from athena_prefect.plan.estimate import Estimate
from athena_prefect.plan.model import DEFAULT_MODE, Plan, PlanTask, ResolvedMode

T = TypeVar("T", bound=Hashable)
Item = tuple[str, int | None]
Span = tuple[float, float]

MARGIN = 1e-6
"""Seconds, and share of an amount, by which sums may be off without being wrong."""
RUNNER = "(runner)"
NAMED = 5
"""Tasks that a sentence names before it says how many more there are."""


class Flaw(StrEnum):
    """What a revision breaks."""

    CYCLE = "cycle"
    REFERENCE = "reference"
    DEADLOCK = "deadlock"
    """Plan and resource order together wait in a circle."""
    PRECEDENCE = "precedence"
    CAPACITY = "capacity"
    DURATION = "duration"
    MODE = "mode"
    PAST = "past"
    """A start before now."""
    UNPLANNED = "unplanned"
    """A task of the revision has no place in the schedule, or one that is no task of it has."""
    GOAL = "goal"
    INPUT = "input"
    FINISHED = "finished"
    """Work that has begun was changed."""
    BLOCKED = "blocked"
    TIME_OUT = "time-out"
    """A time-out was changed, and the schedule still runs past it."""
    DEADLINE = "deadline"


@dataclass(frozen=True, slots=True, kw_only=True)
class Objection:
    """One thing that speaks against a revision, in words."""

    flaw: Flaw
    tasks: tuple[str, ...]
    message: str

    def __str__(self) -> str:
        return self.message


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """What was found against a revision; being late is told apart, since lateness is allowed."""

    objections: tuple[Objection, ...] = ()
    late: Objection | None = None
    """The chain that ends after the plan's deadline."""
    overdue: tuple[Objection, ...] = ()
    """Tasks that end after their own deadlines."""

    @property
    def passed(self) -> bool:
        """Whether the revision can be carried out, in time or not."""
        return not self.objections

    @property
    def in_time(self) -> bool:
        """Whether it can, and all deadlines hold by the schedule's durations."""
        return self.passed and self.late is None and not self.overdue

    def __str__(self) -> str:
        found = [*self.objections, *([self.late] if self.late else []), *self.overdue]
        return "; ".join(map(str, found)) or "no objection"


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A revision as it is to be carried out; seconds from the start of the run."""

    plan: Plan
    """The revised plan."""
    original: Plan
    """The plan that it revises: its goals are still to be reached."""
    now: float
    spans: Mapping[Item, Span]
    """When each task, or each item of a mapped one, runs or has run."""
    begun: Mapping[Item, Span] = field(default_factory=dict)
    """What has begun, as it was told; an expected end where it still runs."""
    over: Collection[Item] = frozenset()
    """Those of them that have ended well."""
    modes: Mapping[str, str] = field(default_factory=dict)
    begun_in: Mapping[str, str] = field(default_factory=dict)
    """Task that has begun → its mode, where it is not the default one."""
    again: Collection[str] = frozenset()
    """Failed tasks that are done again: of mapped ones what has ended well stays as it is, and
    the rest begins anew, in whatever mode."""
    items: Mapping[str, int] = field(default_factory=dict)
    """Items of mapped tasks, where they are known; as many as the plan expects elsewhere."""
    only_mode: Mapping[str, str] = field(default_factory=dict)
    barred: Mapping[str, Collection[str]] = field(default_factory=dict)
    """Task → modes that somebody does not want it done in."""
    factors: Mapping[str, float] = field(default_factory=dict)
    estimates: Mapping[str, Estimate] = field(default_factory=dict)
    capacities: Mapping[str, float] = field(default_factory=dict)
    """Resource → units that there are, where it is not the plan's."""
    blocked: Collection[str] = frozenset()
    left_out: Collection[str] = frozenset()
    """Tasks that will not run, whatever the revision: skipped, or stopped for good."""
    arcs: Sequence[tuple[Item, Item]] = ()
    """The order in which units of resources are handed on."""
    deadline: float | None = None


def verify(claim: Claim) -> Verification:
    """Everything that speaks against a revision."""
    return _Examination(claim).result()


class _Examination:
    """One look at a claim."""

    def __init__(self, claim: Claim) -> None:
        self.claim = claim
        self.plan = claim.plan
        self.tasks = {t.id: t for t in claim.plan.tasks}
        self.items_of = _by_task(claim.spans)
        modes = claim.modes
        self.done_in: dict[str, ResolvedMode] = {
            t.id: t.mode(mode)
            for t in claim.plan.tasks
            if (mode := modes.get(t.id, DEFAULT_MODE)) == DEFAULT_MODE or mode in t.mode_names
        }
        self.free = {
            item: span
            for item, span in claim.spans.items()
            if item not in claim.begun and (item[0], None) not in claim.begun
        }
        """What is still to begin."""
        self.waits_of = {t.id: tuple(self._waits_in(t)) for t in claim.plan.tasks}
        self.began = {item[0] for item in claim.begun} - set(claim.again)
        # A mapped task is over when all of its items are.
        ended = frozenset(claim.over)
        self.over = {name for name, index in ended if index is None} | {
            name for name, items in self.items_of.items() if ended.issuperset(items)
        }

    def result(self) -> Verification:
        found = [*self._references()]
        if not found:
            found += self._cycles()
        if not found:
            for look in (
                self._unplanned,
                self._finished,
                self._goals,
                self._inputs,
                self._blocked,
                self._modes,
                self._past,
                self._durations,
                self._timeouts,
                self._precedence,
                self._capacity,
                self._deadlock,
            ):
                found += look()
        return Verification(
            objections=tuple(found), late=self._late(), overdue=tuple(self._overdue())
        )

    def _waits(self, task: PlanTask) -> tuple[tuple[str, float], ...]:
        return self.waits_of[task.id]

    @staticmethod
    def _waits_in(task: PlanTask) -> Iterator[tuple[str, float]]:
        """(task waited for, lag) of everything that a task of the document waits for."""
        lags = {d.task: d.lag.total_seconds() for d in task.depends_on}
        yield from lags.items()
        for name in (*task.inputs.values(), *([task.when.task] if task.when else [])):
            if name not in lags:
                yield name, 0.0
                lags[name] = 0.0

    def _references(self) -> Iterator[Objection]:
        for task in self.tasks.values():
            for name, _ in self._waits(task):
                if name not in self.tasks:
                    yield _against(
                        Flaw.REFERENCE, f"{task.id} waits for {name}, which is no task", task.id
                    )

    def _cycles(self) -> Iterator[Objection]:
        before = {t.id: [n for n, _ in self._waits(t)] for t in self.tasks.values()}
        circle = _circle(before)
        if circle:
            words = " waits for ".join(circle)
            yield _against(Flaw.CYCLE, f"a circle: {words}", *circle[:-1])

    def _unplanned(self) -> Iterator[Objection]:
        claim = self.claim
        out = set(claim.left_out)
        for name, task in self.tasks.items():
            given = self.items_of.get(name, ())
            if name in out or (name, None) in given:
                continue
            if task.map_over is None:
                yield _against(Flaw.UNPLANNED, f"{name} has no place in the schedule", name)
                continue
            wanted: set[Item] = {
                (name, k) for k in range(claim.items.get(name, task.expected_items))
            }
            for item in sorted(wanted.difference(given)):
                yield _against(Flaw.UNPLANNED, f"{_name(item)} has no place in the schedule", name)
            for item in sorted(set(given) - wanted - claim.begun.keys()):
                yield _against(
                    Flaw.UNPLANNED,
                    f"{_name(item)} is scheduled, but {name} has {len(wanted)} items",
                    name,
                )
        for name in self.items_of:
            if name not in self.tasks:
                yield _against(Flaw.UNPLANNED, f"{name} is scheduled, but no task", name)

    def _finished(self) -> Iterator[Objection]:
        claim = self.claim
        for item, span in claim.begun.items():
            if item[0] in claim.again and item[0] not in self.tasks:
                continue  # left out, with what is done of it
            given = claim.spans.get(item)
            if given is None or any(abs(a - b) > MARGIN for a, b in zip(given, span, strict=True)):
                yield _against(
                    Flaw.FINISHED, f"{_name(item)} has begun, and the revision moves it", item[0]
                )
        for name in sorted(self.began):
            now, then = self.tasks.get(name), claim.original.get_task(name)
            if now is None or _work_of(now) != _work_of(then):
                yield _against(
                    Flaw.FINISHED, f"{name} has begun, and the revision changes it", name
                )
            mode, other = claim.begun_in.get(name, DEFAULT_MODE), self._mode(name)
            if mode != other:
                yield _against(
                    Flaw.FINISHED,
                    f"{name} has begun in mode {mode}, and the revision has it in {other}",
                    name,
                )

    def _goals(self) -> Iterator[Objection]:
        out = set(self.claim.left_out)
        for name in sorted(self.claim.original.required):
            if name not in self.over and (name not in self.tasks or name in out):
                yield _against(Flaw.GOAL, f"{name}, which a goal needs, is not done", name)

    def _inputs(self) -> Iterator[Objection]:
        out = set(self.claim.left_out)
        for task in self.tasks.values():
            if task.id in out or task.id in self.began:
                continue
            for argument, source in task.inputs.items():
                if source in out and source not in self.over:
                    yield _against(
                        Flaw.INPUT,
                        f"{task.id} takes {argument} from {source}, which will not run",
                        task.id,
                        source,
                    )

    def _blocked(self) -> Iterator[Objection]:
        for name in sorted(set(self.claim.blocked) - self.began):
            if name in self.items_of:
                yield _against(Flaw.BLOCKED, f"{name} cannot run: its assumption fails", name)

    def _modes(self) -> Iterator[Objection]:
        for name in self.tasks:
            mode = self._mode(name)
            if name not in self.done_in:
                yield _against(Flaw.MODE, f"{name} has no mode {mode}", name)
            only = self.claim.only_mode.get(name)
            if only is not None and name not in self.began and mode != only:
                yield _against(
                    Flaw.MODE, f"{name} can only be done in mode {only}, not {mode}", name
                )
            if mode in self.claim.barred.get(name, ()) and name not in self.began:
                yield _against(Flaw.MODE, f"{name} is not to be done in mode {mode}", name)

    def _mode(self, name: str) -> str:
        return self.claim.modes.get(name, DEFAULT_MODE)

    def _past(self) -> Iterator[Objection]:
        for item, (start, _) in self.free.items():
            if not start >= self.claim.now - MARGIN:
                yield _against(
                    Flaw.PAST,
                    f"{_name(item)} is to start at {start:g} s, but it is "
                    f"{self.claim.now:g} s already",
                    item[0],
                )

    def _durations(self) -> Iterator[Objection]:
        for item, (start, finish) in self.free.items():
            task = self.tasks.get(item[0])
            done_in = self.done_in.get(item[0])
            if task is None or done_in is None:
                continue
            default = done_in.name == DEFAULT_MODE
            known = self.claim.estimates.get(task.id) if default else None
            estimate = known or done_in.estimate
            if estimate is None:
                yield _against(Flaw.DURATION, f"no duration is known of {task.id}", task.id)
                continue
            low, likely, high = (
                d.total_seconds()
                for d in (estimate.optimistic, estimate.likely, estimate.pessimistic)
            )
            lasts = (low + 4 * likely + high) / 6 * self.claim.factors.get(task.id, 1.0)
            if abs(finish - start - lasts) > max(MARGIN, 1e-6 * lasts) * 10:
                yield _against(
                    Flaw.DURATION,
                    f"{_name(item)} is given {finish - start:g} s, but takes {lasts:g} s",
                    task.id,
                )

    def _timeouts(self) -> Iterator[Objection]:
        """A time-out that the revision gives has to hold what is planned under it."""
        given = {t.id: t.timeout for t in self.claim.original.tasks}
        for name, task in self.tasks.items():
            if task.timeout is None or name in self.began or task.timeout == given.get(name):
                continue
            spans = (self.free[i] for i in self.items_of.get(name, ()) if i in self.free)
            longest = max((f - s for s, f in spans), default=0.0)
            if longest > task.timeout.total_seconds() + MARGIN:
                yield _against(
                    Flaw.TIME_OUT,
                    f"{name} is planned to take {longest:g} s, but may take "
                    f"{task.timeout.total_seconds():g} s",
                    name,
                )

    def _precedence(self) -> Iterator[Objection]:
        spans = self.claim.spans
        ends = {name: max(spans[i][1] for i in items) for name, items in self.items_of.items()}
        for item, (start, _) in self.free.items():
            task = self.tasks.get(item[0])
            for name, lag in self._waits(task) if task is not None else ():
                end = ends.get(name)
                if end is not None and start < end + lag - MARGIN:
                    later = f" and a lag of {lag:g} s" if lag else ""
                    yield _against(
                        Flaw.PRECEDENCE,
                        f"{_name(item)} starts at {start:g} s, but waits for {name}, "
                        f"which ends at {end:g} s{later}",
                        name,
                        item[0],
                    )

    def _amounts(self, resource: str) -> Iterator[tuple[Item, Span, float]]:
        for item, span in self.claim.spans.items():
            known = self.done_in.get(item[0])
            if known is None or span[1] <= span[0]:
                continue
            used = known.resources
            amount = 1.0 if resource == RUNNER else used.get(resource, 0.0)
            if amount:
                yield item, span, amount

    def _capacity(self) -> Iterator[Objection]:
        have = {n: r.capacity for n, r in self.plan.resources.items()}
        have |= {**self.claim.capacities, RUNNER: float(self.plan.runner.max_workers)}
        for resource, capacity in have.items():
            yield from self._over(resource, capacity)

    def _over(self, resource: str, capacity: float) -> Iterator[Objection]:
        """Moments at which what starts finds less than it takes."""
        taken = list(self._amounts(resource))
        if sum(amount for _, _, amount in taken) <= capacity:
            return  # what suffices for all at once binds nobody
        changes: list[tuple[float, int, int]] = []
        for k, (_, (start, finish), _) in enumerate(taken):
            margin = min(MARGIN, (finish - start) / 4)
            changes.append((start + margin, 1, k))
            changes.append((finish - margin, 0, k))
        changes.sort()
        use, running = 0.0, dict[Item, None]()
        for at, begins, k in changes:
            item, _, amount = taken[k]
            if not begins:
                use -= amount
                running.pop(item, None)
                continue
            use += amount
            running[item] = None
            # What has begun holds what it holds; whoever starts has to find enough.
            over = use > capacity + MARGIN * max(1.0, capacity)
            if over and any(i in self.free for i in running):
                who = tuple(dict.fromkeys(i[0] for i in running))
                yield _against(
                    Flaw.CAPACITY,
                    f"at {at:.6g} s {_listed(who)} take {use:g} of {resource}, "
                    f"of which there is {capacity:g}",
                    *who,
                )

    def _deadlock(self) -> Iterator[Objection]:
        before: dict[Item, list[Item]] = {item: [] for item in self.claim.spans}
        for item in before:
            task = self.tasks.get(item[0])
            for name, _ in self._waits(task) if task is not None else ():
                before[item] += self.items_of.get(name, ())
        for earlier, later in self.claim.arcs:
            before.setdefault(later, []).append(earlier)
        for item in self.claim.begun:
            before[item] = []  # what has begun waits for nothing
        circle = _circle(before)
        if circle:
            names = tuple(_name(i) for i in circle)
            yield _against(
                Flaw.DEADLOCK, f"a deadlock: {' waits for '.join(names)}", *(i[0] for i in circle)
            )

    def _late(self) -> Objection | None:
        deadline = self.claim.deadline
        if deadline is None or not self.claim.spans:
            return None
        last, (_, finish) = max(self.claim.spans.items(), key=lambda pair: pair[1][1])
        if finish <= deadline + MARGIN:
            return None
        chain = self._chain(last)
        return _against(
            Flaw.DEADLINE,
            f"{_listed(chain)} end at {finish:g} s, {finish - deadline:g} s after the deadline",
            *chain,
        )

    def _overdue(self) -> Iterator[Objection]:
        for name, task in self.tasks.items():
            items = self.items_of.get(name)
            if task.deadline is None or not items or name in self.over:
                continue
            end = max(self.claim.spans[i][1] for i in items)
            limit = task.deadline.total_seconds()
            if end > limit + MARGIN:
                yield _against(
                    Flaw.DEADLINE,
                    f"{name} ends at {end:g} s, {end - limit:g} s after its own deadline",
                    name,
                )

    def _chain(self, last: Item) -> tuple[str, ...]:
        """What the last finish waits for, back to the first that waits for nothing."""
        chain, item = {last[0]: None}, last
        arcs: dict[Item, list[Item]] = defaultdict(list)
        for earlier, later in self.claim.arcs:
            arcs[later].append(earlier)
        while item in self.claim.spans and item not in self.claim.begun:
            start = self.claim.spans[item][0]
            task = self.tasks.get(item[0])
            waited = [
                (i, lag)
                for name, lag in (self._waits(task) if task is not None else ())
                for i in self.items_of.get(name, ())
            ] + [(i, 0.0) for i in arcs[item]]
            binding = [
                i
                for i, lag in waited
                if i in self.claim.spans
                and self.claim.spans[i][1] + lag >= start - MARGIN
                and i[0] not in chain
            ]
            if not binding:
                break
            item = binding[0]
            chain[item[0]] = None
        return tuple(reversed(chain))


def _work_of(task: PlanTask) -> tuple[object, ...]:
    """What of a task stays as it is once it has begun."""
    return task.call, task.deployment, task.with_, task.inputs, task.map_over, task.resources


def _by_task(items: Iterable[Item]) -> dict[str, Sequence[Item]]:
    """Task → what there is of it: the task as a whole, or its items."""
    found: dict[str, Sequence[Item]] = {}
    several: dict[str, list[Item]] = {}
    for item in items:
        name = item[0]
        if name in several:
            several[name].append(item)
        elif name in found:
            several[name] = [*found[name], item]
        else:
            found[name] = (item,)
    return {**found, **several}


def _against(flaw: Flaw, message: str, *tasks: str) -> Objection:
    return Objection(flaw=flaw, tasks=tuple(dict.fromkeys(tasks)), message=message)


def _name(item: Item) -> str:
    return item[0] if item[1] is None else f"{item[0]}[{item[1]}]"


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def _circle(before: Mapping[T, Sequence[T]]) -> tuple[T, ...]:
    """Some nodes that wait for each other, the first again at the end; empty where none do."""
    done: set[T] = set()
    for root in before:
        path: list[T] = []
        on_path: set[T] = set()
        stack: list[tuple[T, Iterator[T]]] = []
        if root not in done:
            stack.append((root, iter(before[root])))
            path.append(root)
            on_path.add(root)
        while stack:
            node, rest = stack[-1]
            following = next(rest, None)
            if following is None:
                stack.pop()
                done.add(node)
                on_path.discard(path.pop())
            elif following in on_path:
                return (*path[path.index(following) :], following)
            elif following not in done and following in before:
                stack.append((following, iter(before[following])))
                path.append(following)
                on_path.add(following)
    return ()

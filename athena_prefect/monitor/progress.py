"""A run's state on its network: the journal's entries, folded and brought to the course."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta

import numpy as np

from athena_prefect.journal.events import CheckEvent, RunEvent, TaskEvent, TaskEventKind
from athena_prefect.journal.journal import Entry
from athena_prefect.journal.state import (
    Attempt,
    ExecutionState,
    Item,
    Status,
    TaskState,
    evolve,
    fold_entries,
)
from athena_prefect.monitor.accepted import Accepted
from athena_prefect.monitor.chain import Chain, Underway
from athena_prefect.monitor.course import Stage
from athena_prefect.monitor.effects import NO_EFFECTS, Effects, effects_in_force
from athena_prefect.monitor.tally import Tally, mode_of, tries_left
from athena_prefect.plan.model import Plan

SECOND = timedelta(seconds=1)


class Progress:
    """The state of one plan run and where that puts every task of its network."""

    def __init__(self, plan: Plan, started: datetime, chain: Chain) -> None:
        self.plan = plan
        self.started = started
        self.state = ExecutionState()
        self.tally = Tally(plan)
        self.chain = chain
        self.course = chain.course()
        self.out_of_order = False
        """Something runs that the chained order had later: it needs to be made anew."""
        self.outgrown = False
        """The network is not the run's any more: other items, other modes, other capacities."""
        self.effects: Effects = NO_EFFECTS
        """What violated assumptions do to the rest."""
        self._again: frozenset[str] = frozenset()
        """Tasks that a revision does again: what is left of them may be in another mode."""

    def seconds(self, moment: datetime) -> float:
        """`moment` in seconds from the start of the run."""
        return (moment - self.started) / SECOND

    def moment(self, seconds: float) -> datetime:
        """What is `seconds` after the start of the run."""
        return self.started + timedelta(seconds=seconds)

    @property
    def unknown_open(self) -> tuple[str, ...]:
        """The tasks that are still to end and of whose duration nothing is known."""
        if not self.chain.problem.unknown:
            return ()
        nodes = np.flatnonzero(self.chain.unknown & self.course.open).tolist()
        return tuple(dict.fromkeys(self.chain.items[n][0] for n in nodes))

    def fold(self, entries: Iterable[Entry]) -> None:
        """Take in the entries that were not seen yet."""
        for entry in entries:
            self.state = fold_entries((entry,), self.state)
            if isinstance(entry.event, TaskEvent):
                self._take_in(entry.event)
            elif isinstance(entry.event, RunEvent):
                accepted = Accepted.of(entry.event)
                if accepted is not None:
                    self._go_by(accepted, entry.event.at)
            elif isinstance(entry.event, CheckEvent):
                self.reckon_with(effects_in_force(self.plan, self.state))

    def take(self, event: TaskEvent | CheckEvent) -> None:
        """Take in an event that waits in the spool; the journal tells it again later."""
        self.state = evolve(self.state, event)
        if isinstance(event, TaskEvent):
            self._take_in(event)
        else:
            self.reckon_with(effects_in_force(self.plan, self.state))

    def _go_by(self, accepted: Accepted, at: datetime) -> None:
        """A revision comes into force: from now on the rest goes by its schedule."""
        self.tally.reopen(accepted.again, self.state)
        self._again |= set(accepted.again)
        self.rechain(at, accepted)

    def reckon_with(self, effects: Effects) -> None:
        """Reckon with these effects from now on, and with no others."""
        known, self.effects = self.effects, effects
        if effects.blocked != known.blocked:
            before = frozenset(self.tally.stopped)
            self.tally.hold(effects.blocked)
            for task_id in before ^ frozenset(self.tally.stopped):
                self._place_all(task_id)
        rest = (effects.modes, effects.factors, effects.capacities)
        self.outgrown |= rest != (known.modes, known.factors, known.capacities)

    def supposing(self, effects: Effects, now: datetime) -> Progress:
        """This run as it would stand at `now` with these effects instead of those in force."""
        other = Progress(self.plan, self.started, self.chain)
        other.state, other.effects, other._again = self.state, effects, self._again
        other.tally.reopen_like(self.tally)
        for item in self.state.tasks:
            other.tally.update(self.state, item)
        other.tally.hold(effects.blocked)
        other.course.advance(max(self.seconds(now), 0.0))
        other.rechain(now)
        return other

    def _take_in(self, event: TaskEvent) -> None:
        task_id = event.task_id
        if task_id not in self.chain.place:
            return
        before = frozenset(self.tally.stopped)
        changed = self.tally.update(self.state, (task_id, event.map_index))
        if event.kind is TaskEventKind.EXPANDED and task_id in self.chain.nodes_of:
            known = self.state.task(task_id).items
            self.outgrown |= known != self.chain.known_items(task_id)
        if event.kind is not TaskEventKind.READY:
            self._place((task_id, event.map_index))
        if changed:
            for other in before ^ frozenset(self.tally.stopped):
                self._place_all(other)

    def _place_all(self, task_id: str) -> None:
        nodes = self.chain.nodes_of.get(task_id)
        if nodes is None:
            # What was left out of the order may have to be done after all.
            self.outgrown |= task_id not in self.tally.stopped
            return
        for node in nodes:
            self._place(self.chain.items[node])

    def _place(self, item: Item) -> None:
        task_id, index = item
        own = self.state.task(*item)
        if index is None and self.chain.is_mapped(task_id):
            if own.attempts or own.skipped:
                self._place_whole(task_id, own)
            return
        node = self.chain.node_of.get(item)
        if node is None:
            self.outgrown |= not self._will_not_run(item, own)
            return
        if index is not None and item not in self.state.tasks:
            item = (task_id, None)
            own = self.state.task(task_id)
        self._put(node, item, own)

    def _place_whole(self, task_id: str, own: TaskState) -> None:
        """Place a mapped task that is recorded as one; its items keep their distances."""
        nodes = self.chain.nodes_of.get(task_id, range(0))
        if own.status is not Status.RUNNING:
            for node in nodes:
                self._put(node, (task_id, None), own)
            return
        start, _ = self._span(own.attempts[-1])
        items = [n for n in nodes if not self.chain.joins[n]]
        planned = self.course.start[items] - self.course.start[items].min(initial=np.inf)
        for node, offset in zip(items, planned.tolist(), strict=True):
            self.course.begin(node, start + offset)

    def _put(self, node: int, item: Item, own: TaskState) -> None:
        status = own.status
        if self.chain.joins[node]:
            # It is over when what is before it is; only what is dropped has to be said.
            if self._will_not_run(item, own):
                self.course.drop(node)
            elif self.course.stage[node] == Stage.DEAD:
                self.course.wait(node)
        elif status.good:
            assert own.in_force is not None
            self.course.end(node, *self._span(own.in_force))
        elif status is Status.RUNNING:
            self._run(node, item[0], own)
        elif self._will_not_run(item, own):
            self.course.drop(node)
        elif self.course.stage[node] != Stage.WAITING:
            self.course.wait(node)

    def _span(self, attempt: Attempt) -> tuple[float, float]:
        end = attempt.ended or attempt.started or self.started
        return self.seconds(attempt.started or end), self.seconds(end)

    def _run(self, node: int, task_id: str, own: TaskState) -> None:
        attempt = own.latest
        assert attempt is not None and attempt.started is not None
        mode = mode_of(self.plan.get_task(task_id), attempt)
        known = self.chain.mode_of(task_id)
        duration = self.chain.median_in(task_id, mode) if mode != known else None
        if not self.course.run(node, self.seconds(attempt.started), duration):
            self.out_of_order = True

    def _will_not_run(self, item: Item, own: TaskState) -> bool:
        task_id = item[0]
        if own.status is Status.SKIPPED or task_id in self.tally.stopped:
            return True
        failed = own.status in (Status.FAILURE, Status.BLOCKED)
        if failed and self.tally.is_reopened(*item):
            return False
        return failed and tries_left(self.plan.get_task(task_id), own) == 0

    def rechain(self, now: datetime, accepted: Accepted | None = None) -> None:
        """Schedule the rest anew from where the run is, and go on by that order.

        `accepted`: the schedule that a revision was accepted with; it is kept to as it is
        where that can be.
        """
        self.course.advance(max(self.seconds(now), 0.0))
        estimates = self.chain.estimates
        given = self.underway(now)
        if accepted is not None and accepted.starts:
            given = replace(given, places={**given.places, **accepted.starts}, accepted=accepted)
        self.chain = Chain.underway(self.plan, given, estimates=estimates)
        self.course = self.chain.course()
        self.course.advance(max(self.seconds(now), 0.0))
        for item in sorted(self.state.tasks, key=self._began):
            if item[0] in self.chain.nodes_of:
                self._place(item)
        # What runs now was in no order but its own: it is what the rest was chained behind.
        self.out_of_order = self.outgrown = False

    def underway(self, now: datetime) -> Underway:
        """What an order of the rest has to take as given."""
        spans: dict[Item, tuple[float, float]] = {}
        modes: dict[str, str] = {}
        items: dict[str, int] = {}
        for item, own in self.state.tasks.items():
            task_id, index = item
            if task_id not in self.chain.place:
                continue
            if own.items is not None:
                items[task_id] = own.items
            elif index is not None and self.state.task(task_id).items is None:
                least = max(index + 1, self.plan.get_task(task_id).expected_items)
                items[task_id] = max(items.get(task_id, 0), least)
            attempt = own.in_force or own.latest
            if attempt is not None and (own.in_force or attempt.running):
                if attempt.running and index is None and self.chain.is_mapped(task_id):
                    continue  # of its items it is not known which run
                modes[task_id] = mode_of(self.plan.get_task(task_id), attempt)
                spans[item] = self._expected(task_id, modes[task_id], attempt, now)
        for task_id in self._again & modes.keys():
            # Items that are done keep what they gave; how the others are done says the revision.
            if self.chain.is_mapped(task_id) and not self.tally.status(task_id).good:
                del modes[task_id]
        for task_id, mode in self.effects.modes.items():
            if task_id in self.chain.place and not self.tally.status(task_id).good:
                modes.setdefault(task_id, mode)
        # What no effect says otherwise of is in the mode that the revision in force gives it.
        for task_id, mode in (self.state.acceptance.get("modes") or {}).items():
            if task_id in self.chain.place:
                modes.setdefault(task_id, mode)
        left_out = {*self.tally.stopped, *self.tally.with_status(Status.SKIPPED)}
        return Underway(
            now=max(self.seconds(now), 0.0),
            spans=spans,
            modes=modes,
            items=items,
            left_out=left_out,
            places=dict(zip(self.chain.items, self.course.start.tolist(), strict=True)),
            capacities=self.effects.capacities,
            factors=self.effects.factors,
        )

    def _expected(
        self, task_id: str, mode: str, attempt: Attempt, now: datetime
    ) -> tuple[float, float]:
        start, end = self._span(attempt)
        if attempt.ended is None:
            # By what is in force now: the chain may be one from before it was.
            median = self.chain.median_in(task_id, mode, self.effects.factors)
            end = max(start + median, self.seconds(now))
        return start, end

    def _began(self, item: Item) -> tuple[float, str, int]:
        attempt = self.state.task(*item).latest
        known = attempt.started if attempt is not None else None
        at = self.seconds(known) if known else float("inf")
        return at, item[0], -1 if item[1] is None else item[1]

    def advance(self, now: datetime) -> None:
        """Bring the course up to `now`, with the network that the run has by then."""
        if self.outgrown or (self.chain.loose and not self.unknown_open):
            self.rechain(now)
        self.course.advance(max(self.seconds(now), 0.0))

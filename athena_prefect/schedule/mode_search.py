"""A search over orders and modes at once, for plans of any size.

First an assignment that balances the longest chain against the work on each
resource, found by multiplicative weights (Arora, Hazan, Kale 2012): each bound
that is high gets dearer, and each task takes the way that is cheapest. Then a
population of orders with their ways (Hartmann 2001), each child improved forward
and backward.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from athena_prefect.plan.graph import Floats, Ints
from athena_prefect.schedule.generation import Frame, Mirror, parallel, serial
from athena_prefect.schedule.passes import backward, forward
from athena_prefect.schedule.problem import slack_of
from athena_prefect.schedule.search import SIZE, crossed, forward_backward, noisy_latest_finish
from athena_prefect.schedule.worth import Value, Worth

ROUNDS = 40
"""Rounds of weighing: afterwards the best assignment seldom changed on generated plans."""
RATE = 2.0
"""How fast the weight of a bound grows by its share of the highest one."""
CHAIN = 0.05
"""Slack, as a share of the longest chain, at which an activity counts 1/e of a critical one."""
MUTATED = 0.03
"""Share of tasks that a child has in another way than its parents, one at least."""
REPAIRED = 0.1
"""Share of the changes that would each ease an overdrawn budget that are made at once."""


class Balance:
    """Assignments of ways by prices: of time on long chains, of each resource, of each budget."""

    def __init__(self, frame: Frame, worth: Worth) -> None:
        self.frame, self.worth, self.table = frame, worth, frame.table
        rest, table = frame.rest, frame.table
        have = np.maximum(rest.last_capacities, 1e-9)
        size = np.repeat(np.bincount(frame.owner, minlength=len(table)), table.size)
        self.work = table.demands * table.durations[:, None] / have * size[:, None]
        """Seconds for which a way takes all that there is of each resource, shape (w, r)."""
        free = rest.free.copy()
        free[frame.rows_with_ways] = False
        other = frame.problem.demands * np.where(free, frame.problem.durations, 0.0)[:, None]
        self.others: Floats = other.sum(axis=0) / have
        budgets = np.array(rest.budgets)
        self.consumes = table.consumes * np.repeat(worth.counted, table.size)[:, None]
        self.budgets = np.maximum(budgets, 1e-9)
        network = frame.network
        self.lag = np.where(rest.free[network.heads], network.pred_lag, -np.inf)
        self.chain = np.zeros(len(table.durations))
        """What a second of each way's duration adds to the longest chain, a running mean."""
        self.weights = np.ones(1 + self.work.shape[1] + len(budgets))
        self.score = np.zeros(len(table.durations))
        """Priced badness of each way in seconds: what `assignments` chose the least of last."""
        self.least, self.load = np.inf, np.inf
        """The least bound of `assignments` so far in seconds, and the share of it that the most
        loaded resource works."""

    def assignments(self) -> Iterator[tuple[float, Ints]]:
        """(a lower bound in seconds, places) of each round."""
        table, resources = self.table, self.work.shape[1]
        for k in range(ROUNDS):
            weights = self.weights / self.weights.sum()
            self.score = weights[0] * self.chain * table.durations
            self.score = self.score + self.work @ weights[1 : 1 + resources]
            if self.budgets.size:
                whole = float(self.others.max(initial=1.0))
                relative = self.consumes / self.budgets * whole
                self.score = self.score + relative @ weights[1 + resources :]
            places = table.least(self.score)
            way = table.first + places
            longest = self._weigh_chains(way, 1.0 / (k + 1))
            loads = self.others + self.work[way].sum(axis=0)
            bound = max(longest, float(loads.max(initial=0.0)), 1e-9)
            if bound < self.least:
                self.least, self.load = bound, float(loads.max(initial=0.0)) / bound
            used = self.consumes[way].sum(axis=0) / self.budgets
            # A budget that is overdrawn by more than all of it, such as one of nothing, counts so.
            heights = np.hstack((longest / bound, loads / bound, np.minimum(used, 2.0)))
            self.weights = self.weights * np.exp(RATE / np.sqrt(k + 1) * (heights - 1.0))
            yield bound, places

    def _weigh_chains(self, way: Ints, share: float) -> float:
        """The longest chain in seconds; its activities become dearer in the running mean."""
        frame, table = self.frame, self.table
        lengths = frame.lengths.copy()
        lengths[frame.rows_with_ways] = table.durations[way][frame.owner]
        finishes = forward(frame.network, lengths, floor=frame.rest.floor, lag=self.lag)[1]
        tails = backward(frame.network, lengths)
        end = float(finishes.max(initial=0.0))
        now = frame.rest.now
        slack = (end - tails - finishes)[frame.rows_with_ways]
        near = np.exp(-np.maximum(slack, 0.0) / max(CHAIN * (end - now), 1e-9))
        critical = np.zeros(len(table))
        np.maximum.at(critical, frame.owner, near)
        self.chain += share * (np.repeat(critical, table.size) - self.chain)
        return end - now


@dataclass(frozen=True, slots=True, eq=False)
class Member:
    """One schedule of the population."""

    value: Value
    starts: Floats
    places: Ints


class ModeBreed:
    """A population of orders with ways, of which new ones are bred."""

    def __init__(
        self, frame: Frame, worth: Worth, balance: Balance, rng: np.random.Generator
    ) -> None:
        self.frame, self.worth, self.table = frame, worth, frame.table
        self.balance, self.rng = balance, rng
        self.members: list[Member] = []
        self.open = np.flatnonzero(np.bincount(frame.owner, minlength=len(self.table)) > 0)
        self.open = self.open[self.table.size[self.open] > 1]
        """The tasks whose way is still to be chosen."""
        self._mirror: Mirror | None = None
        self._have = np.array(frame.rest.budgets)

    def known(self, starts: Floats, places: Ints) -> None:
        """Take in a schedule that there is already."""
        lengths = self.frame.in_ways(places).lengths
        value = self.worth(starts, lengths, self.worth.price(places))
        self._take_in(Member(value, starts, places))

    def made(
        self, places: Ints, go_on: Callable[[], bool], *, priority: Floats | None = None
    ) -> Member | None:
        """The schedule with these ways, taken in; None where they do not keep the budgets."""
        affordable = self.affordable(places)
        if affordable is None:
            return None
        frame = self.frame.in_ways(affordable)
        by = frame.latest_finish() if priority is None else priority
        sequence = frame.ranked(by)
        side_by_side = priority is None and frame.rising
        starts = np.array((parallel if side_by_side else serial)(frame, sequence))
        if self._mirror is None:
            self._mirror = Mirror(frame)
        price = self.worth.price(affordable)

        def value(at: Floats) -> Value:
            return self.worth(at, frame.lengths, price)

        mirror = self._mirror.of(frame)
        starts = forward_backward(frame, mirror, starts, value, rounds=1, go_on=go_on)
        member = Member(value(starts), starts, affordable)
        self._take_in(member)
        return member

    def child(self, go_on: Callable[[], bool]) -> Member | None:
        """One more schedule, already taken in where it is worth it."""
        if len(self.members) < SIZE:
            places = self._sampled()
            frame = self.frame.in_ways(places)
            return self.made(places, go_on, priority=noisy_latest_finish(frame, self.rng))
        rng, members = self.rng, self.members
        pair = [members[k] for k in rng.choice(len(members), 2, replace=False)]
        mother, father = sorted(pair, key=lambda m: m.value)
        priority, inside = crossed(self.frame, mother.starts, father.starts, rng)
        places = father.places.copy()
        own = inside[self.frame.rows_with_ways]
        from_mother = self.frame.owner[own]
        places[from_mother] = mother.places[from_mother]
        return self.made(self._mutated(places), go_on, priority=priority)

    def _take_in(self, member: Member) -> None:
        members = self.members
        if any(
            m.value == member.value and np.array_equal(m.starts, member.starts) for m in members
        ):
            return
        if len(members) < SIZE:
            members.append(member)
            return
        worst = max(range(len(members)), key=lambda k: members[k].value)
        if member.value <= members[worst].value:
            members[worst] = member

    def _sampled(self) -> Ints:
        """Ways by prices that are off by up to a half, so that members differ."""
        noise = np.exp(self.rng.normal(0.0, 0.5 * self.rng.random(), len(self.balance.score)))
        return self.table.least(self.balance.score * noise)

    def _mutated(self, places: Ints) -> Ints:
        rng, table = self.rng, self.table
        if not self.open.size or rng.random() < 0.3:
            return places
        some = rng.integers(1, max(1, round(MUTATED * len(self.open))) + 1)
        changed = self.open[rng.integers(0, len(self.open), some)]
        if rng.random() < 0.5:
            places[changed] = self._sampled()[changed]
            return places
        drawn = (rng.random(len(changed)) * table.size[changed]).astype(np.int64)
        fits = table.fits[table.first[changed] + drawn]
        places[changed[fits]] = drawn[fits]
        return places

    def affordable(self, places: Ints) -> Ints | None:
        """`places`, changed where budgets are overdrawn; None where that is not found."""
        if not self._have.size:
            return places
        table, have = self.table, self._have
        most = have + slack_of(have)
        scale = np.maximum(have, 1e-9)
        consumes = self.balance.consumes
        places = places.copy()
        for _ in range(10 * len(table) + 1):
            way = table.first + places
            used = consumes[way].sum(axis=0)
            excess = np.maximum(used - most, 0.0) / scale
            if not excess.any():
                return places
            after = used - np.repeat(consumes[way], table.size, axis=0) + consumes
            left = (np.maximum(after - most, 0.0) / scale).sum(axis=1)
            ease = np.where(table.fits, excess.sum() - left, 0.0)
            # Of each task the change that eases most, or by what it costs in prices.
            by = ease / (self.balance.score + self.balance.score.mean() + 1e-9)
            best = table.least(-by if self.rng.random() < 0.5 else -ease)
            gain = ease[table.first + best]
            helps = np.flatnonzero(gain > 1e-12)
            if not helps.size:
                return None
            count = max(1, round(REPAIRED * len(helps)))
            chosen = self.rng.choice(helps, count, replace=False, p=gain[helps] / gain[helps].sum())
            places[chosen] = best[chosen]
        return None

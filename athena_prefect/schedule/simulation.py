"""Seeded Monte Carlo on a schedule's partial order: when a run will be over, and how sure that is.

Times are in seconds from the start of the run. What is certain is reckoned in
float64; what varies in float32, counted from the present, so that a moment is
off by some 1e-7 of the time that is left. An activity whose duration is not one
number draws in each scenario one of the quantiles of its distribution. It draws
whatever its state, so that equal seeds give equal luck (common random numbers):
two forecasts differ by what has happened, not by chance.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from athena_prefect.errors import PlanError
from athena_prefect.plan.graph import Bools, Floats, Ints, Network
from athena_prefect.schedule.beta_pert import LEVELS, single_rows
from athena_prefect.schedule.partial_order import ResourceArcs
from athena_prefect.schedule.passes import TOLERANCE
from athena_prefect.schedule.problem import Problem
from athena_prefect.schedule.situation import NEVER, Situation

Singles = NDArray[np.float32]

CELLS = 16_000_000
"""Samples held at once (64 MB); where there are more, scenarios are run in chunks."""
BLOCK = 64
"""Activities that draw at once: their tables of quantiles (256 kB) stay in the cache."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Samples:
    """Samples of one moment of every activity, seconds from the start of the run."""

    certain: Floats
    """The moment where it does not vary, shape (n,)."""
    nodes: Ints
    """The activities whose moment varies."""
    origin: float
    varying: Singles
    """Their moments, counted from `origin`, shape (nodes, samples)."""

    def of(self, activity: int) -> Floats:
        """All samples of one activity, shape (samples,), in the order of the scenarios."""
        row = np.flatnonzero(self.nodes == activity)
        if not row.size:
            return np.full(self.varying.shape[1], self.certain[activity])
        moments: Floats = self.origin + self.varying[row[0]].astype(np.float64)
        return moments

    def quantile(self, q: float) -> Floats:
        """The quantile of each activity, shape (n,)."""
        result = self.certain.copy()
        if self.nodes.size:
            result[self.nodes] = self.origin + np.quantile(self.varying, q, axis=1)
        return result


@dataclass(frozen=True, kw_only=True, eq=False)
class Simulation:
    """What the scenarios came to; seconds from the start of the run."""

    makespans: Floats
    """Finish of all in each scenario, ascending, shape (samples,)."""
    late: Floats | None
    """P(finish > limit) of each activity, shape (n,), where limits were given; NaN left out."""
    criticality: Floats | None
    """Share of the scenarios in which an activity is on a longest path, where asked for."""
    start_samples: Samples | None
    """Where they were to be kept."""
    finish_samples: Samples | None
    """Where they were to be kept."""

    @property
    def samples(self) -> int:
        """Number of scenarios."""
        return len(self.makespans)

    def quantile(self, q: float) -> float:
        """The moment by which all is over with probability `q`."""
        return float(np.quantile(self.makespans, q))

    def probability(self, limit: float) -> float:
        """P(all is over by `limit`)."""
        return float(np.searchsorted(self.makespans, limit + TOLERANCE, "right")) / self.samples

    @cached_property
    def start_p50(self) -> Floats:
        """P50 start of each activity, shape (n,); NaN of what is left out."""
        return _kept(self.start_samples).quantile(0.5)

    @cached_property
    def finish_p50(self) -> Floats:
        """P50 finish of each activity, shape (n,); NaN of what is left out."""
        return _kept(self.finish_samples).quantile(0.5)


def _kept(samples: Samples | None) -> Samples:
    if samples is None:
        raise PlanError("the samples of the activities were not kept; simulate with keep=True")
    return samples


def simulate(
    problem: Problem,
    arcs: ResourceArcs,
    *,
    samples: int,
    rng: np.random.Generator,
    now: float = 0.0,
    started: Floats | None = None,
    finished: Floats | None = None,
    left_out: Bools | None = None,
    release: Floats | None = None,
    limits: Floats | None = None,
    keep: bool = False,
    criticality: bool = False,
    network: Network | None = None,
) -> Simulation:
    """`samples` scenarios of what is left of a run at `now`.

    Durations are beta-PERT, or certain where they are one number. An activity
    starts when its predecessors over `arcs` and the problem's own have ended, not
    before `now` nor its `release`. `started` and `finished` (NaN: not yet) fix what
    has happened; what runs is conditioned on the time that it has taken, and past
    its support it is forecast to end now. Who overtook keeps its units: its
    resource arcs are turned round. `left_out` activities take no time and nothing
    waits for them.

    `limits` (inf: none) asks for P(finish > limit), `keep` for the samples of all
    activities (4 bytes each, twice), `criticality` for criticality indices
    (Dodin, Elmaghraby 1985). `network` saves building the problem's with `arcs`.
    Raises PlanError where a duration is not known or there are no scenarios.
    """
    if samples < 1:
        raise PlanError(f"{samples} samples; at least one is needed")
    _require_durations(problem, left_out, finished)
    at = Situation.of(
        problem,
        arcs,
        now=now,
        started=started,
        finished=finished,
        left_out=left_out,
        release=release,
        network=network,
    )
    return _Run(at, samples, rng, limits, keep, criticality).result()


def _require_durations(problem: Problem, left_out: Bools | None, finished: Floats | None) -> None:
    if not problem.unknown:
        return
    needed = np.isnan(problem.durations)
    if left_out is not None:
        needed &= ~left_out
    if finished is not None:
        needed &= np.isnan(finished)
    if needed.any():
        problem.require_durations()


class _Step(NamedTuple):
    """How the start of one row follows from others; seconds from the present."""

    row: int
    sources: list[tuple[int, float]]
    """The rows that it waits for, and the lags after them."""
    floor: float | None
    """What the start is never before; None where the sources see to that."""


class _Run:
    """One simulation."""

    def __init__(
        self,
        at: Situation,
        samples: int,
        rng: np.random.Generator,
        limits: Floats | None,
        keep: bool,
        criticality: bool,
    ) -> None:
        self.at = at
        self.samples = samples
        self.rng = rng
        self.limits = limits
        # A criticality index needs all rows: nothing may be taken for constant.
        self.all_rows = criticality
        self.uncertain = np.flatnonzero(at.problem.uncertain)
        self.nodes = self._rows()
        self.row_of = np.full(len(at.problem), -1, dtype=np.int64)
        self.row_of[self.nodes] = np.arange(len(self.nodes))
        self.steps = self._steps()
        self.width = min(samples, max(1, CELLS // max(1, len(self.nodes))))
        self.finishes: Singles | None = self._matrix(samples) if keep else None
        self.starts: Singles | None = self._matrix(samples) if keep else None
        self.critical = np.zeros(len(self.nodes)) if criticality else None

    def _matrix(self, columns: int) -> Singles:
        return np.empty((len(self.nodes), columns), dtype=np.float32)

    def _rows(self) -> Ints:
        """The activities that get a row: first those that draw, in the order of their draws."""
        rows: Bools = ~self.at.left_out if self.all_rows else self.at.varying
        drawing = rows & self.at.uncertain
        return np.concatenate((np.flatnonzero(drawing), np.flatnonzero(rows & ~drawing)))

    def _steps(self) -> list[_Step]:
        """What to reckon, in topological order; arcs that never bind are left out."""
        at, network = self.at, self.at.network
        has_row = self.row_of >= 0
        heads, tails = network.heads, network.pred
        binding = has_row[heads] & has_row[tails] & (at.lag > NEVER)
        if not self.all_rows:
            binding &= at.most[tails] + at.lag > at.least_start[heads]
        arcs = np.flatnonzero(binding)
        first = np.searchsorted(heads[arcs], np.arange(len(at.problem) + 1))
        some = np.flatnonzero(np.diff(first))
        surely = np.full(len(at.problem), NEVER)
        if some.size:
            reached = at.least[tails[arcs]] + at.lag[arcs]
            surely[some] = np.maximum.reduceat(reached, first[some])
        covered: list[bool] = (surely >= at.least_start).tolist()
        floors: list[float] = (at.least_start - at.now).tolist()
        sources = list(zip(self.row_of[tails[arcs]].tolist(), at.lag[arcs].tolist(), strict=True))
        begin, rows = first.tolist(), self.row_of.tolist()
        return [
            _Step(rows[i], sources[begin[i] : begin[i + 1]], None if covered[i] else floors[i])
            for i in network.order[has_row[network.order]].tolist()
        ]

    def result(self) -> Simulation:
        at = self.at
        late = None if self.limits is None else _Lateness(at, self.nodes, self.limits)
        makespans = np.empty(self.samples)
        end = _End(at, self.row_of)
        for columns in self._chunks():
            size = columns.stop - columns.start
            rows = self._matrix(size) if self.finishes is None else self.finishes[:, columns]
            starts = None if self.starts is None else self.starts[:, columns]
            self._draw(rows)
            _propagate(self.steps, rows, starts)
            makespans[columns] = end.of(rows)
            if late:
                late.count(rows)
            if self.critical is not None:
                self.critical += _critical(self.steps, rows, end)
        makespans.sort()
        return Simulation(
            makespans=makespans,
            late=None if late is None else late.share(self.samples),
            criticality=self._criticality(),
            start_samples=self._kept(self.starts, at.least_start),
            finish_samples=self._kept(self.finishes, at.least),
        )

    def _chunks(self) -> Iterator[slice]:
        for first in range(0, self.samples, self.width):
            yield slice(first, min(first + self.width, self.samples))

    def _draw(self, rows: Singles) -> None:
        """Fill `rows` with durations."""
        at, size = self.at, rows.shape[1]
        drawn = 0
        offsets = (np.arange(BLOCK) * LEVELS)[:, None]
        for first in range(0, len(self.uncertain), BLOCK):
            block = self.uncertain[first : first + BLOCK]
            # All draw, also those that are over: see above.
            luck = np.frombuffer(self.rng.bytes(2 * len(block) * size), dtype="<u2")
            codes = luck.reshape(len(block), size) % LEVELS
            wanted = (self.row_of[block] >= 0) & at.uncertain[block]
            if not wanted.any():
                continue
            if not wanted.all():
                block, codes = block[wanted], codes[wanted]
            tables = self._tables(block)
            places = codes + offsets[: len(block)]
            np.take(tables.ravel(), places, out=rows[drawn : drawn + len(block)], mode="clip")
            drawn += len(block)
        rows[drawn:] = at.durations[self.nodes[drawn:], None]

    def _tables(self, block: Ints) -> Singles:
        tables = single_rows(self.at.problem.estimates[block])
        for k, i in enumerate(block.tolist() if self.at.remaining else ()):
            if i in self.at.remaining:
                tables[k] = self.at.remaining[i]
        return tables

    def _kept(self, rows: Singles | None, certain: Floats) -> Samples | None:
        if rows is None:
            return None
        moments = np.where(self.at.left_out, np.nan, certain)
        return Samples(certain=moments, nodes=self.nodes, origin=self.at.now, varying=rows)

    def _criticality(self) -> Floats | None:
        if self.critical is None:
            return None
        index = np.full(len(self.at.problem), np.nan)
        index[self.nodes] = self.critical / self.samples
        return index


def _propagate(steps: list[_Step], matrix: Singles, kept: Singles | None) -> None:
    """Durations become finishes, in place."""
    rows = list(matrix)
    starts = None if kept is None else list(kept)
    one, two = np.empty((2, matrix.shape[1]), dtype=np.float32)
    for step in steps:
        place = step[0]
        start = _start(step, rows, one, two)
        if starts is not None:
            starts[place][:] = start
        row = rows[place]
        np.add(row, start, row)


def _start(step: _Step, rows: list[Singles], one: Singles, two: Singles) -> Singles | np.float32:
    """Starts of one activity, from the present; `one` and `two` are scratch rows."""
    start: Singles | None = None
    _, sources, floor = step
    for source, lag in sources:
        reached = rows[source]
        if lag:
            reached = np.add(reached, lag, out=one if start is None else two)
        start = reached if start is None else np.maximum(start, reached, out=one)
    if start is None:
        return np.float32(floor or 0.0)
    return start if floor is None else np.maximum(start, floor, out=one)


class _End:
    """The finish of all, from the activities that may be the last one."""

    def __init__(self, at: Situation, row_of: Ints) -> None:
        ends = np.flatnonzero(at.ends)
        self.now = at.now
        self.floor = float(at.least[ends].max(initial=0.0))
        last = ends[(row_of[ends] >= 0) & (at.most[ends] >= self.floor)]
        self.rows: list[int] = row_of[last].tolist()
        self.varies = bool((at.most[ends] > self.floor).any())

    def moments(self, rows: Singles) -> Singles:
        """Of each scenario, from the present."""
        result = np.full(rows.shape[1], self.floor - self.now, dtype=np.float32)
        for row in self.rows:
            np.maximum(result, rows[row], out=result)
        return result

    def of(self, rows: Singles) -> Floats:
        """Finish of all in each scenario, in seconds from the start of the run."""
        if not self.varies:
            return np.full(rows.shape[1], self.floor)
        result: Floats = self.now + self.moments(rows).astype(np.float64)
        return result


class _Lateness:
    """In how many scenarios each activity passes its limit."""

    def __init__(self, at: Situation, nodes: Ints, limits: Floats) -> None:
        if limits.shape != at.least.shape:
            raise PlanError(f"{len(at.problem)} activities, but limits of shape {limits.shape}")
        last = limits + TOLERANCE
        self.result = np.where(at.least > last, 1.0, 0.0)
        self.result[at.left_out] = np.nan
        rows = np.flatnonzero((at.least[nodes] <= last[nodes]) & (last[nodes] < at.most[nodes]))
        self.nodes, self.rows = nodes[rows], rows
        self.margins = (last[self.nodes] - at.now).astype(np.float32)[:, None]
        self.hits = np.zeros(len(rows), dtype=np.int64)

    def count(self, rows: Singles) -> None:
        """Take in the finishes of more scenarios."""
        for first in range(0, len(self.rows), BLOCK):
            block = slice(first, first + BLOCK)
            late = rows[self.rows[block]] > self.margins[block]
            self.hits[block] += np.count_nonzero(late, axis=1)

    def share(self, samples: int) -> Floats:
        """P(finish > limit), shape (n,)."""
        self.result[self.nodes] = self.hits / samples
        return self.result


def _critical(steps: list[_Step], matrix: Singles, end: _End) -> Ints:
    """In how many scenarios each row is on a longest path."""
    rows = list(matrix)
    on_path = np.zeros(matrix.shape, dtype=np.bool_)
    last = end.moments(matrix)
    for row in end.rows:
        np.equal(rows[row], last, out=on_path[row])
    one, two = np.empty((2, matrix.shape[1]), dtype=np.float32)
    for step in reversed(steps):
        place, sources, _ = step
        if sources and on_path[place].any():
            start = _start(step, rows, one, two)
            for source, lag in sources:
                on_path[source] |= on_path[place] & (rows[source] + np.float32(lag) == start)
    hits: Ints = on_path.sum(axis=1)
    return hits

"""Seeded Monte Carlo on a schedule's partial order: when a run will be over, and how sure that is.

Times are in seconds from the start of the run. All samples are deviations, in
float32, from one reference run that is reckoned in float64: what is certain is
exact, and what is not loses nothing to the length of the run. An activity whose
duration is not one number draws in each scenario one of the quantiles of its
distribution. It draws whatever its state, so that equal seeds give equal luck
(common random numbers): two forecasts differ by what has happened, not by chance.
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
from athena_prefect.schedule.beta_pert import LEVELS, deviation_rows
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

    constant: Floats
    """The moment where it is certain, and what `deviations` are added to, shape (n,)."""
    nodes: Ints
    """The activities whose moment varies."""
    deviations: Singles
    """Shape (nodes, samples)."""

    def of(self, activity: int) -> Floats:
        """All samples of one activity, shape (samples,), in the order of the scenarios."""
        row = np.flatnonzero(self.nodes == activity)
        size = self.deviations.shape[1]
        if not row.size:
            return np.full(size, self.constant[activity])
        result: Floats = self.constant[activity] + self.deviations[row[0]].astype(np.float64)
        return result

    def quantile(self, q: float) -> Floats:
        """The quantile of each activity, shape (n,)."""
        result = self.constant.copy()
        if self.nodes.size:
            result[self.nodes] += np.quantile(self.deviations, q, axis=1)
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
    """How the start of one varying activity follows from others, all as deviations."""

    row: int
    sources: list[tuple[int, float]]
    """Rows, and by how much each is before the start in the reference run."""
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
        heads, tails, slack = network.heads, network.pred, at.slack
        floor = at.least_start
        binding = has_row[heads] & has_row[tails] & (at.lag > NEVER)
        if not self.all_rows:
            binding &= at.most[tails] - slack > floor[heads]
        arcs = np.flatnonzero(binding)
        sure = np.full(len(at.problem), NEVER)
        np.maximum.at(sure, heads[arcs], at.least[tails[arcs]] - slack[arcs])
        covered: list[bool] = (sure >= floor).tolist()
        begin = np.searchsorted(heads[arcs], np.arange(len(at.problem) + 1)).tolist()
        sources = list(zip(self.row_of[tails[arcs]].tolist(), slack[arcs].tolist(), strict=True))
        floors, rows = floor.tolist(), self.row_of.tolist()
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
            start_samples=self._kept(self.starts, at.starts + at.least_start),
            finish_samples=self._kept(self.finishes, at.finishes + at.least),
        )

    def _chunks(self) -> Iterator[slice]:
        for first in range(0, self.samples, self.width):
            yield slice(first, min(first + self.width, self.samples))

    def _draw(self, rows: Singles) -> None:
        """Fill `rows` with the deviations of durations from the reference run."""
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
        rows[drawn:] = 0.0

    def _tables(self, block: Ints) -> Singles:
        at = self.at
        tables = deviation_rows(at.problem.estimates[block], at.durations[block])
        for k, i in enumerate(block.tolist()):
            if i in at.remaining:
                tables[k] = at.remaining[i] - at.durations[i]
        return tables

    def _kept(self, rows: Singles | None, constant: Floats) -> Samples | None:
        if rows is None:
            return None
        reference = self.at.starts if rows is self.starts else self.at.finishes
        base = constant.copy()
        base[self.nodes] = reference[self.nodes]
        base[self.at.left_out] = np.nan
        return Samples(constant=base, nodes=self.nodes, deviations=rows)

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
        row = rows[step.row]
        start = _start(step, rows, one, two)
        if starts is not None:
            starts[step.row][:] = start
        np.add(row, start, out=row)


def _start(step: _Step, rows: list[Singles], one: Singles, two: Singles) -> Singles | float:
    """Deviations of a start; `one` and `two` are scratch rows."""
    start: Singles | None = None
    for source, slack in step.sources:
        reached = rows[source]
        if slack:
            reached = np.subtract(reached, slack, out=one if start is None else two)
        start = reached if start is None else np.maximum(start, reached, out=one)
    if start is None:
        return step.floor or 0.0
    return start if step.floor is None else np.maximum(start, step.floor, out=one)


class _End:
    """The finish of all, from the activities that may be the last one."""

    def __init__(self, at: Situation, row_of: Ints) -> None:
        ends = np.flatnonzero(at.ends)
        self.reference = float(at.finishes[ends].max(initial=0.0))
        surely = float((at.finishes[ends] + at.least[ends]).max(initial=0.0))
        self.floor = surely - self.reference
        last = ends[(row_of[ends] >= 0) & (at.finishes[ends] + at.most[ends] >= surely)]
        self.rows = list(
            zip(
                row_of[last].tolist(),
                (self.reference - at.finishes[last]).tolist(),
                strict=True,
            )
        )

    def deviations(self, rows: Singles) -> Singles:
        """Of each scenario, from the reference run's end."""
        result = np.full(rows.shape[1], self.floor, dtype=np.float32)
        for row, slack in self.rows:
            np.maximum(result, rows[row] - slack, out=result)
        return result

    def of(self, rows: Singles) -> Floats:
        """Finish of all in each scenario, in seconds from the start of the run."""
        if not self.rows:
            return np.full(rows.shape[1], self.reference + self.floor)
        result: Floats = self.reference + self.deviations(rows).astype(np.float64)
        return result


class _Lateness:
    """In how many scenarios each activity passes its limit."""

    def __init__(self, at: Situation, nodes: Ints, limits: Floats) -> None:
        if limits.shape != at.finishes.shape:
            raise PlanError(f"{len(at.problem)} activities, but limits of shape {limits.shape}")
        margin = limits + TOLERANCE - at.finishes
        self.result = np.where(at.least > margin, 1.0, 0.0)
        self.result[at.left_out] = np.nan
        open_ = (at.least[nodes] <= margin[nodes]) & (margin[nodes] < at.most[nodes])
        rows = np.flatnonzero(open_)
        self.nodes = nodes[rows]
        self.rows = rows
        self.margins = margin[self.nodes].astype(np.float32)[:, None]
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
    last = end.deviations(matrix)
    for row, slack in end.rows:
        np.equal(rows[row] - slack, last, out=on_path[row])
    one, two = np.empty((2, matrix.shape[1]), dtype=np.float32)
    for step in reversed(steps):
        if step.sources and on_path[step.row].any():
            start = _start(step, rows, one, two)
            for source, slack in step.sources:
                on_path[source] |= on_path[step.row] & (rows[source] - slack == start)
    hits: Ints = on_path.sum(axis=1)
    return hits

"""What a revision claims: when each piece of work is to run, and under what."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from athena_prefect.plan.estimate import Estimate
from athena_prefect.plan.model import Plan

Item = tuple[str, int | None]
"""A task, or one item of a mapped task: (task id, map index)."""
Span = tuple[float, float]

MARGIN = 1e-6
"""Seconds by which times may be off without being wrong: the least that a plan can say.

Floats of seconds are that exact up to 10⁹, three decades from the start of a run.
"""
SHARE = 1e-8
"""Share of a capacity, of one unit at least, by which sums of amounts may be off."""
RUNNER = "(runner)"


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
    again: Mapping[str, Collection[str]] = field(default_factory=dict)
    """Failed task that is done again → the modes in which it may: of mapped ones what has ended
    well stays as it is, and the rest begins anew."""
    items: Mapping[str, int] = field(default_factory=dict)
    """Items of mapped tasks, where they are known; as many as the plan expects elsewhere."""
    only_mode: Mapping[str, str] = field(default_factory=dict)
    barred: Mapping[str, Collection[str]] = field(default_factory=dict)
    """Task → modes that somebody does not want it done in."""
    pinned: Mapping[str, str] = field(default_factory=dict)
    """Task that somebody wants left as it is → the mode that it was planned in."""
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

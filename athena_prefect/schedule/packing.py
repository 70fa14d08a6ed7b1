"""Amounts of all resources in one integer, so that one subtraction asks whether all suffice.

Each resource has a field of bits, with one guard bit on top that is set in what
is free. Subtracting a demand that does not fit takes the guard away.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import lcm

import numpy as np

from athena_prefect.plan.graph import Floats, Ints
from athena_prefect.schedule.problem import slack_of

FINEST = 1_000_000
"""Parts of a unit that amounts are told apart by; what is finer is rounded against the user."""


def scale_of(amounts: Floats) -> int:
    """The least number of parts a unit in which all amounts are whole, at most `FINEST`."""
    found = np.unique(amounts)
    if (found == np.floor(found)).all():
        return 1
    scale = 1
    for amount in found.tolist():
        scale = lcm(scale, Fraction(repr(amount)).limit_denominator(FINEST).denominator)
        if scale > FINEST:
            return FINEST
    return scale


def whole(amounts: Floats, scale: int, *, up: bool) -> Ints:
    """Amounts in parts: demands are rounded up, capacities down, but for rounding dust."""
    parts = amounts * scale
    dust = slack_of(np.abs(parts)) * 100
    rounded = np.ceil(parts - dust) if up else np.floor(parts + dust)
    result: Ints = rounded.astype(np.int64)
    return result


@dataclass(frozen=True, slots=True)
class Packing:
    """Where each resource's field is."""

    shifts: tuple[int, ...]
    guards: int
    """All guard bits."""

    @classmethod
    def of(cls, most: Ints) -> Packing:
        """Fields that hold up to `most` parts of each resource."""
        shifts, at, guards = [], 0, 0
        for amount in most.tolist():
            width = int(amount).bit_length()
            shifts.append(at)
            guards |= 1 << (at + width)
            at += width + 1
        return cls(tuple(shifts), guards)

    def packed(self, amounts: Ints) -> list[int]:
        """Each row of amounts (shape (n, resources)) in one integer, without guards."""
        if not self.shifts:
            return [0] * len(amounts)
        total = [0] * len(amounts)
        for column, shift in zip(amounts.T.tolist(), self.shifts, strict=True):
            total = [t + (a << shift) for t, a in zip(total, column, strict=True)]
        return total

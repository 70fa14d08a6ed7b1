"""Findings before they are patterns: an effect, its error, and the tests that it was one of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from athena_prefect.learning.policy import LearningPolicy
from athena_prefect.learning.results import PatternKind, SubjectKind
from athena_prefect.learning.statistics import corrected, student_quantile, student_upper

Tasks = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """An effect that passed the tests of its own family, on the scale of its test."""

    kind: PatternKind
    subject: str
    subject_kind: SubjectKind
    tasks: Tasks
    """Codes of the tasks that it is about."""
    effect: float
    error: float
    """Standard error of `effect`."""
    freedom: float
    p: float
    samples: int
    runs: int
    least: float
    """Size of an effect, on the same scale, that is worth telling."""
    beside: str = ""
    logarithmic: bool = False
    """Whether `effect` is the logarithm of a factor."""
    data: Mapping[str, Any] = field(default_factory=dict)
    size: float | None = None
    """Where it is not `effect` itself, nor its factor less 1; with `interval`."""
    interval: tuple[float, float] | None = None
    unit: str = ""
    confidence: float | None = None
    """Where it does not follow from effect, error and freedom."""

    def confident(self) -> float:
        """P(the true effect is in this direction and at least `least`), by Student's t."""
        if self.confidence is not None:
            return self.confidence
        return float(student_upper((self.least - abs(self.effect)) / self.error, self.freedom))

    def sized(self, policy: LearningPolicy) -> tuple[float, tuple[float, float]]:
        """Size and its interval, in the pattern's unit."""
        if self.size is not None and self.interval is not None:
            return self.size, self.interval
        reach = self.error * student_quantile(0.5 + policy.interval_level / 2, self.freedom)
        ends = np.array([self.effect, self.effect - reach, self.effect + reach])
        if self.logarithmic:
            ends = np.expm1(ends)
        size, low, high = (float(v) for v in ends)
        return size, (low, high)


@dataclass(slots=True)
class Family:
    """Findings of one kind of test, with the p-values of all tests of the kind."""

    findings: list[Finding] = field(default_factory=list)
    others: list[float] = field(default_factory=list)
    """p-values of the tests that found nothing."""

    def add(self, other: Family) -> None:
        """Take in another family."""
        self.findings += other.findings
        self.others += other.others


def significant(families: Sequence[Family], policy: LearningPolicy) -> list[tuple[Finding, float]]:
    """The findings that stand after correction for all tests, each with its corrected p.

    Within each family by the policy's method, and by Bonferroni's (1936) for the number
    of families: so a kind of many tests does not hide what another kind found.
    """
    found: list[tuple[Finding, float]] = []
    for family in families:
        p = np.array([*(f.p for f in family.findings), *family.others])
        fixed = np.minimum(policy.kinds * corrected(p, policy.correction), 1.0).tolist()
        found += [pair for pair in zip(family.findings, fixed, strict=False)]
    return [(finding, p) for finding, p in found if p <= policy.level]

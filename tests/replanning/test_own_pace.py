"""Promises of a run without history: what its own tasks say of the estimates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest

from athena_prefect.monitor.knowledge import ODDITIES, SCALES, SHARED
from athena_prefect.plan.model import Estimate, Plan
from athena_prefect.replanning.evaluation import AdaptiveReplanning
from athena_prefect.replanning.options import Kind, ReplanningOption
from athena_prefect.replanning.own_pace import _paces
from athena_prefect.replanning.pace_law import (
    STRAY,
    Law,
    Paces,
    Running,
    beliefs_of,
    below,
    drawn,
    evidence,
    point,
)
from athena_prefect.schedule.beta_pert import quantile_rows
from tests.replanning.test_engine import _do, _engine, _monitored


def told(*ratios: float, category: Sequence[int] = (), categories: int = 2) -> Paces:
    """Tasks that took so many times as long as planned, give or take 10 %."""
    return Paces(
        categories=tuple(f"c{k}" for k in range(categories)),
        category=np.array(category or [0] * len(ratios), dtype=np.int64),
        ratio=np.log(np.array(ratios)),
        spread=np.full(len(ratios), 0.1),
    )


def theta(paces: Paces, trust: float = 0.8) -> np.ndarray:
    return drawn(paces, trust, 2000, np.random.default_rng(0)).theta


def test_tasks_that_take_what_was_planned_leave_the_estimates_as_they_are() -> None:
    found = theta(told(1.0, 1.05, 0.95, 1.0, 1.1, category=[0, 1, 0, 1, 0]))
    assert (found == 0).all(axis=1).mean() > 0.8, "more than before they had ended"
    assert np.abs(np.quantile(found, (0.1, 0.9))).max() < 0.05


def test_a_category_that_is_slow_is_slow_and_others_are_half_as_much() -> None:
    found = theta(told(1.5, 1.6, 1.5, 1.4))
    slow, unseen = np.median(found, axis=0)
    assert slow == pytest.approx(np.log(1.5), abs=0.06)
    assert 0.1 < unseen < 0.3
    fast = np.median(theta(told(0.66, 0.64, 0.68)), axis=0)
    assert fast[0] == pytest.approx(np.log(0.66), abs=0.08)


def test_one_task_with_troubles_of_its_own_says_nothing_of_the_rest() -> None:
    others = [1.0, 1.05, 0.95, 1.0, 1.1, 0.98]
    found = theta(told(*others, 3.0))
    assert np.abs(np.median(found, axis=0)).max() < 0.03


def test_who_trusts_estimates_is_told_nothing() -> None:
    assert (theta(told(2.0, 2.0), trust=1.0) == 0).all()


def test_categories_of_which_nothing_has_ended_are_drawn_as_a_dense_matrix_would() -> None:
    # Of four categories two have ended tasks; all four by the textbook (conditional normals).
    ended, sure = told(1.5, 1.4, 0.9, category=[0, 0, 2], categories=4), np.array([1.0, 0.7, 0.9])
    few = told(1.5, 1.4, 0.9, category=[0, 0, 1], categories=2)
    place = np.array([0, 2, 1, 2])  # where a belief about `few` has each of the four
    look = np.eye(4)[ended.category]
    found, reckoned = beliefs_of(few, sure, 0.8), evidence(few, sure, 0.8)
    said = np.flatnonzero(found.spread == 0)
    for b, spread in zip(said.tolist(), (0.0, *ODDITIES.tolist()), strict=True):
        prior = spread**2 * ((1 - SHARED) * np.eye(4) + SHARED)
        gain = (
            prior @ look.T @ np.linalg.inv(look @ prior @ look.T + np.diag(ended.spread**2 / sure))
        )
        cov = prior - gain @ look @ prior
        mine = (
            found.cov[b][np.ix_(place, place)] + np.diag([0.0, 1.0, 0.0, 1.0]) * found.own[b] ** 2
        )
        assert found.centre[b][place] == pytest.approx(gain @ ended.ratio, abs=1e-9)
        assert mine == pytest.approx(cov, abs=1e-9)
        for c in range(3):
            centre, known = reckoned.of(c)
            assert centre[b] == pytest.approx(found.centre[b][c], abs=1e-9)
            assert known[b] == pytest.approx(found.cov[b][c, c], abs=1e-9)
    each = theta(ended)
    assert np.corrcoef(each[:, 1], each[:, 3])[0, 1] > 0.2, "they have in common what all have"


def test_thousands_of_categories_are_drawn_without_a_matrix_of_them_all() -> None:
    many = told(1.5, 1.5, 1.5, 1.5, category=[0, 1, 2, 3], categories=20_000)
    found = drawn(many, 0.8, 50, np.random.default_rng(0))  # a matrix of them all: 3.2 GB
    assert found.theta.shape == (50, 20_000)


def test_each_pair_of_spreads_is_as_likely_as_the_textbook_says() -> None:
    few, sure = told(1.5, 1.4, 0.9, 1.1, category=[0, 0, 1, 1]), np.ones(4)
    found, look = evidence(few, sure, 0.8), np.eye(2)[few.category]
    logs = []
    for spread in (0.0, *ODDITIES.tolist()):
        for own in (0.0, *SCALES.tolist()):
            own = own or 0.1
            prior = spread**2 * ((1 - SHARED) * np.eye(2) + SHARED)
            cov = look @ prior @ look.T + own**2 * np.eye(4)
            log = -0.5 * (few.ratio @ np.linalg.solve(cov, few.ratio) + np.linalg.slogdet(cov)[1])
            logs.append(log + np.log(0.8 if spread == 0 else 0.2 / len(ODDITIES)))
            logs[-1] += np.log(0.8 if own == 0.1 else 0.2 / len(SCALES))
    shares = np.exp(np.array(logs) - max(logs))
    assert found.probability == pytest.approx(shares / shares.sum(), abs=1e-9)


def test_tasks_that_differ_more_than_their_estimates_say_make_others_differ_as_much() -> None:
    rng = np.random.default_rng(1)
    alike = drawn(told(*np.exp(rng.normal(0, 0.1, 20))), 0.8, 2000, rng)
    unlike = drawn(told(*np.exp(rng.normal(0, 0.4, 20))), 0.8, 2000, rng)
    assert (alike.spread <= 0.16).all() and (alike.spread == 0).mean() > 0.5, "10 %, as they say"
    assert (unlike.spread == 0).mean() < 0.05 and np.median(unlike.spread) == 0.32
    three = np.array([[80.0, 100.0, 130.0]])
    narrow, wide = (law.durations(three, np.array([0]), rng)[0] for law in (alike, unlike))
    assert np.log(wide).std() > 2 * np.log(narrow).std()


def _running(elapsed: float) -> Running:
    three = np.array([80.0, 100.0, 120.0])
    return Running(elapsed, 0, 100.0, quantile_rows(three[None])[0])


def _law(theta: np.ndarray, spread: float = 0.0) -> Law:
    rows = np.repeat(theta[:, None], 1000, axis=0)
    return Law(theta=rows, spread=np.full(len(rows), spread), stray=0.1)


def test_what_runs_longer_than_planned_tells_of_the_pace_before_it_has_ended() -> None:
    law = _law(np.log([1.0, 1.5]))
    rng = np.random.default_rng(0)
    early, late = law.given([_running(50.0)], rng), law.given([_running(118.0)], rng)
    assert np.mean(early.theta > 0) == pytest.approx(0.5, abs=0.02)
    # At the planned pace only a stray lasts so long: one in ten, and of those two in five.
    odd = 0.1 * (1 - float(below(np.array(np.log(1.18) / STRAY))))
    slow = 1 - 0.1 + 0.1 * (1 - float(below(np.array(np.log(1.18 / 1.5) / STRAY))))
    assert np.mean(late.theta > 0) == pytest.approx(slow / (slow + odd), abs=0.03)


def test_what_no_pace_explains_is_a_stray_that_may_last_as_strays_do() -> None:
    found = _law(np.zeros(1)).beyond(_running(240.0), np.random.default_rng(0))
    assert found.min() >= 240
    # Beyond the support: the log-normal law of strays, given that it is longer than 240 s.
    rest = 1 - below(np.array(np.log(2.4) / STRAY))
    middle = 100 * np.exp(STRAY * float(point(np.array(1 - rest / 2))))
    assert np.median(found) == pytest.approx(middle, rel=0.08)
    usual = _law(np.zeros(1)).beyond(_running(0.0), np.random.default_rng(0))
    assert np.median(usual) == pytest.approx(100, rel=0.03)


def test_the_normal_table_is_that_of_the_distribution() -> None:
    points = np.array([-2.0, 0.0, 1.2815515655])
    assert below(points) == pytest.approx([0.0227501319, 0.5, 0.9], abs=1e-6)
    assert point(below(points)) == pytest.approx(points, abs=1e-4)


def test_an_overdue_task_is_not_promised_to_end_at_once() -> None:
    monitor, clock = _monitored(_document(spread=True, trust=None))
    for k in range(3):
        _do(monitor, clock, f"t{k}", 100.0)
    monitor.record_task_start("t3", clock.now(), {})
    clock.advance(timedelta(seconds=250))
    options = _engine(monitor).get_replanning_options(
        monitor.get_plan_deviation(), [], strategy=AdaptiveReplanning.FULL
    )
    found = next(o for o in options if o.kind is Kind.EXTEND)
    assert found.finish is not None and found.accepted_finish is not None
    left = (found.finish - clock.now()).total_seconds()
    assert left > 400 + 50, "four tasks of 100 s, and what is left of one that takes 2.5 times"
    assert (found.accepted_finish - found.finish).total_seconds() > 100


def _document(*, spread: bool, trust: float | None) -> Plan:
    three = {"optimistic": 80, "likely": 100, "pessimistic": 120}
    duration = three if spread else 100
    policy = {} if trust is None else {"policy": {"estimates_trusted": trust}}
    return Plan.model_validate(
        {
            "name": "p",
            "deadline": 1200,
            "tasks": [
                {"id": f"t{k}", "duration": duration, "category": "c",
                 "depends_on": [f"t{k - 1}"] if k else []}
                for k in range(8)
            ],
            "replanning": {"cooldown": 0, **policy},
        }
    )  # fmt: skip


def _extended(*, spread: bool = True, trust: float | None = None) -> ReplanningOption:
    """What is promised after three tasks of eight took 1.5 times as long as planned."""
    monitor, clock = _monitored(_document(spread=spread, trust=trust))
    for k in range(3):
        _do(monitor, clock, f"t{k}", 150.0)
    options = _engine(monitor).get_replanning_options(
        monitor.get_plan_deviation(), [], strategy=AdaptiveReplanning.FULL
    )
    return next(o for o in options if o.kind is Kind.EXTEND)


def test_a_promise_goes_by_the_pace_of_the_run_and_slip_by_the_forecast() -> None:
    own, plan = _extended(), _extended(trust=1.0)
    assert own.accepted_finish is not None and plan.accepted_finish is not None
    assert own.finish is not None and plan.finish is not None
    later = (own.finish - plan.finish).total_seconds()
    assert 150 < later < 300, "five tasks of 100 s, each some 50 s longer"
    assert own.accepted_finish > own.finish
    assert own.in_time < plan.in_time
    assert own.proposal is not None and own.proposal.robustness is not None
    robust = own.proposal.robustness
    assert robust.probability(robust.accepted) == pytest.approx(0.9, abs=0.01)
    assert plan.proposal is not None and plan.proposal.robustness is not None
    assert robust.forecast_p50 == plan.proposal.robustness.p50


def test_what_lessons_say_already_is_no_pace_of_the_run() -> None:
    proposal = _extended().proposal
    assert proposal is not None
    standing = proposal.standing
    assert np.exp(_paces(standing).ratio) == pytest.approx(1.5)
    learned = Estimate(
        optimistic=timedelta(seconds=120), likely=timedelta(seconds=150),
        pessimistic=timedelta(seconds=180),
    )  # fmt: skip
    informed = replace(standing, estimates={t.id: learned for t in standing.plan.tasks})
    assert np.exp(_paces(informed).ratio) == pytest.approx(1.0)


def test_one_number_is_certain_whatever_others_took() -> None:
    own, plan = _extended(spread=False), _extended(spread=False, trust=1.0)
    assert own.accepted_finish == plan.accepted_finish == own.finish
    assert own.samples == 1

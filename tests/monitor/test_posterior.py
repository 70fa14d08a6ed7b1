"""What finished runs and the run so far say of durations: laws of the posterior."""

from __future__ import annotations

import numpy as np
import pytest

from athena_prefect.monitor.history import History, PastRun, PastTask
from athena_prefect.monitor.knowledge import Knowledge
from athena_prefect.monitor.posterior import Posterior
from athena_prefect.monitor.rest import Work, scenarios
from athena_prefect.plan.graph import Floats, Network

NEVER = np.nan


def past(key: str, durations: Floats, plan: str = "p", category: str = "c") -> PastRun:
    """A run of equal tasks, planned to take 10 s each, all at once."""
    return PastRun(
        key=key,
        plan=plan,
        tasks=[
            PastTask(id=str(k), category=category, planned=10.0, actual=float(d), started=0.0)
            for k, d in enumerate(durations)
        ],
    )


def work(start: Floats, finish: Floats, now: float, plan: str = "p", category: str = "c") -> Work:
    """Tasks that wait for none, planned to take 10 s each."""
    count = len(start)
    return Work(
        plan=plan,
        network=Network.build([str(k) for k in range(count)], [], []),
        categories=(category,),
        category=np.zeros(count, dtype=np.int64),
        planned=np.full(count, 10.0),
        start=start,
        finish=finish,
        now=now,
        slots=np.inf,
        instant=np.zeros(count, dtype=np.bool_),
    )


def two_sorts(runs: int, rng: np.random.Generator) -> History:
    """A third of the tasks take eight times as long as the others."""
    return History.of(
        past(
            str(r),
            10 * np.where(rng.random(60) < 1 / 3, 8.0, 1.0) * np.exp(rng.normal(0, 0.03, 60)),
        )
        for r in range(runs)
    )


def lengths(history: History, now: Work, plan: str = "p") -> Floats:
    return scenarios(Knowledge(history, plan), now, 400, np.random.default_rng(0)).lengths


def test_residuals_have_the_shape_that_they_had() -> None:
    """Of two sorts there is nothing in between, which a bell would be fullest of."""
    history = two_sorts(8, np.random.default_rng(0))
    none = np.full(20, NEVER)
    drawn = lengths(history, work(none, none, 0.0))
    between = ((drawn > 20) & (drawn < 50)).mean()
    long = (drawn >= 50).mean()
    assert between < 0.1
    assert long == pytest.approx(1 / 3, abs=0.1)


def test_what_outran_the_short_sort_is_of_the_long_one() -> None:
    history = two_sorts(8, np.random.default_rng(1))
    start, finish = np.full(20, NEVER), np.full(20, NEVER)
    start[:10], finish[1:10] = 0.0, 10.0
    early = lengths(history, work(start, finish, 10.1))[0]
    later = lengths(history, work(start, finish, 30.0))[0]
    assert np.median(later) == pytest.approx(80, rel=0.15)
    assert (early >= 10.1).all() and (later >= 30.0).all()
    assert np.median(early) <= np.median(later)


def test_a_category_that_was_slow_so_far_is_slow_for_the_rest() -> None:
    rng = np.random.default_rng(2)
    history = History.of(
        past(str(r), 10 * np.exp(rng.normal(0, 0.4) + rng.normal(0, 0.1, 30))) for r in range(10)
    )
    medians = []
    for factor in (0.7, 1.0, 1.5):
        start, finish = np.full(30, NEVER), np.full(30, NEVER)
        start[:15] = 0.0
        finish[:15] = 10 * factor
        medians.append(float(np.median(lengths(history, work(start, finish, 20.0)))))
    assert medians == pytest.approx([7.0, 10.0, 15.0], rel=0.08)


def test_how_much_tasks_differ_is_a_thing_of_the_run() -> None:
    """Plans that are all alike inside, and ones that are not: a new one is one or the other.

    The slowest of hundreds tells which: drawn for each task anew, every run would hold some
    of the odd ones.
    """
    rng = np.random.default_rng(3)
    history = History.of(
        past(f"{plan}-{r}", 10 * np.exp(rng.normal(0, spread, 60)), f"plan {plan}", f"of {plan}")
        for plan, spread in enumerate((0.04, 0.04, 0.04, 1.2, 1.2, 1.2))
        for r in range(2)
    )
    none = np.full(300, NEVER)
    posterior = Posterior(
        Knowledge(history, "new"), work(none, none, 0.0, "new", "never seen").tasks
    )
    theta = np.zeros(4000)
    shape = posterior.shape(0, theta, np.random.default_rng(0))
    shares = np.bincount(shape, minlength=6) / len(shape)
    assert shares[:2].sum() > 0.25 and shares[-2:].sum() > 0.25
    drawn = lengths(history, work(none, none, 0.0, "new", "never seen"), "new")
    inside = np.log(drawn.max(axis=0) / np.median(drawn, axis=0))
    assert np.quantile(inside, 0.25) < 0.4, "a quarter of the scenarios has no odd ones"
    assert np.quantile(inside, 0.75) > 1.5, "another quarter has very odd ones"


def test_tasks_that_ended_tell_how_much_the_rest_differs() -> None:
    rng = np.random.default_rng(4)
    history = History.of(
        past(f"{plan}-{r}", 10 * np.exp(rng.normal(0, spread, 60)), f"plan {plan}", f"of {plan}")
        for plan, spread in enumerate((0.04, 0.04, 0.04, 1.2, 1.2, 1.2))
        for r in range(2)
    )
    start, finish = np.full(100, NEVER), np.full(100, NEVER)
    start[:20] = 0.0
    spreads = []
    for spread in (0.04, 1.2):
        finish[:20] = 10 * np.exp(rng.normal(0, spread, 20))
        now = work(start, finish, float(np.nanmax(finish)), "new", "never seen")
        spreads.append(float(np.log(lengths(history, now, "new")).std(axis=0).mean()))
    assert spreads[0] < 0.15 and spreads[1] > 0.6


def test_a_run_that_is_slower_than_all_before_is_so_in_categories_to_come() -> None:
    """Once several categories agree on it; one alone is thought to be odd itself."""
    rng = np.random.default_rng(5)
    names = tuple(f"c{k}" for k in range(6))
    history = History.of(
        PastRun(
            key=str(r),
            plan="p",
            tasks=[
                PastTask(
                    id=f"{name}-{k}",
                    category=name,
                    planned=10.0,
                    actual=float(10 * np.exp(rng.normal(0, 0.15))),
                    started=0.0,
                )
                for name in names
                for k in range(5)
            ],
        )
        for r in range(6)
    )
    slower = []
    for known in (1, 4):
        start = np.full(30, NEVER)
        start[: 5 * known] = 0.0
        finish = np.where(np.isnan(start), NEVER, 30 * np.exp(rng.normal(0, 0.15, 30)))
        now = Work(
            plan="p",
            network=Network.build([str(k) for k in range(30)], [], []),
            categories=names,
            category=np.repeat(np.arange(6), 5),
            planned=np.full(30, 10.0),
            start=start,
            finish=finish,
            now=60.0,
            slots=np.inf,
            instant=np.zeros(30, dtype=np.bool_),
        )
        slower.append(float(np.median(lengths(history, now))) / 10)
    assert slower[0] < slower[1]
    assert slower[1] > 1.8, "three times as slow so far, and half of that at least from now on"

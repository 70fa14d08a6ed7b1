"""Steps of the replanning flow, each one call of the library."""

from __future__ import annotations

from collections.abc import Sequence

from prefect import task
from prefect.cache_policies import NO_CACHE

from athena_prefect.replanning.asked import Answered
from athena_prefect.replanning.options import ReplanningOption
from athena_prefect.replanning.results import ReplanResult
from athena_prefect.service.asking import Form
from athena_prefect.service.changing_over import Called, Redeployed, Rest, Stored


@task(cache_policy=NO_CACHE)
def evaluate(rest: Rest) -> Called:
    """Whether the rest of the run needs another plan, and why."""
    return rest.evaluate()


@task(cache_policy=NO_CACHE)
def find_options(rest: Rest) -> tuple[ReplanningOption, ...]:
    """The real alternatives, each solved, checked and simulated."""
    return rest.options()


@task(cache_policy=NO_CACHE)
def choose(rest: Rest, options: Sequence[ReplanningOption]) -> ReplanningOption | None:
    """The option to carry out; None where there is none."""
    return rest.choose(options)


@task(cache_policy=NO_CACHE)
def verify(rest: Rest, option: ReplanningOption) -> ReplanResult:
    """The revision behind the option, checked by code that shares none with the solver."""
    return rest.verify(option)


@task(cache_policy=NO_CACHE)
def store(rest: Rest, option: ReplanningOption, result: ReplanResult) -> Stored:
    """Store the revision and bring it into force, unless another was faster."""
    return rest.store_revision(option, result)


@task(cache_policy=NO_CACHE)
def redeploy(rest: Rest, revision: int) -> Redeployed:
    """Have the continuation deployment say which run goes on, by which revision."""
    return rest.redeploy(revision)


@task(cache_policy=NO_CACHE)
def ask(rest: Rest) -> Form | None:
    """The question that people are asked, written down; None where they were asked twice."""
    return rest.ask()


@task(cache_policy=NO_CACHE)
def take_answer(rest: Rest, form: Form, answer: Answered) -> Answered:
    """Write an answer down; the one that counts, which is the first that was given."""
    return rest.take_answer(form, answer)

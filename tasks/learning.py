"""Steps of `flows/learn.py`, each one call of the library."""

from prefect import task
from prefect.cache_policies import NO_CACHE

from athena_prefect.runtime.blocks import current_settings
from athena_prefect.service.learning import Learned, learn
from athena_prefect.service.taught import plans_that_ran, publish_learned


@task(name="known plans", cache_policy=NO_CACHE)
def known_plans() -> tuple[str, ...]:
    """The plans of the namespace that have run."""
    return plans_that_ran(settings=current_settings())


@task(name="study", task_run_name="study {plan}", cache_policy=NO_CACHE)
def study(plan: str) -> Learned:
    """What the newest runs of a plan teach, brought into the lessons; the plan stays as it is."""
    return learn(plan, settings=current_settings())


@task(name="publish", cache_policy=NO_CACHE)
def publish(found: Learned) -> str:
    """What was learned as an artifact: bottlenecks, accuracy, calibration, lessons."""
    return publish_learned(found, settings=current_settings())

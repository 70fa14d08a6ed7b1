"""The plan of `deployments/hello` as a Prefect flow."""

from athena_prefect.runtime.compiler import compile_plan

hello = compile_plan("deployments/hello/plan.yaml")

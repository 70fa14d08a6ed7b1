"""The plan of `deployments/environment_audit` as a Prefect flow."""

from athena_prefect.runtime.compiler import compile_plan

environment_audit = compile_plan("deployments/environment_audit/plan.yaml")

"""A Prefect plugin that turns a pipeline with a plan into a flow that watches itself run."""

"""Kinds of checks that ask Prefect's server."""

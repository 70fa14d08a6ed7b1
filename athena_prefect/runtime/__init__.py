"""Adapter to Prefect."""

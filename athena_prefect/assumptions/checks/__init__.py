"""Kinds of checks: one file a kind, found by its name in a plan document."""

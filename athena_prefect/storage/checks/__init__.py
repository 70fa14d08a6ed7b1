"""Kinds of checks that look into a database, and change nothing in it."""

"""Adapter to the database (SQLAlchemy)."""

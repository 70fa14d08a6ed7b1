"""Writes down the places of a change-over that this process reaches."""

from __future__ import annotations

seen: list[str] = []


def reached(place: str) -> None:
    seen.append(place)

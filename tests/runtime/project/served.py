"""A flow of its own, served, that a plan runs as one of its tasks."""

from __future__ import annotations

from prefect import flow


@flow(name="other")
def other(x: int = 1, fail: bool = False) -> int:
    if fail:
        raise ValueError("the other flow fails")
    return x


if __name__ == "__main__":
    other.serve(name="served", pause_on_shutdown=False)

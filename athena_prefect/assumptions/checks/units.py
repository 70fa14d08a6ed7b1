"""Units of bytes that a plan may ask for."""

from __future__ import annotations

from typing import Literal

ByteUnit = Literal["B", "kB", "MB", "GB", "TB", "KiB", "MiB", "GiB", "TiB"]
"""Decimal ones as disks are sold, binary ones as memory is."""

_SIZES: dict[str, float] = {
    "B": 1.0, "kB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12,
    "KiB": 2.0**10, "MiB": 2.0**20, "GiB": 2.0**30, "TiB": 2.0**40,
}  # fmt: skip


def in_unit(size: float, unit: ByteUnit) -> float:
    """`size` bytes in `unit`."""
    return size / _SIZES[unit]

"""On what a benchmark ran: a figure without it says little."""

from __future__ import annotations

import os
import platform


def this_machine() -> str:
    """System, cores, Python and the load when it was asked."""
    return (
        f"{platform.platform()}, {os.cpu_count()} cores, Python {platform.python_version()}, "
        f"load {os.getloadavg()[0]:.1f}"
    )

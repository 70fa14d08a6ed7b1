"""What all tests share: homes of their own, set before Prefect reads its settings."""

from __future__ import annotations

import os
import tempfile

_HOME = tempfile.mkdtemp(prefix="athena-tests-")
os.environ.update(
    PREFECT_HOME=f"{_HOME}/prefect",
    PREFECT_SERVER_ANALYTICS_ENABLED="false",
    PREFECT_LOGGING_TO_API_ENABLED="false",
    DO_NOT_TRACK="1",
    ATHENA_HOME=f"{_HOME}/athena",
)
for _name in ("PREFECT_API_URL", "PREFECT_PROFILE", "ATHENA_DATABASE_URL"):
    os.environ.pop(_name, None)

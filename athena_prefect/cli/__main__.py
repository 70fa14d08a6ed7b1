"""`python -m athena_prefect.cli`, where the `athena` command is not on the path."""

from __future__ import annotations

from athena_prefect.cli import main

if __name__ == "__main__":
    main()

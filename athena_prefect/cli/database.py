"""Commands on the database's schema: db upgrade, db current."""

from __future__ import annotations

from cyclopts import App

from athena_prefect.cli.base import Json, answer, app, examples, settings_here

db = App(
    name="db",
    help="Say which schema the database has; bring it to the one that is needed.",
    help_format="plaintext",
)
app.command(db)


@db.command(
    help_epilogue=examples(
        "ATHENA_DATABASE_URL=postgresql+psycopg://me@host/athena athena db upgrade"
    )
)
def upgrade(*, json: Json = False) -> int:
    """Bring the database to the schema that this version needs."""
    from athena_prefect.service import db_upgrade

    version = db_upgrade(settings=settings_here())
    answer(version, json, lambda v: f"{v.database}: schema {v.found}")
    return 0


@db.command(help_epilogue=examples("athena db current"))
def current(*, json: Json = False) -> int:
    """Say which schema the database has; exit code 1 where it is not the needed one."""
    from athena_prefect.service import db_current

    version = db_current(settings=settings_here())
    word = "" if version.current else f", needed is {version.needed}: run `athena db upgrade`"
    answer(version, json, lambda v: f"{v.database}: schema {v.found or 'none'}{word}")
    return 0 if version.current else 1

"""The reference page says of every table what is there."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import make_url

from athena_prefect.storage.tables import Base

SQLITE = make_url("sqlite://").get_dialect()()
POSTGRES = make_url("postgresql+psycopg://").get_dialect()()
PAGE = Path(__file__).parents[2] / "docs" / "reference" / "database.md"


def test_every_table_and_column_is_in_the_reference_with_its_types() -> None:
    sections = {
        section.partition("`")[0]: section
        for section in PAGE.read_text(encoding="utf-8").split("\n## `")[1:]
    }
    assert set(sections) == set(Base.metadata.tables)
    for name, table in Base.metadata.tables.items():
        for column in table.columns:
            plain = column.type.compile(SQLITE)
            rich = column.type.compile(POSTGRES)
            rich = rich.replace("TIMESTAMP WITH TIME ZONE", "TIMESTAMPTZ")
            assert f"| `{column.name}` | {plain} | {rich} |" in sections[name]

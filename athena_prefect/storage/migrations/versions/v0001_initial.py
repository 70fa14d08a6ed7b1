"""Tables of plans, runs and the journal."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from athena_prefect.storage.types import Duration, UtcDateTime

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

JSON = sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql")
ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
MOMENT = UtcDateTime()
NOW = sa.text("CURRENT_TIMESTAMP")


def upgrade() -> None:
    """Bring the schema from nothing to 0001."""
    op.create_table(
        "events",
        sa.Column("plan_run", sa.Uuid(), nullable=False),
        sa.Column("position", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("content_hash", sa.String(length=32), nullable=False),
        sa.Column("conflict", sa.Boolean(), nullable=False),
        sa.Column("at", MOMENT, nullable=False),
        sa.Column("document", JSON, nullable=False),
        sa.PrimaryKeyConstraint("plan_run", "position", name=op.f("pk_events")),
        sa.UniqueConstraint(
            "plan_run", "key", "content_hash", name=op.f("uq_events_plan_run_key_content_hash")
        ),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "leases",
        sa.Column("plan_run", sa.Uuid(), nullable=False),
        sa.Column("token", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("holder", sa.Text(), nullable=True),
        sa.Column("process", sa.Text(), nullable=True),
        sa.Column("expires_at", MOMENT, nullable=True),
        sa.Column("last_position", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.PrimaryKeyConstraint("plan_run", name=op.f("pk_leases")),
    )
    op.create_table(
        "lessons",
        sa.Column("id", ID, nullable=False),
        sa.Column("namespace", sa.String(length=255), nullable=False),
        sa.Column("plan_name", sa.String(length=255), server_default="", nullable=False),
        sa.Column("kind", sa.String(length=50), nullable=False),
        sa.Column("subject", sa.String(length=255), nullable=False),
        sa.Column("statement", sa.Text(), nullable=False),
        sa.Column("data", JSON, nullable=False),
        sa.Column("samples", sa.Integer(), nullable=False),
        sa.Column("confidence", sa.Float(), nullable=True),
        sa.Column("created_at", MOMENT, server_default=NOW, nullable=False),
        sa.Column("updated_at", MOMENT, server_default=NOW, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_lessons")),
        sa.UniqueConstraint(
            "namespace",
            "plan_name",
            "kind",
            "subject",
            name=op.f("uq_lessons_namespace_plan_name_kind_subject"),
        ),
    )
    op.create_table(
        "plan_documents",
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.Column("content", JSON, nullable=False),
        sa.Column("created_at", MOMENT, server_default=NOW, nullable=False),
        sa.PrimaryKeyConstraint("hash", name=op.f("pk_plan_documents")),
    )
    op.create_table(
        "plans",
        sa.Column("id", ID, nullable=False),
        sa.Column("namespace", sa.String(length=255), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("created_at", MOMENT, server_default=NOW, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_plans")),
        sa.UniqueConstraint("namespace", "name", name=op.f("uq_plans_namespace_name")),
    )
    op.create_table(
        "plan_runs",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("plan_id", ID, nullable=False),
        sa.Column("flow_run_id", sa.Uuid(), nullable=True),
        sa.Column("parameters", JSON, nullable=False),
        sa.Column("logical_date", MOMENT, nullable=True),
        sa.Column("source", sa.Text(), nullable=True),
        sa.Column("status", sa.String(length=50), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("started_at", MOMENT, nullable=False),
        sa.Column("ended_at", MOMENT, nullable=True),
        sa.Column("created_at", MOMENT, server_default=NOW, nullable=False),
        sa.ForeignKeyConstraint(["plan_id"], ["plans.id"], name=op.f("fk_plan_runs_plan_id_plans")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_plan_runs")),
    )
    op.create_index(op.f("ix_plan_runs_flow_run_id"), "plan_runs", ["flow_run_id"], unique=False)
    op.create_index(
        op.f("ix_plan_runs_plan_id_started_at"),
        "plan_runs",
        ["plan_id", "started_at"],
        unique=False,
    )
    op.create_table(
        "planning_decisions",
        sa.Column("id", ID, nullable=False),
        sa.Column("plan_id", ID, nullable=False),
        sa.Column("plan_run", sa.Uuid(), nullable=True),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("document", sa.String(length=64), nullable=False),
        sa.Column("author", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("validation_status", sa.String(length=50), nullable=False),
        sa.Column("created_at", MOMENT, server_default=NOW, nullable=False),
        sa.ForeignKeyConstraint(
            ["document"],
            ["plan_documents.hash"],
            name=op.f("fk_planning_decisions_document_plan_documents"),
        ),
        sa.ForeignKeyConstraint(
            ["plan_id"], ["plans.id"], name=op.f("fk_planning_decisions_plan_id_plans")
        ),
        sa.ForeignKeyConstraint(
            ["plan_run"], ["plan_runs.id"], name=op.f("fk_planning_decisions_plan_run_plan_runs")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_planning_decisions")),
        sa.UniqueConstraint(
            "plan_run", "revision", name=op.f("uq_planning_decisions_plan_run_revision")
        ),
    )
    op.create_index(
        op.f("uq_planning_decisions_plan_id_revision"),
        "planning_decisions",
        ["plan_id", "revision"],
        unique=True,
        sqlite_where=sa.text("plan_run IS NULL"),
        postgresql_where=sa.text("plan_run IS NULL"),
    )
    op.create_table(
        "assumption_validations",
        sa.Column("id", ID, nullable=False),
        sa.Column("plan_id", ID, nullable=False),
        sa.Column("plan_run", sa.Uuid(), nullable=True),
        sa.Column("check_id", sa.String(length=255), nullable=False),
        sa.Column("assumption_id", sa.String(length=255), nullable=False),
        sa.Column("validation_time", MOMENT, nullable=True),
        sa.Column("verdict", sa.String(length=50), nullable=False),
        sa.Column("valid", sa.Boolean(), nullable=True),
        sa.Column("confidence", sa.Float(), nullable=True),
        sa.Column("validation_data", JSON, nullable=True),
        sa.Column("created_at", MOMENT, server_default=NOW, nullable=False),
        sa.ForeignKeyConstraint(
            ["plan_id"],
            ["planning_decisions.id"],
            name=op.f("fk_assumption_validations_plan_id_planning_decisions"),
        ),
        sa.ForeignKeyConstraint(
            ["plan_run"],
            ["plan_runs.id"],
            name=op.f("fk_assumption_validations_plan_run_plan_runs"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_assumption_validations")),
        sa.UniqueConstraint(
            "plan_run",
            "assumption_id",
            "check_id",
            name=op.f("uq_assumption_validations_plan_run_assumption_id_check_id"),
        ),
    )
    op.create_index(
        op.f("ix_assumption_validations_plan_id"),
        "assumption_validations",
        ["plan_id"],
        unique=False,
    )
    op.create_table(
        "execution_patterns",
        sa.Column("id", ID, nullable=False),
        sa.Column("plan_id", ID, nullable=True),
        sa.Column("pattern_type", sa.String(length=50), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("frequency", sa.Integer(), nullable=False),
        sa.Column("confidence", sa.Float(), nullable=True),
        sa.Column("actionable", sa.Boolean(), nullable=False),
        sa.Column("created_at", MOMENT, server_default=NOW, nullable=False),
        sa.ForeignKeyConstraint(
            ["plan_id"],
            ["planning_decisions.id"],
            name=op.f("fk_execution_patterns_plan_id_planning_decisions"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_execution_patterns")),
    )
    op.create_index(
        op.f("ix_execution_patterns_plan_id"), "execution_patterns", ["plan_id"], unique=False
    )
    op.create_table(
        "execution_records",
        sa.Column("id", ID, nullable=False),
        sa.Column("plan_id", ID, nullable=False),
        sa.Column("plan_run", sa.Uuid(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("task_id", sa.String(length=255), nullable=False),
        sa.Column("map_index", sa.Integer(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("task_run_id", sa.Text(), nullable=True),
        sa.Column("planned_start", MOMENT, nullable=True),
        sa.Column("actual_start", MOMENT, nullable=True),
        sa.Column("planned_duration", Duration(), nullable=True),
        sa.Column("actual_duration", Duration(), nullable=True),
        sa.Column("outcome", sa.String(length=50), nullable=True),
        sa.Column("resources_planned", JSON, nullable=True),
        sa.Column("resources_allocated", JSON, nullable=True),
        sa.Column("resources_used", JSON, nullable=True),
        sa.Column("deviation", sa.Float(), nullable=True),
        sa.Column("created_at", MOMENT, server_default=NOW, nullable=False),
        sa.ForeignKeyConstraint(
            ["plan_id"],
            ["planning_decisions.id"],
            name=op.f("fk_execution_records_plan_id_planning_decisions"),
        ),
        sa.ForeignKeyConstraint(
            ["plan_run"], ["plan_runs.id"], name=op.f("fk_execution_records_plan_run_plan_runs")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_execution_records")),
        sa.UniqueConstraint(
            "plan_run",
            "task_id",
            "map_index",
            "attempt",
            name=op.f("uq_execution_records_plan_run_task_id_map_index_attempt"),
        ),
    )
    op.create_index(
        op.f("ix_execution_records_plan_id"), "execution_records", ["plan_id"], unique=False
    )
    op.create_table(
        "replanning_events",
        sa.Column("id", ID, nullable=False),
        sa.Column("original_plan_id", ID, nullable=False),
        sa.Column("new_plan_id", ID, nullable=True),
        sa.Column("trigger_reason", sa.Text(), nullable=False),
        sa.Column("strategy", sa.String(length=50), nullable=False),
        sa.Column("outcome", sa.String(length=50), nullable=False),
        sa.Column("created_at", MOMENT, server_default=NOW, nullable=False),
        sa.ForeignKeyConstraint(
            ["new_plan_id"],
            ["planning_decisions.id"],
            name=op.f("fk_replanning_events_new_plan_id_planning_decisions"),
        ),
        sa.ForeignKeyConstraint(
            ["original_plan_id"],
            ["planning_decisions.id"],
            name=op.f("fk_replanning_events_original_plan_id_planning_decisions"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_replanning_events")),
    )
    op.create_index(
        op.f("ix_replanning_events_original_plan_id"),
        "replanning_events",
        ["original_plan_id"],
        unique=False,
    )
    op.create_table(
        "revisions",
        sa.Column("plan_run", sa.Uuid(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("decision_id", ID, nullable=False),
        sa.Column("figures", JSON, nullable=True),
        sa.Column("created_at", MOMENT, server_default=NOW, nullable=False),
        sa.ForeignKeyConstraint(
            ["decision_id"],
            ["planning_decisions.id"],
            name=op.f("fk_revisions_decision_id_planning_decisions"),
        ),
        sa.ForeignKeyConstraint(
            ["plan_run"], ["plan_runs.id"], name=op.f("fk_revisions_plan_run_plan_runs")
        ),
        sa.PrimaryKeyConstraint("plan_run", "number", name=op.f("pk_revisions")),
    )


def downgrade() -> None:
    """Take the schema back to nothing."""
    op.drop_table("revisions")
    op.drop_index(op.f("ix_replanning_events_original_plan_id"), "replanning_events")
    op.drop_table("replanning_events")
    op.drop_index(op.f("ix_execution_records_plan_id"), "execution_records")
    op.drop_table("execution_records")
    op.drop_index(op.f("ix_execution_patterns_plan_id"), "execution_patterns")
    op.drop_table("execution_patterns")
    op.drop_index(op.f("ix_assumption_validations_plan_id"), "assumption_validations")
    op.drop_table("assumption_validations")
    op.drop_index(op.f("uq_planning_decisions_plan_id_revision"), "planning_decisions")
    op.drop_table("planning_decisions")
    op.drop_index(op.f("ix_plan_runs_plan_id_started_at"), "plan_runs")
    op.drop_index(op.f("ix_plan_runs_flow_run_id"), "plan_runs")
    op.drop_table("plan_runs")
    op.drop_table("plans")
    op.drop_table("plan_documents")
    op.drop_table("lessons")
    op.drop_table("leases")
    op.drop_table("events")

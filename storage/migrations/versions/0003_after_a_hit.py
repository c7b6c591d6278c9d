"""What follows a hit: more of it is kept, the review queue, strikes and suspensions, evidence, the audit trail."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Widen the hits and make the new tables, those that are referred to first."""
    _widen_hits()
    _add_reviews()
    _add_strikes()
    _add_evidence()
    _add_audit()
    _queue_handed_over()


def _widen_hits() -> None:
    for column in (
        sa.Column("score", sa.Double(), server_default=sa.text("1.0"), nullable=False),
        sa.Column("digest", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("text_length", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("language", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("is_shadow", sa.Boolean(), server_default=sa.false(), nullable=False),
    ):
        op.add_column("hits", column)
    op.create_index(op.f("ix_hits_decision_id"), "hits", ["decision_id"])


def _add_reviews() -> None:
    op.create_table(
        "reviews",
        sa.Column("decision_id", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("account_name", sa.Text(), nullable=False),
        sa.Column("is_handoff", sa.Boolean(), nullable=False),
        sa.Column("is_appealed", sa.Boolean(), nullable=False),
        sa.Column("comment", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("decided_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("decided_by", sa.Text(), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("decision_id", name=op.f("pk_reviews")),
    )
    op.create_index(op.f("ix_reviews_created_at_decision_id"), "reviews", ["created_at", "decision_id"])
    op.create_index(op.f("ix_reviews_state_created_at_decision_id"), "reviews", ["state", "created_at", "decision_id"])
    op.create_index(op.f("ix_reviews_account_id_state"), "reviews", ["account_id", "state"])


def _add_strikes() -> None:
    op.create_table(
        "suspensions",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("began_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ends_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("lifted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("lifted_by", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name=op.f("fk_suspensions_account_id_accounts"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_suspensions")),
    )
    op.create_index(op.f("ix_suspensions_account_id_ends_at"), "suspensions", ["account_id", "ends_at"])
    op.create_table(
        "strikes",
        sa.Column("decision_id", sa.Text(), nullable=False),
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("is_in_row", sa.Boolean(), nullable=False),
        sa.Column("undone_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("suspension_id", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name=op.f("fk_strikes_account_id_accounts"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["suspension_id"], ["suspensions.id"], name=op.f("fk_strikes_suspension_id_suspensions"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("decision_id", name=op.f("pk_strikes")),
    )
    op.create_index(op.f("ix_strikes_account_id_at_decision_id"), "strikes", ["account_id", "at", "decision_id"])
    op.create_index(op.f("ix_strikes_suspension_id"), "strikes", ["suspension_id"])


def _add_evidence() -> None:
    op.create_table(
        "evidence",
        sa.Column("decision_id", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("key_id", sa.Text(), nullable=False),
        sa.Column("start", sa.Integer(), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("decision_id", name=op.f("pk_evidence")),
    )
    op.create_index(op.f("ix_evidence_created_at"), "evidence", ["created_at"])


def _add_audit() -> None:
    op.create_table(
        "audit",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("actor_id", sa.Text(), nullable=False),
        sa.Column("actor_name", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit")),
    )
    op.create_index(op.f("ix_audit_at_id"), "audit", ["at", "id"])
    op.create_index(op.f("ix_audit_subject_at_id"), "audit", ["subject", "at", "id"])


def _queue_handed_over() -> None:
    """Put what the filter handed over before into the queue that there is now."""
    op.execute(
        """
        INSERT INTO reviews (decision_id, created_at, account_id, account_name, is_handoff, is_appealed, comment,
            state, decided_by, note)
        SELECT hits.decision_id, min(hits.created_at), coalesce(min(hits.account_id), ''),
            coalesce(min(accounts.name), ''), true, false, '', 'open', '', ''
        FROM hits LEFT JOIN accounts ON accounts.id = hits.account_id
        WHERE hits.action = 4
        GROUP BY hits.decision_id
        """
    )

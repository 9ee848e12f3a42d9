"""Revision 0011_unknown: see the SQL files of the same name."""

from ops.migrations.steps import run_sql

revision = "0011_unknown"
down_revision = "0010_replay"


def upgrade() -> None:
    """Apply the revision."""
    run_sql("0011_unknown.up.sql")


def downgrade() -> None:
    """Undo the revision."""
    run_sql("0011_unknown.down.sql")

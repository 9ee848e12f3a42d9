"""Revision 0015_looks: see the SQL files of the same name."""

from ops.migrations.steps import run_sql

revision = "0015_looks"
down_revision = "0014_sight"


def upgrade() -> None:
    """Apply the revision."""
    run_sql("0015_looks.up.sql")


def downgrade() -> None:
    """Undo the revision."""
    run_sql("0015_looks.down.sql")

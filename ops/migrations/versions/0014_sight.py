"""Revision 0014_sight: see the SQL files of the same name."""

from ops.migrations.steps import run_sql

revision = "0014_sight"
down_revision = "0012_replay_keys"


def upgrade() -> None:
    """Apply the revision."""
    run_sql("0014_sight.up.sql")


def downgrade() -> None:
    """Undo the revision."""
    run_sql("0014_sight.down.sql")

"""Revision 0012_replay_keys: see the SQL files of the same name."""

from ops.migrations.steps import run_sql

revision = "0012_replay_keys"
down_revision = "0011_unknown"


def upgrade() -> None:
    """Apply the revision."""
    run_sql("0012_replay_keys.up.sql")


def downgrade() -> None:
    """Undo the revision."""
    run_sql("0012_replay_keys.down.sql")

"""Revision 0003_cache: see the SQL files of the same name."""

from ops.migrations.steps import run_sql

revision = "0003_cache"
down_revision = "0002_enqueue"


def upgrade() -> None:
    """Apply the revision."""
    run_sql("0003_cache.up.sql")


def downgrade() -> None:
    """Undo the revision."""
    run_sql("0003_cache.down.sql")

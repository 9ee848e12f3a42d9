"""The database's history: alembic revisions, each a pair of SQL files under `sql/`."""

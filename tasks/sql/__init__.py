"""The store's statements, one file each, named for what they do. Each file begins with a sentence that says it.

Those on one job say `state IS NOT DISTINCT FROM`, not `=`: else Postgres may take the index of all that is queued or
running, which seems small when it plans, and read the whole of it for each write.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files

from sqlalchemy import TextClause, text


@cache
def statement(name: str) -> TextClause:
    """Return the statement of `<name>.sql`, read once per process."""
    return text(files(__name__).joinpath(f"{name}.sql").read_text(encoding="utf-8"))

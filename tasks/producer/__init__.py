"""The client of Assayline: hands jobs over, asks after them, waits for them.

Built as a wheel of its own, `assayline-client`, and imported as `assayline_client`; inside this project it is
`tasks.producer`. It imports nothing of Assayline and, until a connection is opened, nothing but the standard library.
"""

from .async_client import AsyncClient
from .cancelling import Cancelled, Which
from .client import Client
from .errors import (
    AssaylineError,
    DriverMissing,
    IdempotencyConflict,
    InvalidJob,
    JobNotFound,
    NotMigrated,
    ServiceRefused,
    TooLarge,
    UnknownAnalysis,
    UnknownModel,
    UnsupportedConnection,
    WaitTimeout,
)
from .jobs import Job, JobFields
from .records import Receipt, StoredJob, StoredResult

__all__ = [
    "AssaylineError",
    "AsyncClient",
    "Cancelled",
    "Client",
    "DriverMissing",
    "IdempotencyConflict",
    "InvalidJob",
    "Job",
    "JobFields",
    "JobNotFound",
    "NotMigrated",
    "Receipt",
    "ServiceRefused",
    "StoredJob",
    "StoredResult",
    "TooLarge",
    "UnknownAnalysis",
    "UnknownModel",
    "UnsupportedConnection",
    "WaitTimeout",
    "Which",
]

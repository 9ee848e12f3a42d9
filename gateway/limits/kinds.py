"""What limits count."""

from __future__ import annotations

from enum import StrEnum


class LimitKind(StrEnum):
    """What is counted. The words of the catalog's `limits`, without their unit."""

    REQUESTS = "requests"
    INPUT_TOKENS = "input_tokens"
    OUTPUT_TOKENS = "output_tokens"
    TOKENS = "tokens"
    """Input and output together."""

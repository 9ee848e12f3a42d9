"""The one key of the service: where it comes from, and which are refused. Imports no web framework: doctor asks too."""

from __future__ import annotations

import re
from collections.abc import Mapping

from api.limits import MAX_KEY_CHARS, MIN_KEY_CHARS
from gateway.errors import ConfigurationError
from gateway.settings import secret

KEY = "ASSAYLINE_API_KEY"
MAKE_ONE = 'make one:  export ASSAYLINE_API_KEY="$(openssl rand -hex 24)"'


def api_key(env: Mapping[str, str]) -> str:
    """The key that callers must bring, of ASSAYLINE_API_KEY or the file that ASSAYLINE_API_KEY_FILE names.

    Raises:
        ConfigurationError: there is none, or it is too short, too long or no plain ASCII. It is never in the message.
    """
    key = secret(env, KEY)
    if key is None:
        raise ConfigurationError(f"{KEY} (or {KEY}_FILE) is not set, and nobody is served without a key; {MAKE_ONE}")
    if not re.fullmatch(r"[!-~]+", key) or not MIN_KEY_CHARS <= len(key) <= MAX_KEY_CHARS:
        bounds = f"{MIN_KEY_CHARS} to {MAX_KEY_CHARS} ASCII characters without blanks"
        raise ConfigurationError(f"{KEY} must be {bounds}; {MAKE_ONE}")
    return key

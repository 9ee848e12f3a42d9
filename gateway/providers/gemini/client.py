"""Google's client, made to our terms: one key, one request a call, no deadline of its own, no bound of connections.

What has to be taken from it (google-genai 3.4, `google/genai/_api_client.py`):

- Over aiohttp it sends a request a second time, after up to ten seconds, when the connection breaks, answered and
  charged or not. Retry options with a single attempt switch that off, and nothing else does.
- It gives each request a timeout that replaces the session's, so the bound of connecting sits in the connector.
- It reads an error's body as JSON where the header says so, and loses the status where the body is none; the session
  raises the SDK's own error first.
- It reads a whole answer however long; the session's responses are bounded.
- It follows redirects, believes proxies and passwords of the environment, and looks there for key, address, version
  and project. All of them are given here.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import aiohttp
import httpx2
from google import genai
from google.genai.errors import APIError
from google.genai.types import HttpOptions, HttpRetryOptions

from gateway.providers.sdk import NO_KEY, BodyTooLong
from gateway.providers.wire import (
    CONNECT_TIMEOUT_S,
    MOST_BODY_BYTES,
    UNLIMITED_CONNECTIONS,
    check_sendable_key,
    checked_base_url,
)

if TYPE_CHECKING:
    from gateway.providers.base import ProviderConfig
    from gateway.providers.gemini.request import GeminiOptions

BASE_URL = "https://generativelanguage.googleapis.com"

OK = 200
"""The only status the SDK takes for an answer."""

_VERSION = re.compile(r"v[0-9][0-9a-z]{0,14}")


def endpoint(config: ProviderConfig, options: GeminiOptions) -> tuple[str, str]:
    """Return the API's root and its version, which may stand at the end of the base URL (`…/v1beta`).

    Raises:
        ConfigurationError: the base URL or the key cannot be used.
    """
    check_sendable_key(config.name, config.api_key)
    root = checked_base_url(config, BASE_URL)
    head, _, last = root.rpartition("/")
    return (head, last) if _VERSION.fullmatch(last) else (root, options.api_version)


def open_session(keepalive_s: float) -> aiohttp.ClientSession:
    """Open the session that the SDK's calls ride on. It belongs to the running loop."""
    return aiohttp.ClientSession(
        connector=_Connector(limit=UNLIMITED_CONNECTIONS, keepalive_timeout=keepalive_s),
        cookie_jar=aiohttp.DummyCookieJar(),
        raise_for_status=_raise_refusal,
        response_class=_BoundedResponse,
        trust_env=False,
    )


def open_client(root: str, version: str, api_key: str | None, session: aiohttp.ClientSession) -> genai.Client:
    """Build the SDK's client over `session`. One TLS context for all its parts: each would load the roots anew."""
    tls = httpx2.create_ssl_context()
    return genai.Client(
        api_key=api_key or NO_KEY,
        vertexai=False,
        http_options=HttpOptions(
            base_url=root,
            api_version=version,
            aiohttp_client=session,
            client_args={"verify": tls},
            async_client_args={"ssl": tls, "allow_redirects": False},
            retry_options=HttpRetryOptions(attempts=1),
        ),
    )


class _BoundedResponse(aiohttp.ClientResponse):
    """Reads a whole answer up to `MOST_BODY_BYTES`, decompressed."""

    async def read(self) -> bytes:
        if self._body is None:
            try:
                self._body = await self._bounded()
            except BaseException:
                self.close()
                raise
        return await super().read()

    async def _bounded(self) -> bytes:
        body = bytearray()
        async for piece in self.content.iter_any():
            body += piece
            if len(body) > MOST_BODY_BYTES:
                raise BodyTooLong(f"the response is longer than {MOST_BODY_BYTES:,} bytes")
        return bytes(body)


class _Connector(aiohttp.TCPConnector):
    """Bounds each connecting, whatever timeout a request brings along."""

    async def connect(self, req: Any, traces: Any, timeout: aiohttp.ClientTimeout) -> Any:  # noqa: ASYNC109 (aiohttp's)
        return await super().connect(req, traces, aiohttp.ClientTimeout(connect=CONNECT_TIMEOUT_S))


async def _raise_refusal(response: aiohttp.ClientResponse) -> None:
    """Raise the SDK's error for an answer without success, be its body readable or not."""
    if response.status == OK:
        return
    raw = await response.read()
    try:
        body = json.loads(raw)
    except (ValueError, RecursionError):
        body = {}
    APIError.raise_error(response.status, body, response)

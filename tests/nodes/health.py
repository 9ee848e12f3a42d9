"""What a process says of its health, asked as Kubernetes asks."""

from __future__ import annotations

import http.client
import json
from typing import Any


def health(port: int, of: str = "live") -> tuple[int, dict[str, Any]]:
    """Status and document of `/health/<of>`; status 0 where nobody answers."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", f"/health/{of}")
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    except OSError:
        return 0, {}
    finally:
        connection.close()


def parts(document: dict[str, Any], *, deadly: bool) -> set[str]:
    """What the problems in a document are of."""
    return {problem["part"] for problem in document["problems"] if problem["deadly"] is deadly}

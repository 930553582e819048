"""The id of a request, by which its reply, its log lines and its trace are found."""

import re
import secrets

from starlette.datastructures import Headers
from starlette.types import Scope

REQUEST_ID = "X-Request-Id"
SOUND = re.compile(r"[A-Za-z0-9._:-]{1,128}")
"""What is harmless in logs and headers."""


def request_id_of(scope: Scope) -> str:
    """Return the caller's id where it is sound, else a new one; the same however often it is asked for."""
    state: dict[str, str] = scope.setdefault("state", {})
    if "request_id" not in state:
        sent = Headers(scope=scope).get(REQUEST_ID, "")
        state["request_id"] = sent if SOUND.fullmatch(sent) else secrets.token_hex(16)
    return state["request_id"]

"""Values as JSON. What the fast encoder refuses (a name on a disk need not be text, numbers have no end) the slow one takes."""

from __future__ import annotations

import json
from typing import Any

import orjson

NEGATIVE = b"null"


def encoded(value: Any) -> bytes:
    """The value as JSON. Raises TypeError for what is none."""
    try:
        # Copied: the encoder's own buffer is cut, not moved, and what it was cut from cannot be used for the next; a process that
        # keeps them grows by eight times what they hold (measured with glibc).
        return bytes(memoryview(orjson.dumps(value)))
    except orjson.JSONEncodeError:
        return json.dumps(value, separators=(",", ":")).encode()


def decoded(text: bytes) -> Any:
    """The inverse of `encoded`."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return json.loads(text)

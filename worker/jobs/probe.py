"""What a source said of its content before anything was downloaded."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Probe:
    """The answer to a probe. A source that was asked and did not say has all fields empty.

    Attributes:
        size: bytes.
        etag: its strong validator; None when it has none, or a weak one.
        modified: `Last-Modified` as it came.
    """

    size: int | None = None
    etag: str | None = None
    modified: str | None = None

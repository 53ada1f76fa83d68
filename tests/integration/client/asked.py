"""What bots ask for, and what they are told."""

from __future__ import annotations

from typing import Any

URI = "https://example.org/file.iso"


def told(number: int, user: str = "ann", job: str = "job") -> dict[str, Any]:
    return {"id": f"{job}:{number}", "type": "job.started", "job": job, "user": user, "key": None, "at": 1.5, "text": "it runs"}

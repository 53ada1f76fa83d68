"""One who reads the event stream as a browser does."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx


class Viewer:
    """Reads server-sent events off a socket, as a browser does."""

    def __init__(self, http: httpx.Client, user: str | None = None, last: str | None = None) -> None:
        self._stream = http.stream(
            "GET", "/v1/events", params={"user": user} if user else {}, headers={"last-event-id": last} if last else {}
        )
        self.last_id = last
        self.comments = 0

    def __enter__(self) -> Viewer:
        self.answer = self._stream.__enter__()
        self._lines = self.answer.iter_lines()
        return self

    def __exit__(self, *error: Any) -> None:
        self._stream.__exit__(None, None, None)

    def frames(self) -> Iterator[dict[str, str]]:
        fields: dict[str, str] = {}
        for line in self._lines:
            name, _, value = line.partition(":")
            if line:
                self.comments += not name
                fields[name] = value.removeprefix(" ")
                continue
            self.last_id = fields.get("id", self.last_id)
            yield fields
            fields = {}

    def place(self) -> str:
        """The place the server named first."""
        while self.last_id is None:
            next(self.frames())
        return self.last_id

    def events(self, count: int) -> list[dict[str, Any]]:
        found = [json.loads(frame["data"]) for _, frame in zip(range(count), self._with_data(), strict=False)]
        assert len(found) == count, "the stream ended early"
        return found

    def _with_data(self) -> Iterator[dict[str, str]]:
        return (frame for frame in self.frames() if "data" in frame)


def told(number: int, user: str = "ann") -> dict[str, Any]:
    return {"id": f"job:{number}", "type": "job.started", "job": "job", "user": user, "key": None, "at": 1.5, "text": "line\nline"}

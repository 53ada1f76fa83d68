"""Where the embedded stack of a data directory says what its servers' addresses are."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Stack:
    """The running embedded stack of a data directory, as `<data>/stack.json` (mode 0600) tells it.

    Attributes:
        pid: the process that holds the data directory.
        redis_url, engines, webhooks: addresses with their secrets.
        api_url: None when the stack runs no API.
    """

    pid: int
    redis_url: str
    engines: tuple[str, ...]
    api_url: str | None
    children: dict[str, int]
    webhooks: tuple[str, ...] = ()

    def save(self, data_dir: Path) -> None:
        """Write atomically, readable by the owner only."""
        path = stack_file(data_dir)
        fresh = path.with_suffix(".new")
        handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(asdict(self), file)
        fresh.replace(path)

    @staticmethod
    def load(data_dir: Path) -> Stack | None:
        """The stack the file tells of, or None; that its processes live is not checked."""
        try:
            values = json.loads(stack_file(data_dir).read_text(encoding="utf-8"))
            return Stack(**{**values, "engines": tuple(values["engines"]), "webhooks": tuple(values.get("webhooks", ()))})
        except (OSError, ValueError, KeyError, TypeError):
            return None


def stack_file(data_dir: Path) -> Path:
    """Where a running stack writes its addresses."""
    return data_dir / "stack.json"

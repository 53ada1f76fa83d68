"""A capture: everything measured at one time on one machine, and its form as JSON."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from worker.jobs.errors import Rejected
from worker.maintenance.baseline.figures import Figure, finite

SCHEMA = 1
#: Which process measured: a worker, when the clock said so, or the command.
CLOCK, HAND = "clock", "hand"
#: A file with more is none of ours; ours have about ten thousand.
BYTES_MAX = 1_000_000
ID = re.compile(r"\d{8}T\d{6}\.\d{3}Z")


@dataclass(frozen=True, slots=True)
class Capture:
    """What was measured.

    Attributes:
        id: its time in UTC, to the millisecond; sorts by time.
        at: the same on the wall clock.
        source: `clock` or `hand`: which process measured.
        seconds: how long it took.
        machine: what the figures depend on most; only captures of equal machines are compared without being asked to.
        versions: programs by name; None where one did not say.
    """

    id: str
    at: float
    source: str
    seconds: float
    machine: Mapping[str, Any]
    versions: Mapping[str, str | None]
    figures: Mapping[str, Figure] = field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        """For JSON; docs/baseline.md describes it."""
        return {
            "schema": SCHEMA,
            "id": self.id,
            "at": self.at,
            "source": self.source,
            "seconds": round(self.seconds, 3),
            "machine": dict(self.machine),
            "versions": dict(self.versions),
            "figures": {name: figure.document(name) for name, figure in sorted(self.figures.items())},
        }

    @property
    def text(self) -> str:
        """The document as text."""
        return json.dumps(self.document(), ensure_ascii=False, allow_nan=False)


def id_of(at: float) -> str:
    """The id of a capture at this time of the wall clock."""
    moment = datetime.fromtimestamp(math.floor(at * 1000) / 1000, UTC)
    return f"{moment:%Y%m%dT%H%M%S}.{moment.microsecond // 1000:03}Z"


def read(text: str, where: str) -> Capture:
    """The capture of a text.

    Raises:
        Rejected: it is no capture, or one of a newer version; names `where`.
    """
    try:
        document = json.loads(text)
        schema = document["schema"]
        if schema != SCHEMA:
            raise Rejected("baseline", f"{where} has schema {str(schema)[:20]}, this version knows {SCHEMA}", fix="upgrade Haul")
        if not ID.fullmatch(document["id"]):
            raise ValueError(document["id"])
        return Capture(
            id=document["id"],
            at=_moment(document["at"]),
            source=str(document["source"]),
            seconds=finite(document["seconds"]),
            machine=dict(document["machine"]),
            versions={str(name): None if value is None else str(value) for name, value in document["versions"].items()},
            figures={str(name): Figure.read(figure) for name, figure in document["figures"].items()},
        )
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError):
        raise Rejected("baseline", f"{where} is no capture of a baseline", fix="`haul baseline list` shows those that are kept") from None


def _moment(value: Any) -> float:
    """A time that has a date. Raises ValueError or OverflowError."""
    at = finite(value)
    datetime.fromtimestamp(at, UTC)
    return at

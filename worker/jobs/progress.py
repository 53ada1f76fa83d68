"""How far a download is."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Progress:
    """What the engine showed last; bytes and bytes a second. `total` is None while unknown.

    Attributes:
        allocated: bytes that its work directory took on the disk when that was last looked at, which may be some seconds ago.
    """

    done: int = 0
    total: int | None = None
    speed: int = 0
    uploaded: int = 0
    connections: int = 0
    allocated: int = 0

    @property
    def eta_s(self) -> float | None:
        """Seconds to go at the present speed; None when unknown."""
        if self.total is None or self.speed <= 0:
            return None
        return max(0, self.total - self.done) / self.speed

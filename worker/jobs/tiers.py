"""What the users of a tier may have: a user is in the tier that the request names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

#: Starts a second over all users of a tier, and how many may come at once after a quiet time.
RATE_PER_S = 100.0
BURST = 500.0


@dataclass(frozen=True, slots=True)
class Tier:
    """The limits of one tier, or of one user where the operator gave him his own; None means no limit.

    Attributes:
        rate: starts a second, all users of the tier together; None starts as many as the engines take.
        burst: starts at once after a time without any.
        running: jobs of one user that take a slot at once.
        queued: jobs of one user that wait.
        weight: the share of the slots a waiting user gets, compared with the weights of the other waiting users.
        bytes_a_day: what one user may download in a day.
        largest_file: bytes of one job.
        bandwidth: bytes a second of one user.
    """

    name: str
    rate: float | None = RATE_PER_S
    burst: float = BURST
    running: int | None = None
    queued: int | None = None
    weight: int = 1
    bytes_a_day: int | None = None
    largest_file: int | None = None
    bandwidth: int | None = None


#: With no file of tiers. `admin` is the machine's owner: no limit, not even on starts.
DEFAULTS: Mapping[str, Tier] = {
    "free": Tier("free"),
    "premium": Tier("premium", weight=2),
    "vip": Tier("vip", weight=4),
    "admin": Tier("admin", rate=None, weight=8),
}


class FixedTiers:
    """Tiers that never change.

    Args:
        tiers: by name; must have `free`.
    """

    def __init__(self, tiers: Mapping[str, Tier] = DEFAULTS) -> None:
        self._tiers = tiers

    def of(self, tier: str, user: str) -> Tier:  # noqa: ARG002 - nobody has limits of his own here
        """The limits of this user; those of `free` when there is no such tier."""
        return self._tiers.get(tier) or self._tiers["free"]

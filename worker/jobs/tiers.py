"""What the users of a tier may have: a user is in the tier that the request names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

#: Starts a second over all users of a tier, and how many may come at once after a quiet time; of requests the same for each user.
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
        bandwidth: bytes a second, all downloads of all users of the tier together, on all engines.
        requests: requests a second of one user, at the doors that answer.
        requests_burst: requests at once after a time without any.
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
    requests: float | None = RATE_PER_S
    requests_burst: float = BURST


@dataclass(frozen=True, slots=True)
class Overall:
    """The limits of all users together; None means no limit.

    Attributes:
        rate, burst: of starts, as a tier's.
        running: jobs that take a slot, on all engines together.
        queued: jobs that wait.
    """

    rate: float | None = None
    burst: float = BURST
    running: int | None = None
    queued: int | None = None


@dataclass(frozen=True, slots=True)
class Bucket:
    """A token bucket: it holds `burst` tokens when it is full, and gets `rate` a second until then.

    Attributes:
        name: the same in every process; what it is for, and whose.
    """

    name: str
    rate: float
    burst: float


#: With no file of tiers. `admin` is the machine's owner: no limit, not even on starts.
DEFAULTS: Mapping[str, Tier] = {
    "free": Tier("free"),
    "premium": Tier("premium", weight=2),
    "vip": Tier("vip", weight=4),
    "admin": Tier("admin", rate=None, weight=8, requests=None),
}


@dataclass(frozen=True, slots=True)
class Limits:
    """Everything the operator has set, at one moment.

    Attributes:
        tiers: by name; has `free`.
        users: what a user has of his own, by the names of `Tier`'s fields; his `rate` and `burst` are a bucket beside his tier's,
            his `bandwidth` a budget beside his tier's.
        schedule: the budget of bandwidth of all engines that was set at run time (`notation.bandwidth`); it goes before the settings'.
    """

    tiers: Mapping[str, Tier] = field(default_factory=lambda: DEFAULTS)
    overall: Overall = Overall()
    users: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    schedule: str | None = None

    def of(self, tier: str, user: str) -> Tier:
        """The limits of this user; those of `free` when there is no such tier."""
        base = self.tiers.get(tier) or self.tiers["free"]
        own = self.users.get(user)
        return replace(base, **own) if own else base

    def starts(self, tier: str, user: str) -> tuple[Bucket, ...]:
        """The buckets that a start of this user takes one token of each."""
        base, own = self.of(tier, ""), self.users.get(user, {})
        rates = (
            ("start:all", self.overall.rate, self.overall.burst),
            (f"start:tier:{base.name}", base.rate, base.burst),
            (f"start:user:{user}", own.get("rate"), own.get("burst", base.burst)),
        )
        return tuple(Bucket(name, rate, burst) for name, rate, burst in rates if rate is not None)

    def speeds(self, tier: str, user: str) -> tuple[tuple[str, int], ...]:
        """The budgets of bandwidth that a download of this user shares, by name, bytes a second: his own, then his tier's."""
        base, own = self.tiers.get(tier) or self.tiers["free"], self.users.get(user, {})
        rates = ((f"user:{user}", own.get("bandwidth")), (f"tier:{base.name}", base.bandwidth))
        return tuple((name, rate) for name, rate in rates if rate is not None)

    def requests(self, tier: str, user: str) -> tuple[Bucket, ...]:
        """The buckets that a request of this user takes one token of each."""
        mine = self.of(tier, user)
        return () if mine.requests is None else (Bucket(f"request:user:{user}", mine.requests, mine.requests_burst),)


class FixedTiers:
    """Tiers that never change.

    Args:
        tiers: by name; must have `free`.
    """

    fault: str | None = None

    def __init__(self, tiers: Mapping[str, Tier] = DEFAULTS, overall: Overall | None = None) -> None:
        self._limits = Limits(tiers, overall or Overall())

    def of(self, tier: str, user: str) -> Tier:
        """The limits of this user; those of `free` when there is no such tier."""
        return self._limits.of(tier, user)

    def fresh(self) -> Limits:
        """All of them."""
        return self._limits

"""A job's webhook: who is told of its events, and how far that has come."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

from worker.jobs.errors import Rejected

#: The receiver of jobs that named none: the first of the settings, whichever that is when there is something to tell.
FIRST = ""
BACKOFF_FIRST_S = 1.0
BACKOFF_MAX_S = 300.0


@dataclass(frozen=True, slots=True)
class Hook:
    """The receiver of a job's events and what it took. It only ever moves on, to a larger (`sent`, `failures`).

    Attributes:
        receiver: `FIRST`, or `receiver_of` the address that was named. Addresses may hold tokens and stand in the settings alone.
        host: of the address when the job was recorded, for people.
        sent: version of the last event that was taken, or given up.
        failures: vain attempts to tell the next one.
        failing_since: store clock; the first of these, 0 when there is none.
        not_before: store clock; not tried again earlier.
    """

    receiver: str
    host: str
    sent: int = 0
    failures: int = 0
    failing_since: float = 0.0
    not_before: float = 0.0

    def past(self, version: int) -> Hook:
        """The event of this version was taken, or given up: the next one is tried at once and has time of its own."""
        return Hook(self.receiver, self.host, version)

    def failed(self, now: float) -> Hook:
        """It was not: put off, twice as long each time up to five minutes, with full jitter above a half.

        Args:
            now: store clock.
        """
        ceiling = min(BACKOFF_MAX_S, BACKOFF_FIRST_S * 2.0 ** min(self.failures, 20))
        wait_s = ceiling * (0.5 + random.random() / 2)  # noqa: S311 - spreads load, guards nothing
        return replace(self, failures=self.failures + 1, failing_since=self.failing_since or now, not_before=now + wait_s)


def hook_of(named: str | None, addresses: Sequence[str]) -> Hook | None:
    """The hook of a new job; None when there are no receivers and none was named.

    Args:
        named: the address a request names.
        addresses: those of the settings, of which it must be one.

    Raises:
        Rejected: it is none of them. The words hold no address, for it may have a token.
    """
    if named is None:
        return Hook(FIRST, host_of(addresses[0])) if addresses else None
    if named not in addresses:
        hosts = ", ".join(sorted(set(map(host_of, addresses))))
        fix = f"an address at {hosts} is known" if hosts else "leave it out; the operator sets HAUL_WEBHOOKS"
        raise Rejected("webhook", "is none of the addresses that this stack posts to", fix=fix)
    return Hook(receiver_of(named), host_of(named))


def receivers(addresses: Sequence[str]) -> Mapping[str, str]:
    """The address of each receiver that a hook may have."""
    first = {FIRST: addresses[0]} if addresses else {}
    return first | {receiver_of(address): address for address in addresses}


def receiver_of(address: str) -> str:
    """The name of a receiver in records: it tells addresses apart and does not hold them."""
    return hashlib.sha256(address.encode()).hexdigest()[:16]


def host_of(address: str) -> str:
    """Host and port of an address, which are no secret."""
    return urlsplit(address).netloc.rpartition("@")[2]

"""Holding a lease: renewed in time, or given up before somebody else can have it."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Mapping, Sequence

from worker.jobs.errors import LeaseLost, Transient
from worker.limits import LEASE_GIVE_UP_S, LEASE_RENEW_S, LEASE_S
from worker.ports import ENGINE_LEASE, Engine, Fault, FoundFile, JobStore, Lease, Order


def engine_lease(engine: str) -> str:
    """The name of the lease under which an engine is owned."""
    return f"{ENGINE_LEASE}{engine}"


def _since_boot() -> float:
    """Seconds that no change of a wall clock moves; the time a machine sleeps counts, for elsewhere a lease runs on meanwhile."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if sys.platform == "linux" else time.monotonic()


class Held:
    """A lease that one loop holds and renews as it goes; not shared between threads.

    A holder that could not renew for `LEASE_GIVE_UP_S` of its own monotonic clock has no lease any more, whatever the
    store says later, so a call to an engine begun under it ends before the lease does.
    """

    def __init__(self, store: JobStore, name: str, owner: str, monotonic: Callable[[], float] = _since_boot) -> None:
        self._store = store
        self._name = name
        self._owner = owner
        self._monotonic = monotonic
        self._lease: Lease | None = None
        self._renewed_at = 0.0

    @property
    def age_s(self) -> float:
        """Seconds since the store confirmed the lease last."""
        return self._monotonic() - self._renewed_at

    def has_time_for(self, seconds: float) -> bool:
        """True when a call that takes so long ends before the lease does."""
        return self._lease is not None and self.age_s + seconds <= LEASE_S

    def require(self, seconds: float = 0.0) -> None:
        """Raise LeaseLost unless what takes so long ends before the lease does; asks nobody."""
        if not self.has_time_for(seconds):
            raise LeaseLost("store", f"the lease {self._name!r} was confirmed {self.age_s:.0f} s ago; nothing is begun under it")

    def keep(self) -> Lease | None:
        """The lease, acquired or renewed when it is due; None while somebody else holds it or the store is away."""
        if self._lease is not None and self.age_s < LEASE_RENEW_S:
            return self._lease
        asked_at = self._monotonic()
        try:
            self._lease = self._renew(self._lease) if self._lease else self._store.acquire_lease(self._name, self._owner, LEASE_S)
            self._renewed_at = asked_at
        except LeaseLost:
            self._lease = None
        except Transient:
            if self._lease is None or self.age_s >= LEASE_GIVE_UP_S:
                self._lease = None
                raise
        return self._lease

    def drop(self) -> None:
        """Forget it without telling the store: it was taken from us."""
        self._lease = None

    def release(self) -> None:
        """Let the next owner have it at once; a store that does not answer lets it run out."""
        if self._lease is not None:
            with contextlib.suppress(Transient):  # it runs out by itself
                self._store.release_lease(self._lease)
            self._lease = None

    def _renew(self, lease: Lease) -> Lease:
        return self._store.renew_lease(lease, LEASE_S)


class Fenced:
    """An engine as the holder of its lease may use it: no change is begun that could end after the lease.

    The clock is looked at last before the call, so that a process that stood still on its way there gives no order.

    Args:
        opened: gives orders the limits they begin with.
        told: is given the answers to orders.
    """

    def __init__(
        self,
        engine: Engine,
        held: Held,
        opened: Callable[[Sequence[Order]], Sequence[Order]] = list,
        told: Callable[[Sequence[Fault | None]], None] = lambda _: None,
    ) -> None:
        self._engine = engine
        self._opened = opened
        self._held = held
        self._told = told
        self.name, self.slots, self.weight, self.directory = engine.name, engine.slots, engine.weight, engine.directory
        self.features, self.rpc_timeout_s = engine.features, engine.rpc_timeout_s
        self.handle, self.poll, self.close = engine.handle, engine.poll, engine.close

    def require(self) -> None:
        """Raise LeaseLost when an order would come too late; for what is done outside the engine under the same lease."""
        self._held.require(self.rpc_timeout_s)

    def submit(self, orders: Sequence[Order]) -> list[Fault | None]:
        """See `ports.Engine`. Raises LeaseLost, too."""
        opened = self._opened(orders)
        self.require()
        faults = self._engine.submit(opened)
        self._told(faults)
        return faults

    def pause(self, handles: Sequence[str]) -> None:
        """See `ports.Engine`. Raises LeaseLost, too."""
        self.require()
        self._engine.pause(handles)

    def remove(self, handles: Sequence[str]) -> list[str]:
        """See `ports.Engine`. Raises LeaseLost, too."""
        self.require()
        return self._engine.remove(handles)

    def throttle(self, limit: int | None) -> int | None:
        """See `ports.Engine`. Raises LeaseLost, too."""
        self.require()
        return self._engine.throttle(limit)

    def limit(self, limits: Mapping[str, int | None]) -> dict[str, int | None]:
        """See `ports.Engine`. Raises LeaseLost, too."""
        self.require()
        return self._engine.limit(limits)

    def files(self, handle: str) -> list[FoundFile]:
        """See `ports.Engine`."""
        return self._engine.files(handle)

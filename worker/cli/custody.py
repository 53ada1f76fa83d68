"""Everybody else kept out of some stores while one command works on them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import TracebackType

from worker.admission.admit import LEASE_NAME as ADMISSION_LEASE
from worker.engines.registry import PROGRAMS, build_engines
from worker.jobs.errors import Rejected
from worker.limits import LEASE_S
from worker.maintenance.lane import lane_lease
from worker.ports import JobStore
from worker.settings import EMBEDDED, Settings
from worker.store.comparison import NotCopied
from worker.supervision.lease import Held, engine_lease

#: One for every run of the command, so that the next one after a kill need not wait for the leases to run out.
OWNER = "haul store"


class Custody:
    """Holds the leases that an installation works under, so that none of its supervisors acts; a context manager.

    Doors, and steps on jobs that no engine has any more, need no lease: what they write is not kept out.

    Args:
        stores: by the word the user knows each by.
    """

    def __init__(self, stores: Mapping[str, JobStore]) -> None:
        self._stores = stores
        self._held: dict[tuple[str, str], Held] = {}

    def take(self, engines: Iterable[str]) -> None:
        """Take the leases of admission, of works by the clock, and of these engines in every store; those it has already stay.

        Raises:
            Rejected: somebody holds one.
        """
        from beat_schedule import CLOCK  # Celery takes a seventh of a second to load

        lanes = sorted({lane_lease(entry["lane"]) for entry in CLOCK.values()})
        for lease in (ADMISSION_LEASE, *lanes, *map(engine_lease, sorted(set(engines)))):
            for word, store in self._stores.items():
                held = self._held.get((word, lease)) or Held(store, lease, OWNER)
                if held.keep() is None:
                    raise Rejected(
                        word,
                        f"somebody works on this store and holds its lease {lease!r}",
                        fix=f"stop Haul on it first; what was killed is out of the way {LEASE_S:.0f} s later",
                    )
                self._held[word, lease] = held

    def keep(self) -> None:
        """Renew what is due; call it often.

        Raises:
            NotCopied: somebody took one over.
        """
        for (word, lease), held in self._held.items():
            if held.keep() is None:
                raise NotCopied(f"{word}: somebody took over the lease {lease!r} of this store: stop Haul on it, and begin again")

    def __enter__(self) -> Custody:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for held in self._held.values():
            held.release()


def engine_names(settings: Settings) -> set[str]:
    """The engines of these settings, and those an embedded stack may have.

    Raises:
        SettingsError: an engine's address is wrong.
    """
    addresses = [address for address in settings.engine_addresses if address != EMBEDDED]
    named = build_engines(addresses, directory=settings.data_dir, slots=settings.slots)
    return set(PROGRAMS) | set(named)

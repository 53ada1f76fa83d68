"""The right to run a work: of the works of one lane one runs at a time, on all machines together."""

from __future__ import annotations

import contextlib
import secrets
import threading
from collections.abc import Iterator

from worker import logs
from worker.jobs.errors import LeaseLost, Transient
from worker.limits import LEASE_RENEW_S, LEASE_S
from worker.ports import JobStore, Lease, Services

log = logs.get(__name__)


def lane_lease(name: str) -> str:
    """The name of the lease of a lane."""
    return f"maintenance:{name}"


@contextlib.contextmanager
def lane(services: Services, name: str) -> Iterator[bool]:
    """Hold a lane, renewed by a thread of its own; false when somebody else holds it.

    A process that dies has it for `LEASE_S` more. One that stood still for longer may find that another works in its lane: works
    are written so that this does no harm, and the ledger takes the word of the later one.

    Raises:
        Transient: the store does not answer.
    """
    owner = f"{services.owner}/{secrets.token_hex(4)}"  # a lease that is its owner's already would be given to him again
    lease = services.store.acquire_lease(lane_lease(name), owner, LEASE_S)
    if lease is None:
        yield False
        return
    over = threading.Event()
    keeper = threading.Thread(target=_keep, args=(services.store, lease, over), name=f"lane {name}", daemon=True)
    keeper.start()
    try:
        yield True
    finally:
        over.set()
        keeper.join()
        with contextlib.suppress(Transient):  # it runs out by itself
            services.store.release_lease(lease)


def _keep(store: JobStore, lease: Lease, over: threading.Event) -> None:
    while not over.wait(LEASE_RENEW_S):
        try:
            store.renew_lease(lease, LEASE_S)
        except LeaseLost:
            log.warning("another process has taken the lane of a work that was not heard of for too long", lease=lease.name)
            return
        except Transient as error:
            log.info("a lane cannot be renewed; it is tried again", lease=lease.name, error=str(error))

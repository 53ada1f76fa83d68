"""Workers that die at a point between two effects, and those that come after them."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor

from tests.e2e.processes import Worker
from tests.e2e.stack import Stack
from tests.waiting import eventually
from worker.limits import LEASE_S

#: From a kill until another process looks after the engine: the rest of the lease, a look of the next one, and some time to start.
TAKEOVER_S = LEASE_S + 8
RECOVERY_S = 75


def together(scenarios: Mapping[str, Callable[[], object]]) -> None:
    """Run all at once; fails with what went wrong in each."""
    with ThreadPoolExecutor(len(scenarios)) as pool:
        running = {name: pool.submit(scenario) for name, scenario in scenarios.items()}
    wrong = {name: error for name, future in running.items() if (error := future.exception())}
    assert not wrong, "\n\n".join(f"{name}: {type(error).__name__}: {error}" for name, error in wrong.items())


@contextlib.contextmanager
def dying(stack: Stack, point: str, count: int = 1) -> Iterator[None]:
    """A worker that dies when it passes the point that often; it is at work in the block, and dead behind it."""
    worker = stack.work(ready=False, HAUL_FAILPOINT=f"{point}:kill:{count}")
    yield
    eventually(lambda: worker.ended() is not None, "the worker dies", RECOVERY_S, stack.tail)
    assert worker.ended() == -signal.SIGKILL, stack.tail()


def taken_over(stack: Stack) -> Worker:
    """The next worker, once it looks after the engines."""
    second = stack.work(ready=False)
    eventually(lambda: stack.owner() == second.pid, "the next one takes over", TAKEOVER_S, stack.tail)
    return second

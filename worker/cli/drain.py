"""An end to every drain: the first signal starts a clock, the second one, or the clock, ends the process."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from worker.limits import DRAIN_S

_STOPPING = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def bounded_drain(begun: Callable[[], None], last_resort: Callable[[], None], drain_s: float = DRAIN_S) -> Iterator[threading.Event]:
    """See SIGTERM and SIGINT beside whoever handles them inside; call it in the main thread. Yields what the first one sets.

    Until somebody inside installs handlers, both raise KeyboardInterrupt.

    Args:
        begun: called in another thread at the first signal.
        last_resort: called in another thread, just before the process ends with code 1.
    """
    asked = threading.Event()
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    before = {number: signal.signal(number, signal.default_int_handler) for number in _STOPPING}
    signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    watcher = threading.Thread(target=_watch, args=(reader, asked, begun, last_resort, drain_s), name="signals", daemon=True)
    watcher.start()
    try:
        yield asked
    finally:
        signal.set_wakeup_fd(-1)
        writer.close()
        watcher.join()
        reader.close()
        for number, handler in before.items():
            signal.signal(number, handler)


def _watch(
    reader: socket.socket, asked: threading.Event, begun: Callable[[], None], last_resort: Callable[[], None], drain_s: float
) -> None:
    if not _next(reader):
        return
    asked.set()
    begun()
    deadline = time.monotonic() + drain_s
    reader.settimeout(drain_s)
    try:
        second = _next(reader)
    except TimeoutError:
        second = True
    if second:
        waited = drain_s - max(0.0, deadline - time.monotonic())
        sys.stderr.write(f"haul: stopped at once, {waited:.0f} s after the first signal; what was recorded is safe\n")
        last_resort()
        os._exit(1)


def _next(reader: socket.socket) -> bool:
    """Wait for a signal to stop; false at the end of the pipe."""
    while number := reader.recv(1):
        if number[0] in _STOPPING:
            return True
    return False

"""A subscription that knows how far it has heard: its own pings come back behind every message that was sent before them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from math import inf
from typing import Any

from redis import exceptions as errors

from worker import logs
from worker.coordination.cache.shared import CacheBounds
from worker.coordination.connection import Connection
from worker.jobs.errors import Transient

RETRY_S = 0.2

log = logs.get(__name__)


class Listening:
    """One channel, one thread, one connection at a time; a new one after each failure, for good.

    redis-py's own subscription connects again without a word, and what was missed meanwhile would never be known.

    Attributes:
        heard_at: all that was published before this time (monotonic clock) was told; -inf while there is no subscription.
    """

    def __init__(self, connection: Connection, channel: str, bounds: CacheBounds) -> None:
        self._connection, self._channel, self._bounds = connection, channel, bounds
        self._closed = threading.Event()
        self.heard_at = -inf

    def start(self, told: Callable[[str], None], begun: Callable[[], None]) -> None:
        """Subscribe in a thread.

        Args:
            told: called with each message.
            begun: called after each subscription, before it counts; it is tried again when this raises Transient.
        """
        threading.Thread(target=self._run, args=(told, begun), name="cache-listening", daemon=True).start()

    def close(self) -> None:
        """Tell no more; the thread ends within about a ping's time and is not waited for. Idempotent."""
        self._closed.set()

    def _run(self, told: Callable[[str], None], begun: Callable[[], None]) -> None:
        told_of = False
        while not self._closed.is_set():
            connection = self._connection.lone()
            try:
                self._listen(connection, told, begun)
            except (errors.RedisError, OSError, Transient) as error:
                if (self.heard_at > -inf or not told_of) and not self._closed.is_set():  # once, until it hears again
                    log.warning("the cache hears nothing of other processes and keeps nothing for long", error=type(error).__name__)
                told_of = True
            except Exception:
                if not self._closed.is_set():
                    raise  # else the process ends: its connections were closed under who was reading, and redis-py has no word for that
            finally:
                self.heard_at = -inf
                with suppress(errors.RedisError, OSError):
                    connection.disconnect()
            self._closed.wait(RETRY_S)

    def _listen(self, connection: Any, told: Callable[[str], None], begun: Callable[[], None]) -> None:
        connection.connect()
        connection.send_command("SUBSCRIBE", self._channel, check_health=False)
        connection.read_response(timeout=self._bounds.silence_s)
        heard = time.monotonic()
        begun()
        self.heard_at = heard
        asked_at: float | None = None
        while not self._closed.is_set():
            now = time.monotonic()
            if asked_at is None and now >= self.heard_at + self._bounds.ping_s:
                asked_at = now
                connection.send_command("PING", check_health=False)
            if asked_at is not None and now > asked_at + self._bounds.silence_s:
                raise errors.TimeoutError
            if not connection.can_read(timeout=self._bounds.ping_s):
                continue
            answer = connection.read_response(timeout=self._bounds.silence_s)
            if answer[0] == "message" and not self._closed.is_set():
                told(answer[2])
            elif answer[0] == "pong" and asked_at is not None:
                self.heard_at, asked_at = asked_at, None

"""The connections to Redis: bounded pools, time-outs everywhere, and the one place where redis-py's exceptions end."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.resources import files
from typing import Any
from urllib.parse import urlsplit

from redis import BlockingConnectionPool, Redis
from redis import exceptions as errors
from redis.backoff import ConstantBackoff
from redis.retry import Retry

from worker.coordination.bounds import Bounds
from worker.jobs.errors import Transient
from worker.settings import SettingsError

SCHEMES = ("redis", "rediss", "unix")
RETRY_AFTER_S = 0.05
HEALTH_CHECK_S = 30
#: Shown by CLIENT LIST.
CLIENT_NAME = "haul"
DETAIL_CHARS_MAX = 200

Script = Callable[[Sequence[str], Sequence[str | int | float]], Any]


class Connection:
    """One Redis or Valkey, as `RedisCoordinator` uses it.

    A command whose connection broke is sent once more; the commands and scripts used are safe to repeat. One that timed out is
    not: the server may hang, and the time is the caller's.

    Args:
        url: `redis://`, `rediss://` or `unix://`; options in its query go before ours.
        max_connections: of each of the two pools; a call waits for a free one.

    Raises:
        SettingsError: the address cannot be used; its password is not shown.
    """

    def __init__(self, url: str, *, max_connections: int, bounds: Bounds) -> None:
        self._bounds = bounds
        self._silent_until = 0.0
        # Any: redis-py's own types are unions over its synchronous and asynchronous clients.
        self.commands: Any = _client(url, max_connections, bounds, bounds.answer_s)
        #: For commands that wait on the server for up to `block_s`; its time-out is short so that `rest` ends in time.
        self.blocking: Any = _client(url, max_connections, bounds, bounds.block_s + min(1.0, bounds.answer_s))

    @contextmanager
    def answers(self) -> Iterator[None]:
        """Turn what goes wrong inside into `Transient`; fail at once while the server is known to be silent."""
        if time.monotonic() < self._silent_until:
            raise Transient("redis", "did not answer in time a moment ago")
        try:
            yield
        except errors.RedisError as error:
            if isinstance(error, errors.TimeoutError):
                self._silent_until = time.monotonic() + self._bounds.silence_s
            if isinstance(error, (errors.TimeoutError, errors.ReadOnlyError)):
                self._drop_idle()
            detail = _words(error)
        else:
            return
        raise Transient("redis", detail)

    def _drop_idle(self) -> None:
        """Idle connections may be as dead as the one that timed out, or lead to the same old master; the next calls make new ones."""
        for client in (self.commands, self.blocking):
            client.connection_pool.disconnect(inuse_connections=False)

    def script(self, name: str) -> Script:
        """The script `lua/<name>.lua`; it is sent again when the server has lost it."""
        text = files("worker.coordination").joinpath("lua", f"{name}.lua").read_text(encoding="utf-8")
        registered = self.commands.register_script(text)

        def run(keys: Sequence[str], args: Sequence[str | int | float]) -> Any:
            with self.answers():
                return registered(keys=keys, args=args)

        return run

    def counts(self) -> tuple[int, int]:
        """How many connections are open, and how many of them are lent."""
        pools = [client.connection_pool for client in (self.commands, self.blocking)]
        return sum(len(pool._connections) for pool in pools), sum(pool.max_connections - pool.pool.qsize() for pool in pools)

    def lone(self) -> Any:
        """A connection of one's own, of no pool and not connected yet, for a subscription; redis-py's errors come out of it."""
        pool = self.commands.connection_pool
        return pool.connection_class(**{**pool.connection_kwargs, "health_check_interval": 0})

    def close(self) -> None:
        """Close every connection."""
        for client in (self.commands, self.blocking):
            client.close()
            client.connection_pool.disconnect()


def _words(error: errors.RedisError) -> str:
    """What is wrong, without the command that met it: its arguments are the users'."""
    if isinstance(error, errors.OutOfMemoryError):
        return "its memory is full (maxmemory); make room, or raise the limit"
    if isinstance(error, errors.ReadOnlyError):
        return "it is a replica, which takes no writes; HAUL_REDIS_URL must lead to the master"
    text = str(error).rpartition(" caused error: ")[2]
    return (text or type(error).__name__)[:DETAIL_CHARS_MAX]


def _client(url: str, max_connections: int, bounds: Bounds, timeout_s: float) -> Redis:
    return Redis(connection_pool=_pool(url, max_connections, bounds, timeout_s))


def _pool(url: str, max_connections: int, bounds: Bounds, timeout_s: float) -> BlockingConnectionPool:
    _check_scheme(url)
    try:
        pool = BlockingConnectionPool.from_url(
            url,
            max_connections=max_connections,
            timeout=bounds.answer_s,
            socket_connect_timeout=bounds.connect_s,
            socket_timeout=timeout_s,
            health_check_interval=HEALTH_CHECK_S,
            retry=Retry(ConstantBackoff(RETRY_AFTER_S), 1, (errors.ConnectionError,)),
            protocol=2,
            client_name=CLIENT_NAME,
            decode_responses=True,
            # Bytes of strangers that are no UTF-8 come through, and are found out by `wire`.
            encoding_errors="surrogateescape",
        )
        pool.connection_class(**pool.connection_kwargs)  # options it does not know would show at the first command only
    except (ValueError, TypeError):
        # The library's words may show a part of the password, as when it holds a slash.
        raise SettingsError(
            "HAUL_REDIS_URL: is not a valid address; it reads redis://:password@host:6379/0, with special characters percent-encoded"
        ) from None
    return pool


def _check_scheme(url: str) -> None:
    try:
        scheme = urlsplit(url).scheme
    except ValueError:
        scheme = ""
    if scheme == "sentinel":
        raise SettingsError("HAUL_REDIS_URL: sentinel:// is not supported yet; use the redis:// or rediss:// address of the master")
    if scheme not in SCHEMES:
        raise SettingsError("HAUL_REDIS_URL: must begin with redis:// or rediss://")

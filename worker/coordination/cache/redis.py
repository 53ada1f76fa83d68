"""`Shared` on Redis or Valkey: entries with the tokens of their marks, a lock while one is loaded, and a channel for invalidations."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress

import orjson

from worker.coordination.bounds import Bounds
from worker.coordination.cache.layered import LayeredCache
from worker.coordination.cache.listening import Listening
from worker.coordination.cache.popular import KEPT_MAX, KEPT_S, RATES_S, Told
from worker.coordination.cache.shared import Answer, CacheBounds
from worker.coordination.connection import Connection
from worker.coordination.keys import Keys
from worker.jobs.errors import Transient

CONNECTIONS_MAX = 10
#: Beside value and name: keys, expiries, index and tokens, as MEMORY USAGE and the growth of a server show it.
ENTRY_BYTES = 900
#: Shortest life that a server can count.
LIFE_MS_MIN = 1


def redis_cache(url: str, *, prefix: str, bytes_max: int, shared_bytes_max: int, bounds: CacheBounds | None = None) -> LayeredCache:
    """A cache whose shared part is on a Redis or Valkey; nothing is connected before its first use.

    Args:
        bytes_max: of the entries in this process.
        shared_bytes_max: of those on the server, by an index of our own; 0 when the server itself evicts what was not used for long.

    Raises:
        SettingsError: the address cannot be used.
    """
    bounds = bounds or CacheBounds()
    return LayeredCache(RedisShared(url, prefix=prefix, bytes_max=shared_bytes_max, bounds=bounds), bytes_max=bytes_max, bounds=bounds)


class RedisShared:
    """Implements `Shared`; safe to use from several threads."""

    def __init__(self, url: str, *, prefix: str, bytes_max: int, bounds: CacheBounds) -> None:
        self._bounds, self._bytes_max = bounds, bytes_max
        self._keys = Keys(prefix)
        self._connection = Connection(url, max_connections=CONNECTIONS_MAX, bounds=_hasty())
        script = self._connection.script
        self._read, self._keep, self._own, self._unlock, self._ask = map(
            script, ("cache_read", "cache_keep", "cache_owner", "unclaim", "cache_asked")
        )
        self._me = secrets.token_hex(8)
        self._listening = Listening(self._connection, self._keys.cache_channel, bounds)

    @property
    def heard_at(self) -> float:
        """See `Shared`."""
        return self._listening.heard_at

    def listen(self, dropped: Callable[[Collection[str]], None], gap: Callable[[], None]) -> None:
        """See `Shared`."""

        def told(text: str) -> None:
            sender, *marks = orjson.loads(text)
            if sender != self._me:
                dropped(marks)

        def begun() -> None:
            self._check_server()
            gap()

        self._listening.start(told, begun)

    def read(self, name: str, marks: Sequence[str], tail_s: float, *, alone: bool) -> Answer:
        """See `Shared`."""
        keys = [self._keys.cache_entry(name), self._keys.cache_lock(name), *map(self._keys.cache_token, marks)]
        times = [_ms(self._bounds.lock_s), _ms(self._bounds.fill_s)]
        body, left_ms, tokens = self._read(keys, [self._me, *times, secrets.token_hex(6), _ms(tail_s), int(alone)])
        return Answer(body.encode() if body is not None else None, left_ms / 1_000, tuple(tokens.split()))

    def keep(self, name: str, marks: Sequence[str], tokens: Sequence[str], value: bytes, life_s: float) -> bool:
        """See `Shared`."""
        keys = [self._keys.cache_entry(name), self._keys.cache_lock(name), *self._keys.cache_index, *map(self._keys.cache_token, marks)]
        figures = [self._bytes_max, ENTRY_BYTES, _ms(self._bounds.fill_s)]
        return bool(self._keep(keys, [self._me, max(LIFE_MS_MIN, _ms(life_s)), value.decode(), *figures, *tokens]))

    def give_up(self, name: str) -> None:
        """See `Shared`."""
        self._unlock([self._keys.cache_lock(name)], [self._me])

    def invalidate(self, marks: Sequence[str]) -> None:
        """See `Shared`. The tokens go before the message, so that nobody who heard it reads what they stood for."""
        with self._connection.answers(), self._connection.commands.pipeline(transaction=True) as pipe:
            pipe.delete(*map(self._keys.cache_token, marks))
            pipe.publish(self._keys.cache_channel, orjson.dumps([self._me, *marks]))
            pipe.execute()

    def tell_asked(self, day: int, minute: int, told: Told) -> None:
        """See `Shared`."""
        counts = [part for pair in told.counts.items() for part in pair]
        figures = [KEPT_MAX, KEPT_S * 1_000, RATES_S * 1_000, told.reads, told.found]
        self._ask([self._keys.cache_asked(day), self._keys.cache_rate(minute)], [*figures, *counts])

    def asked(self, day: int, limit: int) -> list[tuple[str, float]]:
        """See `Shared`."""
        with self._connection.answers():
            found = self._connection.commands.zrevrange(self._keys.cache_asked(day), 0, limit - 1, withscores=True)
        return [(text, float(count)) for text, count in found]

    def rates(self, minutes: range) -> tuple[int, int]:
        """See `Shared`."""
        with self._connection.answers(), self._connection.commands.pipeline(transaction=False) as pipe:
            for minute in minutes:
                pipe.hmget(self._keys.cache_rate(minute), "reads", "found")
            rows = pipe.execute()
        return sum(int(reads or 0) for reads, _ in rows), sum(int(found or 0) for _, found in rows)

    def usage(self) -> tuple[int, int | None, int | None]:
        """See `Shared`. Without an index entries are not counted, and it says 0."""
        index, sizes = self._keys.cache_index
        with self._connection.answers():
            entries, total = self._connection.commands.pipeline(transaction=False).zcard(index).hget(sizes, "").execute()
        return (entries, int(total or 0), self._bytes_max) if self._bytes_max else (0, None, None)

    def close(self) -> None:
        """See `Shared`."""
        self._listening.close()
        self._connection.close()

    def _check_server(self) -> None:
        """Raises Transient."""
        run = ""
        with suppress(Transient), self._connection.answers():  # not every user may ask for INFO
            run = str(self._connection.commands.info("server").get("run_id", ""))
        self._own([self._keys.cache_server, self._keys.cache_token("^")], [run or secrets.token_hex(8)])


def _hasty() -> Bounds:
    """A cache that does not answer soon is worse than none."""
    return Bounds(connect_s=0.5, answer_s=0.5, block_s=0.1, silence_s=1.0)


def _ms(seconds: float) -> int:
    return round(seconds * 1_000)

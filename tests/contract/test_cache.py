"""The cache in memory and on a real Valkey and a real Redis keeps its promises, and what it does when the server misbehaves."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import pytest
import redis as client

from tests.contract.cache_suite import LONG, MIB, CacheSuite, MakeCache, Source, live
from tests.servers import redis_program
from tests.tcp_proxy import TcpProxy
from tests.waiting import until
from worker.cli.servers import Server, free_port, start_valkey
from worker.coordination.cache.memory import CacheServer, fake_cache
from worker.coordination.cache.redis import redis_cache
from worker.coordination.cache.shared import CacheBounds
from worker.ports.cache import Asked, Cache, Kind


@contextmanager
def maker(url: str, prefix: str) -> Iterator[MakeCache]:
    """Make caches, and close them at the end."""
    made: list[Cache] = []

    def make(bytes_max: int = 8 * MIB, shared_bytes_max: int = 8 * MIB, **bounds: Any) -> Cache:
        made.append(redis_cache(url, prefix=prefix, bytes_max=bytes_max, shared_bytes_max=shared_bytes_max, bounds=CacheBounds(**bounds)))
        return made[-1]

    yield make
    for cache in made:
        cache.close()


class TestFakeCache(CacheSuite):
    @pytest.fixture
    def make(self) -> Iterator[MakeCache]:
        server, made = CacheServer(), []

        def make(bytes_max: int = 8 * MIB, shared_bytes_max: int = 8 * MIB, **bounds: Any) -> Cache:
            made.append(fake_cache(server, bytes_max=bytes_max, shared_bytes_max=shared_bytes_max, bounds=CacheBounds(**bounds)))
            return made[-1]

        yield make
        for cache in made:
            cache.close()


class TestRedisCache(CacheSuite):
    @pytest.fixture
    def make(self, any_redis: Server, key_prefix: str) -> Iterator[MakeCache]:
        with maker(any_redis.url, key_prefix) as make:
            yield make


# ---- a server that misbehaves ----


@pytest.fixture
def proxied(valkey: Server, key_prefix: str) -> Iterator[tuple[TcpProxy, MakeCache, MakeCache]]:
    """A proxy, caches behind it, and caches that reach the server without it."""
    parts = urlsplit(valkey.url)
    with TcpProxy(f"{parts.hostname}:{parts.port}") as proxy:
        behind = urlunsplit(parts._replace(netloc=f":{parts.password}@{proxy.address}"))
        with maker(behind, key_prefix) as make_behind, maker(valkey.url, key_prefix) as make:
            yield proxy, make_behind, make


def test_without_news_of_the_server_nothing_is_given_that_is_older_than_the_trust(proxied: tuple[TcpProxy, MakeCache, MakeCache]) -> None:
    proxy, behind, direct = proxied
    deaf, writer, source = live(behind(trust_s=0.5)), live(direct()), Source()
    deaf.get(LONG, "k", source)
    deaf.get(LONG, "k", source)
    assert source.loads == 1
    proxy.black_hole()  # the subscription is dead and nobody was told
    source.value = "v1"
    begun = time.monotonic()
    writer.invalidate(keys=[(LONG, "k")])
    assert writer.flush(5.0)
    until(lambda: deaf.get(LONG, "k", source) == "v1")
    assert time.monotonic() - begun < 15.0, "half a second, and one time-out of a question to Redis; not the life of the value"
    loads = source.loads
    for _ in range(20):
        deaf.get(LONG, "k", source)
    assert source.loads <= loads + 1, "it is kept for half a second all the same"


def test_entries_of_before_a_gap_are_gone_after_it(proxied: tuple[TcpProxy, MakeCache, MakeCache]) -> None:
    proxy, behind, _ = proxied
    cache, source, own = live(behind(trust_s=60.0)), Source(), Kind("own", 60.0, shared=False)
    cache.get(own, "k", source)
    proxy.cut()
    source.value = "v1"
    assert until(lambda: cache.get(own, "k", source) == "v1"), "the trust alone would have given it for a minute"


def test_an_invalidation_that_could_not_be_told_is_told_later(proxied: tuple[TcpProxy, MakeCache, MakeCache]) -> None:
    proxy, behind, direct = proxied
    writer, reader, source = live(behind()), live(direct()), Source()
    for each in (writer, reader):
        each.get(LONG, "k", source)
    proxy.refuse()
    source.value = "v1"
    writer.invalidate(keys=[(LONG, "k")])
    assert not writer.flush(0.3)
    assert reader.get(LONG, "k", source) == "v0", "nobody could tell"
    assert writer.get(LONG, "k", source) == "v1", "who wrote it knows"
    proxy.heal()
    assert writer.flush(10.0)
    assert until(lambda: reader.get(LONG, "k", source) == "v1")


def test_too_many_untold_invalidations_become_one_of_everything(proxied: tuple[TcpProxy, MakeCache, MakeCache]) -> None:
    proxy, behind, direct = proxied
    writer, reader, source = live(behind(pending_max=10)), live(direct()), Source()
    reader.get(LONG, "never named", source)
    proxy.refuse()
    for number in range(11):
        writer.invalidate(tags=[str(number)])
    source.value = "v1"
    proxy.heal()
    assert writer.flush(10.0)
    assert until(lambda: reader.get(LONG, "never named", source) == "v1")


def test_a_server_that_comes_back_with_old_entries_is_not_believed(tmp_path: Path) -> None:
    program, port = redis_program(), free_port()
    server = start_valkey(program, tmp_path, port=port, secret="s")
    with maker(server.url, "t") as make:
        cache, source = live(make()), Source()
        cache.get(LONG, "k", source)
        raw = client.Redis.from_url(server.url)
        copies = {key: (raw.dump(key), max(raw.pttl(key), 0)) for key in raw.scan_iter("t:cache:*")}
        raw.close()
        server.stop()
        source.value = "v1"
        cache.invalidate(keys=[(LONG, "k")])
        assert cache.get(LONG, "k", source) == "v1"
        server = start_valkey(program, tmp_path, port=port, secret="s")
        raw = client.Redis.from_url(server.url)
        try:
            for key, (value, life_ms) in copies.items():  # as a server that lost its last second
                raw.restore(key, life_ms, value, replace=True)
            fresh = live(make())
            assert fresh.get(LONG, "k", source) == "v1"
            assert until(lambda: live(cache) and cache.flush(5.0))
            assert cache.get(LONG, "k", source) == "v1"
        finally:
            raw.close()
            server.stop()


def test_tokens_that_the_server_lost_invalidate_what_they_stood_for(valkey: Server, key_prefix: str) -> None:
    with maker(valkey.url, key_prefix) as make, client.Redis.from_url(valkey.url) as raw:
        cache, other, source = live(make()), live(make()), Source()
        cache.get(LONG, "k", source, ["t"])
        raw.delete(f"{key_prefix}:cache:t:=t")
        source.value = "v1"
        assert other.get(LONG, "k", source, ["t"]) == "v1"


def test_what_was_asked_is_not_known_without_the_server_and_costs_no_read(proxied: tuple[TcpProxy, MakeCache, MakeCache]) -> None:
    proxy, behind, _ = proxied
    cache = live(behind(tell_s=0.01))
    proxy.refuse()
    for number in range(200):
        assert cache.get(Kind("own", 60.0, shared=False), str(number), Source(), again=(number,)) == "v0"
    assert (cache.hottest(10), cache.asked(0, time.time())) == ([], Asked())


def test_every_key_has_an_end_or_a_bound(valkey: Server, key_prefix: str) -> None:
    with maker(valkey.url, key_prefix) as make, client.Redis.from_url(valkey.url) as raw:
        cache = live(make(tell_s=0.0))
        for number in range(20):
            cache.get(LONG, str(number), Source(), [f"u:{number}"], again=(number,))
        until(lambda: cache.hottest(1))
        without = {key.decode().removeprefix(key_prefix) for key in raw.scan_iter(f"{key_prefix}*") if raw.ttl(key) == -1}
        assert without == {":cache:index", ":cache:sizes", ":cache:server"}


def test_the_server_grows_by_no_more_than_the_bound(tmp_path: Path) -> None:
    server = start_valkey(redis_program(), tmp_path)
    try:
        with maker(server.url, "t") as make, client.Redis.from_url(server.url) as raw:
            cache = live(make(shared_bytes_max=2 * MIB))
            before = raw.info("memory")["used_memory"]
            for number in range(3_000):
                cache.get(LONG, f"{number:024d}", Source("x" * (number % 4_000)), [f"jobs:{number % 100}"])
            grown = raw.info("memory")["used_memory"] - before
            stats = cache.stats()
            print(f"grown by {grown}, counted {stats.shared_bytes}, {stats.shared_entries} entries")
            assert stats.shared_bytes is not None
            assert 1.5 * MIB < stats.shared_bytes <= 2 * MIB
            assert grown <= 2.3 * MIB, "the bound, and what connections and scripts take"
    finally:
        server.stop()

"""The coordinator on a real Valkey and a real Redis: its promises, and what it does when the server misbehaves."""

from __future__ import annotations

import signal
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from importlib.resources import files
from math import inf, nan
from typing import Any
from urllib.parse import urlsplit

import pytest
import redis as client

from tests.contract.bucket_suite import SLOW, BucketSuite
from tests.contract.coordinator_contract import CoordinatorSuite
from tests.contract.coordinator_suite import Make, event, ids_of, moved, request, snapshot, until, waiting
from tests.servers import own_redis
from tests.tcp_proxy import TcpProxy
from worker.cli.servers import Server, free_port
from worker.coordination.bounds import Bounds
from worker.coordination.keys import Keys
from worker.coordination.redis import RedisCoordinator
from worker.jobs.errors import Transient
from worker.jobs.model import Progress
from worker.jobs.tiers import Bucket
from worker.ports import Coordinator, StreamReset
from worker.settings import SettingsError

HASTY: dict[str, float] = {"connect_s": 0.3, "answer_s": 0.15, "block_s": 0.1, "silence_s": 0.1}


@contextmanager
def maker(url: str, prefix: str) -> Iterator[Make]:
    """Make coordinators, and close them at the end."""
    made: list[RedisCoordinator] = []

    def make(**bounds: Any) -> RedisCoordinator:
        made.append(RedisCoordinator(url, prefix=prefix, max_connections=4, bounds=Bounds(**bounds)))
        return made[-1]

    yield make
    for coordinator in made:
        coordinator.close()


def level(tokens: float, at_us: float, line_us: float) -> bytes:
    """What is kept of a bucket."""
    return struct.pack("<ddd", tokens, at_us, line_us)


def script_text(name: str) -> str:
    return files("worker.coordination").joinpath("lua", f"{name}.lua").read_text()


def fill(redis: Coordinator) -> None:
    """Use every key there is."""
    redis.offer([request(1), request(2)])
    redis.may_nudge("intake")
    redis.remind("admit", 1e9)
    redis.wake("aria2")
    redis.claim("job", "me", 60.0)
    redis.begin("finish", ["a"])
    redis.add_waiting([waiting("a", "u"), waiting("b", "u", due=1e9)])
    redis.take_tokens([[SLOW]])
    redis.move_turns(moved(60.0, shares={"u": 1.0}))
    redis.move_turns(moved(61.0, shares={"u": 1.0}))
    redis.put_progress("aria2", {"a": Progress(1)})
    redis.put_snapshot(snapshot("aria2"))
    redis.publish([event(1)])


def every_call(redis: Coordinator) -> list[Callable[[], object]]:
    """Each call that needs an answer."""
    return [
        redis.ping,
        redis.intake_size,
        redis.parked_size,
        redis.waiting_size,
        redis.snapshots,
        lambda: redis.offer([request(1)]),
        lambda: redis.take_intake("a", 1),
        lambda: redis.ack_intake(["1-1"]),
        lambda: redis.park_intake(redis.take_intake("a", 1)),
        lambda: redis.begin("finish", ["a"]),
        lambda: redis.end("finish", ["a"]),
        lambda: redis.may_nudge("admit"),
        lambda: redis.looked("admit"),
        lambda: redis.wake("aria2"),
        lambda: redis.remind("admit", 1.0),
        lambda: redis.reminders(1.0),
        lambda: redis.claim("job", "me", 1.0),
        lambda: redis.unclaim("job", "me"),
        lambda: redis.add_waiting([waiting("a", "u")]),
        lambda: redis.drop_waiting(["a"]),
        lambda: redis.waiting_heads(1, 0.0),
        lambda: redis.move_turns(moved(1.0)),
        lambda: redis.freed_lately(1.0),
        lambda: redis.waiting_place("a", "u"),
        lambda: redis.take_tokens([[SLOW]]),
        lambda: redis.tokens([SLOW]),
        lambda: redis.put_progress("aria2", {}),
        lambda: redis.progress({"aria2": ["a"]}),
        lambda: redis.put_snapshot(snapshot("aria2")),
        lambda: redis.publish([event(1)]),
        lambda: redis.read_events(None, 1, 0.0),
        lambda: redis.read_events("0-0", 1, 1.0),
    ]


class OnRedis:
    """On a Valkey, then on a Redis; `raw` looks past the coordinator."""

    @pytest.fixture
    def make(self, any_redis: Server, key_prefix: str) -> Iterator[Make]:
        self.keys, self.raw = Keys(key_prefix), client.Redis.from_url(any_redis.url)
        with maker(any_redis.url, key_prefix) as make:
            yield make
        self.raw.close()


class TestRedisCoordinator(OnRedis, CoordinatorSuite):
    def write_text(self, coordinator: Coordinator, text: bytes) -> None:
        self.raw.xadd(self.keys.intake, {"body": text})

    def test_every_key_is_named_with_its_type_and_those_that_run_out_do(self, redis: RedisCoordinator, key_prefix: str) -> None:
        fill(redis)
        redis.park_intake(redis.take_intake("a", 1))
        types = {key.decode(): self.raw.type(key).decode() for key in self.raw.scan_iter(f"{key_prefix}:*")}
        p = key_prefix
        assert types == {
            f"{p}:intake": "stream",
            f"{p}:intake:parked": "stream",
            f"{p}:nudge:intake": "string",
            f"{p}:wake:sweeper": "list",
            f"{p}:wake:aria2": "list",
            f"{p}:reminders": "zset",
            f"{p}:claim:job": "string",
            f"{p}:begun:finish:a": "string",
            f"{p}:waiting:jobs": "hash",
            f"{p}:waiting:users": "zset",
            f"{p}:waiting:later": "zset",
            f"{p}:waiting:u:u": "zset",
            f"{p}:bucket:slow": "string",
            f"{p}:waiting:shares": "hash",
            f"{p}:waiting:clock": "hash",
            f"{p}:waiting:freed": "hash",
            f"{p}:progress:aria2": "hash",
            f"{p}:engines": "set",
            f"{p}:engine:aria2": "string",
            f"{p}:events": "stream",
        }
        lasting = {key for key in types if self.raw.pttl(key) == -1}
        kept = ("intake", "waiting", "engines", "events", "reminders")
        assert lasting == {key for key in types if key.split(":")[1] in kept} - {f"{p}:waiting:freed"}

    def test_parked_messages_are_kept_as_they_came_and_bounded(self, make: Make) -> None:
        redis = make(parked_max=2, parked_bytes=4)
        for text in (b"1", b"2", b"\xff3456"):
            self.write_text(redis, text)
        redis.park_intake(redis.take_intake("a", 10))
        assert [fields[b"body"] for _, fields in self.raw.xrange(self.keys.parked)] == [b"2", b"\xff345"]

    def test_a_call_that_is_sent_twice_notes_the_begin_of_work_once(self, redis: RedisCoordinator) -> None:
        key, script = self.keys.begun("finish", "a"), self.raw.register_script(script_text("begin"))
        assert [script(keys=[key], args=[60, "one call", 0]) for _ in range(2)] == [[0], [0]]
        assert [script(keys=[key], args=[60, "the next", 1]) for _ in range(2)] == [[1], [1]]
        assert redis.begin("finish", ["a"]) == {"a": 2}

    def test_a_move_of_the_turns_that_is_sent_twice_moves_them_once(self, redis: RedisCoordinator) -> None:
        redis.add_waiting([waiting("a", "u")])
        script = self.raw.register_script(script_text("waiting_move"))
        for mark in ("one call", "one call", "the next"):
            script(keys=self.keys.turns, args=[1.0, 60, 3_600, 0, 0, 0, 0, mark, 1, "u", 0.5])
        assert redis.waiting_heads(1, 0.0).lines[0].turn == 2.0

    def test_what_an_older_version_wrote_is_taken_over_by_a_rebuild(self, redis: RedisCoordinator) -> None:
        p = self.keys.prefix
        self.raw.hset(f"{p}:waiting:jobs", mapping={"a": "5 0.0 u", "b": "6 0.0 u"})
        self.raw.zadd(f"{p}:waiting:u:u", {"a": 5, "b": 6})
        self.raw.zadd(f"{p}:waiting:users", {"u": 7})
        assert ids_of(redis, 5, 0.0) == ["a", "b"]
        redis.add_waiting([waiting("a", "u", since=1.0, tier="vip")])
        redis.drop_waiting(["b"])
        until(lambda: [(line.tier, line.ids, line.size) for line in redis.waiting_heads(5, 0.0).lines] == [("vip", ("a",), 1)])

    def test_consumers_that_ended_are_forgotten_and_those_with_messages_are_not(self, make: Make) -> None:
        redis = make(consumer_s=0.0)
        redis.offer([request(1)])
        for name in ("holds", "idle"):
            redis.take_intake(name, 1)
        until(lambda: redis.take_intake(f"new {time.monotonic_ns()}", 1) or b"idle" not in self.consumers())
        assert b"holds" in self.consumers()

    def consumers(self) -> set[bytes]:
        return {row["name"] for row in self.raw.xinfo_consumers(self.keys.intake, "haul")}

    @pytest.mark.parametrize("lost", ["waiting:jobs", "waiting:users", "waiting:u:b"])
    def test_the_waiting_index_shows_that_a_key_is_gone_and_a_rebuild_mends_it(self, redis: RedisCoordinator, lost: str) -> None:
        jobs = [waiting(f"{user}{n}", user, since=n) for user in "abc" for n in range(3)]
        redis.add_waiting(jobs)
        self.raw.delete(f"{self.keys.prefix}:{lost}")
        ids_of(redis, 10, 0.0)
        assert redis.waiting_size() < len(jobs)
        redis.add_waiting(jobs)
        assert sorted(ids_of(redis, 10, 0.0)) == sorted(job.id for job in jobs)
        redis.drop_waiting([job.id for job in jobs])
        assert (ids_of(redis, 10, 0.0), redis.waiting_size()) == ([], 0)

    def test_a_job_added_before_anybody_looked_does_not_hide_that_a_key_is_gone(self, redis: RedisCoordinator) -> None:
        jobs = [waiting(f"{user}{n}", user, since=n) for user in "abc" for n in range(3)]
        redis.add_waiting(jobs[:-1])
        self.raw.delete(f"{self.keys.prefix}:waiting:users")
        redis.add_waiting(jobs[-1:])
        assert redis.waiting_size() < len(jobs)
        redis.add_waiting(jobs)
        assert sorted(ids_of(redis, 10, 0.0)) == sorted(job.id for job in jobs)

    def test_an_entry_of_no_known_job_does_not_stand_in_the_way(self, redis: RedisCoordinator) -> None:
        redis.add_waiting([waiting("a", "u", since=2.0), waiting("b", "v")])
        self.raw.zadd(f"{self.keys.prefix}:waiting:u:u", {f"stray {n}": -n for n in range(50)})
        until(lambda: ids_of(redis, 3, 0.0) == ["a", "b"])

    def test_ten_thousand_users_cost_a_look_at_few_of_them(self, redis: RedisCoordinator) -> None:
        redis.add_waiting([waiting(f"{n:05d}", f"user {n}") for n in range(10_000)])
        before = self.raw.info("commandstats")
        start = time.monotonic()
        assert len(redis.waiting_heads(100, 0.0, without=["user 1"]).lines) == 100
        assert time.monotonic() - start < 0.5
        after = self.raw.info("commandstats")
        calls = sum(after[name]["calls"] - before.get(name, {"calls": 0})["calls"] for name in after)
        assert calls < 500

    def test_lost_scripts_are_sent_again(self, redis: RedisCoordinator) -> None:
        redis.offer([request(1)])
        self.raw.script_flush()
        assert [entry.body for entry in redis.take_intake("a", 10)] == [request(1)]
        assert redis.may_nudge("admit")

    def test_events_keep_at_most_about_what_they_should(self, make: Make) -> None:
        redis = make(events_max=200)
        redis.publish([event(n) for n in range(2_500)])
        assert 200 <= self.raw.xlen(self.keys.events) <= 400


class TestRedisBuckets(OnRedis, BucketSuite):
    def test_a_bucket_is_kept_until_it_is_full_again(self, redis: RedisCoordinator) -> None:
        redis.take_tokens([[Bucket("b", 100, 50)]] * 10)
        assert 0 < self.raw.pttl(self.keys.bucket("b")) <= 500
        until(lambda: not self.raw.exists(self.keys.bucket("b")))
        redis.take_tokens([[Bucket("b", 1, 5)]] * 15, line_s=60.0)
        assert self.raw.pttl(self.keys.bucket("b")) > 5_000, "the line is longer"

    @pytest.mark.parametrize("value", [b"", b"x", b"1 2 3", b"\xff" * 24, level(1e300, 0, 0), level(nan, nan, nan), level(inf, -inf, inf)])
    def test_what_a_stranger_wrote_there_lets_at_most_a_burst_through(self, redis: RedisCoordinator, value: bytes) -> None:
        self.raw.set(self.keys.bucket("slow"), value)
        assert redis.take_tokens([[SLOW]] * 10).count(0) <= SLOW.burst
        assert redis.take_tokens([[SLOW]]) != [0]

    def test_after_the_server_s_clock_was_set_back_tokens_come_as_before_and_nobody_is_sent_far_away(self, redis: RedisCoordinator) -> None:
        later = (int(time.time()) + 3_600) * 1_000_000
        self.raw.set(self.keys.bucket("b"), level(0.5, later, later + 5_000_000))
        [wait] = redis.take_tokens([[Bucket("b", 2, 5)]], line_s=20.0)
        assert 0 < wait <= 1
        assert until(lambda: redis.take_tokens([[Bucket("b", 2, 5)]]) == [0])


@pytest.fixture(scope="module")
def own_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of this module's own, to be wiped, frozen and killed."""
    with own_redis(tmp_path_factory.mktemp("own")) as server:
        yield server


@pytest.fixture
def own(own_server: Server) -> Iterator[Server]:
    """The server, running and empty."""
    if not own_server.alive:
        own_server.restart()
        own_server.await_ready()
    admin = client.Redis.from_url(own_server.url)
    admin.flushall()
    yield own_server
    if own_server.alive:
        own_server.process.send_signal(signal.SIGCONT)
    admin.close()


@pytest.fixture
def make_own(own: Server) -> Iterator[Make]:
    with maker(own.url, "own") as make:
        yield make


def recovered(redis: Coordinator) -> bool:
    try:
        redis.ping()
    except Transient:
        return False
    return True


def test_after_a_flushall_everything_works_again_without_a_restart(own: Server, make_own: Make) -> None:
    redis = make_own()
    fill(redis)
    assert len(redis.take_intake("a", 10)) == 2
    _, place = redis.read_events(None, 10, 0.0)
    admin = client.Redis.from_url(own.url)
    admin.flushall()
    admin.close()
    with pytest.raises(StreamReset) as reset:
        redis.read_events(place, 10, 0.0)
    fill(redis)
    assert [entry.body for entry in redis.take_intake("a", 10)] == [request(1), request(2)]
    assert redis.tokens([SLOW]) == [pytest.approx(SLOW.burst - 1, abs=0.1)]
    assert ids_of(redis, 10, 0.0) == ["a"]
    assert redis.rest("aria2", 1.0) is True
    assert set(redis.snapshots()) == {"aria2"}
    assert redis.read_events(reset.value.after, 10, 0.0)[0] == [event(1)]
    with pytest.raises(StreamReset):
        redis.read_events(place, 10, 0.0)


def test_a_flushall_while_a_reader_waits_loses_it_nothing_that_comes_later(own: Server, make_own: Make) -> None:
    redis = make_own(block_s=0.1)
    redis.publish([event(1)])
    _, place = redis.read_events(None, 10, 0.0)
    admin = client.Redis.from_url(own.url)
    admin.flushall()
    admin.close()
    redis.publish([event(2)])
    with pytest.raises(StreamReset) as reset:
        redis.read_events(place, 10, 1.0)
    assert redis.read_events("0-0", 10, 0.0)[0] == [event(2)]
    assert reset.value.since > time.time() - 120


def test_without_a_server_every_call_is_transient_and_rest_just_waits() -> None:
    with maker(f"redis://:verysecret@127.0.0.1:{free_port()}/0", "x") as make:
        redis = make()
        start = time.monotonic()
        for call in every_call(redis):
            with pytest.raises(Transient) as caught:
                call()
            assert "verysecret" not in str(caught.value) + repr(caught.value.__cause__) + repr(caught.value.__context__)
        assert time.monotonic() - start < 8.0
        start = time.monotonic()
        assert redis.rest("aria2", 0.3) is False
        assert 0.29 <= time.monotonic() - start < 1.5


def test_a_wrong_password_is_transient_and_not_shown(any_redis: Server) -> None:
    port = any_redis.url.rpartition(":")[2]
    with maker(f"redis://:verysecret@127.0.0.1:{port}", "x") as make, pytest.raises(Transient) as caught:
        make().ping()
    assert "verysecret" not in str(caught.value)


def test_a_server_that_hangs_costs_one_time_out_and_not_one_for_each_call(own: Server, make_own: Make) -> None:
    redis = make_own(**{**HASTY, "silence_s": 5.0})
    redis.ping()
    own.process.send_signal(signal.SIGSTOP)
    start = time.monotonic()
    for call in every_call(redis):
        with pytest.raises(Transient):
            call()
    assert time.monotonic() - start < 1.5


def test_a_call_that_timed_out_is_not_made_again(own: Server, make_own: Make) -> None:
    redis = make_own(answer_s=1.0)
    redis.ping()
    own.process.send_signal(signal.SIGSTOP)
    start = time.monotonic()
    with pytest.raises(Transient):
        redis.ping()
    assert 0.9 < time.monotonic() - start < 1.9


def test_each_call_to_a_server_that_hangs_ends_in_time_and_it_works_again_after(own: Server, make_own: Make) -> None:
    for number in range(len(every_call(make_own()))):
        redis = make_own(**HASTY)
        redis.ping()
        own.process.send_signal(signal.SIGSTOP)
        start = time.monotonic()
        with pytest.raises(Transient):
            every_call(redis)[number]()
        assert time.monotonic() - start < 1.5, number
        own.process.send_signal(signal.SIGCONT)
    until(lambda: recovered(redis))


def test_a_server_that_hangs_from_the_start_is_transient_and_rest_just_waits(own: Server, make_own: Make) -> None:
    own.process.send_signal(signal.SIGSTOP)
    redis = make_own(**HASTY)
    start = time.monotonic()
    assert redis.rest("aria2", 0.1) is False
    with pytest.raises(Transient):
        make_own(**HASTY).ping()
    assert 0.09 <= time.monotonic() - start < 3.0


def test_what_was_offered_survives_a_killed_server_and_the_same_object_goes_on(own: Server, make_own: Make) -> None:
    redis = make_own(reclaim_s=0.0)
    redis.offer([request(1), request(2)])
    assert len(redis.take_intake("a", 1)) == 1
    own.process.kill()
    own.process.wait()
    assert redis.rest("aria2", 0.05) is False
    assert not recovered(redis)
    own.restart()
    own.await_ready()
    assert [entry.body for entry in redis.take_intake("b", 10)] == [request(1), request(2)]
    for call in every_call(redis):
        call()


class Cutter:
    """A way to a server that cuts the connection instead of passing on an answer, once for each `cut()`."""

    def __init__(self, port: int) -> None:
        self._server, self._cuts = ("127.0.0.1", port), threading.Semaphore(0)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._open: list[socket.socket] = [self._listener]
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        self._cuts.release()

    def close(self) -> None:
        for one in self._open:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(self._server)
                self._open += [near, far]
                threading.Thread(target=self._pump, args=(near, far, False), daemon=True).start()
                threading.Thread(target=self._pump, args=(far, near, True), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, answers: bool) -> None:
        with suppress(OSError):
            while data := source.recv(65_536):
                if answers and self._cuts.acquire(blocking=False):
                    break
                sink.sendall(data)
            for one in (source, sink):
                one.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def cutter(own: Server) -> Iterator[Cutter]:
    cutter = Cutter(urlsplit(own.url).port or 0)
    yield cutter
    cutter.close()


def test_a_call_whose_answer_is_lost_is_made_again_and_gives_the_same_answer(own: Server, cutter: Cutter) -> None:
    with maker(own.url.replace(f":{urlsplit(own.url).port}/", f":{cutter.port}/"), "own") as make:
        redis = make()
        redis.take_intake("a", 1)
        redis.claim("warm", "me", 60.0)  # the scripts are known

        def lost(call: Callable[[], Any]) -> Any:
            redis.ping()
            cutter.cut()
            return call()

        assert lost(lambda: redis.may_nudge("admit")) is True
        assert redis.may_nudge("admit") is False
        assert lost(lambda: redis.claim("job", "me", 60.0)) is True
        redis.offer([request(1)])
        lost(lambda: redis.offer([request(2)]))
        redis.offer([request(3)])
        assert [entry.body for entry in redis.take_intake("a", 10)] == [request(n) for n in (1, 2, 2, 3)]
        lost(lambda: redis.add_waiting([waiting("a", "u")]))
        lost(lambda: redis.put_progress("aria2", {"a": Progress(1)}))
        assert (ids_of(redis, 5, 0.0), redis.progress({"aria2": ["a"]})) == (["a"], {"a": Progress(1)})
        lost(lambda: redis.wake("aria2"))
        assert [redis.rest("aria2", 0.05), redis.rest("aria2", 0.05)] == [True, False]
        cutter.cut()
        cutter.cut()
        with pytest.raises(Transient):
            redis.ping()
        redis.ping()


def test_a_full_server_refuses_messages_and_still_gives_out_those_it_has(own: Server, make_own: Make) -> None:
    redis = make_own()
    assert redis.take_intake("a", 10) == []  # the consumer group is there
    redis.offer([request(1)])
    admin = client.Redis.from_url(own.url)
    admin.config_set("maxmemory", "1")
    try:
        with pytest.raises(Transient, match="maxmemory"):
            redis.offer([request(2)])
        taken = redis.take_intake("new", 10)
        redis.ack_intake([entry.id for entry in taken])
        assert [entry.body for entry in taken] == [request(1)]
        assert redis.intake_size() == 0
    finally:
        admin.config_set("maxmemory", "0")
        admin.close()


def test_more_threads_than_connections_wait_for_their_turn(own: Server) -> None:
    redis = RedisCoordinator(own.url, prefix="own", max_connections=1)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(redis.offer, ([request(n)] for n in range(200))))
        assert list(pool.map(redis.rest, ["aria2"] * 8, [0.05] * 8)) == [False] * 8
    assert redis.intake_size() == 200
    admin = client.Redis.from_url(own.url)
    assert len([row for row in admin.client_list() if row["name"] == "haul"]) == 2
    admin.close()
    redis.close()


def test_when_one_connection_died_silently_the_idle_ones_are_not_tried_after_it(own: Server) -> None:
    host = own.url.rpartition("@")[2].partition("/")[0]
    with TcpProxy(host) as proxy, maker(own.url.replace(host, proxy.address), "own") as make, ThreadPoolExecutor(4) as pool:
        redis = make(**{**HASTY, "answer_s": 0.5})
        together = threading.Barrier(4)

        def ping(_: int) -> bool:
            together.wait(5)
            return recovered(redis)

        proxy.delay(0.1)  # so that each takes a connection of its own
        assert all(pool.map(ping, range(4)))
        proxy.black_hole()
        proxy.heal()
        assert not recovered(redis)
        until(lambda: recovered(redis))
        proxy.delay(0.1)
        assert all(pool.map(ping, range(4)))


def test_a_server_that_is_full_or_a_replica_is_named_so_and_what_was_sent_stays_out_of_the_message(own: Server, make_own: Make) -> None:
    redis, admin = make_own(), client.Redis.from_url(own.url)
    calls: list[Callable[[], object]] = [
        lambda: redis.publish([{"id": "verysecret"}]),
        lambda: redis.offer([{"kind": "verysecret"}]),
        lambda: redis.claim("verysecret", "me", 1.0),
    ]
    admin.config_set("maxmemory", 1)
    for call in calls:
        with pytest.raises(Transient, match="its memory is full") as caught:
            call()
        assert "verysecret" not in str(caught.value)
    admin.config_set("maxmemory", 0)
    admin.replicaof("127.0.0.1", free_port())
    for call in calls:
        with pytest.raises(Transient, match="takes no writes"):
            call()
    admin.replicaof("NO", "ONE")
    redis.publish([event(1)])
    admin.set("own:events", "no stream")
    with pytest.raises(Transient, match="WRONGTYPE") as caught:
        redis.publish([{"id": "verysecret"}])
    assert "verysecret" not in str(caught.value)
    admin.close()


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("sentinel://:verysecret@host:26379/haul", "not supported yet"),
        ("mongodb://:verysecret@host", "redis:// or rediss://"),
        ("verysecret", "redis:// or rediss://"),
        ("", "redis:// or rediss://"),
        ("redis://:very/secret@host:6379/0", "percent-encoded"),
        ("redis://:verysecret@[host", "redis:// or rediss://"),
        ("redis://:verysecret@host:99999", "percent-encoded"),
        ("redis://:verysecret@host?socket_timeout=verysecret", "percent-encoded"),
        ("redis://:verysecret@host?no_such_option=1", "percent-encoded"),
    ],
)
def test_an_address_that_cannot_be_used_names_the_variable_and_not_the_password(url: str, says: str) -> None:
    with pytest.raises(SettingsError, match=says) as caught:
        RedisCoordinator(url)
    assert "HAUL_REDIS_URL" in str(caught.value)
    assert "very" not in str(caught.value)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None

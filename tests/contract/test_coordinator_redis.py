"""The coordinator on a real Valkey and a real Redis keeps its promises."""

from __future__ import annotations

import time
from importlib.resources import files

import pytest

from tests.contract.coordinator_contract import CoordinatorSuite
from tests.contract.coordinator_suite import Make, event, ids_of, request, waiting
from tests.contract.redis.coordinators import OnRedis, fill
from tests.waiting import until
from worker.coordination.redis import RedisCoordinator
from worker.ports import Coordinator


def script_text(name: str) -> str:
    return files("worker.coordination").joinpath("lua", f"{name}.lua").read_text()


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
        assert time.monotonic() - start < 10.0
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

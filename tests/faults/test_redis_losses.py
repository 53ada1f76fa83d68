"""Redis: what it held is gone.

All of it but the unread intake is made again from the records, within ten seconds. Worker and supervisor are processes of their own,
so a job that is done in less than the time between two sweeps moved by messages.
"""

from __future__ import annotations

import random
import time

from redis import Redis

from tests.e2e.stack import Stack, eventually
from tests.faults.catalogue import fault
from tests.faults.redis_roles import SOON_S, check_once, files, is_owned, latency, roles
from worker.celery import create_app
from worker.client import Client
from worker.jobs.states import State

HEALED_S = 10.0
RATE = 100_000
#: Families of keys, as patterns; a stream that holds unread messages is not among them.
FAMILIES = [
    *("haul:nudge:*", "haul:wake:*", "haul:claim:*", "haul:begun:*"),
    *("haul:waiting:*", "haul:waiting:jobs", "haul:waiting:users", "haul:waiting:u:*", "haul:waiting:later"),
    *("haul:engine:*", "haul:engines", "haul:progress:*", "haul:events"),
    *("haul.control", "haul.jobs", "unacked*", "_kombu.binding*"),
]


def pong(stack: Stack) -> bool:
    """Whether a worker answers `celery inspect ping`."""
    app = create_app(stack.settings)
    try:
        return bool(app.control.ping(timeout=2.0))
    finally:
        app.close()


@fault(
    "Redis loses everything while all runs (FLUSHALL)",
    provoked="FLUSHALL three times with downloads under way, jobs waiting, and messages of bots unread",
    holds="a new job is done within 10 s at once, and moments later in less than half the time between two sweeps, so messages move it; "
    "`inspect ping` is answered by the same and by a new asker; all that was `queued` is done, once, under the same owner; what was only "
    "`accepted` is done once or unknown, and done when it is asked for again",
)
def test_messages_move_jobs_again_at_once_after_redis_lost_everything(stack: Stack, redis: Redis) -> None:
    roles(stack)
    asker = create_app(stack.settings)
    assert asker.control.ping(timeout=5.0)
    slow, queued, accepted = files(2, "slow", RATE, 40 * RATE), {}, {}
    queued |= dict(zip(stack.ask_all(slow), slow, strict=True))
    stack.until_bytes("/file/slow-0", RATE)
    with Client(stack.redis.url) as client:
        for turn in range(3):
            usual, load, bots = latency(stack), files(20, f"load{turn}"), files(5, f"bot{turn}")
            stack.services.coordinator.claim("intake", "the test", 60)  # nobody reads them
            tickets = client.enqueue_many([{**spec, "uri": stack.origin.url(spec["uri"])} for spec in bots])
            queued |= dict(zip(stack.ask_all(load), load, strict=True))
            redis.flushall()
            first, second = latency(stack, 30), latency(stack, 30)
            print(f"flush {turn}: done after {first:.2f} s, the next one after {second:.2f} s; before it, {usual:.2f} s")
            assert first < HEALED_S + usual
            assert second < SOON_S, "by messages, not by the sweep"
            assert is_owned(stack), "the lease is in the store"
            accepted |= dict(zip([ticket.id for ticket in tickets], bots, strict=True))
        assert asker.control.ping(timeout=5.0), "the queue for its answers is bound again"
        asker.close()
        assert pong(stack)
        check_once(stack, queued)
        known = stack.services.store.get(list(accepted))
        print(f"queued: {len(queued)} of {len(queued)} done; accepted and unread: {len(known)} of {len(accepted)} known")
        client.enqueue_many([{**spec, "uri": stack.origin.url(spec["uri"])} for spec in accepted.values()])
    check_once(stack, accepted)
    assert set(stack.origin.requests.values()) == {1}


@fault(
    "Redis loses some of what it held (eviction, an operator)",
    provoked="DEL of single families of keys, Celery's own among them, and XGROUP DESTROY of the intake's group, in random order with "
    "jobs coming by both doors",
    holds="each time a new job is done within 10 s; in the end every job is done once, `accepted` ones too",
)
def test_any_family_of_keys_can_be_deleted_while_all_runs(stack: Stack, redis: Redis) -> None:
    roles(stack)
    families = [*FAMILIES, "the group"]
    random.Random(7).shuffle(families)
    asked, accepted, took, usual = {}, {}, {}, latency(stack)
    with Client(stack.redis.url) as client:
        for turn, family in enumerate(families):
            load, bots = files(2, f"load{turn}"), files(1, f"bot{turn}")
            asked |= dict(zip(stack.ask_all(load), load, strict=True))
            tickets = client.enqueue_many([{**spec, "uri": stack.origin.url(spec["uri"])} for spec in bots])
            accepted |= dict(zip([ticket.id for ticket in tickets], bots, strict=True))
            time.sleep(0.1)  # in the middle of it
            delete(redis, family)
            took[family] = latency(stack, 30)
    print("done after: " + ", ".join(f"{family} {seconds:.1f} s" for family, seconds in took.items()))
    slow = {family: seconds for family, seconds in took.items() if seconds > HEALED_S + usual}
    assert not slow
    check_once(stack, asked)
    check_once(stack, accepted)


def delete(redis: Redis, family: str) -> None:
    """Delete all keys of a family, of which there may be none at the moment."""
    if family == "the group":
        redis.xgroup_destroy("haul:intake", "haul")
    elif keys := redis.keys(family):
        redis.delete(*keys)


@fault(
    "The waiting order is lost with many jobs in it",
    provoked="DEL of single keys of the waiting index, with 40 jobs waiting for two slots",
    holds="the index is whole again within 10 s, and every job is done once",
)
def test_the_waiting_order_is_made_again_from_the_records(stack: Stack, redis: Redis) -> None:
    roles(stack, HAUL_ENGINES=stack.environment()["HAUL_ENGINES"].replace("slots=32", "slots=2"))
    load = files(40, rate=RATE)
    jobs = dict(zip(stack.ask_all(load), load, strict=True))
    for key in ("haul:waiting:jobs", "haul:waiting:users", "haul:waiting:u:u1"):
        redis.delete(key)
        begun = time.monotonic()

        def whole() -> bool:
            listed = sum(redis.zcard(f"haul:waiting:u:{user}") for user in redis.zrange("haul:waiting:users", 0, -1))
            queued = stack.services.store.counts((State.QUEUED,)).get(State.QUEUED, 0)
            return abs(listed + redis.zcard("haul:waiting:later") - queued) <= 2  # some start in between

        eventually(whole, f"the index is whole after {key} was deleted", HEALED_S, stack.tail)
        print(f"{key} deleted: whole after {time.monotonic() - begun:.1f} s")
    check_once(stack, jobs, 90)
    assert set(stack.origin.requests.values()) == {1}
